package ops

import (
	"context"

	"github.com/parleyhq/parley/pkg/rpcerr"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// DropGeneration removes a generation.
func (s *Server) DropGeneration(ctx context.Context, req *opsv1.DropGenerationRequest) (*opsv1.DropGenerationResponse, error) {
	o, err := s.operating(ctx, "drop", req.GetReason(), req.GetActor())
	if err != nil {
		return nil, err
	}
	p, err := s.projection(req.GetGeneration().GetProjection())
	if err != nil {
		return nil, err
	}
	// Nothing is dropped that was not named.
	if req.GetGeneration().GetGeneration() == 0 {
		return nil, rpcerr.InvalidField("generation.generation", "must be given: `parley projections get` shows the generations there are")
	}
	ns, err := p.namespace(ctx, "generation", req.GetGeneration())
	if err != nil {
		return nil, err
	}
	now, err := o.done(ctx, p, p.Drop(ctx, o.by, ns))
	if err != nil {
		return nil, err
	}
	return &opsv1.DropGenerationResponse{Projection: now}, nil
}
