package serve

import (
	"context"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/services/customer"
)

func (p *process) startCustomer(ctx context.Context, views view.Store) error {
	// Its own: the recorder is ahead of the read model, also with the tenants' rules.
	resolver, err := p.resolver()
	if err != nil {
		return err
	}
	definition := customer.Definition()
	engine, err := projection.New(ctx, definition, p.projectionDeps(customer.Name, views, projection.Options{}))
	if err != nil {
		return p.explainViews("customer", err)
	}
	p.operated(engine, messages(definition.Collections()))
	p.stack.Push("customer projection", func(context.Context) error { return engine.Close() })
	matching, err := p.startMatch(ctx, views)
	if err != nil {
		return err
	}
	service, err := customer.NewServer(customer.Deps{
		Engine: engine, Log: p.running.log, Origins: p.origins, Resolver: resolver, Recorder: p.running.bus.Publisher(), Matching: matching, Now: p.opts.Now, Stopping: p.grpc.Stopping(),
	})
	if err != nil {
		return err
	}
	service.Register(p.grpc.Registrar(tenant.Read))
	p.project(ctx, Customer, engine)
	return nil
}
