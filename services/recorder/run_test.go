package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// deadline is how long a test waits for what must come.
const deadline = 30 * time.Second

func openBus(t testing.TB) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}, bus.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// run runs a recorder until the function that it returns is called.
func run(t testing.TB, r *Recorder) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(deadline):
				require.Fail(t, "the recorder does not stop")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func waiting(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func TestRunRecordsWhatIsPublished(t *testing.T) {
	t.Parallel()
	store, b := openLog(t), openBus(t)
	r := newRecorder(t, store, b, t.TempDir())
	require.ErrorIs(t, r.Healthy(), errStopped)
	// Published before anybody records.
	events := sessions(400, 20)
	require.NoError(t, b.Publisher().Publish(t.Context(), "acme", "web", &interactionv1.IngressBatch{Events: events[:200]}))
	stop := run(t, r)
	reply, err := b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: events[200:]})
	require.NoError(t, err)
	require.Len(t, reply.GetResults(), 200)
	for _, x := range reply.GetResults() {
		require.Equal(t, recorded, x.GetOutcome())
	}
	require.NoError(t, r.Healthy())
	stop()
	require.ErrorIs(t, r.Healthy(), errStopped)

	// All of it again, to another recorder of the same index.
	stop = run(t, newRecorder(t, store, b, r.deps.IndexDir))
	reply, err = b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: events})
	require.NoError(t, err)
	for _, x := range reply.GetResults() {
		require.Equal(t, duplicate, x.GetOutcome())
	}
	stop()
	g := &rig{t: t, store: store, Recorder: r}
	require.Len(t, g.stored(), 400)
}

// Fifty recorders, one after the other on one index, while others publish:
// every event is there once.
func TestFiftyStartsAndStops(t *testing.T) {
	t.Parallel()
	store, b, dir := openLog(t), openBus(t), t.TempDir()
	events := sessions(1000, 50)
	var publishers sync.WaitGroup
	var next atomic.Int64
	for range 4 {
		publishers.Go(func() {
			for {
				i := int(next.Add(10)) - 10
				if i >= len(events) {
					return
				}
				if err := b.Publisher().Publish(t.Context(), "acme", "web", &interactionv1.IngressBatch{Events: events[i : i+10]}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var r *Recorder
	registry := prometheus.NewRegistry()
	for range 50 {
		r = newRecorder(t, store, b, dir)
		r.metrics.registerer = registry
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		require.Eventually(t, func() bool { return r.Healthy() == nil }, deadline, time.Millisecond)
		cancel()
		require.NoError(t, <-done)
	}
	publishers.Wait()
	run(t, newRecorder(t, store, b, dir))
	_, err := b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{page("last", "user_id=7")}})
	require.NoError(t, err)
	g := &rig{t: t, store: store, Recorder: r}
	seen := map[string]int{}
	for _, ev := range g.stored() {
		seen[ev.GetEvent().GetSourceId()]++
	}
	require.Len(t, seen, len(events)+1)
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	store, b := openLog(t), openBus(t)
	first := newRecorder(t, store, b, t.TempDir())
	done := make(chan error, 1)
	go func() { done <- first.Run(t.Context()) }()
	require.Eventually(t, func() bool { return first.Healthy() == nil }, deadline, time.Millisecond)
	_, err := b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{page("1", "user_id=7")}})
	require.NoError(t, err)

	run(t, newRecorder(t, store, b, t.TempDir()))
	select {
	case err := <-done:
		require.ErrorIs(t, err, bus.ErrTakenOver)
	case <-time.After(deadline):
		require.Fail(t, "the first recorder goes on")
	}
	reply, err := b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{page("1", "user_id=7"), page("2", "user_id=7")}})
	require.NoError(t, err)
	require.Equal(t, []interactionv1.RecordOutcome{duplicate, recorded}, outcomes(reply))
}

// full is a store whose disk is full until there is room.
type full struct {
	eventstore.Store
	room atomic.Bool
}

func (s *full) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	if !s.room.Load() {
		return nil, fmt.Errorf("append: %w", eventstore.ErrFull)
	}
	return s.Store.AppendBatch(ctx, appends)
}

func TestFullStoreIsRetriedInPlace(t *testing.T) {
	t.Parallel()
	store, b := &full{Store: openLog(t)}, openBus(t)
	r := newRecorder(t, store, b, t.TempDir())
	run(t, r)
	answered := make(chan error, 1)
	go func() {
		_, err := b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{page("1", "user_id=7")}})
		answered <- err
	}()
	require.Eventually(t, func() bool {
		err := r.Healthy()
		return err != nil && rpcerr.ReasonOf(rpcerr.FromError(err)) == errorv1.Reason_REASON_STORE_FULL
	}, deadline, time.Millisecond)
	store.room.Store(true)
	require.NoError(t, <-answered)
	require.NoError(t, r.Healthy())
	require.Len(t, (&rig{t: t, store: store, Recorder: r}).stored(), 1)
}

