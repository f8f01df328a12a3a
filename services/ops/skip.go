package ops

import (
	"context"
	"strings"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// SkipDeadLetter leaves an event out of a projection for ever.
func (s *Server) SkipDeadLetter(ctx context.Context, req *opsv1.SkipDeadLetterRequest) (*opsv1.SkipDeadLetterResponse, error) {
	o, err := s.operating(ctx, "skip", req.GetReason(), req.GetActor())
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(req.GetReason()) == "" {
		return nil, rpcerr.InvalidField("reason", "must say why: it stands in the log for ever")
	}
	p, err := s.projection(req.GetGeneration().GetProjection())
	if err != nil {
		return nil, err
	}
	ns, err := p.namespace(ctx, "generation", req.GetGeneration())
	if err != nil {
		return nil, err
	}
	skipped, err := p.Skip(ctx, o.by, ns, eventstore.Position(req.GetPosition()))
	if err := o.ended(ctx, p, err); err != nil {
		return nil, err
	}
	return &opsv1.SkipDeadLetterResponse{
		EventId: skipped.EventID, DeadLetters: skipped.Failed,
		ConsistencyToken: token.NewConsistency(s.deps.LogID, skipped.Position).String(),
	}, nil
}
