package projection

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Scans lets generations of several projections that are filled at the same
// time read and decode the log once for all. The engines of a process share
// one. All methods may be called concurrently. The zero value is ready.
//
// A scan begins a moment after its first generation and takes in whoever
// begins at the same place until then. It goes as fast as the slowest, and ends
// where the log does, from where each reads by itself; one that holds up the
// others for long is left behind to do so earlier.
type Scans struct {
	mu   sync.Mutex
	open map[string]*scan
}

const (
	// scanGathers is how long a scan waits for others before it begins.
	scanGathers = 200 * time.Millisecond
	// scanPatience is how long one may hold up the others.
	scanPatience = 5 * time.Second
)

// errScanOver says that a generation goes on by itself. It is nobody's failure.
var errScanOver = errors.New("the common scan is over")

// feed is where a session has its events from.
type feed struct {
	ordered chan *chunk
	// release gives a chunk back. Its events must not be used any more.
	release func(*chunk)
	// failure is why ordered was closed.
	failure func() error
	// stop ends it and waits.
	stop func() error
}

// scan is one reading of the log for several runners.
type scan struct {
	after eventstore.Position

	mu      sync.Mutex
	members []*scanMember
	begun   bool // nobody is taken in any more
	cancel  context.CancelFunc
}

// scanMember is a runner's part of a scan.
type scanMember struct {
	runner *runner
	feed   chan *chunk
	left   chan struct{}
	once   sync.Once
	err    error // before feed is closed
}

// join takes part in a scan; nil where it has begun, or elsewhere.
func (s *Scans) join(ctx context.Context, name string, r *runner, after eventstore.Position) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]*scan{}
	}
	sc := s.open[name]
	if sc == nil {
		sc = &scan{after: after}
		s.open[name] = sc
		// It belongs to all of its members: none of their contexts ends it.
		var running context.Context
		running, sc.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			defer func() {
				s.mu.Lock()
				delete(s.open, name)
				s.mu.Unlock()
			}()
			sc.run(running, r)
		}()
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.begun || sc.after != after {
		return nil
	}
	m := &scanMember{runner: r, feed: make(chan *chunk, r.opts.ReadAhead), left: make(chan struct{})}
	sc.members = append(sc.members, m)
	return &feed{
		ordered: m.feed,
		release: (*chunk).done,
		failure: func() error { return m.err },
		stop: func() error {
			m.leave()
			for range m.feed {
				continue // so that nobody waits to hand out something
			}
			return nil
		},
	}
}

// leave says that the member takes nothing any more.
func (m *scanMember) leave() { m.once.Do(func() { close(m.left) }) }

// run reads for all until the log's end, or until nobody is left. It reads as the first one would.
func (sc *scan) run(ctx context.Context, first *runner) {
	defer sc.cancel()
	err := sc.gather(ctx)
	var ra *readAhead
	if err == nil {
		ra, err = first.startAhead(ctx, sc.after, sc.types(), nil, sc.sawHead)
	}
	if err == nil {
		err = errors.Join(sc.handOut(ctx, ra), ra.stop())
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.begun = true
	for _, m := range sc.members {
		m.end(err)
	}
	sc.members = nil
}

func (m *scanMember) end(err error) {
	m.err = err
	close(m.feed)
}

// gather waits for whoever is to take part.
func (sc *scan) gather(ctx context.Context) error {
	if !sleep(ctx, scanGathers) {
		return ctx.Err()
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.begun = true
	return nil
}

// types are those of all members; nil for all types.
func (sc *scan) types() map[string]bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	all := map[string]bool{}
	for _, m := range sc.members {
		if m.runner.types == nil {
			return nil
		}
		for t := range m.runner.types {
			all[t] = true
		}
	}
	return all
}

func (sc *scan) sawHead(head eventstore.Position) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for _, m := range sc.members {
		m.runner.sawHead(head)
	}
}

// handOut gives every chunk to all.
func (sc *scan) handOut(ctx context.Context, ra *readAhead) error {
	for {
		c, ok := <-ra.ordered
		if !ok {
			ra.done.Wait()
			return ra.err
		}
		sc.mu.Lock()
		members := append([]*scanMember(nil), sc.members...)
		sc.mu.Unlock()
		c.share(len(members), ra.release)
		left := 0
		for _, m := range members {
			if sc.give(ctx, m, c) {
				left++
			}
		}
		switch {
		case c.caughtUp:
			return errScanOver
		case left == 0:
			return errScanOver
		}
	}
}

// give hands a chunk to a member; false where that has left, or is left behind.
func (sc *scan) give(ctx context.Context, m *scanMember, c *chunk) bool {
	patience := time.NewTimer(scanPatience)
	defer patience.Stop()
	select {
	case <-m.left:
	case <-ctx.Done():
	default:
		select {
		case m.feed <- c:
			return true
		case <-m.left:
		case <-ctx.Done():
		case <-patience.C:
		}
	}
	c.done()
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for i, o := range sc.members {
		if o == m {
			sc.members = append(sc.members[:i:i], sc.members[i+1:]...)
			m.end(errScanOver)
		}
	}
	return false
}
