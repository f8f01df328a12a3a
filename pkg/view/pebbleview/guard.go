package pebbleview

import (
	"context"
	"sync"

	"github.com/parleyhq/parley/pkg/view"
)

// guard keeps Pebble open while calls are under way: it panics when it is used
// after its Close. Entering again from within a call is fine.
type guard struct {
	mu     sync.Mutex
	calls  int
	closed bool
	// idle is closed once the guard is closed and nobody is in.
	idle chan struct{}
}

// enter fails where the call should not begin; it must not be left then.
func (g *guard) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return view.ErrClosed
	}
	g.calls++
	return nil
}

func (g *guard) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	if g.closed && g.calls == 0 {
		close(g.idle)
	}
}

// close lets nobody in any more. False if it was closed already.
func (g *guard) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.closed = true
	if g.calls == 0 {
		close(g.idle)
	}
	return true
}
