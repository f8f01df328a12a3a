package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/logid"
	"github.com/parleyhq/parley/pkg/server"
)

const (
	eventStoreListen = "eventstore-listen"
	// eventStoreAddress is that of the service log, by EventStoreDB's custom.
	eventStoreAddress = "127.0.0.1:2113"
	// connectTimeout is how long the start waits for an EventStoreDB.
	connectTimeout = 30 * time.Second
)

// EventStoreUser is somebody who may come in by EventStoreDB's protocol.
type EventStoreUser struct {
	Name string `key:"name"`
	// Hash of the password, as `parley key new` prints it.
	Hash string `key:"hash"`
	// Tenant whose streams he sees; empty for everything.
	Tenant string `key:"tenant"`
	// Write lets him append to streams that are not Parley's, and delete them.
	Write bool `key:"write"`
}

// openLog opens the log, wherever it is.
func (p *process) openLog(ctx context.Context) error {
	if p.settings.Storage.embeddedLog() {
		return p.openEmbeddedLog(ctx)
	}
	opening, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	where := p.settings.Storage.EventStore
	p.log.Info("connecting to the event store", "event_store", where)
	log, err := esdb.Open(opening, esdb.Config{URL: config.Secret(where.Reveal()), Logger: p.log, Metrics: p.registry})
	if err != nil {
		return fmt.Errorf("--event-store %s: %w", where, err)
	}
	p.stack.Push("event store", func(context.Context) error { return log.Close() })
	p.running.log = log
	return nil
}

func (p *process) openEmbeddedLog(ctx context.Context) error {
	log, err := embedded.Open(p.dir.file("log"), embedded.Options{Logger: p.log, Now: p.opts.Now})
	if err != nil {
		return p.dir.explain("event store", err)
	}
	p.stack.Push("event store", func(context.Context) error { return log.Close() })
	// A log that cannot be written any more ends the process: nothing more can
	// be acknowledged, and a new start tells what is there.
	p.loops.run(ctx, &p.stack, "event store", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-log.Failed():
			return log.Failure()
		}
	})
	p.running.log = log
	return nil
}

// serveEventStore lets others read the log by EventStoreDB's protocol, and
// Parley's services in other processes write it where that is what this one is for.
func (p *process) serveEventStore(context.Context) error {
	lis := p.listeners[eventStoreListen]
	if lis == nil {
		return nil
	}
	cfg := esdbserver.Config{
		Store: logid.Shown(p.running.log), Users: p.settings.Access.eventStoreUsers(), Advertise: lis.Addr().String(), Logger: p.log, Metrics: p.registry, Now: p.opts.Now,
	}
	if !p.has(Log) {
		// The services of this process decide what is in Parley's streams.
		cfg.ReadOnly = func(stream string) bool { return event.TenantOf(stream) != "" }
	}
	protocol, err := esdbserver.New(cfg)
	if err != nil {
		return fmt.Errorf("--%s: %w", eventStoreListen, err)
	}
	tlsConfig, err := p.settings.Access.eventStoreTLS().Config(p.opts.Now)
	if err != nil {
		return err
	}
	options := protocol.ServerOptions()
	if tlsConfig != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(tlsConfig)))
	}
	s := grpc.NewServer(options...)
	protocol.Register(s)
	p.loops.serve(lis, func(lis net.Listener) error {
		if err := s.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("EventStoreDB's protocol on %s: %w", lis.Addr(), err)
		}
		return nil
	})
	p.stack.Push("EventStoreDB's protocol", func(ctx context.Context) error {
		protocol.Stop()
		ended := make(chan struct{})
		go func() {
			s.GracefulStop()
			close(ended)
		}()
		select {
		case <-ended:
		case <-ctx.Done():
			s.Stop()
			<-ended
		}
		return nil
	})
	return nil
}

// eventStoreUsers are the users as the protocol takes them.
func (a Access) eventStoreUsers() []esdbserver.User {
	users := make([]esdbserver.User, len(a.EventStoreUsers))
	for i, u := range a.EventStoreUsers {
		users[i] = esdbserver.User{Name: u.Name, PasswordHash: u.Hash, Tenant: u.Tenant, Write: u.Write}
	}
	return users
}

func (a Access) eventStoreTLS() server.TLSFiles {
	return server.TLSFiles{CertFlag: "eventstore-tls-cert", Cert: a.EventStoreTLSCert, KeyFlag: "eventstore-tls-key", Key: a.EventStoreTLSKey}
}
