package ops

import (
	"context"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// GetProjection returns one projection.
func (s *Server) GetProjection(ctx context.Context, req *opsv1.GetProjectionRequest) (*opsv1.GetProjectionResponse, error) {
	p, err := s.begin(ctx, req.GetProjection())
	if err != nil {
		return nil, err
	}
	now, err := report(ctx, p)
	if err != nil {
		return nil, err
	}
	return &opsv1.GetProjectionResponse{Projection: now}, nil
}
