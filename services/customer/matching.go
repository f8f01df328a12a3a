package customer

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Matching answers the methods about who may be the same person; calls are
// handed on to it as they are. It has a read model of its own, and lists nobody
// for a customer of whom nothing can be compared.
type Matching interface {
	ListMergeCandidates(ctx context.Context, req *customerv1.ListMergeCandidatesRequest) (*customerv1.ListMergeCandidatesResponse, error)
	FitMatchModel(req *customerv1.FitMatchModelRequest, stream grpc.ServerStreamingServer[customerv1.FitMatchModelResponse]) error
}

var errNoMatching = rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, "this process does not compare customers")

// ListMergeCandidates lists pairs of customers who may be one person. Whether
// there is the customer asked for is told from the 360, which knows all.
func (s *Server) ListMergeCandidates(ctx context.Context, req *customerv1.ListMergeCandidatesRequest) (*customerv1.ListMergeCandidatesResponse, error) {
	if s.deps.Matching == nil {
		return nil, errNoMatching
	}
	if req.GetCustomerId() != "" {
		if err := checkID("customer_id", req.GetCustomerId()); err != nil {
			return nil, err
		}
		r, err := s.about(ctx, req.GetConsistencyToken(), req.GetCustomerId())
		if err != nil {
			return nil, err
		}
		if _, err := r.Reader.Resolve(ctx, r.Tenant, req.GetCustomerId()); err != nil {
			return nil, failed(err)
		}
	}
	return s.deps.Matching.ListMergeCandidates(ctx, req)
}

// FitMatchModel learns who may be whom.
func (s *Server) FitMatchModel(req *customerv1.FitMatchModelRequest, stream grpc.ServerStreamingServer[customerv1.FitMatchModelResponse]) error {
	if s.deps.Matching == nil {
		return errNoMatching
	}
	return s.deps.Matching.FitMatchModel(req, stream)
}
