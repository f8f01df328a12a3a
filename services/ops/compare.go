package ops

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// defaultDocuments is how many differing documents of a collection are shown.
const defaultDocuments = 10

// CompareGenerations compares two generations, with progress.
func (s *Server) CompareGenerations(req *opsv1.CompareGenerationsRequest, stream grpc.ServerStreamingServer[opsv1.CompareGenerationsResponse]) error {
	ctx, end := s.streaming(stream.Context())
	defer end()
	p, err := s.begin(ctx, req.GetGeneration().GetProjection())
	if err != nil {
		return streamed(ctx, err)
	}
	one, other, err := p.compared(ctx, req)
	if err != nil {
		return streamed(ctx, err)
	}
	return s.follow(ctx, func(ctx context.Context, tell func(*opsv1.Progress)) (*opsv1.Difference, error) {
		difference, err := p.Compare(ctx, one, other, projection.CompareOptions{MaxDocuments: documents(req.MaxDocuments), Progress: tell})
		if errors.Is(err, view.ErrInvalid) {
			return nil, errSameGeneration(err)
		}
		return difference, err
	}, func(progress *opsv1.Progress, difference *opsv1.Difference) error {
		return stream.Send(&opsv1.CompareGenerationsResponse{Progress: progress, Difference: p.withhold(difference)})
	})
}

// compared are the two generations of a request.
func (p *operated) compared(ctx context.Context, req *opsv1.CompareGenerationsRequest) (one, other view.Namespace, err error) {
	if one, err = p.namespace(ctx, "generation", req.GetGeneration()); err != nil {
		return one, other, err
	}
	other = view.Namespace{Projection: p.Name()}
	if req.GetOther() == nil {
		return one, other, nil
	}
	if req.GetOther().GetProjection() != p.Name() {
		return one, other, rpcerr.InvalidField("other.projection", "must be the same projection: those of two have nothing in common")
	}
	if other, err = p.namespace(ctx, "other", req.GetOther()); err != nil {
		return one, other, err
	}
	if one.Generation != 0 && one == other {
		return one, other, errSameGeneration(nil)
	}
	return one, other, nil
}

// errSameGeneration is for two names of one generation, which only the
// projection may be able to tell: the one that serves and that one by its number.
func errSameGeneration(cause error) error {
	return rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, "invalid request: both are the same generation: name another one",
		rpcerr.WithCause(cause), rpcerr.WithViolations(rpcerr.Violation{Field: "other", Message: "is the same generation"}))
}

// documents is how many differing ones to show.
func documents(asked *int32) int {
	if asked == nil {
		return defaultDocuments
	}
	return int(*asked)
}
