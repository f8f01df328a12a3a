package ops

import (
	"context"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// SwitchOver makes another generation serve.
func (s *Server) SwitchOver(ctx context.Context, req *opsv1.SwitchOverRequest) (*opsv1.SwitchOverResponse, error) {
	o, err := s.operating(ctx, "switch over", req.GetReason(), req.GetActor())
	if err != nil {
		return nil, err
	}
	p, err := s.projection(req.GetGeneration().GetProjection())
	if err != nil {
		return nil, err
	}
	ns, err := p.namespace(ctx, "generation", req.GetGeneration())
	if err != nil {
		return nil, err
	}
	now, err := o.done(ctx, p, p.SwitchOver(ctx, o.by, ns))
	if err != nil {
		return nil, err
	}
	return &opsv1.SwitchOverResponse{Projection: now}, nil
}
