package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Publisher publishes what gateways take in. All methods may be called
// concurrently; batches of one caller that waits in between keep their order.
type Publisher struct {
	bus      *Bus
	inbox    *inbox
	inFlight *semaphore.Weighted // bytes
}

// minWeight is what a message counts for among those in flight at least, so
// that the number of small ones is bounded, too.
const minWeight = 1 << 10

func newPublisher(b *Bus, in *inbox) *Publisher {
	return &Publisher{bus: b, inbox: in, inFlight: semaphore.NewWeighted(b.cfg.MaxInFlightBytes)}
}

// Publish publishes what one request brought, in as many messages as it takes,
// and returns nil once JetStream has acknowledged all of them. It fails with
// ErrFull, ErrUnavailable, ErrTooLarge (nothing was published), ErrInvalid
// (likewise), or the context's error. A batch that is empty is published by
// doing nothing.
func (p *Publisher) Publish(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) error {
	_, err := p.publish(ctx, tenant, channel, batch, false)
	return err
}

// PublishAndWait publishes as Publish does and then waits for what the recorder
// answers, until ctx ends: the results of all events in their order, and the
// position behind all of them. Its own errors are Publish's; that ctx ended
// does not say that the batch was not taken.
func (p *Publisher) PublishAndWait(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	return p.publish(ctx, tenant, channel, batch, true)
}

func (p *Publisher) publish(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch, wait bool) (_ *interactionv1.IngressReply, err error) {
	b := p.bus
	if !b.begin() {
		return nil, errClosed
	}
	defer b.calls.Done()

	subject, err := Subject(tenant, channel)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("publish to %s: %w", subject, err)
	}
	if len(batch.GetEvents()) == 0 && len(batch.GetQuarantined()) == 0 && batch.GetCommand() == nil {
		return &interactionv1.IngressReply{}, nil
	}

	began, total := time.Now(), 0
	var chunks []chunk
	defer func() { b.metrics.publish(began, len(chunks), total, err) }()

	if chunks, err = split(batch, p.limits()); err != nil {
		return nil, fmt.Errorf("publish to %s: %w", subject, err)
	}
	for i := range chunks {
		total += len(chunks[i].data)
	}

	var waiting []*waiter
	if wait {
		waiting = make([]*waiter, len(chunks))
		for i := range waiting {
			waiting[i] = p.inbox.expect()
			defer p.inbox.forget(waiting[i])
		}
	}
	if err := p.publishChunks(ctx, subject, chunks, waiting); err != nil {
		return nil, fmt.Errorf("publish to %s: %w", subject, err)
	}
	if !wait {
		return nil, nil
	}
	reply, err := p.awaitReplies(ctx, chunks, waiting)
	if err != nil {
		return nil, fmt.Errorf("wait for the recorder's answer about %s: %w", subject, err)
	}
	return reply, nil
}

// limits follow the server's, which may change with a reconnect.
func (p *Publisher) limits() limits {
	hard := int(p.bus.nc.MaxPayload()) - headerRoom
	return limits{bytes: min(p.bus.cfg.ChunkBytes, hard), hard: hard, events: p.bus.cfg.ChunkEvents}
}

