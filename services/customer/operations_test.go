package customer_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func operations() []*eventv1.Payload {
	return []*eventv1.Payload{
		{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
			Projection: "customer", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_REBUILD, Reason: "for a new field",
		}}},
		{Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{
			Projection: "customer", Position: 1, Reason: "nobody misses it",
		}}},
	}
}

// operate appends what an operator did, as of a profile if there is one, which
// is none's to say, and answers with a consistency token.
func (h *house) operate(payload *eventv1.Payload, tenantName, stream, profile string) string {
	h.t.Helper()
	ev := &eventv1.Event{
		Id: uuid.NewString(), Tenant: tenantName, Source: "ops", Channel: "operations", ProfileId: profile, Payload: payload,
		Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: "kim"},
	}
	event.SetOccurred(ev, opening, opening, false)
	return token.NewConsistency(h.log.LogID(), h.append(stream, ev)).String()
}

// TestOperationsAreNobodysInteractions has operators at work between
// interactions: the read model goes past what they did, and shows it nowhere.
func TestOperationsAreNobodysInteractions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	before := ada(h)
	user := h.profile("user_id", "u1")
	want := h.get("user_id", "u1", before)
	list := &customerv1.ListTimelineRequest{CustomerId: user}
	lines := summaries(h.timeline(list, nil))
	require.Len(t, lines, 7)
	explain := func() *customerv1.ExplainIdentityResponse {
		explained, err := h.client.ExplainIdentity(h.call("acme"), &customerv1.ExplainIdentityRequest{CustomerId: user})
		require.NoError(t, err)
		return explained
	}
	why := explain()

	var tok string
	for _, payload := range operations() {
		tok = h.operate(payload, event.OperationsTenant, event.OperationsStream(), "")
		require.True(t, proto.Equal(want, h.get("user_id", "u1", tok)), "reading waits for its place in the log, and finds nothing new")
		// Not even where it says that it is about the customer.
		h.operate(payload, event.OperationsTenant, event.OperationsStream(), user)
		tok = h.operate(payload, "acme", event.IdentityStream("acme"), user)
		require.True(t, proto.Equal(want, h.get("user_id", "u1", tok)))
	}
	require.Equal(t, lines, summaries(h.timeline(list, nil)))
	require.True(t, proto.Equal(why, explain()))

	reader := h.engine.Reader()
	for collection, index := range map[string]string{"timeline": "profile_time", "identity_facts": "profile_position"} {
		page, err := reader.Rows(t.Context(), collection, view.Query{Tenant: event.OperationsTenant, Index: index, Limit: 10})
		require.NoError(t, err)
		require.Empty(t, page.Entries, collection)
	}
	found, err := h.client.SearchCustomers(h.call(event.OperationsTenant), &customerv1.SearchCustomersRequest{Query: "customer"})
	require.NoError(t, err)
	require.Empty(t, found.GetCustomers())
	_, err = h.client.GetCustomer(h.call("other"), &customerv1.GetCustomerRequest{CustomerId: user, ConsistencyToken: tok})
	requireReason(t, codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, err)

	after := h.record(said{at: 20, ids: []string{"user_id", "u1"}})
	require.Equal(t, want.GetInteractionCount()+1, h.get("user_id", "u1", after).GetInteractionCount())
	head, err := h.log.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head, h.engine.Position())
}
