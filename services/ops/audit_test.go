package ops_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/ops"
)

var _ projection.Auditor = (*ops.Audit)(nil)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// operated is a payload with a text of its own.
func operated(reason string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
		Projection: "customer", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_PAUSE, Reason: reason,
	}}}
}

// operations are the events of the operations stream.
func operations(t *testing.T, log eventstore.Store) []*eventv1.RecordedEvent {
	t.Helper()
	codec := event.NewCodec()
	var list []*eventv1.RecordedEvent
	for rec, err := range log.ReadStream(t.Context(), event.OperationsStream(), eventstore.ReadStreamOptions{}) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil
		}
		require.NoError(t, err)
		ev, err := codec.Decode(rec)
		require.NoError(t, err)
		list = append(list, ev)
	}
	return list
}

func TestAudit(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	audit := ops.NewAudit(log, event.NewCodec(), atNoon)
	ada := &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: "ada"}
	skip := &eventv1.Payload{Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{
		Projection: "customer", Position: 7, EventId: "e7", Reason: "empty body",
	}}}
	first, firstID, err := audit.Audit(t.Context(), ada, operated("disk"))
	require.NoError(t, err)
	second, secondID, err := audit.Audit(t.Context(), nil, skip)
	require.NoError(t, err)

	got := operations(t, log)
	require.Len(t, got, 2)
	require.Equal(t, "operations.projections", got[0].GetStream())
	for i, want := range []*eventv1.Event{
		{Id: firstID, Type: "parley.projection.operated", Actor: ada, Payload: operated("disk")},
		{
			Id: secondID, Type: "parley.dead_letter.skipped", Payload: skip,
			Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_SYSTEM, Id: "parley"},
		},
	} {
		ev := got[i].GetEvent()
		want.Tenant, want.Source, want.Channel, want.SchemaVersion = "operations", "parley", "operations", 1
		event.SetOccurred(want, noon, noon, false)
		require.True(t, proto.Equal(want, ev), "got %v", ev)
		require.Equal(t, uint64([]eventstore.Position{first, second}[i]), got[i].GetPosition())
		id, err := uuid.Parse(ev.GetId())
		require.NoError(t, err)
		require.Equal(t, uuid.Version(7), id.Version())
		check, err := validator()
		require.NoError(t, err)
		require.Empty(t, check.Check(ev))
	}
}

func TestAuditRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	audit := ops.NewAudit(log, event.NewCodec(), nil)
	for _, payload := range []*eventv1.Payload{nil, {}} {
		_, _, err := audit.Audit(t.Context(), nil, payload)
		require.ErrorContains(t, err, "no type")
	}
	require.Empty(t, operations(t, log))
}

// Operators of several processes act at once: each operation stands there once,
// where its caller was told.
func TestAuditsAgainstEachOther(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	const processes, each = 8, 25
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		want    = map[string]eventstore.Position{}
		failed  []error
	)
	for p := range processes {
		audit := ops.NewAudit(log, event.NewCodec(), nil)
		running.Go(func() {
			for i := range each {
				at, id, err := audit.Audit(context.Background(), nil, operated(fmt.Sprintf("%d of %d", i, p)))
				mu.Lock()
				if err != nil {
					failed = append(failed, err)
				}
				want[id] = at
				mu.Unlock()
			}
		})
	}
	running.Wait()
	require.Empty(t, failed)
	got := operations(t, log)
	require.Len(t, got, processes*each)
	for _, ev := range got {
		require.Equal(t, uint64(want[ev.GetEvent().GetId()]), ev.GetPosition())
	}
	require.Len(t, want, processes*each)
}

// unsureLog leaves it open whether its first appends have happened.
type unsureLog struct {
	eventstore.Store
	// happen says of each whether it has; done is called behind it.
	happen []bool
	done   func()
}

