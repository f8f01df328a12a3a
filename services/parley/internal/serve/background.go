package serve

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/parleyhq/parley/pkg/server"
)

// background runs what goes on for as long as the process serves, and gathers
// the first failure.
type background struct {
	failed  chan error // holds the first failure
	servers sync.WaitGroup
}

func newBackground() *background { return &background{failed: make(chan error, 1)} }

// fail reports a failure that ends the process.
func (b *background) fail(err error) {
	select {
	case b.failed <- err:
	default: // the first one has been told
	}
}

// run starts a loop and pushes its end onto the stack: its context is
// cancelled and its return waited for. Where it returns an error the process
// ends.
func (b *background) run(ctx context.Context, stack *server.Stack, name string, loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := loop(ctx); err != nil {
			b.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
	stack.Push(name, func(context.Context) error {
		cancel()
		wg.Wait()
		return nil
	})
}

// serve starts a server on a listener. The server's own stop ends it; servers
// is done then.
func (b *background) serve(lis net.Listener, serve func(net.Listener) error) {
	b.servers.Go(func() {
		if err := serve(lis); err != nil {
			b.fail(err)
		}
	})
}
