package esdb

import (
	"context"
	"sync"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/internal/broadcast"
)

// catchUp reads from the cluster for one subscription that is behind the tail:
// a subscription with its filter, read ahead of Next by a bounded amount. It
// ends where nobody takes what is there; another one goes on behind it.
type catchUp struct {
	stop context.CancelFunc

	mu    sync.Mutex
	queue []*eventstore.Record
	bytes int
	at    eventstore.Position // how far it has looked, behind what is queued
	err   error
	ended bool
	wake  broadcast.Broadcast // something is new
	room  chan struct{}       // something was taken
}

// How much is read ahead; what is on its way between the cluster and here comes
// on top, bounded by streamWindow.
const (
	aheadRecords = 2048
	aheadBytes   = 2 << 20
)

// startCatchUp begins behind a position. Everything up to covered was in the
// log before. It does not end with ctx, but with the store, by stop,
// or when it is spent.
func (s *Store) startCatchUp(ctx context.Context, after, covered eventstore.Position, filter eventstore.Filter) (*catchUp, error) {
	ctx, cancel := s.until(context.WithoutCancel(ctx))
	if !s.enter(&s.loops) {
		cancel()
		return nil, eventstore.ErrClosed
	}
	s.metrics.behind.Inc()
	c := &catchUp{stop: cancel, at: after, room: make(chan struct{}, 1)}
	go func() {
		defer s.loops.Done()
		defer cancel()
		err := s.follow(ctx, lasting, after, filter, func(n news) (bool, error) {
			switch n.kind {
			case newsRecord:
				c.put(n.record)
			case newsLooked:
				c.looked(n.at)
			case newsCaughtUp:
				// The rest is the tail's.
				c.looked(covered)
				return false, nil
			case newsBegun, newsLost:
			}
			return c.waitForRoom(ctx), nil
		})
		c.end(err)
	}()
	return c, nil
}

func (c *catchUp) put(r *eventstore.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, r)
	c.bytes += cost(r)
	c.at = r.Position
	c.wake.Send()
}

func (c *catchUp) looked(at eventstore.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = max(c.at, at)
	c.wake.Send()
}

// spent says that nothing more comes of it: it came to the head that there was,
// or ended for want of a reader.
func (c *catchUp) spent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended && c.err == nil && len(c.queue) == 0
}

// readerPatience is how long a subscription in the cluster is held for a reader
// that takes nothing. A node takes about 100 calls on a connection.
const readerPatience = time.Second

// waitForRoom returns false where there is none before the patience or ctx ends.
func (c *catchUp) waitForRoom(ctx context.Context) bool {
	var patience <-chan time.Time
	for {
		c.mu.Lock()
		full := len(c.queue) >= aheadRecords || c.bytes >= aheadBytes
		c.mu.Unlock()
		if !full {
			return ctx.Err() == nil
		}
		if patience == nil {
			timer := time.NewTimer(readerPatience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-c.room:
		case <-patience:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (c *catchUp) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.ended = err, true
	c.wake.Send()
}

// take takes what is there within bounds, and says how far that is. An error
// comes once everything before it was taken.
func (c *catchUp) take(most, mostBytes int) ([]*eventstore.Record, eventstore.Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count, size, held := 0, 0, 0
	for count < len(c.queue) && count < most {
		r := c.queue[count]
		size += len(r.Data) + len(r.Metadata)
		if count > 0 && size > mostBytes {
			break
		}
		held += cost(r)
		count++
	}
	records := c.queue[:count:count]
	c.queue = c.queue[count:]
	c.bytes -= held
	at := c.at
	if len(c.queue) > 0 {
		at = records[count-1].Position
	} else {
		c.queue = nil
	}
	select {
	case c.room <- struct{}{}:
	default:
	}
	if count == 0 && c.ended {
		return nil, at, c.err
	}
	return records, at, nil
}
