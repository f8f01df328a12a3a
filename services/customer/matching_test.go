package customer_test

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	"github.com/parleyhq/parley/services/customer"
)

// matcher is somebody else who compares customers.
type matcher struct{ asked []string }

func (m *matcher) ListMergeCandidates(_ context.Context, req *customerv1.ListMergeCandidatesRequest) (*customerv1.ListMergeCandidatesResponse, error) {
	m.asked = append(m.asked, req.GetCustomerId())
	return &customerv1.ListMergeCandidatesResponse{ModelEventId: "m1"}, nil
}

func (*matcher) FitMatchModel(req *customerv1.FitMatchModelRequest, stream grpc.ServerStreamingServer[customerv1.FitMatchModelResponse]) error {
	return stream.Send(&customerv1.FitMatchModelResponse{Customers: int64(req.GetSeed())})
}

// withMatching serves the house's read model with a matcher beside it, or none.
func withMatching(t *testing.T, m customer.Matching) *house {
	t.Helper()
	return houseWith(t, setting{model: customer.Definition(), views: projectiontest.NewViews(t), matching: m})
}

func TestMatchingIsHandedOn(t *testing.T) {
	t.Parallel()
	m := &matcher{}
	h := withMatching(t, m)
	tok := h.record(said{ids: []string{"user_id", "u1"}})
	id := h.get("user_id", "u1", tok).GetCustomerId()
	for _, customerID := range []string{"", id} {
		answer, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{CustomerId: customerID, ConsistencyToken: tok})
		require.NoError(t, err)
		require.Equal(t, "m1", answer.GetModelEventId())
	}
	_, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{CustomerId: "nobody"})
	require.Equal(t, codes.NotFound, rpcerr.CodeOf(err))
	require.Equal(t, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, rpcerr.ReasonOf(err))
	require.Equal(t, []string{"", id}, m.asked)

	stream, err := h.client.FitMatchModel(h.call("acme"), &customerv1.FitMatchModelRequest{Seed: 7})
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, int64(7), first.GetCustomers())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func TestWithoutMatching(t *testing.T) {
	t.Parallel()
	h := withMatching(t, nil)
	_, listing := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{})
	stream, fit := h.client.FitMatchModel(h.call("acme"), &customerv1.FitMatchModelRequest{})
	if fit == nil {
		_, fit = stream.Recv()
	}
	for _, err := range []error{listing, fit} {
		require.Equal(t, codes.Unavailable, rpcerr.CodeOf(err))
		require.Equal(t, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, rpcerr.ReasonOf(err))
	}
}
