package bus

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"

	"github.com/parleyhq/parley/pkg/wire"
)

// chunk is a part of a batch that travels as one message.
type chunk struct {
	data   []byte
	events int
}

// limits are where a batch is cut.
type limits struct {
	bytes  int // a chunk of several is at most this
	hard   int // a single event is at most this
	events int
}

// split encodes a batch in parts within the limits, events in their order,
// quarantined bodies behind them. It fails with ErrTooLarge where a single one
// is over the hard limit, and with ErrInvalid where a command has company: what
// became of it could not be told from what became of the rest.
func split(batch *interactionv1.IngressBatch, l limits) ([]chunk, error) {
	events, bodies := batch.GetEvents(), batch.GetQuarantined()
	if batch.GetCommand() != nil {
		if len(events) > 0 || len(bodies) > 0 {
			return nil, fmt.Errorf("%w: a command travels alone", ErrInvalid)
		}
		if size := proto.Size(batch); size > l.hard {
			return nil, fmt.Errorf("%w: the command takes %d bytes, at most %d fit into a message", ErrTooLarge, size, l.hard)
		}
		l.bytes = l.hard
	}
	if size := proto.Size(batch); size <= l.bytes && len(events) <= l.events {
		data, err := encode(batch, size)
		if err != nil {
			return nil, err
		}
		return []chunk{{data: data, events: len(events)}}, nil
	}

	var (
		chunks []chunk
		part   interactionv1.IngressBatch
		size   int
	)
	flush := func() error {
		if size == 0 {
			return nil
		}
		data, err := encode(&part, size)
		if err != nil {
			return err
		}
		chunks = append(chunks, chunk{data: data, events: len(part.GetEvents())})
		part.Reset()
		size = 0
		return nil
	}
	add := func(what string, i int, m proto.Message) error {
		n := fieldSize(m)
		if n > l.hard {
			return fmt.Errorf("%w: %s %d takes %d bytes, at most %d fit into a message", ErrTooLarge, what, i, n, l.hard)
		}
		if size > 0 && (size+n > l.bytes || len(part.GetEvents()) >= l.events) {
			if err := flush(); err != nil {
				return err
			}
		}
		size += n
		return nil
	}
	for i, ev := range events {
		if err := add("event", i, ev); err != nil {
			return nil, err
		}
		part.Events = append(part.Events, ev)
	}
	for i, body := range bodies {
		if err := add("quarantined body", i, body); err != nil {
			return nil, err
		}
		part.Quarantined = append(part.Quarantined, body)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return chunks, nil
}

// fieldSize is what m takes as an element of a repeated field of an
// IngressBatch, whose field numbers take one byte.
func fieldSize(m proto.Message) int {
	return 1 + protowire.SizeBytes(wire.Size(m))
}

func encode(m proto.Message, size int) ([]byte, error) {
	data, err := wire.Append(make([]byte, 0, size), m)
	if err != nil {
		return nil, fmt.Errorf("encode an ingress batch: %w", err)
	}
	return data, nil
}
