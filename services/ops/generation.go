package ops

import (
	"context"
	"fmt"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/view"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// namespace is the generation that a request names: number 0 stays what the
// operation makes of it, and without a version it is the newest of that number.
func (p *operated) namespace(ctx context.Context, field string, name *opsv1.GenerationName) (view.Namespace, error) {
	ns := view.Namespace{Projection: p.Name(), Version: name.GetVersion(), Generation: name.GetGeneration()}
	switch {
	case ns.Generation == 0 && ns.Version != 0:
		return ns, rpcerr.InvalidField(field+".generation", "must be given where the version is: leave out both, or neither")
	case ns.Generation == 0 || ns.Version != 0:
		return ns, nil
	}
	now, err := report(ctx, p)
	if err != nil {
		return ns, err
	}
	for _, g := range now.GetGenerations() {
		if g.GetGeneration() == ns.Generation {
			ns.Version = max(ns.Version, g.GetVersion())
		}
	}
	if ns.Version == 0 {
		return ns, rpcerr.FromError(fmt.Errorf("generation %d of %s: %w", ns.Generation, p.Name(), projection.ErrUnknownGeneration))
	}
	return ns, nil
}

// pinned is namespace with the one that serves by its name: what a list's
// pages are of while another one is switched to.
func (p *operated) pinned(ctx context.Context, field string, name *opsv1.GenerationName) (view.Namespace, error) {
	ns, err := p.namespace(ctx, field, name)
	if err != nil || ns.Generation != 0 {
		return ns, err
	}
	now, err := report(ctx, p)
	if err != nil {
		return ns, err
	}
	for _, g := range now.GetGenerations() {
		if g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_SERVING {
			ns.Version, ns.Generation = g.GetVersion(), g.GetGeneration()
			return ns, nil
		}
	}
	return ns, rpcerr.FromError(fmt.Errorf("the generation of %s that serves: %w", p.Name(), projection.ErrUnknownGeneration))
}

func nameOf(ns view.Namespace) *opsv1.GenerationName {
	return &opsv1.GenerationName{Projection: ns.Projection, Version: ns.Version, Generation: ns.Generation}
}
