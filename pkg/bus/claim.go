package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// claim makes the consumer anew behind the floor. The first time it displaces
// whoever consumes; later it fails with ErrTakenOver where somebody else does.
func (c *consumption) claim(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*apiTimeout)
	defer cancel()
	stream, err := c.stream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := c.bus.reconcile(ctx); err != nil {
			return nil, err
		}
		stream, err = c.stream(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", StreamName, err)
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(c.created) || info.State.LastSeq < c.floor {
		// Another stream than before, with sequences of its own.
		c.created, c.floor = info.Created, 0
	}
	if first := info.State.FirstSeq; first > 0 {
		c.floor = max(c.floor, first-1)
	}

	old, err := consumerOf(ctx, stream)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return nil, fmt.Errorf("look up consumer %s: %w", ConsumerName, err)
	case c.begun && old.CachedInfo().Config.Metadata[metaInstance] != c.instance:
		return nil, ErrTakenOver
	default:
		if err := c.retire(ctx, stream, old.CachedInfo()); err != nil {
			return nil, err
		}
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       ConsumerName,
		Description:   "Parley's recorder, or whatever consumes in its place",
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   c.floor + 1,
		AckPolicy:     jetstream.AckAllPolicy,
		AckWait:       ackWait,
		MaxDeliver:    -1,
		MaxAckPending: -1, // what is asked for bounds it
		MaxWaiting:    8,
		Metadata:      map[string]string{metaInstance: c.instance},
	})
	if err != nil {
		// ErrConsumerExists, too: two took over at once, and the next attempt
		// decides it.
		return nil, fmt.Errorf("create consumer %s behind %d: %w", ConsumerName, c.floor, err)
	}
	if !c.begun {
		c.begun = true
		c.bus.logger.Info("consuming", "sequence", c.floor, "pending", consumer.CachedInfo().NumPending)
	}
	return consumer, nil
}

func (c *consumption) stream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return c.bus.js.Stream(ctx, StreamName)
}

func consumerOf(ctx context.Context, stream jetstream.Stream) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return stream.Consumer(ctx, ConsumerName)
}

// retire deletes a consumer after its floor has gone over to the stream: should
// we end in between, whoever comes next begins at the stream's first message.
func (c *consumption) retire(ctx context.Context, stream jetstream.Stream, old *jetstream.ConsumerInfo) error {
	state := stream.CachedInfo().State
	if floor := old.AckFloor.Stream; floor > c.floor && floor <= state.LastSeq {
		c.floor = floor
	}
	if state.Msgs > 0 && c.floor >= state.FirstSeq {
		if err := stream.Purge(ctx, jetstream.WithPurgeSequence(c.floor+1)); err != nil {
			return fmt.Errorf("purge stream %s up to %d: %w", StreamName, c.floor, err)
		}
	}
	if err := stream.DeleteConsumer(ctx, ConsumerName); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s: %w", ConsumerName, err)
	}
	return nil
}

// displaced is ErrTakenOver where somebody else's consumer is there. What
// cannot be found out now is no reason to stop.
func (c *consumption) displaced(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, displacedTimeout)
	defer cancel()
	consumer, err := c.bus.js.Consumer(ctx, StreamName, ConsumerName)
	if err == nil && consumer.CachedInfo().Config.Metadata[metaInstance] != c.instance {
		return ErrTakenOver
	}
	return nil
}
