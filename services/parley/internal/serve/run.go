package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/services/email"
	"github.com/parleyhq/parley/services/ops"
	"github.com/parleyhq/parley/services/recorder"
)

// Options are what Run needs besides the settings.
type Options struct {
	Settings Settings
	// Services to run; none for all.
	Services []string
	// Logger is required.
	Logger *slog.Logger
	// Random bytes for a new secret. Required.
	Random io.Reader
	// Now is the clock. Required.
	Now func() time.Time
	// OnReady is called once everything serves; its error ends the process. Optional.
	OnReady func(context.Context, *Running) error
}

// Addresses say where the process serves, each as host:port; empty where it
// does not. They are what the ready file holds.
type Addresses struct {
	GRPC  string `json:"grpc,omitempty"`
	HTTP  string `json:"http,omitempty"`
	SMTP  string `json:"smtp,omitempty"`
	Admin string `json:"admin,omitempty"`
	NATS  string `json:"nats,omitempty"`
	// EventStore is where EventStoreDB's protocol is spoken.
	EventStore string `json:"eventstore,omitempty"`
}

// Running is a process that serves.
type Running struct {
	Addresses Addresses
	// Services that run.
	Services []string

	log         eventstore.Store
	bus         *bus.Bus
	projections []projection.Projection
}

// process is a process while it starts.
type process struct {
	opts      Options
	settings  *Settings
	log       *slog.Logger
	stack     server.Stack
	loops     *background
	registry  *prometheus.Registry
	ready     server.Readiness
	validator *event.Validator
	codec     *event.Codec
	dir       *dataDir
	secret    []byte
	tracer    *trace.TracerProvider // nil without a collector
	running   Running
	origins   *posmap.Map // of the log
	// listeners by name of the address.
	listeners map[string]net.Listener
	// grpc and http are there where a service needs them.
	grpc *server.GRPC
	http *server.HTTP
	// recorder and mail are there where they run in this process.
	recorder *recorder.Recorder
	mail     *email.Intake
	vault    *blob.Vault // where email runs
	// projections that operators can do something with.
	projections []ops.Projection
}

// Run starts the services, serves until ctx ends, and stops them.
func Run(ctx context.Context, opts Options) (err error) {
	if err := opts.Settings.Check(opts.Services); err != nil {
		return err
	}
	p := &process{
		opts: opts, settings: &opts.Settings, log: opts.Logger, loops: newBackground(),
		registry: prometheus.NewRegistry(), listeners: map[string]net.Listener{},
	}
	p.stack.Logger = p.log
	p.running.Services = opts.Services
	if len(opts.Services) == 0 {
		p.running.Services = platform()
	}
	if p.has(Log) && p.settings.Listen.EventStore == "" {
		p.settings.Listen.EventStore = eventStoreAddress
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.settings.Process.StopTimeout)
		defer cancel()
		err = errors.Join(err, p.stack.Close(stopCtx))
		p.loops.servers.Wait()
	}()
	began := opts.Now()
	if err := p.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while it started
		}
		return err
	}
	p.log.Info("serving", "addresses", p.running.Addresses, "services", p.running.Services, "took", opts.Now().Sub(began))
	if opts.OnReady != nil {
		if err := opts.OnReady(ctx, &p.running); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		p.log.Info("stopping")
		p.drain()
		return nil
	case err := <-p.loops.failed:
		p.log.Error("stopping", "error", err)
		return err
	}
}

// has says whether a service runs in this process.
func (p *process) has(service string) bool { return slices.Contains(p.running.Services, service) }

