package esdb

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// What a subscription takes where its options say nothing.
const (
	defaultBatch      = 1024
	defaultBatchBytes = 4 << 20
	defaultHeartbeat  = 5 * time.Second
)

// subscription takes from the tail, or catches up with it.
type subscription struct {
	s         *Store
	tail      *tail
	filter    eventstore.Filter
	most      int
	mostBytes int
	heartbeat time.Duration

	// Next's own.
	at     eventstore.Position // up to where everything was looked at
	told   eventstore.Position // the last Position that was handed out
	behind bool                // it has not yet said that it caught up since it last was behind
	spoke  time.Time           // when Next last said something

	mu      sync.Mutex
	ended   bool
	catchUp *catchUp
	closed  chan struct{}
	// The context of Subscribe ends it too.
	done    <-chan struct{}
	doneErr func() error
	unhook  func() bool
}

// Subscribe is eventstore.Store's.
func (s *Store) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	if opts.MaxBatch < 0 || opts.MaxBatchBytes < 0 || opts.Heartbeat < 0 {
		return nil, fmt.Errorf("subscribe: negative bound: %w", eventstore.ErrInvalid)
	}
	head, err := s.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if opts.After > head {
		return nil, fmt.Errorf("subscribe behind position %d, the head is %d: %w", opts.After, head, eventstore.ErrAhead)
	}
	sub := &subscription{
		s: s, filter: opts.Filter,
		most: defaultBatch, mostBytes: defaultBatchBytes, heartbeat: defaultHeartbeat,
		at: opts.After, told: opts.After, behind: true, spoke: time.Now(),
		closed: make(chan struct{}), done: ctx.Done(), doneErr: ctx.Err,
	}
	if opts.MaxBatch > 0 {
		sub.most = opts.MaxBatch
	}
	if opts.MaxBatchBytes > 0 {
		sub.mostBytes = opts.MaxBatchBytes
	}
	if opts.Heartbeat > 0 {
		sub.heartbeat = opts.Heartbeat
	}
	if sub.tail, err = s.tails.join(ctx); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.metrics.subscribed.Inc()
	sub.unhook = context.AfterFunc(ctx, sub.release)
	return sub, nil
}

// Next is eventstore.Subscription's.
func (sub *subscription) Next(ctx context.Context) (eventstore.Batch, error) {
	for {
		if err := sub.gone(ctx); err != nil {
			return eventstore.Batch{}, fmt.Errorf("subscription at position %d: %w", sub.told, err)
		}
		news := sub.tail.wake.Wait()
		heard, more := sub.catchUpNews()
		records, caughtUp, err := sub.step(ctx)
		if err != nil {
			// Where it is because of an end, that is the reason.
			if over := sub.gone(ctx); over != nil {
				err = over
			}
			return eventstore.Batch{}, fmt.Errorf("subscription at position %d: %w", sub.told, err)
		}
		if len(records) > 0 || caughtUp && sub.behind || time.Since(sub.spoke) >= sub.heartbeat {
			sub.behind = !caughtUp
			sub.spoke = time.Now()
			// The cluster's own records lie beyond the log's head, and its
			// positions are nothing to tell.
			sub.told = max(sub.told, min(sub.at, sub.s.known()))
			return eventstore.Batch{Records: records, Position: sub.told, CaughtUp: caughtUp}, nil
		}
		if now, _ := sub.catchUpNews(); now != heard {
			// Another has only just begun: what it says must not be missed.
			continue
		}
		sub.wait(ctx, news, more)
	}
}

// step takes the next records from where they are. It changes the place only
// together with what it returns.
func (sub *subscription) step(ctx context.Context) ([]*eventstore.Record, bool, error) {
	for {
		v := sub.tail.look(sub.at, sub.filter, sub.most, sub.mostBytes)
		switch {
		case v.err != nil:
			return nil, false, v.err
		case !v.started:
			return nil, false, nil
		case v.covered:
			sub.endCatchUp()
			sub.at = v.at
			// Whatever this driver has heard of is through.
			return v.records, v.live && sub.at >= sub.s.known(), nil
		}
		c, err := sub.beginCatchUp(ctx, v.to)
		if err != nil {
			return nil, false, err
		}
		records, at, err := c.take(sub.most, sub.mostBytes)
		if err != nil {
			return nil, false, err
		}
		moved := at > sub.at
		sub.at = at
		switch {
		case len(records) > 0:
			return records, false, nil
		case moved:
			// It may have come to where the tail begins.
		case c.spent():
			// Another one goes on from here.
			sub.endCatchUp()
		default:
			return nil, false, nil
		}
	}
}

func (sub *subscription) beginCatchUp(ctx context.Context, covered eventstore.Position) (*catchUp, error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.ended {
		return nil, eventstore.ErrClosed
	}
	if sub.catchUp == nil {
		c, err := sub.s.startCatchUp(ctx, sub.at, covered, sub.filter)
		if err != nil {
			return nil, err
		}
		sub.catchUp = c
	}
	return sub.catchUp, nil
}

func (sub *subscription) endCatchUp() {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.catchUp != nil {
		sub.catchUp.stop()
		sub.catchUp = nil
	}
}

// catchUpNews is the catch-up that there is, if any, and when it says something.
func (sub *subscription) catchUpNews() (*catchUp, <-chan struct{}) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.catchUp == nil {
		return nil, nil
	}
	return sub.catchUp, sub.catchUp.wake.Wait()
}

func (sub *subscription) wait(ctx context.Context, news, more <-chan struct{}) {
	timer := time.NewTimer(max(sub.heartbeat-time.Since(sub.spoke), 0))
	defer timer.Stop()
	select {
	case <-news:
	case <-more:
	case <-timer.C:
	case <-ctx.Done():
	case <-sub.closed:
	case <-sub.done:
	}
}

// gone says why there is no more, if so.
func (sub *subscription) gone(ctx context.Context) error {
	select {
	case <-sub.closed:
		// Release closes it, for whatever reason.
		if err := sub.doneErr(); err != nil && !sub.s.isClosed() {
			return err
		}
		return eventstore.ErrClosed
	case <-sub.done:
		return sub.doneErr()
	default:
	}
	if sub.s.isClosed() {
		return eventstore.ErrClosed
	}
	return ctx.Err()
}

// release gives back what the subscription holds.
func (sub *subscription) release() {
	sub.mu.Lock()
	if sub.ended {
		sub.mu.Unlock()
		return
	}
	sub.ended = true
	close(sub.closed)
	sub.mu.Unlock()
	sub.endCatchUp()
	sub.s.tails.leave(sub.tail)
	sub.s.metrics.subscribed.Dec()
}

// Close is eventstore.Subscription's.
func (sub *subscription) Close() error {
	sub.unhook()
	sub.release()
	return nil
}
