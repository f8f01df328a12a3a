package ops

import (
	"context"
	"fmt"
	"strings"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// RebuildProjections has new generations filled, of all projections named or,
// as far as can be told beforehand, of none.
func (s *Server) RebuildProjections(ctx context.Context, req *opsv1.RebuildProjectionsRequest) (*opsv1.RebuildProjectionsResponse, error) {
	o, err := s.operating(ctx, "rebuild", req.GetReason(), req.GetActor())
	if err != nil {
		return nil, err
	}
	some := make([]*operated, len(req.GetProjections()))
	for i, name := range req.GetProjections() {
		if some[i], err = s.projection(name); err != nil {
			return nil, err
		}
	}
	opts := projection.RebuildOptions{SwitchWhenReady: req.GetSwitchWhenReady(), MaxEventsPerSecond: req.GetMaxEventsPerSecond()}
	if len(some) > 1 {
		if err := noneFilling(ctx, some); err != nil {
			return nil, err
		}
		scan, err := s.deps.NewID()
		if err != nil {
			return nil, rpcerr.FromError(fmt.Errorf("name a scan: %w", err))
		}
		opts.Scan = scan.String()
	}
	answer := &opsv1.RebuildProjectionsResponse{}
	for _, p := range some {
		ns, err := p.Rebuild(ctx, o.by, opts)
		if err := o.ended(ctx, p, err); err != nil {
			return nil, refused(p, answer.GetGenerations(), err)
		}
		answer.Generations = append(answer.Generations, nameOf(ns))
	}
	return answer, nil
}

// noneFilling refuses where one of several projections has a candidate already,
// as the projection itself would.
func noneFilling(ctx context.Context, some []*operated) error {
	for _, p := range some {
		now, err := report(ctx, p)
		if err != nil {
			return err
		}
		for _, g := range now.GetGenerations() {
			if g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE {
				return refused(p, nil, rpcerr.FromError(fmt.Errorf("rebuild %s: generation %d of version %d: %w",
					p.Name(), g.GetGeneration(), g.GetVersion(), projection.ErrRebuildRunning)))
			}
		}
	}
	return nil
}

// refused says which of several projections was not rebuilt, and which ones are
// all the same: what could not be told beforehand.
func refused(p *operated, begun []*opsv1.GenerationName, err error) error {
	e, ok := rpcerr.Parse(err)
	if !ok {
		return err
	}
	opts := []rpcerr.Option{rpcerr.WithCause(err), rpcerr.WithRetryAfter(e.RetryAfter), rpcerr.WithMetadata("projection", p.Name())}
	for key, value := range e.Metadata {
		opts = append(opts, rpcerr.WithMetadata(key, value))
	}
	message := p.Name() + ": " + e.Message
	if len(begun) > 0 {
		names := make([]string, len(begun))
		for i, g := range begun {
			names[i] = fmt.Sprintf("%s/v%d/g%d", g.GetProjection(), g.GetVersion(), g.GetGeneration())
		}
		list := strings.Join(names, ", ")
		opts = append(opts, rpcerr.WithMetadata("begun", list))
		message += "; these are being filled: " + list + ". Leave them, or drop them"
	}
	return rpcerr.New(e.Code, e.Reason, message, opts...)
}
