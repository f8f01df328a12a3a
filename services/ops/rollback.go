package ops

import (
	"context"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// Rollback makes the generation serve that did before.
func (s *Server) Rollback(ctx context.Context, req *opsv1.RollbackRequest) (*opsv1.RollbackResponse, error) {
	o, err := s.operating(ctx, "rollback", req.GetReason(), req.GetActor())
	if err != nil {
		return nil, err
	}
	p, err := s.projection(req.GetProjection())
	if err != nil {
		return nil, err
	}
	now, err := o.done(ctx, p, p.Rollback(ctx, o.by))
	if err != nil {
		return nil, err
	}
	return &opsv1.RollbackResponse{Projection: now}, nil
}
