package recorder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
)

// A standby follows the log all the time, so that it has next to nothing to
// catch up with when it takes over. It takes over when the holder of the lease
// has gone or has been silent for bus.LeaseTTL. Should that one come back in
// the middle of a batch, what it appends is refused where the new one has been
// before it (every append expects an exact revision), and is recognised by the
// new one where it was not.

// followEvery is how often a standby looks for what is new in the log. It costs
// a look at the head.
const followEvery = 200 * time.Millisecond

// takeTurns records while the lease is held and stands by otherwise.
func (r *Recorder) takeTurns(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := r.takeTurn(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("record in turns: %w", err)
		}
	}
	return nil
}

// takeTurn stands by and then records until another one does.
func (r *Recorder) takeTurn(ctx context.Context) error {
	held, err := r.standBy(ctx)
	if err != nil {
		return err
	}
	if err := r.recordWhile(ctx, held); !errors.Is(err, bus.ErrTakenOver) && ctx.Err() == nil {
		return err
	}
	r.log.Info("another recorder has taken over, or this one stops")
	return nil
}

// standBy follows the log until the lease is held.
func (r *Recorder) standBy(ctx context.Context) (*bus.Held, error) {
	type outcome struct {
		held *bus.Held
		err  error
	}
	acquired := make(chan outcome, 1)
	go func() {
		held, err := r.deps.Lease.Acquire(ctx)
		acquired <- outcome{held, err}
	}()
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		select {
		case got := <-acquired:
			return got.held, got.err
		case <-ticker.C:
		}
		// A failure shows in Healthy, and passes or shows again when recording.
		err := r.catcher.catchUp(ctx, r.index)
		if err != nil && ctx.Err() == nil && !errors.Is(err, eventstore.ErrUnavailable) {
			r.log.Warn("a standby cannot follow the log", "error", err)
		}
		if ctx.Err() == nil {
			r.setFailure(err)
		}
		r.metrics.position.Set(float64(r.index.position))
	}
}

// recordWhile records until the lease is lost or ctx ends.
func (r *Recorder) recordWhile(ctx context.Context, held *bus.Held) error {
	r.setFailure(nil)
	r.metrics.active.Set(1)
	defer r.metrics.active.Set(0)
	defer held.Release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	defer func() { <-stopped }()
	ending := make(chan struct{})
	defer close(ending)
	go func() {
		defer close(stopped)
		select {
		case <-held.Lost():
			cancel()
		case <-ending:
		}
	}()
	return r.deps.Bus.Consume(ctx, r.deps.Consume, r.handle)
}
