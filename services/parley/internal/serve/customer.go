package serve

import (
	"context"

	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/services/customer"
)

func (p *process) startCustomer(ctx context.Context, views view.Store, resolver *identity.Resolver) error {
	engine, err := projection.New(ctx, customer.Definition(), projection.Deps{
		Log: p.running.log, Codec: p.codec, Views: views, Logger: p.log, Metrics: p.registry,
	})
	if err != nil {
		return p.dir.explain("read model customer", err)
	}
	p.stack.Push("customer projection", func(context.Context) error { return engine.Close() })
	service, err := customer.NewServer(customer.Deps{Engine: engine, Log: p.running.log, Resolver: resolver, Stopping: p.grpc.Stopping()})
	if err != nil {
		return err
	}
	service.Register(p.grpc.Registrar(tenant.Read))
	p.project(ctx, Customer, engine)
	return nil
}
