package ops

import (
	"context"
	"fmt"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// RetryDeadLetters folds dead letters once more.
func (s *Server) RetryDeadLetters(ctx context.Context, req *opsv1.RetryDeadLettersRequest) (*opsv1.RetryDeadLettersResponse, error) {
	o, err := s.operating(ctx, "retry", "", req.GetActor())
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
	positions := make([]eventstore.Position, len(req.GetPositions()))
	for i, position := range req.GetPositions() {
		if position == 0 {
			return nil, rpcerr.InvalidField(fmt.Sprintf("positions[%d]", i), "must be greater than 0")
		}
		positions[i] = eventstore.Position(position)
	}
	result, err := p.Retry(ctx, o.by, ns, positions...)
	if err := o.ended(ctx, p, err); err != nil {
		return nil, err
	}
	return &opsv1.RetryDeadLettersResponse{Folded: result.Folded, DeadLetters: result.Failed, WaitingEvents: result.Waiting}, nil
}
