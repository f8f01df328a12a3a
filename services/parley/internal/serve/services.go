package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rawproto"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	emailv1 "github.com/parleyhq/parley/proto/gen/parley/email/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/email"
	"github.com/parleyhq/parley/services/feed"
	"github.com/parleyhq/parley/services/recorder"
	"github.com/parleyhq/parley/services/web"
)

// anonymousSource names what is recorded over gRPC without a credential.
const anonymousSource = "grpc"

// openStorage opens the data directory with all in it but NATS.
func (p *process) openStorage(ctx context.Context) error {
	var err error
	if p.validator, err = event.NewValidator(
		&interactionv1.Interaction{}, &interactionv1.QuarantinedBody{},
		&customerv1.GetCustomerRequest{}, &customerv1.LookupCustomerRequest{}, &emailv1.ImportMailsRequest{},
	); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	p.codec = event.NewCodec()
	if !p.needsLog() && p.settings.NATS.URL != "" {
		return nil // gateways alone keep nothing
	}
	if p.dir, err = openDataDir(p.settings.Storage.DataDir); err != nil {
		return err
	}
	p.stack.Push("data directory", func(context.Context) error { return p.dir.close() })
	if !p.has(Log) {
		if p.secret, err = p.dir.secret(p.settings.Storage.ProfileSecret, p.opts.Random); err != nil {
			return err
		}
	}
	if err := p.openLog(ctx); err != nil {
		return err
	}
	return p.loadOrigins(ctx)
}

// resolver knows who is who.
func (p *process) resolver() (*identity.Resolver, error) {
	rules := identity.DefaultRules()
	rules.DefaultRegion = p.settings.Storage.DefaultRegion
	r, err := identity.NewResolver(rules, p.secret)
	if err != nil {
		return nil, fmt.Errorf("identity rules: %w", err)
	}
	return r, nil
}

// serveGRPC starts the services that answer over gRPC.
func (p *process) serveGRPC(ctx context.Context) error {
	if !p.needsGRPC() {
		return nil
	}
	keys, err := p.settings.Access.Keys()
	if err != nil {
		return wrapFlag("api-keys", err)
	}
	tlsConfig, err := p.settings.Access.grpcTLS().Config(p.opts.Now)
	if err != nil {
		return err
	}
	cfg := server.GRPCConfig{
		Logger: p.log, Registry: p.registry, Keys: keys, TLS: tlsConfig, Codec: rawproto.Codec(), Check: p.check,
		Anonymous: tenant.Identity{Tenant: DefaultTenant, Source: anonymousSource, Scopes: tenant.All},
		// A batch is refused interaction by interaction, so the intake checks by itself.
		SelfValidating: []string{interactionv1.InteractionService_Record_FullMethodName, interactionv1.InteractionService_RecordBatch_FullMethodName},
	}
	if p.tracer != nil {
		cfg.TracerProvider = p.tracer
	}
	if p.grpc, err = server.NewGRPC(cfg); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := p.startServices(ctx); err != nil {
		return err
	}
	p.loops.serve(p.listeners["grpc-listen"], p.grpc.Serve)
	p.stack.Push("gRPC", func(ctx context.Context) error {
		p.grpc.Stop(ctx)
		return nil
	})
	return nil
}

// startServices starts the services that were named and answer over gRPC.
func (p *process) startServices(ctx context.Context) error {
	var (
		resolver *identity.Resolver
		views    view.Store
	)
	if p.needsLog() {
		var err error
		if resolver, err = p.resolver(); err != nil {
			return err
		}
	}
	if p.needsViews() {
		var err error
		if views, err = p.openViews(ctx); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		name  string
		start func() error
	}{
		{Recorder, func() error { return p.startRecorder(ctx, resolver) }},
		{Customer, func() error { return p.startCustomer(ctx, views) }},
		{Feed, func() error { return p.startFeed(ctx, views) }},
		{Email, p.startEmail},
		{Ops, p.startOps},
	} {
		if !p.has(s.name) {
			continue
		}
		if err := s.start(); err != nil {
			return fmt.Errorf("start the %s: %w", s.name, err)
		}
	}
	return nil
}

// check gives the violations of a request as the wire names them.
func (p *process) check(m proto.Message) []rpcerr.Violation {
	found := p.validator.Check(m)
	if len(found) == 0 {
		return nil
	}
	out := make([]rpcerr.Violation, len(found))
	for i, v := range found {
		out[i] = rpcerr.Violation(v)
	}
	return out
}

func (p *process) startRecorder(ctx context.Context, resolver *identity.Resolver) error {
	var lease recorder.Lease
	if p.settings.NATS.URL != "" {
		// Others may record into the same log.
		lease = p.running.bus.Lease("recorder")
	}
	r, err := recorder.New(recorder.Deps{
		Lease: lease,
		Log:   p.running.log, Bus: p.running.bus, Codec: p.codec, Validator: p.validator, Resolver: resolver,
		IndexDir: p.dir.file("recorder"), Now: p.opts.Now, Logger: p.log, Metrics: p.registry,
	})
	if err != nil {
		return err
	}
	p.recorder = r
	intake, err := recorder.NewIntake(recorder.IntakeDeps{Publisher: p.running.bus.Publisher(), Validator: p.validator, Now: p.opts.Now})
	if err != nil {
		return err
	}
	interactionv1.RegisterInteractionServiceServer(p.grpc.Registrar(tenant.Record), intake)
	p.loops.run(ctx, &p.stack, "recorder", r.Run)
	p.ready.Add(Recorder, func(context.Context) error { return r.Healthy() })
	return nil
}

