package event

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/wire"
)

// The envelope is decoded by hand, the payload by generated code: half the
// allocations and less than half the time of doing both by the protobuf library. What
// is unusual (a field of unknown number or wrong wire type, a bad string) is
// left to the library altogether, so that the two never differ; a test
// compares them over every field.

// Field numbers of Event, Identifier, Actor and Timestamp that only decoding needs.
const (
	numSource         protowire.Number = 6
	numSourceID       protowire.Number = 7
	numSourceSequence protowire.Number = 8
	numContentDigest  protowire.Number = 9
	numOccurredTime   protowire.Number = 10
	numTimeQuality    protowire.Number = 11
	numReceivedTime   protowire.Number = 12
	numDirection      protowire.Number = 14
	numActor          protowire.Number = 16
	numCorrelationID  protowire.Number = 17
	numCausationID    protowire.Number = 18
	numTraceparent    protowire.Number = 19
	numIdentifiers    protowire.Number = 23
	numNulReplaced    protowire.Number = 25
	numContextJSON    protowire.Number = 26

	numProfileKind protowire.Number = 27

	numIdentifierKind      protowire.Number = 1
	numIdentifierValue     protowire.Number = 2
	numIdentifierRole      protowire.Number = 3
	numIdentifierStrength  protowire.Number = 4
	numIdentifierProfileID protowire.Number = 5
	numIdentifierAssurance protowire.Number = 6

	numActorKind protowire.Number = 1
	numActorID   protowire.Number = 2

	numSeconds protowire.Number = 1
	numNanos   protowire.Number = 2
)

// newRecorded makes an empty event whose parts are at hand for DecodeInto to
// reuse. They lie together in a few allocations, none over 512 bytes, beyond
// which the collector's bookkeeping costs more than the allocations saved.
func newRecorded() *eventv1.RecordedEvent {
	ev := &eventv1.Event{}
	parts := &struct {
		recorded                         eventv1.RecordedEvent
		payload                          eventv1.Payload
		occurred, received, recordedTime timestamppb.Timestamp
		pointers                         [2]*eventv1.Identifier
	}{}
	parts.recorded.Event = ev
	parts.recorded.RecordedTime = &parts.recordedTime
	ev.OccurredTime, ev.ReceivedTime = &parts.occurred, &parts.received
	ev.Payload = &parts.payload
	ev.Identifiers = parts.pointers[:]
	return &parts.recorded
}

// decoder fills one event.
type decoder struct {
	ev *eventv1.Event
	// Parts of the event that was there before, to be used again.
	occurred, received *timestamppb.Timestamp
	actor              *eventv1.Actor
	payload            *eventv1.Payload
	identifiers        []*eventv1.Identifier
	digest             []byte
	// sealed is the field's bytes within the record.
	sealed []byte
	// payloads are the payload's halves, of which the first pieces are there.
	payloads [2][]byte
	pieces   int
}

// newDecoder empties ev and keeps its parts.
func newDecoder(ev *eventv1.Event) decoder {
	d := decoder{
		ev:       ev,
		occurred: ev.OccurredTime, received: ev.ReceivedTime,
		actor: ev.Actor, payload: ev.Payload,
		identifiers: ev.Identifiers[:0], digest: ev.ContentDigest[:0],
	}
	ev.Reset()
	return d
}

// decode reads the fields of a marshalled Event into ev, `sealed` excepted. It
// answers false where the bytes are to be left to the library; ev is then
// undefined.
func (d *decoder) decode(data []byte) bool {
	for len(data) > 0 {
		number, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return false
		}
		data = data[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(data)
			if n < 0 || !d.varint(number, v) {
				return false
			}
			data = data[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(data)
			if n < 0 || !d.bytes(number, v) {
				return false
			}
			data = data[n:]
		default:
			return false
		}
	}
	return true
}

// finish reads the payload, whose halves are known by now. The answer is decode's.
func (d *decoder) finish() bool {
	if d.pieces == 0 {
		return true
	}
	if d.payload == nil {
		d.payload = &eventv1.Payload{}
	}
	d.ev.Payload = d.payload
	if d.pieces == 1 {
		return readPayload(d.payloads[0], d.ev.Payload)
	}
	// Two halves of one member are joined to be read at once: a field's bytes
	// end to end are the field merged.
	number, first, ok := soleMember(d.payloads[0])
	if !ok {
		return false
	}
	again, second, ok := soleMember(d.payloads[1])
	if !ok || again != number {
		return false
	}
	h := getHalves()
	defer h.release()
	h.whole = protowire.AppendTag(h.whole[:0], number, protowire.BytesType)
	h.whole = protowire.AppendVarint(h.whole, uint64(len(first)+len(second)))
	h.whole = append(append(h.whole, first...), second...)
	return readPayload(h.whole, d.ev.Payload)
}

