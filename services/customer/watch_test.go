package customer_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/parleyhq/parley/pkg/token"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

func (h *house) watch(req *customerv1.WatchCustomerRequest) grpc.ServerStreamingClient[customerv1.WatchCustomerResponse] {
	h.t.Helper()
	stream, err := h.client.WatchCustomer(h.call("acme"), req)
	require.NoError(h.t, err)
	return stream
}

// until reads states until one is as wanted; states between may be missed.
func until(t *testing.T, stream grpc.ServerStreamingClient[customerv1.WatchCustomerResponse], wanted func(*customerv1.Customer) bool) *customerv1.WatchCustomerResponse {
	t.Helper()
	for {
		state, err := stream.Recv()
		require.NoError(t, err)
		if wanted(state.GetCustomer()) {
			return state
		}
	}
}

func TestWatchFollowsThroughMergeAndSplit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{at: 0, ids: []string{"anonymous_id", "a"}})
	tok := h.record(said{at: 1, ids: []string{"user_id", "u1"}})
	user, visitor := h.profile("user_id", "u1"), h.profile("anonymous_id", "a")
	stream := h.watch(&customerv1.WatchCustomerRequest{CustomerId: user, ConsistencyToken: tok})
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, user, first.GetCustomer().GetCustomerId())
	require.EqualValues(t, 1, first.GetCustomer().GetInteractionCount())

	h.record(said{at: 2, ids: []string{"user_id", "u1"}})
	until(t, stream, func(c *customerv1.Customer) bool { return c.GetInteractionCount() == 2 })

	h.record(said{at: 3, ids: []string{"anonymous_id", "a", "user_id", "u1"}})
	until(t, stream, func(c *customerv1.Customer) bool { return c.GetCustomerId() == visitor && c.GetInteractionCount() == 4 })

	// The customer is another one now, and changes by the profile that came first.
	h.record(said{at: 4, ids: []string{"anonymous_id", "a"}})
	merged := until(t, stream, func(c *customerv1.Customer) bool { return c.GetInteractionCount() == 5 })
	parsed, err := token.Parse(token.Consistency, merged.GetConsistencyToken())
	require.NoError(t, err)
	require.Equal(t, h.log.LogID(), parsed.LogID)

	h.split(visitor, user)
	until(t, stream, func(c *customerv1.Customer) bool { return c.GetCustomerId() == user && c.GetInteractionCount() == 3 })
	h.record(said{at: 5, ids: []string{"user_id", "u1"}})
	until(t, stream, func(c *customerv1.Customer) bool { return c.GetInteractionCount() == 4 })
}

func TestWatchSendsWhatTheMaskKeeps(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := h.record(said{at: 0, ids: []string{"user_id", "u1"}, payload: traits("name", `"Ada"`)})
	stream := h.watch(&customerv1.WatchCustomerRequest{
		CustomerId: h.profile("user_id", "u1"), ConsistencyToken: tok, ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
	})
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, "Ada", first.GetCustomer().GetDisplayName())
	require.Zero(t, first.GetCustomer().GetInteractionCount())
	// What the mask leaves out changes; then what it keeps.
	tok = h.record(said{at: 1, ids: []string{"user_id", "u1"}})
	h.get("user_id", "u1", tok)
	h.record(said{at: 2, ids: []string{"user_id", "u1"}, payload: traits("name", `"Augusta"`)})
	second, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, "Augusta", second.GetCustomer().GetDisplayName())
}

func TestWatchRefusesAndEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := h.record(said{at: 0, ids: []string{"user_id", "u1"}})
	_, err := h.watch(&customerv1.WatchCustomerRequest{CustomerId: "nobody", ConsistencyToken: tok}).Recv()
	requireReason(t, codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, err)
	_, err = h.watch(&customerv1.WatchCustomerRequest{CustomerId: "x", ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"x"}}}).Recv()
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, err)

	stream := h.watch(&customerv1.WatchCustomerRequest{CustomerId: h.profile("user_id", "u1")})
	_, err = stream.Recv()
	require.NoError(t, err)
	close(h.stopping)
	_, err = stream.Recv()
	requireReason(t, codes.Unavailable, errorv1.Reason_REASON_STOPPING, err)
}