func (p *process) startFeed(ctx context.Context, views view.Store) error {
	index, err := feed.OpenIndex(ctx, feed.IndexDeps{Log: p.running.log, Origins: p.origins, Views: views, Lease: p.projectionLease(Feed, views), Logger: p.log})
	if err != nil {
		return p.explainViews("feed", err)
	}
	p.stack.Push("feed index", func(context.Context) error { return index.Close() })
	service, err := feed.NewServer(feed.Deps{
		Log: p.running.log, Origins: p.origins, Codec: p.codec, Index: index, Stopping: p.grpc.Stopping(), Now: p.opts.Now,
	})
	if err != nil {
		return err
	}
	service.Register(p.grpc.Registrar(tenant.Read))
	p.operated(projection.Listed(index), nil)
	p.project(ctx, Feed, index)
	return nil
}

// publisher is the gateways' way in. Where the recorder runs in this process and
// its log is full or away, nothing more is acknowledged: senders keep what they
// have rather than fill the ingress stream.
func (p *process) publisher() email.Publisher {
	return &gatedPublisher{Publisher: p.running.bus.Publisher(), healthy: func() error {
		// Mail's way in is made before the recorder is.
		if p.recorder == nil {
			return nil
		}
		return p.recorder.Healthy()
	}}
}

type gatedPublisher struct {
	email.Publisher
	healthy func() error
}

func (g *gatedPublisher) Publish(ctx context.Context, tenantName, channel string, batch *interactionv1.IngressBatch) error {
	if err := g.refusal(); err != nil {
		return err
	}
	return g.Publisher.Publish(ctx, tenantName, channel, batch)
}

func (g *gatedPublisher) PublishAndWait(ctx context.Context, tenantName, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	if err := g.refusal(); err != nil {
		return nil, err
	}
	return g.Publisher.PublishAndWait(ctx, tenantName, channel, batch)
}

// refusal is why nothing is taken now.
func (g *gatedPublisher) refusal() error {
	switch err := g.healthy(); {
	case errors.Is(err, eventstore.ErrFull):
		return fmt.Errorf("%w: %w", bus.ErrFull, err)
	case errors.Is(err, eventstore.ErrUnavailable):
		return fmt.Errorf("%w: %w", bus.ErrUnavailable, err)
	default:
		return nil
	}
}

// serveHTTP starts what the outside calls by HTTP.
func (p *process) serveHTTP(context.Context) error {
	if !p.needsHTTP() {
		return nil
	}
	tlsConfig, err := p.settings.Access.httpTLS().Config(p.opts.Now)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	if p.has(WebEntry) {
		gateway, err := p.webGateway()
		if err != nil {
			return err
		}
		mux.Handle("/", gateway.Handler())
	}
	if p.has(Email) {
		webhooks, err := email.NewWebhooks(p.mail, p.settings.Mail.webhookConfig())
		if err != nil {
			return fmt.Errorf("--mail-…: %w", err)
		}
		mux.Handle(email.PathWebhooks, webhooks.Handler())
	}
	p.http = server.NewHTTP(mux, p.log, tlsConfig)
	p.loops.serve(p.listeners["http-listen"], p.http.Serve)
	p.stack.Push("HTTP", p.http.Stop)
	return nil
}

// webGateway makes the tracking API.
func (p *process) webGateway() (*web.Gateway, error) {
	keys, err := p.settings.Access.writeKeys()
	if err != nil {
		return nil, wrapFlag("write-keys", err)
	}
	proxies, err := p.settings.Web.proxies()
	if err != nil {
		return nil, err
	}
	w := p.settings.Web
	gateway, err := web.New(web.Config{
		PublicURL: w.PublicURL, AllowedOrigins: w.AllowedOrigins, TrustedProxies: proxies, IgnoredReferrers: w.IgnoredReferrers,
		LinkSecret: w.LinkSecret, EventsPerSecond: w.EventsPerSecond,
	}, web.Deps{
		Publisher: p.publisher(), Keys: keys, Validator: p.validator, Now: p.opts.Now, Logger: p.log, Registerer: p.registry,
	})
	if err != nil {
		return nil, fmt.Errorf("--http-…: %w", err)
	}
	return gateway, nil
}

// serveSMTP starts to take mail.
func (p *process) serveSMTP(context.Context) error {
	if !p.has(Email) {
		return nil
	}
	m := p.settings.Mail
	tlsConfig, err := m.tls().Config(p.opts.Now)
	if err != nil {
		return err
	}
	smtp, err := email.NewSMTPServer(p.mail, email.SMTPConfig{TLS: tlsConfig, RequireTLS: m.RequireTLS, MaxConnections: m.MaxConnections})
	if err != nil {
		return fmt.Errorf("--smtp-…: %w", err)
	}
	p.loops.serve(p.listeners["smtp-listen"], smtp.Serve)
	p.stack.Push("SMTP", smtp.Stop)
	return nil
}

// serveAdmin starts the surface for the inside.
func (p *process) serveAdmin(context.Context) error {
	keys, err := p.settings.Access.Keys()
	if err != nil {
		return wrapFlag("api-keys", err)
	}
	tlsConfig, err := p.settings.Access.httpTLS().Config(p.opts.Now)
	if err != nil {
		return err
	}
	admin := server.NewHTTP(server.NewAdmin(server.AdminConfig{
		Logger: p.log, Metrics: p.registry, Readiness: &p.ready, Keys: keys,
	}), p.log, tlsConfig)
	if p.running.log != nil {
		p.ready.Add("event store", func(ctx context.Context) error {
			_, err := p.running.log.Head(ctx)
			if errors.Is(err, eventstore.ErrClosed) {
				return nil // the process is stopping, and says so itself
			}
			return err
		})
	}
	p.loops.serve(p.listeners["admin-listen"], admin.Serve)
	p.stack.Push("admin HTTP", admin.Stop)
	return nil
}
