package projection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

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
	// special are events that have to be taken alone, by position.
	special map[uint64]*special
	// ready is closed once decoded.
	ready chan struct{}
	// users have not released it yet; the last one gives it back.
	users atomic.Int32
	back  func(*chunk)
}

// share is called before a chunk is handed to n users.
func (c *chunk) share(n int, back func(*chunk)) {
	c.back = back
	c.users.Store(int32(n))
	if n == 0 {
		back(c)
	}
}

// done says that a user does not need it any more.
func (c *chunk) done() {
	if c.users.Add(-1) == 0 {
		c.back(c)
	}
}

// of are the events of these types, nil for all.
func (c *chunk) of(types map[string]bool) []*eventv1.RecordedEvent {
	if types == nil {
		return c.events
	}
	events := make([]*eventv1.RecordedEvent, 0, len(c.events))
	for _, rec := range c.events {
		if types[rec.GetEvent().GetType()] {
			events = append(events, rec)
		}
	}
	return events
}

// special is an event that is not simply folded.
type special struct {
	// err is why it could not be decoded: of the event only the routing is known.
	err error
	// skips is what it says where it skips another one.
	skips *eventv1.DeadLetterSkipped
}

// readAhead reads the log and decodes it in parallel, a bounded number of
// chunks before they are asked for.
type readAhead struct {
	name  string
	types map[string]bool // nil for all
	// sample is what is to be read; nil for everything.
	sample *sample
	codec  Decoder
	log    eventstore.Store
	sub    eventstore.Subscription

	ordered chan *chunk
	decode  chan *chunk
	// spare chunks to use again.
	spare chan *chunk
	// head is told the log's head as far as known.
	head func(eventstore.Position)
	now  func() time.Time
	// pace rests between records; nil for never.
	pace *pace

	cancel context.CancelFunc
	done   sync.WaitGroup
	// err is why ordered was closed.
	err error
}

// headEvery is how often the head is asked for while catching up.
const headEvery = 500 * time.Millisecond

// startReading begins to read behind a position, together with others where
// that was asked for.
func (r *runner) startReading(ctx context.Context, after eventstore.Position) (*feed, error) {
	if r.scan != "" && r.deps.Scans != nil {
		if f := r.deps.Scans.join(ctx, r.scan, r, after); f != nil {
			return f, nil
		}
	}
	ra, err := r.startAhead(ctx, after, r.types, r.sample, r.sawHead)
	if err != nil {
		return nil, err
	}
	return &feed{
		ordered: ra.ordered, release: ra.release, stop: ra.stop,
		failure: func() error {
			ra.done.Wait()
			return ra.err
		},
	}, nil
}

// startAhead begins to read ahead.
func (r *runner) startAhead(ctx context.Context, after eventstore.Position, types map[string]bool, s *sample, head func(eventstore.Position)) (*readAhead, error) {
	sub, err := r.deps.Log.Subscribe(ctx, eventstore.SubscribeOptions{After: after, MaxBatch: r.opts.ReadBatch})
	if err != nil {
		return nil, fmt.Errorf("subscribe behind %d: %w", after, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ra := &readAhead{
		name: r.name, types: types, sample: s, codec: r.deps.Codec, log: r.deps.Log, sub: sub,
		ordered: make(chan *chunk, r.opts.ReadAhead),
		decode:  make(chan *chunk, r.opts.ReadAhead),
		spare:   make(chan *chunk, r.opts.ReadAhead+2),
		head:    head, now: r.deps.Now, cancel: cancel, pace: &r.pace,
	}
	ra.done.Go(func() {
		defer close(ra.ordered)
		defer close(ra.decode)
		ra.err = ra.read(ctx)
	})
	for range r.opts.Decoders {
		ra.done.Go(func() {
			for c := range ra.decode {
				ra.decodeChunk(ctx, c)
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
			if event.IsEvent(rec) && (ra.types == nil || ra.types[rec.Type]) && (ra.sample == nil || ra.sample.keeps(rec)) {
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
		c.ready, c.special, c.bytes = make(chan struct{}), nil, 0
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

func (ra *readAhead) decodeChunk(ctx context.Context, c *chunk) {
	defer close(c.ready)
	c.events = c.events[:cap(c.events)]
	for len(c.events) < len(c.records) {
		c.events = append(c.events, &eventv1.RecordedEvent{})
	}
	began := ra.now()
	for i, rec := range c.records {
		if i%gentleDecode == gentleDecode-1 {
			ra.pace.restDecoding(ctx, began)
			began = ra.now()
		}
		if c.events[i] == nil {
			c.events[i] = &eventv1.RecordedEvent{}
		}
		if err := decodeSafely(ra.codec, rec, c.events[i]); err != nil {
			c.events[i] = undecoded(rec)
			c.mark(rec, &special{err: &FoldError{
				Projection: ra.name, Stream: rec.Stream, Position: rec.Position,
				EventID: rec.ID.String(), Type: rec.Type, Err: fmt.Errorf("decode: %w", err),
			}})
			continue
		}
		if rec.Type == typeSkipped {
			if skip := c.events[i].GetEvent().GetPayload().GetDeadLetterSkipped(); skip != nil {
				c.mark(rec, &special{skips: skip})
			}
		}
	}
	c.events = c.events[:len(c.records)]
	if ra.sample != nil {
		c.events = ra.sample.drop(c.events)
	}
}

func (c *chunk) mark(rec *eventstore.Record, s *special) {
	if c.special == nil {
		c.special = map[uint64]*special{}
	}
	c.special[uint64(rec.Position)] = s
}

// undecoded is what is known of an event that could not be decoded.
func undecoded(rec *eventstore.Record) *eventv1.RecordedEvent {
	ev := &eventv1.Event{Id: rec.ID.String(), Tenant: event.TenantOf(rec.Stream), Type: rec.Type}
	if routing, err := event.PeekRouting(rec.Data); err == nil {
		ev.Tenant, ev.ProfileId = routing.Tenant, routing.ProfileID
	}
	return &eventv1.RecordedEvent{
		Event: ev, Stream: rec.Stream, Revision: uint64(max(rec.Revision, 0)), Position: uint64(rec.Position), RecordedTime: timestamppb.New(rec.Recorded),
	}
}

// decodeSafely also takes the panics of upcasters.
func decodeSafely(codec Decoder, rec *eventstore.Record, ev *eventv1.RecordedEvent) (err error) {
	defer recovered(&err)
	return codec.DecodeInto(rec, ev)
}