// blocking holds an append until it is let go.
type blocking struct {
	eventstore.Store
	began, release chan struct{}
}

func (s *blocking) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	s.began <- struct{}{}
	<-s.release
	return s.Store.AppendBatch(ctx, appends)
}

func TestDrainCompletesTheBatchInHand(t *testing.T) {
	t.Parallel()
	store := &blocking{Store: openLog(t), began: make(chan struct{}), release: make(chan struct{})}
	b := openBus(t)
	r := newRecorder(t, store, b, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	answered := make(chan error, 1)
	go func() {
		_, err := b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{page("1", "user_id=7")}})
		answered <- err
	}()
	<-store.began
	cancel()
	close(store.release)
	require.NoError(t, <-done)
	require.NoError(t, <-answered)
	require.Len(t, (&rig{t: t, store: store.Store, Recorder: r}).stored(), 1)
}

func caller(t testing.TB, name string) context.Context {
	t.Helper()
	return tenant.NewContext(waiting(t), tenant.Identity{Tenant: name, Source: "shop", Scopes: tenant.Record})
}

func interaction(sourceID string) *interactionv1.Interaction {
	return &interactionv1.Interaction{
		SourceId: sourceID, OccurredTime: timestamppb.New(testStart), Channel: "in_person", Direction: eventv1.Direction_DIRECTION_INBOUND,
		Identifiers: []*eventv1.Identifier{{Kind: "email", Value: "Ada@example.com"}},
		Payload:     &eventv1.Payload{Kind: &eventv1.Payload_ActivityLogged{ActivityLogged: &eventv1.ActivityLogged{Activity: "visit"}}},
	}
}

func TestIntake(t *testing.T) {
	t.Parallel()
	store, b := openLog(t), openBus(t)
	r := newRecorder(t, store, b, t.TempDir())
	run(t, r)
	v, err := validator()
	require.NoError(t, err)
	s, err := NewIntake(IntakeDeps{Publisher: b.Publisher(), Validator: v})
	require.NoError(t, err)
	ctx := caller(t, "acme")

	first, err := s.Record(ctx, &interactionv1.RecordRequest{Interaction: interaction("1")})
	require.NoError(t, err)
	require.Equal(t, recorded, first.GetResult().GetOutcome())
	require.Equal(t, event.DeterministicID("acme", "shop", "1").String(), first.GetResult().GetEventId())
	tok, err := token.Parse(token.Consistency, first.GetConsistencyToken())
	require.NoError(t, err)
	require.Equal(t, store.LogID(), tok.LogID)
	require.GreaterOrEqual(t, uint64(tok.Position), first.GetResult().GetPosition())

	again, err := s.Record(ctx, &interactionv1.RecordRequest{Interaction: interaction("1")})
	require.NoError(t, err)
	require.Equal(t, duplicate, again.GetResult().GetOutcome())
	require.Equal(t, first.GetResult().GetPosition(), again.GetResult().GetPosition())
	require.Equal(t, first.GetResult().GetStream(), again.GetResult().GetStream())

	other := interaction("1")
	other.Backfill = true
	_, err = s.Record(ctx, &interactionv1.RecordRequest{Interaction: other})
	require.Equal(t, codes.AlreadyExists, rpcerr.CodeOf(err))
	require.Equal(t, errorv1.Reason_REASON_CONTENT_DIFFERS, rpcerr.ReasonOf(err))

	// Another tenant's 1 is another event.
	foreign, err := s.Record(caller(t, "other"), &interactionv1.RecordRequest{Interaction: interaction("1")})
	require.NoError(t, err)
	require.Equal(t, recorded, foreign.GetResult().GetOutcome())

	// Without an id every call is a new one.
	a, err := s.Record(ctx, &interactionv1.RecordRequest{Interaction: interaction("")})
	require.NoError(t, err)
	c, err := s.Record(ctx, &interactionv1.RecordRequest{Interaction: interaction("")})
	require.NoError(t, err)
	require.NotEqual(t, a.GetResult().GetEventId(), c.GetResult().GetEventId())
	require.Equal(t, recorded, c.GetResult().GetOutcome())
}

