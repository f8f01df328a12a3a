package identity

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Whoever could bring an event that changes the graph could say who is who.
func TestNoSourceBringsIdentityEvents(t *testing.T) {
	t.Parallel()
	known := 0
	for _, typ := range event.Types() {
		if IsIdentityType(typ) {
			known++
			_, reserved := event.ReservedType(typ)
			require.True(t, reserved, typ)
		}
	}
	require.Equal(t, 7, known)
	_, reserved := event.ReservedType(TypeModelFitted)
	require.True(t, reserved)
}

// TestOperationsAreNothingToTheGraph applies what operators did, which is of no
// profile: the graph stays as it was.
func TestOperationsAreNothingToTheGraph(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7 anonymous_id=a")
	require.NoError(t, w.graph.Flush(w.state))
	profiles, customers := maps.Clone(w.state.profiles), maps.Clone(w.state.customers)
	require.NotEmpty(t, profiles)
	for _, payload := range []*eventv1.Payload{
		{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{Projection: "customer"}}},
		{Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{Projection: "customer", Position: 1}}},
	} {
		ev := &eventv1.Event{Id: eventName(99), Tenant: event.OperationsTenant, Channel: "operations", Payload: payload}
		event.Stamp(ev)
		require.False(t, IsIdentityType(ev.GetType()))
		require.NoError(t, w.graph.Apply(ev, 99))
		require.NoError(t, w.graph.See(ev.GetTenant(), ev.GetProfileId(), ev.GetProfileKind(), 100))
	}
	require.NoError(t, w.graph.Flush(w.state))
	require.Equal(t, profiles, w.state.profiles)
	require.Equal(t, customers, w.state.customers)
	require.Empty(t, w.record("user_id=7 anonymous_id=a"), "what was linked stays so")
}
