// Package esdbservertest runs an esdbserver.Server on a loopback address for
// tests.
//
// Contract: the server listens when Start returns, and has stopped, with every
// goroutine of its own, when the test has ended. The package keeps nothing, so
// a crash concerns it in no way.
package esdbservertest

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
)

// patience is how long a server may take to stop before it is cut off.
const patience = 10 * time.Second

// Start serves cfg on any free port and answers with the connection string for
// EventStoreDB's clients, `esdb://127.0.0.1:<port>?tls=false`. Advertise
// defaults to that address. Options are added to the grpc.Server's.
func Start(t testing.TB, cfg esdbserver.Config, options ...grpc.ServerOption) (url string) {
	t.Helper()
	r := NewRestartable(t, cfg, options...)
	r.Start()
	return r.URL()
}

// Restartable is a server that can be stopped and started again on the same
// port. Not for concurrent use.
type Restartable struct {
	t       testing.TB
	cfg     esdbserver.Config
	options []grpc.ServerOption
	addr    string
	// listener is held from the start, so that the port stays ours.
	listener net.Listener

	server *esdbserver.Server
	grpc   *grpc.Server
	served sync.WaitGroup
}

// NewRestartable finds a free port. The server is not started yet; it is
// stopped when the test ends.
func NewRestartable(t testing.TB, cfg esdbserver.Config, options ...grpc.ServerOption) *Restartable {
	t.Helper()
	r := &Restartable{t: t, cfg: cfg, options: options, addr: "127.0.0.1:0"}
	r.listener = r.listen()
	r.addr = r.listener.Addr().String()
	t.Cleanup(func() {
		r.Stop()
		if r.listener != nil {
			// It was never started.
			_ = r.listener.Close()
		}
	})
	return r
}

// Addr is host:port.
func (r *Restartable) Addr() string { return r.addr }

// URL is the connection string for EventStoreDB's clients.
func (r *Restartable) URL() string { return "esdb://" + r.addr + "?tls=false" }

// Start serves. It is an error to start what runs.
func (r *Restartable) Start() {
	r.t.Helper()
	if r.grpc != nil {
		r.t.Fatalf("server at %s runs already", r.addr)
	}
	cfg := r.cfg
	if cfg.Advertise == "" {
		cfg.Advertise = r.addr
	}
	server, err := esdbserver.New(cfg)
	if err != nil {
		r.t.Fatalf("make server: %v", err)
	}
	listener := r.listener
	if r.listener = nil; listener == nil {
		listener = r.listen()
	}
	r.server, r.grpc = server, grpc.NewServer(append(server.ServerOptions(), r.options...)...)
	server.Register(r.grpc)
	serve := r.grpc.Serve
	r.served.Go(func() {
		// It may be stopped before it has come as far as serving.
		if err := serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			r.t.Errorf("serve: %v", err)
		}
	})
}

// Stop ends it: subscriptions first, then calls under way, after a while by
// force. Stopping what does not run does nothing.
func (r *Restartable) Stop() {
	if r.grpc == nil {
		return
	}
	r.server.Stop()
	timer := time.AfterFunc(patience, r.grpc.Stop)
	r.grpc.GracefulStop()
	timer.Stop()
	r.served.Wait()
	r.server, r.grpc = nil, nil
}

// Kill ends it as a crash would: connections break in the middle of calls.
func (r *Restartable) Kill() {
	if r.grpc == nil {
		return
	}
	r.grpc.Stop()
	r.served.Wait()
	r.server, r.grpc = nil, nil
}

func (r *Restartable) listen() net.Listener {
	r.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(r.t.Context(), "tcp", r.addr)
	if err != nil {
		r.t.Fatalf("listen at %s: %v", r.addr, err)
	}
	return listener
}
