package embedded

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

// pollEvery guarantees that the log is looked at, should a wake-up be lost.
const pollEvery = time.Second

// subscription reads for whoever calls Next; nothing of it runs in between.
type subscription struct {
	s         *Store
	scan      scan
	at        eventstore.Position
	most      int
	mostBytes int
	heartbeat time.Duration
	// behind: it has not yet said that it caught up since it last was behind.
	behind bool
	spoke  time.Time // when Next last said something

	closeOnce sync.Once
	closed    chan struct{}
	// The context of Subscribe ends it too.
	over    <-chan struct{}
	overErr func() error
}

// Subscribe is eventstore.Store's.
func (s *Store) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	head, err := s.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if opts.After > head {
		return nil, fmt.Errorf("subscribe behind position %d, the head is %d: %w", opts.After, head, eventstore.ErrAhead)
	}
	if opts.MaxBatch < 0 || opts.MaxBatchBytes < 0 || opts.Heartbeat < 0 {
		return nil, fmt.Errorf("subscribe: negative bound: %w", eventstore.ErrInvalid)
	}
	sub := &subscription{
		s:         s,
		scan:      scan{s: s, filter: newFilter(opts.Filter)},
		at:        opts.After,
		most:      defaultBatch,
		mostBytes: defaultBatchBytes,
		heartbeat: defaultHeartbeat,
		behind:    true,
		spoke:     time.Now(),
		closed:    make(chan struct{}),
		over:      ctx.Done(),
		overErr:   ctx.Err,
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
	return sub, nil
}

// Next is eventstore.Subscription's.
func (sub *subscription) Next(ctx context.Context) (eventstore.Batch, error) {
	for {
		if err := sub.ended(ctx); err != nil {
			return eventstore.Batch{}, fmt.Errorf("subscription at position %d: %w", sub.at, err)
		}
		news := sub.s.news.Wait()
		head := sub.s.durable()
		sub.scan.head = head
		at, err := sub.scan.forwards(sub.at, sub.most, sub.mostBytes)
		if err != nil && len(sub.scan.records) == 0 {
			return eventstore.Batch{}, fmt.Errorf("subscription at position %d: %w", sub.at, err)
		}
		// Where there are records before an error, they go first, and the
		// error comes with the next call.
		sub.at = at
		if caughtUp := at == head; sub.speaks(caughtUp) {
			sub.behind = !caughtUp
			sub.spoke = time.Now()
			return eventstore.Batch{Records: sub.scan.records, Position: at, CaughtUp: caughtUp}, nil
		} else if !caughtUp {
			continue
		}
		sub.wait(ctx, news)
	}
}

// speaks says whether what was just read is to be told.
func (sub *subscription) speaks(caughtUp bool) bool {
	return len(sub.scan.records) > 0 || caughtUp && sub.behind || time.Since(sub.spoke) >= sub.heartbeat
}

func (sub *subscription) wait(ctx context.Context, news <-chan struct{}) {
	timer := time.NewTimer(max(min(pollEvery, sub.heartbeat-time.Since(sub.spoke)), 0))
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	case <-sub.closed:
	case <-sub.over:
	case <-sub.s.closed:
	}
}

func (sub *subscription) ended(ctx context.Context) error {
	select {
	case <-sub.closed:
		return eventstore.ErrClosed
	case <-sub.s.closed:
		return eventstore.ErrClosed
	case <-sub.over:
		return sub.overErr()
	case <-ctx.Done():
		return ctx.Err()
	default:
		return nil
	}
}

// Close is eventstore.Subscription's.
func (sub *subscription) Close() error {
	sub.closeOnce.Do(func() { close(sub.closed) })
	return nil
}
