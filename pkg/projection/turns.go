package projection

import (
	"context"
	"sync"
)

// turns takes the lease whenever it can be had.
type turns struct {
	mu      sync.Mutex
	has     bool
	release func()
	// changed has something in it when held answers differently.
	changed chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
}

// takeTurns begins to wait for the lease; without one it is always held.
func (h *host) takeTurns(ctx context.Context) *turns {
	t := &turns{changed: make(chan struct{}, 1), done: make(chan struct{}), has: h.deps.Lease == nil}
	ctx, t.cancel = context.WithCancel(ctx)
	if h.deps.Lease == nil {
		close(t.done)
		return t
	}
	go func() {
		defer close(t.done)
		for ctx.Err() == nil {
			lost, release, err := h.deps.Lease.Acquire(ctx)
			if err != nil {
				if ctx.Err() == nil {
					h.log.Warn("the projection's lease cannot be had", "error", err)
					sleep(ctx, h.deps.Options.RetryDelay)
				}
				continue
			}
			t.set(true, release)
			select {
			case <-lost:
			case <-ctx.Done():
			}
			t.set(false, nil)
			release()
		}
	}()
	return t
}

func (t *turns) set(has bool, release func()) {
	t.mu.Lock()
	t.has, t.release = has, release
	t.mu.Unlock()
	wakeUp(t.changed)
}

func (t *turns) held() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.has
}

// giveUp gives the lease back, to wait for it again.
func (t *turns) giveUp() {
	t.mu.Lock()
	release := t.release
	t.mu.Unlock()
	if release != nil {
		release()
	}
}

// stop gives up waiting and the lease.
func (t *turns) stop() {
	t.cancel()
	<-t.done
}
