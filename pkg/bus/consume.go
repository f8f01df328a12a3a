package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// ConsumeOptions say how much a handler gets at once. What is there is handed
// out at once, however little it is.
type ConsumeOptions struct {
	// MaxMessages of a batch. Defaults to 512.
	MaxMessages int
	// MaxBytes of a batch's data; a single larger message is a batch by itself.
	// Defaults to 4 MiB.
	MaxBytes int
	// MaxWait is how long a batch may wait to fill. Defaults to not at all.
	MaxWait time.Duration
	// RetryMin and RetryMax bound the wait before a failed batch is handed out
	// again; it doubles in between. Default to 50 ms and 5 s.
	RetryMin time.Duration
	RetryMax time.Duration
	// DrainTimeout is how long the handler may go on when the context has
	// ended; then its own context ends. Defaults to 10 s.
	DrainTimeout time.Duration
}

// Handler takes a batch in the order of the stream and returns nil once it is
// safe: it is then acknowledged as a whole. After an error it gets the same
// batch again. Its context ends some time after Consume's, so that what it has
// begun it may complete. A handler that may not go on at all, because somebody
// else writes now, ends the context that Consume was given. The slice is the handler's until it returns; Data and
// headers may be kept.
type Handler func(ctx context.Context, batch []Message) error

func (o ConsumeOptions) withDefaults() ConsumeOptions {
	setDefault(&o.MaxMessages, 512)
	setDefault(&o.MaxBytes, 4<<20)
	setDefault(&o.RetryMin, 50*time.Millisecond)
	setDefault(&o.RetryMax, 5*time.Second)
	setDefault(&o.DrainTimeout, 10*time.Second)
	return o
}

const (
	// The consumer's messages are held back by us, in order, for as long as it
	// takes; nothing is ever to be delivered again by a timer. Whoever takes
	// over makes a new consumer, so the floor does not wait for this either.
	ackWait = 24 * time.Hour

	// The client asks again for messages when a request has run this long; the
	// server says in between that it is alive, and twice its silence restarts.
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second

	restartFirst = 20 * time.Millisecond
	restartMost  = 5 * time.Second

	// apiTimeout bounds one question to JetStream.
	apiTimeout = 5 * time.Second
	// lookupTimeout is shorter: a cluster that has just lost the server that
	// leads a stream or consumer does not answer questions about it, and knows
	// who leads it a moment later. Whoever asks again loses nothing.
	lookupTimeout = 2 * time.Second
	// displacedTimeout is shorter, since a retry waits for the answer.
	displacedTimeout = time.Second

	metaInstance = "parley-instance"
)

// Consume hands the stream to handler, batch by batch in order, beginning
// behind what was ever acknowledged, until ctx ends. It takes consumption over
// from whoever has it. It returns nil once ctx has ended, or the bus is closed,
// and the handler has completed; ErrTakenOver when somebody else has begun to
// consume; and otherwise goes on through every failure.
func (b *Bus) Consume(ctx context.Context, opts ConsumeOptions, handler Handler) error {
	if !b.begin() {
		return errClosed
	}
	defer b.calls.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.calls.Go(func() {
		select {
		case <-b.closing:
			cancel()
		case <-ctx.Done():
		}
	})

	c := &consumption{
		bus: b, opts: opts.withDefaults(), handler: handler,
		instance: nuid.Next(),
	}
	c.purger = newPurger(b)
	purging, stopPurging := context.WithCancel(context.WithoutCancel(ctx))
	b.calls.Go(func() { c.purger.run(purging) })
	defer stopPurging()

	err := c.run(ctx)
	stopPurging()
	c.purger.finish(context.WithoutCancel(ctx))
	return err
}

// consumption is one Consume.
type consumption struct {
	bus      *Bus
	opts     ConsumeOptions
	handler  Handler
	instance string
	purger   *purger

	// floor is the sequence up to which everything was handled; it belongs to
	// the stream that was made at created.
	floor   uint64
	created time.Time
	begun   bool // taken over once; after that nobody is displaced any more

	items []item
	batch []Message
}

// run goes from session to session.
func (c *consumption) run(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		handled, err := c.session(ctx)
		switch {
		case errors.Is(err, ErrTakenOver):
			return err
		case ended(ctx):
			// Whatever broke at the end, the messages are where they were.
			return nil
		case handled:
			attempt = 0
		}
		c.bus.metrics.restarts.Inc()
		c.bus.logger.Warn("consuming begins anew at the acknowledged floor", "sequence", c.floor, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff(attempt, restartFirst, restartMost)):
		}
	}
}