// readPayload reads by the generated code what that cannot misread. The answer
// is decode's.
func readPayload(data []byte, payload *eventv1.Payload) bool {
	return payloadTexts.Valid(data) && wire.Unmarshal(data, payload) == nil
}

// What the library checks of texts, for what is encoded and decoded without it.
var (
	eventTexts   = wire.NewTextCheck((&eventv1.Event{}).ProtoReflect().Descriptor())
	payloadTexts = wire.NewTextCheck((&eventv1.Payload{}).ProtoReflect().Descriptor())
)

// soleMember is the one field that a payload has.
func soleMember(payload []byte) (protowire.Number, []byte, bool) {
	number, typ, n := protowire.ConsumeTag(payload)
	if n < 0 || typ != protowire.BytesType {
		return 0, nil, false
	}
	member, m := protowire.ConsumeBytes(payload[n:])
	return number, member, m >= 0 && n+m == len(payload)
}

// merge reads the personal part, or keeps it sealed where it is nil. The answer
// is decode's.
func (d *decoder) merge(personal []byte) bool {
	sealed := d.sealed
	if personal == nil {
		d.ev.Sealed = bytes.Clone(sealed)
		return true
	}
	d.sealed = nil
	return d.decode(personal) && d.sealed == nil
}

func (d *decoder) varint(number protowire.Number, v uint64) bool {
	ev := d.ev
	switch number {
	case numSchemaVersion:
		ev.SchemaVersion = uint32(v & 0xffffffff)
	case numSourceSequence:
		ev.SourceSequence = v
	case numTimeQuality:
		ev.TimeQuality = eventv1.TimeQuality(enumOf(v))
	case numDirection:
		ev.Direction = eventv1.Direction(enumOf(v))
	case numBackfill:
		ev.Backfill = protowire.DecodeBool(v)
	case numNulReplaced:
		ev.NulReplaced = protowire.DecodeBool(v)
	default:
		return false
	}
	return true
}

func (d *decoder) bytes(number protowire.Number, v []byte) bool {
	ev := d.ev
	switch number {
	case numOccurredTime:
		if ev.OccurredTime == nil {
			ev.OccurredTime = emptied(d.occurred)
		}
		return decodeTimestamp(v, ev.OccurredTime)
	case numReceivedTime:
		if ev.ReceivedTime == nil {
			ev.ReceivedTime = emptied(d.received)
		}
		return decodeTimestamp(v, ev.ReceivedTime)
	case numIdentifiers:
		return decodeIdentifier(v, d.addIdentifier())
	case numPayload:
		if d.pieces == len(d.payloads) {
			return false
		}
		d.payloads[d.pieces] = v
		d.pieces++
		return true
	case numActor:
		if ev.Actor == nil {
			if ev.Actor = d.actor; ev.Actor == nil {
				ev.Actor = &eventv1.Actor{}
			} else {
				ev.Actor.Reset()
			}
		}
		return decodeActor(v, ev.Actor)
	case numContentDigest:
		d.digest = append(d.digest[:0], v...)
		ev.ContentDigest = d.digest
		return true
	case numSealed:
		d.sealed = v
		return true
	default:
		return d.text(number, v)
	}
}

func (d *decoder) text(number protowire.Number, v []byte) bool {
	if !utf8.Valid(v) {
		return false
	}
	ev := d.ev
	switch number {
	case numID:
		ev.Id = string(v)
	case numTenant:
		ev.Tenant = intern(v)
	case numType:
		ev.Type = internType(v)
	case numProfileKind:
		ev.ProfileKind = intern(v)
	case numProfileID:
		ev.ProfileId = string(v)
	case numSource:
		ev.Source = intern(v)
	case numSourceID:
		ev.SourceId = string(v)
	case numChannel:
		ev.Channel = intern(v)
	case numConversation:
		ev.Conversation = string(v)
	case numCorrelationID:
		ev.CorrelationId = string(v)
	case numCausationID:
		ev.CausationId = string(v)
	case numTraceparent:
		ev.Traceparent = string(v)
	case numPayloadKey:
		ev.PayloadKey = string(v)
	case numContextJSON:
		ev.ContextJson = string(v)
	default:
		return false
	}
	return true
}