func TestIntakeRefuses(t *testing.T) {
	t.Parallel()
	v, err := validator()
	require.NoError(t, err)
	s, err := NewIntake(IntakeDeps{Publisher: nobody{}, Validator: v})
	require.NoError(t, err)
	change := func(f func(*interactionv1.Interaction)) *interactionv1.Interaction {
		in := interaction("1")
		f(in)
		return in
	}
	for name, c := range map[string]struct {
		in    *interactionv1.Interaction
		field string
	}{
		"nothing":          {nil, "interaction"},
		"channel":          {change(func(in *interactionv1.Interaction) { in.Channel = "In Person" }), "interaction.channel"},
		"reserved channel": {change(func(in *interactionv1.Interaction) { in.Channel = "identity" }), "interaction.channel"},
		"no payload":       {change(func(in *interactionv1.Interaction) { in.Payload = nil }), "interaction.payload"},
		"identity": {change(func(in *interactionv1.Interaction) {
			in.Payload = &eventv1.Payload{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{ProfileId: "a", OtherProfileId: "b"}}}
		}), "interaction.payload"},
		"time": {change(func(in *interactionv1.Interaction) { in.OccurredTime = &timestamppb.Timestamp{Seconds: 1 << 60} }), "interaction.occurred_time"},
		"kind": {change(func(in *interactionv1.Interaction) { in.Identifiers[0].Kind = "E Mail" }), "interaction.identifiers[0].kind"},
	} {
		_, err := s.Record(caller(t, "acme"), &interactionv1.RecordRequest{Interaction: c.in})
		require.Equal(t, codes.InvalidArgument, rpcerr.CodeOf(err), name)
		require.NotEmpty(t, rpcerr.ViolationsOf(err), name)
		require.Equal(t, c.field, rpcerr.ViolationsOf(err)[0].Field, name)
	}
	_, err = s.Record(t.Context(), &interactionv1.RecordRequest{Interaction: interaction("1")})
	require.Equal(t, codes.Unauthenticated, rpcerr.CodeOf(err))
	reader := tenant.NewContext(t.Context(), tenant.Identity{Tenant: "acme", Source: "shop", Scopes: tenant.Read})
	_, err = s.Record(reader, &interactionv1.RecordRequest{Interaction: interaction("1")})
	require.Equal(t, codes.PermissionDenied, rpcerr.CodeOf(err))
	_, err = s.Record(caller(t, "acme"), &interactionv1.RecordRequest{Interaction: interaction("1")})
	require.Equal(t, errorv1.Reason_REASON_INGRESS_FULL, rpcerr.ReasonOf(err))
	_, err = s.RecordBatch(caller(t, "acme"), &interactionv1.RecordBatchRequest{})
	require.Equal(t, codes.InvalidArgument, rpcerr.CodeOf(err))
}

// nobody has no room.
type nobody struct{}

func (nobody) PublishAndWait(context.Context, string, string, *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	return nil, bus.ErrFull
}

func TestRecordBatch(t *testing.T) {
	t.Parallel()
	store, b := openLog(t), openBus(t)
	r := newRecorder(t, store, b, t.TempDir())
	run(t, r)
	s, err := NewIntake(IntakeDeps{Publisher: b.Publisher()})
	require.NoError(t, err)
	bad := interaction("bad")
	bad.Channel = "No Channel"
	letter := interaction("letter")
	letter.Channel = "letter"
	differs := interaction("1")
	differs.Backfill = true
	resp, err := s.RecordBatch(caller(t, "acme"), &interactionv1.RecordBatchRequest{Interactions: []*interactionv1.Interaction{
		interaction("1"), bad, letter, proto.CloneOf(interaction("1")), differs, interaction("2"),
	}})
	require.NoError(t, err)
	var got []interactionv1.RecordOutcome
	for _, x := range resp.GetResults() {
		got = append(got, x.GetOutcome())
	}
	refused := interactionv1.RecordOutcome_RECORD_OUTCOME_REFUSED
	require.Equal(t, []interactionv1.RecordOutcome{recorded, refused, recorded, duplicate, inQuarantine, recorded}, got)
	require.Contains(t, resp.GetResults()[1].GetReason(), "channel")
	require.Less(t, resp.GetResults()[0].GetPosition(), resp.GetResults()[2].GetPosition(), "in the order of the request")
	_, err = token.Parse(token.Consistency, resp.GetConsistencyToken())
	require.NoError(t, err)

	only, err := s.RecordBatch(caller(t, "acme"), &interactionv1.RecordBatchRequest{Interactions: []*interactionv1.Interaction{bad}})
	require.NoError(t, err)
	require.Equal(t, refused, only.GetResults()[0].GetOutcome())
	require.Empty(t, only.GetConsistencyToken(), "there is nothing to wait for")
}
