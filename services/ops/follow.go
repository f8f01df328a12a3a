package ops

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/rpcerr"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// streaming is the context of a call that streams: it ends with the call, and
// once the server begins to stop. The function ends it, and must be called.
func (s *Server) streaming(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-s.deps.Stopping:
			cancel(errStopping())
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		watching.Wait()
	}
}

// streamed is how a streaming call ends: by what ended its context, if that did.
func streamed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return rpcerr.FromError(cause)
	}
	return rpcerr.FromError(err)
}

// follow carries long work out and sends how far it is until it ends, then what
// it came to. The work is cancelled when the caller goes away.
func (s *Server) follow(
	ctx context.Context,
	work func(ctx context.Context, tell func(*opsv1.Progress)) (*opsv1.Difference, error),
	send func(*opsv1.Progress, *opsv1.Difference) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var latest latestProgress
	sending := newLoop(func(end <-chan struct{}) {
		tick := time.NewTicker(s.deps.ProgressInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-end:
				return
			}
			if p := latest.unsent(); p != nil {
				if err := send(p, nil); err != nil {
					cancel(err)
					return
				}
			}
		}
	})
	// Also when the work panics: nothing is sent once the call is over.
	defer sending.stop()
	difference, err := work(ctx, latest.tell)
	sending.stop()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil && difference == nil {
		err = errors.New("the work ended without a result")
	}
	if err != nil {
		return streamed(ctx, err)
	}
	return streamed(ctx, send(latest.last(), difference))
}

// latestProgress is what was told last. Its methods may be called concurrently.
type latestProgress struct {
	mu       sync.Mutex
	progress *opsv1.Progress
	sent     bool
}

// tell keeps a copy: whoever tells may use the message again.
func (l *latestProgress) tell(p *opsv1.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress, l.sent = proto.CloneOf(p), false
}

// unsent is what was told since the last call; nil for nothing.
func (l *latestProgress) unsent() *opsv1.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent {
		return nil
	}
	l.sent = true
	return l.progress
}

func (l *latestProgress) last() *opsv1.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress
}

// loop is a goroutine that can be ended and waited for.
type loop struct {
	once    sync.Once
	end     chan struct{}
	running sync.WaitGroup
}

func newLoop(run func(end <-chan struct{})) *loop {
	l := &loop{end: make(chan struct{})}
	l.running.Go(func() { run(l.end) })
	return l
}

// stop returns once the loop has ended. It may be called again.
func (l *loop) stop() {
	l.once.Do(func() { close(l.end) })
	l.running.Wait()
}
