package event

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of parley.event.v1.Event that the wire is walked by. A test
// compares them with the descriptor.
const (
	numID            protowire.Number = 1
	numTenant        protowire.Number = 2
	numType          protowire.Number = 3
	numSchemaVersion protowire.Number = 4
	numProfileID     protowire.Number = 5
	numChannel       protowire.Number = 13
	numConversation  protowire.Number = 15
	numBackfill      protowire.Number = 20
	numPayloadKey    protowire.Number = 21
	numSealed        protowire.Number = 22
	numPayload       protowire.Number = 24
)

// errWire says that bytes are no protobuf message.
var errWire = errors.New("not a protobuf message")

// halves takes a marshalled Event apart. The buffers are scratch: valid until
// the next split, and kept from one to the next.
type halves struct {
	whole  []byte
	facts  []byte
	sealed []byte
	// The two halves of the payload's member, and of the payload.
	memberFacts, memberSealed   []byte
	payloadFacts, payloadSealed []byte
}

var halvesPool sync.Pool

func getHalves() *halves {
	if h, ok := halvesPool.Get().(*halves); ok {
		return h
	}
	return new(halves)
}

// release gives the scratch back, unless an unusually large event went through.
func (h *halves) release() {
	const most = 64 << 10
	if cap(h.whole) <= most {
		halvesPool.Put(h)
	}
}

// split fills facts and sealed from whole. Each half is a valid partial Event;
// parsing the one and merging the other gives the whole. What is unknown here
// may be personal: it goes to sealed.
func (h *halves) split() error {
	h.facts, h.sealed = h.facts[:0], h.sealed[:0]
	for b := h.whole; len(b) > 0; {
		number, typ, value, field, err := nextField(b)
		if err != nil {
			return fmt.Errorf("event: %w", err)
		}
		b = b[len(field):]
		switch {
		case number == numPayload && typ == protowire.BytesType:
			if err := h.splitPayload(value); err != nil {
				return err
			}
		case contract.facts.has(number, typ):
			h.facts = append(h.facts, field...)
		default:
			h.sealed = append(h.sealed, field...)
		}
	}
	return nil
}

// splitPayload enters two levels: the payload, and its member.
func (h *halves) splitPayload(payload []byte) error {
	h.payloadFacts, h.payloadSealed = h.payloadFacts[:0], h.payloadSealed[:0]
	for len(payload) > 0 {
		number, typ, value, field, err := nextField(payload)
		if err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		payload = payload[len(field):]
		if typ != protowire.BytesType || int(number) >= len(contract.byNumber) || contract.byNumber[number] == nil {
			h.payloadSealed = append(h.payloadSealed, field...)
			continue
		}
		if err := h.splitMember(contract.byNumber[number], value); err != nil {
			return err
		}
		// The member stands in the facts also when it has none: it tells the type.
		h.payloadFacts = appendBytes(h.payloadFacts, number, h.memberFacts)
		if len(h.memberSealed) > 0 {
			h.payloadSealed = appendBytes(h.payloadSealed, number, h.memberSealed)
		}
	}
	h.facts = appendBytes(h.facts, numPayload, h.payloadFacts)
	if len(h.payloadSealed) > 0 {
		h.sealed = appendBytes(h.sealed, numPayload, h.payloadSealed)
	}
	return nil
}

func (h *halves) splitMember(e *entry, member []byte) error {
	h.memberFacts, h.memberSealed = h.memberFacts[:0], h.memberSealed[:0]
	for len(member) > 0 {
		number, typ, _, field, err := nextField(member)
		if err != nil {
			return fmt.Errorf("payload %s: %w", e.typ, err)
		}
		member = member[len(field):]
		if e.facts.has(number, typ) {
			h.memberFacts = append(h.memberFacts, field...)
		} else {
			h.memberSealed = append(h.memberSealed, field...)
		}
	}
	return nil
}

// nextField reads the first field of b: its value, for length-delimited ones
// without the length, and all of its bytes.
func nextField(b []byte) (number protowire.Number, typ protowire.Type, value, field []byte, err error) {
	number, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0, 0, nil, nil, fmt.Errorf("%w: %w", errWire, protowire.ParseError(n))
	}
	if typ == protowire.BytesType {
		value, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return 0, 0, nil, nil, fmt.Errorf("%w: field %d: %w", errWire, number, protowire.ParseError(m))
		}
		return number, typ, value, b[:n+m], nil
	}
	m := protowire.ConsumeFieldValue(number, typ, b[n:])
	if m < 0 {
		return 0, 0, nil, nil, fmt.Errorf("%w: field %d: %w", errWire, number, protowire.ParseError(m))
	}
	return number, typ, b[n : n+m], b[:n+m], nil
}

func appendBytes(dst []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, number, protowire.BytesType), value)
}
