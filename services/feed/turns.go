package feed

import (
	"context"
	"errors"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
)

// takeTurns writes the index while the lease is held, and else reads on in what
// another process writes.
func (x *Index) takeTurns(ctx context.Context) error {
	for ctx.Err() == nil {
		turn, err := x.standBy(ctx)
		if err != nil {
			return err
		}
		if turn == nil {
			break // ctx has ended
		}
		if err := x.writeWhile(ctx, turn); err != nil {
			return err
		}
	}
	return nil
}

// turn is a lease that is held.
type turn struct {
	lost    <-chan struct{}
	release func()
}

// standBy reads what another process writes until the lease is held; nil once ctx ends.
func (x *Index) standBy(ctx context.Context) (*turn, error) {
	wake, stop := x.deps.Views.Wake(indexName)
	defer stop()
	acquired := make(chan *turn, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { acquired <- x.acquire(ctx) }()
	poll := time.NewTicker(x.deps.PollInterval)
	defer poll.Stop()
	for {
		if err := x.catchUp(ctx); err != nil && !passes(err) {
			cancel()
			if t := <-acquired; t != nil {
				t.release()
			}
			return nil, err
		}
		select {
		case t := <-acquired:
			return t, nil
		case <-wake:
		case <-poll.C:
		}
	}
}

// acquire waits for the lease; nil once ctx ends.
func (x *Index) acquire(ctx context.Context) *turn {
	for {
		lost, release, err := x.deps.Lease.Acquire(ctx)
		if err == nil {
			return &turn{lost: lost, release: release}
		}
		if ctx.Err() != nil {
			return nil
		}
		x.deps.Logger.WarnContext(ctx, "the feed index's lease cannot be had, trying again", "error", err)
		timer := time.NewTimer(x.deps.RetryDelay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// catchUp looks how far another process has come.
func (x *Index) catchUp(ctx context.Context) error {
	checkpoint, err := x.checkpoint(ctx)
	if err == nil {
		var head eventstore.Position
		if head, err = x.deps.Log.Head(ctx); err == nil {
			x.sees(eventstore.Position(checkpoint.Position), head)
			return nil
		}
	}
	if ctx.Err() == nil {
		x.set(func(s *projection.Status) { s.State, s.Err = projection.Retrying, err })
	}
	return err
}

// sees notes how far another process has come, and where the log ends.
func (x *Index) sees(position, head eventstore.Position) {
	x.set(func(s *projection.Status) {
		s.Position, s.Head = max(s.Position, position), max(s.Head, head)
		s.Err = nil
		if s.State = projection.CatchingUp; s.Position >= s.Head {
			s.State = projection.Live
		}
	})
}

// writeWhile writes the index until the lease is lost, another process has taken
// over, or ctx ends.
func (x *Index) writeWhile(ctx context.Context, t *turn) error {
	defer t.release()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-t.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := x.write(ctx)
	cancel()
	<-ended
	if errors.Is(err, view.ErrFenced) {
		x.deps.Logger.Info("another process writes the feed index now", "position", uint64(x.Position()))
		return nil
	}
	return err
}