func (l *unsureLog) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	if len(l.happen) == 0 {
		return l.Store.Append(ctx, stream, expected, records...)
	}
	happens := l.happen[0]
	l.happen = l.happen[1:]
	if happens {
		if _, err := l.Store.Append(ctx, stream, expected, records...); err != nil {
			return eventstore.Appended{}, err
		}
	}
	if l.done != nil {
		l.done()
	}
	return eventstore.Appended{}, fmt.Errorf("connection lost: %w", eventstore.ErrUnavailable)
}

func TestAuditIsAppendedOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		happen []bool
		others bool
	}{
		"it has happened": {happen: []bool{true}},
		"it has not":      {happen: []bool{false}},
		"twice":           {happen: []bool{false, true}},
		"it has happened, and others appended behind":  {happen: []bool{true}, others: true},
		"it has not, and others appended meanwhile":    {happen: []bool{false}, others: true},
		"it has not twice, and others appended behind": {happen: []bool{false, false}, others: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := projectiontest.NewLog(t)
			other := ops.NewAudit(log, event.NewCodec(), nil)
			_, _, err := other.Audit(t.Context(), nil, operated("before"))
			require.NoError(t, err)
			unsure := &unsureLog{Store: log, happen: tc.happen}
			if tc.others {
				unsure.done = func() {
					_, _, err := other.Audit(t.Context(), nil, operated("another"))
					require.NoError(t, err)
				}
			}
			at, id, err := ops.NewAudit(unsure, event.NewCodec(), nil).Audit(t.Context(), nil, operated("mine"))
			require.NoError(t, err)
			var mine []*eventv1.RecordedEvent
			for _, ev := range operations(t, log) {
				if ev.GetEvent().GetPayload().GetProjectionOperated().GetReason() == "mine" {
					mine = append(mine, ev)
				}
			}
			require.Len(t, mine, 1)
			require.Equal(t, id, mine[0].GetEvent().GetId())
			require.Equal(t, uint64(at), mine[0].GetPosition())
		})
	}
}

// deafLog never appends.
type deafLog struct {
	err      error
	attempts int
}

func (l *deafLog) StreamHead(context.Context, string) (eventstore.Revision, error) {
	return eventstore.NoStream, nil
}

func (l *deafLog) Append(context.Context, string, eventstore.Revision, ...eventstore.NewRecord) (eventstore.Appended, error) {
	l.attempts++
	return eventstore.Appended{}, l.err
}

func TestAuditGivesUp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err      error
		attempts int
	}{
		"away":              {eventstore.ErrUnavailable, 6},
		"full":              {eventstore.ErrFull, 1},
		"refused for ever":  {&eventstore.RevisionConflictError{Stream: "operations.projections"}, 101},
		"of another reason": {eventstore.ErrCorrupt, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := &deafLog{err: tc.err}
				_, _, err := ops.NewAudit(log, event.NewCodec(), nil).Audit(t.Context(), nil, operated("x"))
				require.ErrorIs(t, err, tc.err)
				require.Equal(t, tc.attempts, log.attempts)
			})
		})
	}
	t.Run("with its caller", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			defer cancel()
			log := &deafLog{err: eventstore.ErrUnavailable}
			_, _, err := ops.NewAudit(log, event.NewCodec(), nil).Audit(ctx, nil, operated("x"))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 2, log.attempts)
		})
	})
}

// Who asked over gRPC stands in the log.
func TestWhoAskedIsInTheLog(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	h := newHouse(t)
	h.customer.audit = ops.NewAudit(log, event.NewCodec(), nil)
	_, err := h.client.PauseProjection(h.ops(), &opsv1.PauseProjectionRequest{Projection: "customer", Reason: "disk"})
	require.NoError(t, err)
	got := operations(t, log)
	require.Len(t, got, 1)
	require.Equal(t, "ada-laptop", got[0].GetEvent().GetActor().GetId())
	require.Equal(t, eventv1.ActorKind_ACTOR_KIND_OPERATOR, got[0].GetEvent().GetActor().GetKind())
	require.Equal(t, "disk", got[0].GetEvent().GetPayload().GetProjectionOperated().GetReason())
}