// session makes a consumer behind the floor and handles what it delivers until
// something breaks. handled says whether it got anywhere.
func (c *consumption) session(ctx context.Context) (handled bool, err error) {
	s := &session{
		queue:       newQueue(2*c.opts.MaxMessages, 2*c.opts.MaxBytes),
		inboxPrefix: c.bus.cfg.InboxPrefix,
	}
	defer s.queue.fail(errSessionOver)

	// From before the consumer is made, so that nothing that the connection
	// loses goes unnoticed; and what is being asked when it breaks would wait
	// for an answer until its time is up.
	asking, broken := context.WithCancel(ctx)
	defer broken()
	status := c.bus.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer c.bus.nc.RemoveStatusListener(status) // closes it
	c.bus.calls.Go(func() {
		select {
		case st, ok := <-status:
			if ok {
				s.queue.fail(fmt.Errorf("connection to NATS is %s", st))
			}
			broken()
		case <-s.queue.failed:
		}
	})

	consumer, err := c.claim(asking)
	if err != nil {
		return false, err
	}
	deliveries, err := consumer.Consume(s.deliver,
		jetstream.PullMaxMessagesWithBytesLimit(2*c.opts.MaxMessages, 2*c.opts.MaxBytes+headerRoom+int(c.bus.nc.MaxPayload())),
		jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			s.queue.fail(fmt.Errorf("ingress consumer: %w", err))
		}),
	)
	if err != nil {
		return false, fmt.Errorf("pull from the ingress consumer: %w", err)
	}
	defer func() {
		s.queue.fail(errSessionOver) // lets go of a delivery that waits for room
		deliveries.Stop()
		<-deliveries.Closed()
	}()

	for {
		c.items, err = s.queue.take(ctx, c.items[:0], c.opts.MaxMessages, c.opts.MaxBytes, c.opts.MaxWait)
		if err != nil {
			return handled, err
		}
		if err := c.handle(ctx); err != nil {
			return handled, err
		}
		handled = true
	}
}

func ended(ctx context.Context) bool { return ctx.Err() != nil }

var errSessionOver = errors.New("session is over")

// handle brings c.items to the handler until it takes them, then acknowledges
// them.
func (c *consumption) handle(ctx context.Context) error {
	defer func() {
		clear(c.items)
		clear(c.batch)
	}()
	handling, cancel := drainContext(ctx, c.opts.DrainTimeout)
	defer cancel()
	size := 0
	for attempt := 0; ; attempt++ {
		c.batch = c.batch[:0]
		for i := range c.items {
			c.batch = append(c.batch, c.items[i].Message)
			if attempt == 0 {
				size += c.items[i].size()
			}
		}
		err := c.handler(handling, c.batch)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return err
		}
		c.bus.metrics.handlerFailures.Inc()
		wait := backoff(attempt, c.opts.RetryMin, c.opts.RetryMax)
		c.bus.logger.Warn("ingress batch failed and is kept for a retry", "error", err,
			"sequence", c.items[0].Sequence, "messages", len(c.items), "attempt", attempt+1, "retry_in", wait)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		// Asked for, since the news may wait behind messages that the queue has
		// no room for. Whatever else befell the session leaves the batch ours.
		if err := c.displaced(ctx); err != nil {
			return err
		}
	}
	last := &c.items[len(c.items)-1]
	c.floor = last.Sequence
	c.bus.metrics.consumed.Add(float64(len(c.items)))
	c.bus.metrics.sequence.Set(float64(c.floor))
	c.purger.handled(c.floor, c.created, size)
	// Not waited for: should it be lost, the purge says the same, and a
	// takeover before that hands out the batch once more.
	if err := last.ack.Ack(); err != nil {
		return fmt.Errorf("acknowledge up to %d: %w", c.floor, err)
	}
	return nil
}

// drainContext ends a while after ctx.
func drainContext(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(after):
			cancel()
		case <-handling.Done():
		}
	})
	return handling, func() {
		stop()
		cancel()
	}
}

// session is what one consumer delivers.
type session struct {
	queue       *queue
	inboxPrefix string
	consumerSeq uint64 // of the last delivery; a new consumer counts from 1
	streamSeq   uint64 // of the last message passed on
}

// deliver runs on the subscription's goroutine and blocks while the handler is
// behind. The consumer counts its deliveries without gaps, so that a message
// lost on the way shows, whereas one deleted from the stream does not matter.
func (s *session) deliver(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		s.queue.fail(fmt.Errorf("ingress message's metadata: %w", err))
		return
	}
	if meta.Sequence.Consumer != s.consumerSeq+1 {
		s.queue.fail(fmt.Errorf("deliveries %d to %d of the ingress consumer were lost", s.consumerSeq+1, meta.Sequence.Consumer-1))
		return
	}
	s.consumerSeq++
	if meta.Sequence.Stream <= s.streamSeq {
		return // delivered again, and here already
	}
	s.streamSeq = meta.Sequence.Stream
	it := item{ack: m, Message: Message{
		Subject:   m.Subject(),
		Header:    m.Headers(),
		Data:      m.Data(),
		Sequence:  meta.Sequence.Stream,
		Published: meta.Timestamp,
	}}
	if tenant, channel, ok := ParseSubject(it.Subject); ok {
		it.Tenant, it.Channel = tenant, channel
	}
	if to := carrier(it.Header).Get(HeaderReply); to != "" && validReply(s.inboxPrefix, to) {
		it.ReplyTo = to
	}
	s.queue.push(it)
}
