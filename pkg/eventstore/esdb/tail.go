package esdb

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/internal/broadcast"
)

// tail follows the whole log for all subscriptions at once and keeps its latest
// records, so that whoever is near the head costs the cluster nothing.
//
// It never waits for anybody: what does not fit any more falls out at the far
// end, and a subscription that is behind that reads from the cluster.
type tail struct {
	most  int // bytes
	stop  context.CancelFunc
	users int // guarded by tails

	mu sync.Mutex
	// The records behind from, up to to, are all in records.
	from, to eventstore.Position
	records  []*eventstore.Record
	bytes    int
	started  bool // from and to are known
	live     bool // the cluster says at once what is new
	err      error
	wake     broadcast.Broadcast
}

// recordOverhead is what a record costs in memory beside its bytes, about.
const recordOverhead = 256

// tails lends one tail to all subscriptions; it runs while there are any.
type tails struct {
	s *Store

	mu  sync.Mutex
	now *tail
}

func (t *tails) join(ctx context.Context) (*tail, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil || t.now.failed() {
		next := &tail{most: t.s.cfg.TailBytes}
		ctx, stop := t.s.until(context.WithoutCancel(ctx))
		next.stop = stop
		if !t.s.enter(&t.s.loops) {
			next.stop()
			return nil, eventstore.ErrClosed
		}
		go func() {
			defer t.s.loops.Done()
			next.end(next.run(ctx, t.s))
		}()
		t.now = next
	}
	t.now.users++
	return t.now, nil
}

func (t *tails) leave(left *tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if left.users--; left.users > 0 {
		return
	}
	left.stop()
	if t.now == left {
		t.now = nil
	}
}

func (t *tail) run(ctx context.Context, s *Store) error {
	if err := s.askPatiently(ctx); err != nil {
		return err
	}
	head := s.known()
	t.mu.Lock()
	t.from, t.to, t.started = head, head, true
	t.wake.Send()
	t.mu.Unlock()
	fresh := true
	return s.follow(ctx, short, head, eventstore.Filter{}, func(n news) (bool, error) {
		switch n.kind {
		case newsBegun:
			// What was appended by others meanwhile must count as heard of
			// before anyone is told that it has caught up.
			if !fresh {
				if err := s.askPatiently(ctx); err != nil {
					return false, err
				}
			}
			fresh = false
			t.setLive(true)
		case newsLost:
			t.setLive(false)
		case newsRecord:
			t.add(n.record)
		case newsLooked, newsCaughtUp:
		}
		return true, nil
	})
}

// askPatiently asks for the head until it gets an answer.
func (s *Store) askPatiently(ctx context.Context) error {
	var pause backoff
	for {
		err := s.ask(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !mayRetry(err) {
			return fmt.Errorf("ask for the log's head: %w", err)
		}
		if !pause.wait(ctx) {
			return context.Cause(ctx)
		}
	}
}

func (t *tail) setLive(live bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live = live
	t.wake.Send()
}

func (t *tail) add(r *eventstore.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, r)
	t.bytes += cost(r)
	t.to = r.Position
	gone := 0
	for t.bytes > t.most && gone < len(t.records)-1 {
		t.bytes -= cost(t.records[gone])
		t.from = t.records[gone].Position
		t.records[gone] = nil
		gone++
	}
	t.records = t.records[gone:]
	t.wake.Send()
}

func cost(r *eventstore.Record) int {
	return len(r.Data) + len(r.Metadata) + len(r.Stream) + len(r.Type) + recordOverhead
}

func (t *tail) failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil
}

func (t *tail) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live, t.err = false, err
	t.wake.Send()
}

// view is what a tail has for whoever is at a position.
type view struct {
	records []*eventstore.Record // that match
	// at is how far the tail was looked at.
	at eventstore.Position
	// covered: nothing is missing between the position and at. Where not, the
	// position is behind what is kept, or the tail has not begun.
	covered  bool
	started  bool
	live     bool
	from, to eventstore.Position
	err      error
}

// look takes what matches behind a position, within bounds.
func (t *tail) look(after eventstore.Position, filter eventstore.Filter, most, mostBytes int) view {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := view{at: after, started: t.started, live: t.live, from: t.from, to: t.to, err: t.err}
	if !t.started || after < t.from {
		return v
	}
	v.covered = true
	i, found := slices.BinarySearchFunc(t.records, after, func(r *eventstore.Record, at eventstore.Position) int {
		switch {
		case r.Position < at:
			return -1
		case r.Position > at:
			return 1
		default:
			return 0
		}
	})
	if found {
		i++
	}
	size := 0
	for ; i < len(t.records); i++ {
		r := t.records[i]
		if !filter.Matches(r.Stream, r.Type) {
			v.at = r.Position
			continue
		}
		size += len(r.Data) + len(r.Metadata)
		if len(v.records) == most || len(v.records) > 0 && size > mostBytes {
			return v
		}
		v.records = append(v.records, r)
		v.at = r.Position
	}
	return v
}
