package ops

import (
	"context"

	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// VerifyProjection computes the serving generation anew and compares, with
// progress.
func (s *Server) VerifyProjection(req *opsv1.VerifyProjectionRequest, stream grpc.ServerStreamingServer[opsv1.VerifyProjectionResponse]) error {
	ctx, end := s.streaming(stream.Context())
	defer end()
	o, err := s.operating(ctx, "verify", "", req.GetActor())
	if err != nil {
		return err
	}
	p, err := s.projection(req.GetProjection())
	if err != nil {
		return err
	}
	sample := 1.0
	if req.Sample != nil {
		sample = req.GetSample()
	}
	// To the projection 0 stands for all, and no number for nobody knows what.
	if !(sample > 0 && sample <= 1) {
		return rpcerr.InvalidField("sample", "must be greater than 0 and at most 1")
	}
	return s.follow(ctx, func(ctx context.Context, tell func(*opsv1.Progress)) (*opsv1.Difference, error) {
		difference, err := p.Verify(ctx, o.by, projection.VerifyOptions{
			CompareOptions: projection.CompareOptions{MaxDocuments: documents(req.MaxDocuments), Progress: tell},
			Sample:         sample, MaxEventsPerSecond: req.GetMaxEventsPerSecond(),
		})
		return difference, o.ended(ctx, p, err)
	}, func(progress *opsv1.Progress, difference *opsv1.Difference) error {
		return stream.Send(&opsv1.VerifyProjectionResponse{Progress: progress, Difference: p.withhold(difference)})
	})
}
