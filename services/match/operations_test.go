package match_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// TestOperationsAreNotCompared has operators at work: the read model goes past
// what they did, and keeps nothing of it.
func TestOperationsAreNotCompared(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.identify([]string{"user_id", "u1"}, map[string]any{"firstName": "Ada", "lastName": "Lovelace"})
	profile := h.profile("user_id", "u1")
	reader := h.engine.Reader()
	var last eventstore.Position
	reach := func() {
		require.NoError(t, h.engine.WaitFor(h.call("acme"), last))
	}
	last, err := h.log.Head(t.Context())
	require.NoError(t, err)
	reach()
	before, err := reader.Get(t.Context(), "acme", profile)
	require.NoError(t, err)
	for _, payload := range []*eventv1.Payload{
		{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
			Projection: "match", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_VERIFY,
		}}},
		{Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{
			Projection: "match", Position: 1, Reason: "nobody misses it",
		}}},
	} {
		ev := &eventv1.Event{Id: uuid.NewString(), Tenant: event.OperationsTenant, Source: "ops", Channel: "operations", Payload: payload}
		event.SetOccurred(ev, opening, opening, false)
		last = h.append(event.OperationsStream(), ev)
	}
	reach()
	after, err := reader.Get(t.Context(), "acme", profile)
	require.NoError(t, err)
	require.Equal(t, before.Data, after.Data)
	page, err := reader.Rows(t.Context(), "facts", view.Query{Tenant: event.OperationsTenant, Index: "profile_position", Limit: 10})
	require.NoError(t, err)
	require.Empty(t, page.Entries)
}
