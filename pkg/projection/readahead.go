package projection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
)

// chunk is what the log gave at once, being decoded.
type chunk struct {
	records []*eventstore.Record
	// events of the records, in order; memory that is used again.
	events []*eventv1.RecordedEvent
	// position up to which the log was looked at.
	position eventstore.Position
	caughtUp bool
	bytes    int
	// ready is closed once decoded; err then says which record could not be,
	// and events ends before it.
	ready chan struct{}
	err   *FoldError
}

// readAhead reads the log and decodes it in parallel, a bounded number of
// chunks before they are asked for.
type readAhead struct {
	name  string
	types map[string]bool // nil for all
	codec Decoder
	log   eventstore.Store
	sub   eventstore.Subscription

	ordered chan *chunk
	decode  chan *chunk
	// spare chunks to use again.
	spare chan *chunk
	// head is told the log's head as far as known.
	head func(eventstore.Position)
	now  func() time.Time

	cancel context.CancelFunc
	done   sync.WaitGroup
	// err is why ordered was closed.
	err error
}

// headEvery is how often the head is asked for while catching up.
const headEvery = 500 * time.Millisecond

// start begins to read behind a position.
func (r *runner) startReading(ctx context.Context, after eventstore.Position) (*readAhead, error) {
	sub, err := r.deps.Log.Subscribe(ctx, eventstore.SubscribeOptions{After: after, MaxBatch: r.opts.ReadBatch})
	if err != nil {
		return nil, fmt.Errorf("subscribe behind %d: %w", after, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ra := &readAhead{
		name: r.name, types: r.types, codec: r.deps.Codec, log: r.deps.Log, sub: sub,
		ordered: make(chan *chunk, r.opts.ReadAhead),
		decode:  make(chan *chunk, r.opts.ReadAhead),
		spare:   make(chan *chunk, r.opts.ReadAhead+2),
		head:    r.sawHead, now: r.deps.Now, cancel: cancel,
	}
	ra.done.Go(func() {
		defer close(ra.ordered)
		defer close(ra.decode)
		ra.err = ra.read(ctx)
	})
	for range r.opts.Decoders {
		ra.done.Go(func() {
			for c := range ra.decode {
				ra.decodeChunk(c)
			}
		})
	}
	return ra, nil
}

// stop ends the reading and waits for it.
func (ra *readAhead) stop() error {
	ra.cancel()
	err := ra.sub.Close()
	ra.done.Wait()
	if err != nil && !errors.Is(err, eventstore.ErrClosed) {
		return fmt.Errorf("close subscription: %w", err)
	}
	return nil
}

func (ra *readAhead) read(ctx context.Context) error {
	var asked time.Time
	for {
		batch, err := ra.sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if batch.CaughtUp {
			ra.head(batch.Position)
		} else if now := ra.now(); now.Sub(asked) >= headEvery {
			asked = now
			// Only for the lag: whatever is wrong shows in Next.
			if head, err := ra.log.Head(ctx); err == nil {
				ra.head(head)
			}
		}
		c := ra.chunk()
		c.position, c.caughtUp = batch.Position, batch.CaughtUp
		for _, rec := range batch.Records {
			if event.IsEvent(rec) && (ra.types == nil || ra.types[rec.Type]) {
				c.records = append(c.records, rec)
				c.bytes += len(rec.Data)
			}
		}
		// In this order: whoever gets the chunk may count on its being decoded.
		for _, to := range []chan *chunk{ra.decode, ra.ordered} {
			select {
			case to <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (ra *readAhead) chunk() *chunk {
	select {
	case c := <-ra.spare:
		c.ready, c.err, c.bytes = make(chan struct{}), nil, 0
		return c
	default:
		return &chunk{ready: make(chan struct{})}
	}
}

// release gives a chunk back. Its events must not be used any more.
func (ra *readAhead) release(c *chunk) {
	clear(c.records)
	c.records = c.records[:0]
	// What one unusually large chunk needed is not kept.
	const most = 1 << 14
	if cap(c.events) > most {
		return
	}
	select {
	case ra.spare <- c:
	default:
	}
}

func (ra *readAhead) decodeChunk(c *chunk) {
	defer close(c.ready)
	c.events = c.events[:cap(c.events)]
	for len(c.events) < len(c.records) {
		c.events = append(c.events, &eventv1.RecordedEvent{})
	}
	for i, rec := range c.records {
		if c.events[i] == nil {
			c.events[i] = &eventv1.RecordedEvent{}
		}
		if err := ra.decodeRecord(rec, c.events[i]); err != nil {
			c.err = &FoldError{
				Projection: ra.name, Stream: rec.Stream, Position: rec.Position,
				EventID: rec.ID.String(), Type: rec.Type, Err: fmt.Errorf("decode: %w", err),
			}
			c.events = c.events[:i]
			return
		}
	}
	c.events = c.events[:len(c.records)]
}

// decodeRecord also takes the panics of upcasters.
func (ra *readAhead) decodeRecord(rec *eventstore.Record, ev *eventv1.RecordedEvent) (err error) {
	defer recovered(&err)
	return ra.codec.DecodeInto(rec, ev)
}
