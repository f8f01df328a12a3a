package esdb

import (
	"context"
	"sync"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// catchUp reads from the cluster for one subscription that is behind the tail:
// a subscription with its filter, read ahead of Next by a bounded amount.
type catchUp struct {
	stop context.CancelFunc

	mu    sync.Mutex
	queue []*eventstore.Record
	bytes int
	at    eventstore.Position // how far it has looked, behind what is queued
	live  bool                // it goes on with what is new
	err   error
	ended bool
	wake  broadcast     // something is new
	room  chan struct{} // something was taken
}

// How much is read ahead; what is on its way between the cluster and here comes
// on top, bounded by streamWindow.
const (
	aheadRecords = 2048
	aheadBytes   = 2 << 20
)

// startCatchUp begins behind a position. Everything up to covered was in the
// log before. It does not end with ctx, only with the store or by stop.
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
		err := s.follow(ctx, after, filter, func(n news) (bool, error) {
			switch n.kind {
			case newsRecord:
				c.put(n.record)
			case newsLooked:
				c.looked(n.at)
			case newsCaughtUp:
				c.looked(covered)
				c.setLive(true)
			case newsBegun, newsLost:
				c.setLive(false)
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
	c.wake.send()
}

func (c *catchUp) looked(at eventstore.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = max(c.at, at)
	c.wake.send()
}

func (c *catchUp) setLive(live bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = live
	c.wake.send()
}

// stuck says that it is at its end and still behind a position: what is between
// does not match, of which the cluster tells only now and then.
func (c *catchUp) stuck(behind eventstore.Position) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live && len(c.queue) == 0 && c.at < behind
}

func (c *catchUp) waitForRoom(ctx context.Context) bool {
	for {
		c.mu.Lock()
		full := len(c.queue) >= aheadRecords || c.bytes >= aheadBytes
		c.mu.Unlock()
		if !full {
			return ctx.Err() == nil
		}
		select {
		case <-c.room:
		case <-ctx.Done():
			return false
		}
	}
}

func (c *catchUp) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.ended = err, true
	c.wake.send()
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
