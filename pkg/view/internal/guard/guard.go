// Package guard keeps something open while calls on it are under way.
package guard

import (
	"context"
	"sync"

	"github.com/parleyhq/parley/pkg/view"
)

// Guard counts the calls that are under way. Entering again from within a call
// is fine. All methods may be called concurrently.
type Guard struct {
	mu     sync.Mutex
	calls  int
	closed bool
	// idle is closed once the guard is closed and nobody is in.
	idle chan struct{}
}

// New makes a guard that lets everybody in.
func New() *Guard { return &Guard{idle: make(chan struct{})} }

// Enter fails with ctx's error or view.ErrClosed where the call should not
// begin; it must not be left then.
func (g *Guard) Enter(ctx context.Context) error {
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

// Leave ends a call.
func (g *Guard) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	if g.closed && g.calls == 0 {
		close(g.idle)
	}
}

// Close lets nobody in any more. False if it was closed already.
func (g *Guard) Close() bool {
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

// Idle is closed once the guard is, and the last call has ended.
func (g *Guard) Idle() <-chan struct{} { return g.idle }
