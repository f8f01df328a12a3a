package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
	"github.com/parleyhq/parley/pkg/view/pgview"
	"github.com/parleyhq/parley/services/ops"
)

// openViews opens the place where the read models are kept.
func (p *process) openViews(ctx context.Context) (view.Store, error) {
	var views view.Store
	var err error
	if p.settings.Storage.embeddedViews() {
		views, err = pebbleview.Open(p.dir.file("views"), pebbleview.Options{Logger: p.log, Now: p.opts.Now})
		if err != nil {
			return nil, p.dir.explain("read models", err)
		}
	} else {
		views, err = pgview.Open(ctx, pgview.Config{
			URL: config.Secret(p.settings.Storage.Views.Reveal()), QueryMode: pgview.QueryMode(p.settings.Storage.ViewsMode), Logger: p.log, Metrics: p.registry,
		})
		if err != nil {
			return nil, fmt.Errorf("--views %s: %w", p.settings.Storage.Views, err)
		}
	}
	p.stack.Push("views", func(context.Context) error { return views.Close() })
	p.ready.Add("views", func(context.Context) error { return views.Failed() })
	return views, nil
}

// explainViews brings an error of a read model into the form that names the flag.
func (p *process) explainViews(name string, err error) error {
	if p.settings.Storage.embeddedViews() {
		return p.dir.explain("read model "+name, err)
	}
	return fmt.Errorf("--views %s: read model %s: %w", p.settings.Storage.Views, name, err)
}

// projectionDeps are what a projection stands on in this process.
func (p *process) projectionDeps(name string, views view.Store, opts projection.Options) projection.Deps {
	return projection.Deps{
		Log: p.running.log, Origins: p.origins, Codec: p.codec, Views: views, Logger: p.log, Metrics: p.registry, Now: p.opts.Now, Options: opts,
		Process: p.name(), Audit: ops.NewAudit(p.running.log, p.codec, p.opts.Now), Lease: p.projectionLease(name, views),
	}
}

// projectionLease is held by the process that folds; nil where no other one can.
func (p *process) projectionLease(name string, views view.Store) projection.Lease {
	if !views.Shared() || p.settings.NATS.URL == "" {
		return nil
	}
	return busLease{p.running.bus.Lease("projection-" + name)}
}

// name is how the process names itself to operators, and where to ask it.
func (p *process) name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s, process %d, gRPC on %s", host, os.Getpid(), cmp.Or(p.running.Addresses.GRPC, "no address"))
}

// busLease is a lease kept in NATS.
type busLease struct{ lease *bus.Lease }

func (l busLease) Acquire(ctx context.Context) (<-chan struct{}, func(), error) {
	held, err := l.lease.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	return held.Lost(), held.Release, nil
}

// operated is a projection that operators can do something with, and what it holds.
func (p *process) operated(one projection.Operations, messages map[string]proto.Message) {
	p.projections = append(p.projections, ops.Projection{Operations: one, Messages: messages})
}

// messages are what collections hold, by their names.
func messages(collections []view.Collection) map[string]proto.Message {
	all := map[string]proto.Message{}
	for i := range collections {
		if c := &collections[i]; c.New != nil {
			all[c.Name] = c.New()
		}
	}
	return all
}

// startOps starts what operators ask. The projections have been started.
func (p *process) startOps() error {
	service, err := ops.NewServer(ops.Deps{
		Projections: p.projections, LogID: p.running.log.LogID(), Now: p.opts.Now, Stopping: p.grpc.Stopping(), Logger: p.log,
	})
	if err != nil {
		return err
	}
	service.Register(p.grpc.Registrar(tenant.Ops))
	return nil
}

// project runs a projection. One that has halted goes on answering with what it
// has, which readiness reports without taking the process out of the routing.
func (p *process) project(ctx context.Context, name string, one projection.Projection) {
	p.running.projections = append(p.running.projections, one)
	p.loops.run(ctx, &p.stack, name+" projection", one.Run)
	p.ready.Add(name, func(context.Context) error {
		switch status := one.Status(); status.State {
		case projection.CatchingUp, projection.Live:
			return nil
		case projection.Halted, projection.Paused:
			// Its readers have what it holds, and everybody else goes on.
			return &server.DegradedError{Err: fmt.Errorf("%s: %w", status.State, status.Err)}
		case projection.Stopped, projection.Retrying, projection.Frozen:
			if status.Err != nil {
				return fmt.Errorf("%s: %w", status.State, status.Err)
			}
			return errors.New(status.State.String())
		default:
			return errors.New(status.State.String())
		}
	})
}
