package ops

import (
	"context"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// ListProjections returns all projections.
func (s *Server) ListProjections(ctx context.Context, _ *opsv1.ListProjectionsRequest) (*opsv1.ListProjectionsResponse, error) {
	if _, err := calling(ctx); err != nil {
		return nil, err
	}
	now, err := reports(ctx, s.all())
	if err != nil {
		return nil, err
	}
	return &opsv1.ListProjectionsResponse{Projections: now}, nil
}
