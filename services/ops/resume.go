package ops

import (
	"context"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// ResumeProjection lets a projection go on.
func (s *Server) ResumeProjection(ctx context.Context, req *opsv1.ResumeProjectionRequest) (*opsv1.ResumeProjectionResponse, error) {
	o, err := s.operating(ctx, "resume", req.GetReason(), req.GetActor())
	if err != nil {
		return nil, err
	}
	p, err := s.projection(req.GetProjection())
	if err != nil {
		return nil, err
	}
	now, err := o.done(ctx, p, p.Resume(ctx, o.by))
	if err != nil {
		return nil, err
	}
	return &opsv1.ResumeProjectionResponse{Projection: now}, nil
}