// addIdentifier takes an earlier identifier where there is one.
func (d *decoder) addIdentifier() *eventv1.Identifier {
	n := len(d.ev.Identifiers)
	if n == 0 {
		d.ev.Identifiers = d.identifiers[:0]
	}
	if n < cap(d.ev.Identifiers) {
		d.ev.Identifiers = d.ev.Identifiers[:n+1]
		if id := d.ev.Identifiers[n]; id != nil {
			id.Reset()
			return id
		}
		d.ev.Identifiers[n] = &eventv1.Identifier{}
		return d.ev.Identifiers[n]
	}
	id := &eventv1.Identifier{}
	d.ev.Identifiers = append(d.ev.Identifiers, id)
	return id
}

func decodeIdentifier(data []byte, id *eventv1.Identifier) bool {
	for len(data) > 0 {
		number, typ, v, text, rest := nextSimple(data)
		if rest < 0 {
			return false
		}
		data = data[rest:]
		switch {
		case number == numIdentifierKind && typ == protowire.BytesType:
			id.Kind = intern(text)
		case number == numIdentifierValue && typ == protowire.BytesType:
			id.Value = string(text)
		case number == numIdentifierProfileID && typ == protowire.BytesType:
			id.ProfileId = string(text)
		case number == numIdentifierRole && typ == protowire.VarintType:
			id.Role = eventv1.IdentifierRole(enumOf(v))
		case number == numIdentifierStrength && typ == protowire.VarintType:
			id.Strength = eventv1.IdentifierStrength(enumOf(v))
		case number == numIdentifierAssurance && typ == protowire.VarintType:
			id.Assurance = eventv1.IdentifierAssurance(enumOf(v))
		default:
			return false
		}
		if !utf8.Valid(text) {
			return false
		}
	}
	return true
}

func decodeActor(data []byte, a *eventv1.Actor) bool {
	for len(data) > 0 {
		number, typ, v, text, rest := nextSimple(data)
		if rest < 0 || !utf8.Valid(text) {
			return false
		}
		data = data[rest:]
		switch {
		case number == numActorKind && typ == protowire.VarintType:
			a.Kind = eventv1.ActorKind(enumOf(v))
		case number == numActorID && typ == protowire.BytesType:
			a.Id = intern(text)
		default:
			return false
		}
	}
	return true
}

func decodeTimestamp(data []byte, t *timestamppb.Timestamp) bool {
	for len(data) > 0 {
		number, typ, v, _, rest := nextSimple(data)
		if rest < 0 || typ != protowire.VarintType {
			return false
		}
		data = data[rest:]
		switch number {
		case numSeconds:
			t.Seconds = int64(v)
		case numNanos:
			t.Nanos = enumOf(v)
		default:
			return false
		}
	}
	return true
}

// nextSimple reads a field that is a varint or bytes; size is negative for any
// other one.
func nextSimple(b []byte) (number protowire.Number, typ protowire.Type, v uint64, text []byte, size int) {
	number, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0, 0, 0, nil, n
	}
	m := -1
	switch typ {
	case protowire.VarintType:
		v, m = protowire.ConsumeVarint(b[n:])
	case protowire.BytesType:
		text, m = protowire.ConsumeBytes(b[n:])
	default:
	}
	if m < 0 {
		return 0, 0, 0, nil, m
	}
	return number, typ, v, text, n + m
}

func emptied(t *timestamppb.Timestamp) *timestamppb.Timestamp {
	if t == nil {
		return &timestamppb.Timestamp{}
	}
	t.Reset()
	return t
}

// enumOf is an int32 as protobuf writes it: the lower half.
func enumOf(v uint64) int32 { return int32(v) }

// interned keeps short strings that come again and again (tenants, sources,
// channels, kinds): a slot for each hash, the last one wins.
var interned struct {
	seed  maphash.Seed
	slots [1024]atomic.Pointer[string]
}

func init() { interned.seed = maphash.MakeSeed() }

// intern is string(b), without allocating where it was seen before.
func intern(b []byte) string {
	const most = 64
	if len(b) == 0 || len(b) > most {
		return string(b)
	}
	slot := &interned.slots[maphash.Bytes(interned.seed, b)%uint64(len(interned.slots))]
	if s := slot.Load(); s != nil && *s == string(b) {
		return *s
	}
	s := string(b)
	slot.Store(&s)
	return s
}
