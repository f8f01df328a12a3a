package ops

import (
	"context"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// PauseProjection stops a projection's folding.
func (s *Server) PauseProjection(ctx context.Context, req *opsv1.PauseProjectionRequest) (*opsv1.PauseProjectionResponse, error) {
	o, err := s.operating(ctx, "pause", req.GetReason(), req.GetActor())
	if err != nil {
		return nil, err
	}
	p, err := s.projection(req.GetProjection())
	if err != nil {
		return nil, err
	}
	now, err := o.done(ctx, p, p.Pause(ctx, o.by))
	if err != nil {
		return nil, err
	}
	return &opsv1.PauseProjectionResponse{Projection: now}, nil
}
