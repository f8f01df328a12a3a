package esdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// connector keeps one connection, to the leader. One goroutine looks for it
// when it is wanted; calls wait at acquire with their own context. A connection
// that failed gets no more calls and is closed when its last one has ended.
type connector struct {
	conf    *official.Configuration
	dial    []grpc.DialOption
	log     *slog.Logger
	metrics *metrics
	// verify looks whether a node holds the right log; nil while that is open.
	verify func(context.Context, *channel) error

	wanted chan struct{}
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	closed  bool
	current *link              // nil: none
	search  *search            // the one that calls wait for; replaced when it has ended
	leader  string             // host:port that a node named as the leader
	last    error              // of the last look-out that failed
	links   map[*link]struct{} // not closed yet
}

// link is what leads to one node: two connections, since a node takes about 100
// calls on one, and reads whose reader is slow must not keep appends waiting.
type link struct {
	address string
	calls   *channel // appends, short questions, and the tail
	reads   *channel // reads and subscriptions that last
	// Guarded by the connector's mutex.
	busy    int // calls under way
	retired bool
}

// channel is a connection, and one in truth: once it is checked it may not be
// made anew behind our back, for another node may answer then.
type channel struct {
	conn    *grpc.ClientConn
	streams streams.StreamsClient
	dials   atomic.Int32
	checked atomic.Bool
}

// search is waited for by the calls that found no connection.
type search struct {
	ended chan struct{}
	err   error // set before ended is closed: the reason not to wait any longer
}

func newConnector(ctx context.Context, conf *official.Configuration, log *slog.Logger, m *metrics) (*connector, error) {
	dial, err := dialOptions(conf)
	if err != nil {
		return nil, err
	}
	if conf.DisableTLS && conf.Username != "" {
		log.Warn("user and password of the event store's connection string are not sent: it says tls=false")
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &connector{
		conf: conf, dial: dial, log: log, metrics: m,
		wanted: make(chan struct{}, 1), stop: stop, done: make(chan struct{}),
		search: &search{ended: make(chan struct{})},
		links:  map[*link]struct{}{},
	}
	go c.run(life)
	return c, nil
}

// leaderOnly asks every node but the leader to refuse rather than to answer
// with what it has.
func leaderOnly(ctx context.Context) context.Context {
	// What the caller's context has for other servers is not for this one.
	return metadata.NewOutgoingContext(ctx, metadata.Pairs("requires-leader", "true"))
}

// acquire returns the connection, and waits for one until ctx ends. Every link
// that it returned is to be released. It fails with ErrClosed, ErrUnfit, or
// the context's cause and why there is no connection.
func (c *connector) acquire(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, eventstore.ErrClosed
		}
		if l := c.current; l != nil {
			l.busy++
			c.mu.Unlock()
			return l, nil
		}
		waited := c.search
		c.mu.Unlock()
		select {
		case c.wanted <- struct{}{}:
		default:
		}
		select {
		case <-waited.ended:
			if waited.err != nil {
				return nil, waited.err
			}
		case <-ctx.Done():
			c.mu.Lock()
			last := c.last
			c.mu.Unlock()
			if last == nil {
				last = errors.New("no answer yet")
			}
			return nil, &callError{verdict: away, err: unavailable(fmt.Errorf("%w: %w", errNoConnection, last))}
		}
	}
}

// release gives a link back after a call, with what came of the call.
func (c *connector) release(l *link, failed *callError) {
	c.mu.Lock()
	l.busy--
	if failed != nil && (failed.verdict == away || failed.verdict == moved) {
		if failed.leader != "" {
			c.leader = failed.leader
		}
		c.retire(l, failed)
	}
	over := l.retired && l.busy == 0
	c.mu.Unlock()
	if over {
		c.closeLink(l)
	}
}

// retire is called with the mutex held.
func (c *connector) retire(l *link, cause error) {
	l.retired = true
	if c.current != l {
		return
	}
	c.current = nil
	c.last = cause
	if !c.closed {
		c.metrics.lost()
		c.log.Warn("connection to the event store lost", "node", l.address, "error", cause)
	}
}

func (c *connector) closeLink(l *link) {
	c.mu.Lock()
	_, isOpen := c.links[l]
	delete(c.links, l)
	c.mu.Unlock()
	if !isOpen {
		return
	}
	for _, ch := range []*channel{l.calls, l.reads} {
		if err := ch.conn.Close(); err != nil && status.Code(err) != codes.Canceled {
			c.log.Debug("close connection to the event store", "node", l.address, "error", err)
		}
	}
}

// run is the one goroutine that connects.
func (c *connector) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wanted:
			c.connect(ctx)
		}
	}
}

func (c *connector) connect(ctx context.Context) {
	c.mu.Lock()
	have := c.current != nil
	c.mu.Unlock()
	if have {
		return
	}
	var pause backoff
	for said := false; ; {
		l, err := c.discover(ctx)
		if err == nil {
			c.settle(l, nil)
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.last = err
		c.mu.Unlock()
		if !said || errors.Is(err, ErrUnfit) || errors.Is(err, ErrDenied) {
			said = true
			c.log.Warn("no connection to the event store", "error", err)
		}
		if errors.Is(err, ErrUnfit) || errors.Is(err, ErrDenied) {
			// Whoever waits is told; the next call looks anew.
			c.settle(nil, err)
			return
		}
		if !pause.wait(ctx) {
			return
		}
	}
}

// settle ends the search with a link or with an error.
func (c *connector) settle(l *link, err error) {
	c.mu.Lock()
	if l != nil && c.closed {
		c.mu.Unlock()
		c.closeLink(l)
		return
	}
	if l != nil {
		c.current = l
		c.metrics.connected()
		c.log.Info("connected to the event store", "node", l.address)
	}
	ended := c.search
	c.search = &search{ended: make(chan struct{})}
	c.mu.Unlock()
	ended.err = err
	close(ended.ended)
}

func (c *connector) setVerify(verify func(context.Context, *channel) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verify = verify
}

// close ends the search, tells whoever waits, and closes every connection. Calls
// that are still under way fail: a read whose reader went away never ends.
func (c *connector) close() {
	c.mu.Lock()
	c.closed = true
	if c.current != nil {
		c.retire(c.current, eventstore.ErrClosed)
	}
	c.mu.Unlock()
	c.stop()
	<-c.done
	c.settle(nil, eventstore.ErrClosed)
	c.mu.Lock()
	links := slices.Collect(maps.Keys(c.links))
	c.mu.Unlock()
	for _, l := range links {
		c.closeLink(l)
	}
}
