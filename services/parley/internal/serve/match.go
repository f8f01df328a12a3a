package serve

import (
	"context"
	"time"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/services/match"
)

// startMatch starts what answers the CustomerService's calls about who may be
// the same person.
func (p *process) startMatch(ctx context.Context, views view.Store) (*match.Server, error) {
	definition := match.Definition()
	// It is asked now and then, and must not take from what is asked all the time.
	engine, err := projection.New(ctx, definition, p.projectionDeps(match.Name, views, projection.Options{
		Decoders: 1, Partitions: 1, LiveDelay: 5 * time.Second, ReplayCacheBytes: 16 << 20, LiveCacheBytes: 4 << 20,
	}))
	if err != nil {
		return nil, p.explainViews("match", err)
	}
	p.operated(engine, messages(definition.Collections()))
	p.stack.Push("match projection", func(context.Context) error { return engine.Close() })
	p.project(ctx, match.Name, engine)
	service, err := match.NewServer(match.Deps{
		Log: p.running.log, Origins: p.origins, Codec: p.codec, Engine: engine, Recorder: p.running.bus.Publisher(),
		Now: p.opts.Now, Stopping: p.grpc.Stopping(), Logger: p.log, Metrics: p.registry,
	})
	if err != nil {
		return nil, err
	}
	p.stack.Push("match", func(context.Context) error {
		service.Close()
		return nil
	})
	return service, nil
}
