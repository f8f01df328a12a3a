package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// What a subscription takes from the store at a time, and so what a client
// costs that stops reading.
const (
	batchRecords = 256
	batchBytes   = 1 << 20
	// heartbeat is how often a subscription with a filter learns how far it has
	// looked though nothing matched.
	heartbeat = time.Second
)

// subscribeAll serves a subscription to $all.
func (s *Server) subscribeAll(ctx context.Context, r *readRequest, out *sender) error {
	after := r.position
	if r.fromEnd {
		head, err := s.store.Head(ctx)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", allStream, err)
		}
		after = head
	}
	feed, err := s.openFeed(ctx, after, r.filter.store, out)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", allStream, err)
	}
	defer feed.close()
	points := checkpoints{interval: r.filter.interval, at: after, told: after}
	return feed.run(ctx, func(b eventstore.Batch) error {
		for _, record := range b.Records {
			if err := points.upTo(record.Position-1, out); err != nil {
				return err
			}
			if !r.filter.matches(record) {
				continue
			}
			if err := out.event(ctx, record); err != nil {
				return err
			}
			points.told = record.Position
		}
		return points.batch(b, feed.caughtUp, out)
	})
}

// subscribeStream serves a subscription to one stream: what is there by reading
// it, what comes by listening to the log from a position taken before.
func (s *Server) subscribeStream(ctx context.Context, r *readRequest, out *sender) error {
	after, err := s.store.Head(ctx)
	if err != nil {
		return fmt.Errorf("subscribe to stream %s: %w", r.name, err)
	}
	w, err := s.window(ctx, r.stream)
	exists := err == nil
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	filter := eventstore.Filter{StreamPrefixes: []string{r.stream}}
	feed, err := s.openFeed(ctx, after, filter, out)
	if err != nil {
		return fmt.Errorf("subscribe to stream %s: %w", r.name, err)
	}
	defer feed.close()
	// seen is the last revision that the client has, or does not want.
	seen := eventstore.NoStream
	switch {
	case r.fromEnd && exists:
		seen = w.head
	case !r.fromStart && !r.fromEnd:
		seen = r.revision
	}
	if exists && !r.fromEnd {
		if seen, err = s.catchUp(ctx, r, w, seen, out); err != nil {
			return err
		}
	}
	return feed.run(ctx, func(b eventstore.Batch) error {
		for _, record := range b.Records {
			if record.Stream != r.stream || record.Revision <= seen {
				continue
			}
			if record.Type == storedStreamDeleted {
				return streamDeleted(r.name)
			}
			if err := out.event(ctx, record); err != nil {
				return err
			}
			seen = record.Revision
		}
		return nil
	})
}

// catchUp sends what a stream has behind a revision, and answers with the last
// one.
func (s *Server) catchUp(
	ctx context.Context, r *readRequest, w window, seen eventstore.Revision, out *sender,
) (eventstore.Revision, error) {
	now := s.cfg.Now()
	opts := eventstore.ReadStreamOptions{From: max(seen+1, w.first)}
	for record, err := range s.store.ReadStream(ctx, r.stream, opts) {
		if err != nil {
			return 0, fmt.Errorf("subscribe to stream %s: %w", r.name, err)
		}
		if record.Type == storedStreamDeleted {
			return 0, streamDeleted(r.name)
		}
		if !w.meta.expired(record, now) {
			if err := out.event(ctx, record); err != nil {
				return 0, err
			}
		}
		seen = record.Revision
	}
	return seen, nil
}

// feed is a subscription of the store and what its client was told of it.
type feed struct {
	s   *Server
	sub eventstore.Subscription
	out *sender
	// caughtUp: the client was told that it has everything.
	caughtUp bool
}

// openFeed subscribes and confirms.
func (s *Server) openFeed(ctx context.Context, after eventstore.Position, filter eventstore.Filter, out *sender) (*feed, error) {
	sub, err := s.store.Subscribe(ctx, eventstore.SubscribeOptions{
		After: after, Filter: filter, MaxBatch: batchRecords, MaxBatchBytes: batchBytes, Heartbeat: heartbeat,
	})
	if err != nil {
		return nil, err
	}
	s.metrics.subscriptions.Inc()
	f := &feed{s: s, sub: sub, out: out}
	err = out.send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
		Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()},
	}})
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *feed) close() {
	f.s.metrics.subscriptions.Dec()
	if err := f.sub.Close(); err != nil {
		f.s.log.Warn("close subscription", "error", err)
	}
}

// run hands out batches and tells the client whether it is behind, until the
// context or the store ends it.
func (f *feed) run(ctx context.Context, batch func(eventstore.Batch) error) error {
	for {
		b, err := f.sub.Next(ctx)
		if err != nil {
			return err
		}
		if !b.CaughtUp && f.caughtUp && len(b.Records) > 0 {
			f.caughtUp = false
			if err := f.out.send(&streams.ReadResp{Content: &streams.ReadResp_FellBehind_{FellBehind: &streams.ReadResp_FellBehind{}}}); err != nil {
				return err
			}
		}
		if err := batch(b); err != nil {
			return err
		}
		f.out.done()
		if b.CaughtUp && !f.caughtUp {
			f.caughtUp = true
			if err := f.out.send(&streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}}); err != nil {
				return err
			}
		}
	}
}

// checkpoints tells the client of a filtered subscription how far it has come,
// every interval positions and when it has caught up.
type checkpoints struct {
	interval uint64
	// at is where the intervals are counted from; told is how far the client
	// knows that it has come.
	at, told eventstore.Position
}

// upTo says that everything up to a position was looked at and sent.
func (c *checkpoints) upTo(position eventstore.Position, out *sender) error {
	if c.interval == 0 || position < c.at || uint64(position-c.at) < c.interval {
		return nil
	}
	// Of several that are due the last one says it all.
	c.at += position - c.at - eventstore.Position(uint64(position-c.at)%c.interval)
	return c.send(c.at, out)
}

// batch is for the end of a batch.
func (c *checkpoints) batch(b eventstore.Batch, wasCaughtUp bool, out *sender) error {
	if err := c.upTo(b.Position, out); err != nil {
		return err
	}
	if c.interval > 0 && b.CaughtUp && !wasCaughtUp && b.Position > c.told {
		return c.send(b.Position, out)
	}
	return nil
}

func (c *checkpoints) send(position eventstore.Position, out *sender) error {
	c.told = position
	return out.send(&streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: &streams.ReadResp_Checkpoint{
		CommitPosition: uint64(position), PreparePosition: uint64(position),
	}}})
}
