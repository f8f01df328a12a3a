package esdb_test

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between the driver and a server. It can hold back what the
// server says, cut every connection, and lead to another server.
type proxy struct {
	t        testing.TB
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[net.Conn]struct{}
	held   chan struct{} // not nil: answers are held back until it is closed
	stuck  []chan struct{}
	closed bool
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{t: t, listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	p.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = listener.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) url() string { return "esdb://" + p.addr() + "?tls=false" }

func (p *proxy) serve(client net.Conn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := (&net.Dialer{}).Dial("tcp", target)
	if err != nil {
		_ = client.Close()
		return
	}
	if !p.keep(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(gated{p: p, to: client}, server)
		_ = client.Close()
	})
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.closed {
			_ = conn.Close()
			continue
		}
		p.conns[conn] = struct{}{}
	}
	return !p.closed
}

// gated is the way back to the client.
type gated struct {
	p  *proxy
	to io.Writer
}

func (g gated) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	held := g.p.held
	g.p.mu.Unlock()
	if held != nil {
		<-held
		return 0, net.ErrClosed
	}
	return g.to.Write(b)
}

// hold keeps back whatever the server says from now on.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
}

// cut ends every connection, and with it what was held back; new ones work.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	if p.held != nil {
		p.stuck = append(p.stuck, p.held)
		p.held = nil
	}
	for _, held := range p.stuck {
		close(held)
	}
	p.stuck = nil
}

// release lets answers through on new connections; what is held back stays so.
func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck = append(p.stuck, p.held)
	p.held = nil
}

// lead sends new connections to another server.
func (p *proxy) lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}
