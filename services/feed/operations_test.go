package feed_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
	"github.com/parleyhq/parley/services/feed"
)

// operate appends what an operator did.
func (h *house) operate(payload *eventv1.Payload) (*eventv1.Event, eventstore.Position) {
	h.t.Helper()
	ev := &eventv1.Event{Id: uuid.NewString(), Tenant: event.OperationsTenant, Source: "ops", Channel: "operations", Payload: payload}
	event.Stamp(ev)
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	event.SetOccurred(ev, now, now, false)
	record, err := h.codec.Encode(ev)
	require.NoError(h.t, err)
	at, err := h.log.Append(context.Background(), event.OperationsStream(), eventstore.Any, record)
	require.NoError(h.t, err)
	return ev, at.Position
}

// TestOperationsAreBehindTheWall has operators at work among what tenants
// record: no tenant sees it, however he asks, and none is held up by it.
func TestOperationsAreBehindTheWall(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 20*time.Millisecond)
	var operated []*eventv1.Event
	operate := func() (last eventstore.Position) {
		for _, p := range []*eventv1.Payload{
			{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
				Projection: "customer", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_PAUSE,
			}}},
			{Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{
				Projection: "customer", Position: 1, Reason: "nobody misses it",
			}}},
		} {
			var ev *eventv1.Event
			ev, last = h.operate(p)
			operated = append(operated, ev)
		}
		return last
	}
	operate()
	first, _ := h.append("acme", "web", "s1", page("/1"))
	last := operate()

	for _, tenantName := range []string{"acme", "other", "o", "operation", "operations_", "operations2"} {
		want := []string{}
		if tenantName == "acme" {
			want = append(want, first.GetId())
		}
		require.Equal(t, want, ids(h.untilCaughtUp(fromStart(), tenantName)), tenantName)
		for _, asked := range []*feedv1.SubscribeRequest{
			{Types: []string{"parley.projection.operated", "parley.dead_letter.skipped"}},
			{Types: []string{"parley.projection.*", "parley.dead*"}},
			{StreamPrefixes: []string{event.OperationsStream(), "projections", "s.projections", "../operations."}},
		} {
			asked.From = fromStart().GetFrom()
			require.Empty(t, h.untilCaughtUp(asked, tenantName), tenantName)
		}
		for _, ev := range operated {
			_, err := h.client.Get(as(t.Context(), tenantName), &feedv1.GetRequest{
				EventId: ev.GetId(), ConsistencyToken: token.NewConsistency(h.log.LogID(), last).String(),
			})
			require.Equal(t, codes.NotFound, rpcerr.CodeOf(err), "%s: %v", tenantName, err)
			require.Equal(t, errorv1.Reason_REASON_EVENT_NOT_FOUND, rpcerr.ReasonOf(err), tenantName)
		}
	}
	// They are indexed as the whole log is, under a tenant that nobody is.
	at, err := h.index.Find(t.Context(), event.OperationsTenant, uuid.MustParse(operated[len(operated)-1].GetId()))
	require.NoError(t, err)
	require.Equal(t, last, at)
	_, err = h.index.Find(t.Context(), "acme", uuid.MustParse(operated[0].GetId()))
	require.ErrorIs(t, err, feed.ErrUnknownEvent)

	// A live subscription goes past them: its heartbeats say so, and what comes
	// behind them comes.
	ctx, cancel := context.WithTimeout(as(t.Context(), "acme"), patience)
	defer cancel()
	stream, err := h.client.Subscribe(ctx, fromNow())
	require.NoError(t, err)
	last = operate()
	var item *feedv1.SubscribeResponse
	for item.GetHeartbeat().GetPosition() < uint64(last) {
		item, err = stream.Recv()
		require.NoError(t, err)
		require.NotNil(t, item.GetHeartbeat(), "got %v", item)
	}
	second, _ := h.append("acme", "web", "s1", page("/2"))
	require.Equal(t, []string{second.GetId()}, ids(h.untilCaughtUp(resume(item.GetResumeToken()), "acme")))
}