// start brings everything up. Ports come first: they are what fails most
// often, and the quickest to tell.
func (p *process) start(ctx context.Context) error {
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := p.removeReadyFile(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		p.listen, p.openTracing, p.openStorage, p.serveEventStore, p.openBus, p.openMail, p.serveGRPC, p.serveHTTP, p.serveSMTP, p.serveAdmin,
		p.awaitServices, p.announce,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// needsLog says that a service reads or writes the log.
func (p *process) needsLog() bool {
	return p.has(Recorder) || p.has(Customer) || p.has(Feed) || p.has(Ops) || p.has(Log)
}

// needsViews says that a service has read models.
func (p *process) needsViews() bool { return p.has(Customer) || p.has(Feed) }

func (p *process) needsGRPC() bool { return p.needsLog() && !p.has(Log) || p.has(Email) }

func (p *process) needsHTTP() bool {
	return p.has(WebEntry) || p.has(Email) && p.settings.Mail.webhooks()
}

func (p *process) listen(ctx context.Context) error {
	l := p.settings.Listen
	for _, a := range []struct {
		server.Address
		wanted bool
		into   *string
	}{
		{l.grpc(), p.needsGRPC(), &p.running.Addresses.GRPC},
		{l.http(), p.needsHTTP(), &p.running.Addresses.HTTP},
		{l.smtp(), p.has(Email), &p.running.Addresses.SMTP},
		{l.admin(), true, &p.running.Addresses.Admin},
		{l.eventStore(), l.EventStore != "", &p.running.Addresses.EventStore},
	} {
		if !a.wanted {
			continue
		}
		lis, err := a.Listen(ctx)
		if err != nil {
			return err
		}
		p.listeners[a.Flag] = lis
		*a.into = lis.Addr().String()
		p.stack.Push("listener of "+a.Flag, func(context.Context) error {
			if err := lis.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("close: %w", err)
			}
			return nil
		})
	}
	return nil
}

func (p *process) openBus(ctx context.Context) error {
	if p.has(Log) {
		return nil // nobody here has anything to say on it
	}
	n := p.settings.NATS
	cfg := bus.Config{
		URL: n.URL, Listen: p.settings.Listen.NATS, User: n.User, Password: bus.Secret(n.Password.Reveal()), Token: bus.Secret(n.Token.Reveal()),
		TLS:             bus.TLS{CAFile: n.TLSCA, CertFile: n.TLSCert, KeyFile: n.TLSKey},
		CredentialsFile: n.Credentials, Replicas: n.Replicas, MaxIngressBytes: int64(n.MaxIngress),
	}
	if p.dir != nil {
		cfg.DataDir = p.dir.file("nats")
	}
	b, err := bus.Open(ctx, cfg, bus.WithLogger(p.log), bus.WithMetrics(p.registry))
	switch {
	case errors.Is(err, bus.ErrAddressInUse):
		addr := p.settings.Listen.nats()
		return fmt.Errorf("%s: address already in use; stop what listens there, choose another one, for example --nats-listen 127.0.0.1:0 for any free port, or use that NATS by --nats: %w", addr, err)
	case errors.Is(err, bus.ErrInvalid):
		return fmt.Errorf("--nats…: %w", err)
	case err != nil && n.URL != "":
		return fmt.Errorf("--nats %s: %w", withoutPassword(n.URL), err)
	case err != nil:
		return p.dir.explain("embedded NATS", err)
	}
	p.stack.Push("bus", func(context.Context) error { return b.Close() })
	p.running.bus = b
	p.running.Addresses.NATS = b.Addr()
	if n.URL != "" {
		p.running.Addresses.NATS = natsHost(n.URL)
	}
	p.ready.Add("bus", func(context.Context) error { return b.Healthy() })
	return nil
}

// withoutPassword is a URL as it may be shown.
func withoutPassword(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	return u.Redacted()
}

// natsHost is where an external NATS is: the hosts of its URLs, with commas between.
func natsHost(urls string) string {
	var hosts []string
	for one := range strings.SplitSeq(urls, ",") {
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil && u.Host != "" {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ",")
}

// awaitServices waits until everything that was named serves.
func (p *process) awaitServices(ctx context.Context) error {
	const poll = 2 * time.Millisecond
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		if p.ready.Report(ctx).Ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.loops.failed:
			return err
		case <-ticker.C:
		}
	}
}

// announce says that everything serves.
func (p *process) announce(context.Context) error {
	if p.grpc != nil {
		p.grpc.Ready()
	}
	name := p.settings.Process.ReadyFile
	if name == "" {
		return nil
	}
	content, err := json.Marshal(p.running.Addresses)
	if err != nil {
		return fmt.Errorf("--ready-file %s: %w", name, err)
	}
	const readable = 0o644 // for whoever waits for the process
	if err := writeAtomically(name, append(content, '\n'), readable); err != nil {
		return fmt.Errorf("--ready-file %s: %w", name, reasonOf(err))
	}
	p.stack.Push("ready file", func(context.Context) error { return p.removeReadyFile() })
	return nil
}

// removeReadyFile takes away what an earlier process left, or this one wrote.
func (p *process) removeReadyFile() error {
	name := p.settings.Process.ReadyFile
	if name == "" {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--ready-file %s: %w", name, reasonOf(err))
	}
	return nil
}

// drain leaves the routing and goes on serving for the drain delay. What
// follows is the stack's.
func (p *process) drain() {
	p.ready.Drain()
	if p.grpc != nil {
		p.grpc.NotServing()
	}
	if d := p.settings.Process.DrainDelay; d > 0 {
		select {
		case <-time.After(d):
		case err := <-p.loops.failed:
			p.log.Error("a part failed while draining", "error", err)
		}
	}
}

// Settled waits until all that was accepted so far is in the log and visible
// in every read model of this process.
func (r *Running) Settled(ctx context.Context) error {
	// NATS counts a message as waiting a moment after it has acknowledged it,
	// so that nothing waiting has to be seen more than once.
	const (
		poll = 10 * time.Millisecond
		sure = 3
	)
	for seen := 0; r.bus != nil; {
		backlog, err := r.bus.Pending(ctx)
		if err != nil {
			return fmt.Errorf("wait for the recorder: %w", err)
		}
		if backlog.Messages > 0 {
			seen = 0
		} else if seen++; seen == sure {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the recorder, %d messages behind: %w", backlog.Messages, ctx.Err())
		case <-time.After(poll):
		}
	}
	if r.log == nil {
		return nil
	}
	head, err := r.log.Head(ctx)
	if err != nil {
		return fmt.Errorf("wait for the read models: %w", err)
	}
	for _, one := range r.projections {
		if err := one.WaitFor(ctx, head); err != nil {
			return fmt.Errorf("wait for %s: %w", one.Name(), err)
		}
	}
	return nil
}