// publishChunks sends all chunks and then awaits all acknowledgements, so that
// they share the way and the writing through. The first failure is the answer.
func (p *Publisher) publishChunks(ctx context.Context, subject string, chunks []chunk, waiting []*waiter) error {
	b := p.bus
	timeout := time.NewTimer(b.cfg.PublishTimeout)
	defer timeout.Stop()

	// Room for the messages in flight is taken one by one and given back as
	// soon as they are acknowledged, so that a request with more chunks than
	// there is room for gets through.
	type flight struct {
		ack    *waiter
		weight int64
	}
	var flights []flight
	defer func() {
		for _, f := range flights {
			p.inbox.forget(f.ack)
			p.inFlight.Release(f.weight)
		}
	}()
	land := func() error {
		f := flights[0]
		select {
		case a := <-f.ack.answer:
			flights = flights[1:]
			p.inFlight.Release(f.weight)
			return classify(ctx, a.acknowledged())
		case <-ctx.Done():
			return ctx.Err()
		case <-b.closing:
			return errClosed
		case <-timeout.C:
			return fmt.Errorf("%w: no acknowledgement within %s", ErrUnavailable, b.cfg.PublishTimeout)
		}
	}

	for i := range chunks {
		weight := min(int64(max(len(chunks[i].data), minWeight)), b.cfg.MaxInFlightBytes)
		for !p.inFlight.TryAcquire(weight) {
			if len(flights) > 0 {
				if err := land(); err != nil {
					return err
				}
				continue
			}
			if err := p.acquire(ctx, weight); err != nil {
				return err
			}
			break
		}
		var reply *waiter
		if waiting != nil {
			reply = waiting[i]
		}
		f := flight{ack: p.inbox.expect(), weight: weight}
		flights = append(flights, f)
		msg, err := p.message(ctx, subject, chunks[i].data, reply)
		if err != nil {
			return err
		}
		msg.Reply = f.ack.subject
		if err := b.nc.PublishMsg(msg); err != nil {
			return classify(ctx, err)
		}
	}
	for len(flights) > 0 {
		if err := land(); err != nil {
			return err
		}
	}
	return nil
}

// acquire waits for room among the messages in flight.
func (p *Publisher) acquire(ctx context.Context, weight int64) error {
	wait, cancel := context.WithTimeout(ctx, p.bus.cfg.PublishTimeout)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	p.bus.calls.Go(func() {
		select {
		case <-p.bus.closing:
			cancel()
		case <-stop:
		}
	})
	if err := p.inFlight.Acquire(wait, weight); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: too much is waiting for acknowledgement", ErrUnavailable)
	}
	return nil
}

// message is a chunk as a CloudEvent in NATS's binary binding.
func (p *Publisher) message(ctx context.Context, subject string, data []byte, w *waiter) (*nats.Msg, error) {
	id, err := p.bus.newID()
	if err != nil {
		return nil, fmt.Errorf("make a message's id: %w", err)
	}
	header := nats.Header{
		HeaderSpecVersion: {SpecVersion},
		HeaderType:        {TypeIngressBatch},
		HeaderSource:      {p.bus.cfg.Source},
		HeaderID:          {id.String()},
		HeaderContentType: {ContentProtobuf},
	}
	if w != nil {
		header[HeaderReply] = []string{w.subject}
	}
	otel.GetTextMapPropagator().Inject(ctx, carrier(header))
	return &nats.Msg{Subject: subject, Header: header, Data: data}, nil
}

func (p *Publisher) awaitReplies(ctx context.Context, chunks []chunk, waiting []*waiter) (*interactionv1.IngressReply, error) {
	merged := &interactionv1.IngressReply{}
	for i, w := range waiting {
		var a answer
		select {
		case a = <-w.answer:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.bus.closing:
			return nil, errClosed
		}
		if a.err != nil {
			return nil, classify(ctx, a.err)
		}
		reply := &interactionv1.IngressReply{}
		if err := proto.Unmarshal(a.msg.Data, reply); err != nil {
			return nil, fmt.Errorf("decode the recorder's answer: %w", err)
		}
		if len(reply.GetResults()) != chunks[i].events {
			return nil, fmt.Errorf("the recorder answered about %d events of %d", len(reply.GetResults()), chunks[i].events)
		}
		if i > 0 && reply.GetLogId() != merged.GetLogId() {
			return nil, fmt.Errorf("%w: the recorder's log changed from %s to %s in between", ErrUnavailable, merged.GetLogId(), reply.GetLogId())
		}
		merged.LogId = reply.GetLogId()
		merged.Position = max(merged.GetPosition(), reply.GetPosition())
		merged.Results = append(merged.Results, reply.GetResults()...)
		if reply.GetCommand() != nil {
			merged.Command = reply.GetCommand()
		}
	}
	return merged, nil
}
