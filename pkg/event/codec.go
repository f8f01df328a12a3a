package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/wire"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// The ways in which the codec refuses. They are wrapped with the event or
// record meant; test with errors.Is.
var (
	// ErrNotEvent says: the record is no Event: a quarantined body, or somebody else's.
	ErrNotEvent = errors.New("record is not an event")
	// ErrMalformed says: the record says that it is an event, but its bytes are none.
	ErrMalformed = errors.New("malformed event")
	// ErrInconsistent says: the event cannot be stored as it is: its id is no UUID,
	// its type is not its payload's, or its personal part is still sealed.
	ErrInconsistent = errors.New("inconsistent event")
	// ErrNoUpcaster says: the event is of an older schema version, and nothing
	// brings it up to the next one.
	ErrNoUpcaster = errors.New("no upcaster")
	// ErrNoKey is for openers and sealers to say that the key is not, or no
	// longer, to be had. Decoding goes on without the personal part; encoding fails.
	ErrNoKey = errors.New("no key")
)

// Codec turns Events into records and back. It is the only reader and writer
// of stored payloads. Safe for concurrent use.
type Codec struct {
	opener    func(key string, sealed []byte) ([]byte, error)
	sealer    func(key string, personal []byte) ([]byte, error)
	upcasters map[string][]upcaster
}

// Option sets up a Codec.
type Option func(*Codec)

// WithOpener gives the function that opens personal parts that were encrypted
// with the key named. It must not change or keep sealed. ErrNoKey hands the
// event out without its personal part, which stays in `sealed`; any other
// error fails the decoding. Defaults to having no keys.
func WithOpener(open func(key string, sealed []byte) ([]byte, error)) Option {
	return func(c *Codec) { c.opener = open }
}

// WithSealer gives the function that encrypts the personal parts of events
// that name a key. It must not change or keep personal. Defaults to refusing
// such events.
func WithSealer(seal func(key string, personal []byte) ([]byte, error)) Option {
	return func(c *Codec) { c.sealer = seal }
}

// NewCodec makes a codec.
func NewCodec(opts ...Option) *Codec {
	c := &Codec{upcasters: map[string][]upcaster{}}
	for _, opt := range opts {
		opt(c)
	}
	return c
}

// Encode makes the record of an event: its personal fields apart in `sealed`.
// The event must be whole, with id, type and payload in agreement; it is not
// changed. The record shares no memory with it.
func (c *Codec) Encode(ev *eventv1.Event) (eventstore.NewRecord, error) {
	id, err := uuid.Parse(ev.GetId())
	if err != nil || id == uuid.Nil || len(ev.GetId()) != canonicalUUID {
		return eventstore.NewRecord{}, fmt.Errorf("encode event with id %q: not a UUID: %w", clip(ev.GetId()), ErrInconsistent)
	}
	if typ, _, ok := TypeOf(ev.GetPayload()); ok && typ != ev.GetType() {
		return eventstore.NewRecord{}, fmt.Errorf("encode event %s: type %q with a payload of type %s: %w",
			id, clip(ev.GetType()), typ, ErrInconsistent)
	}
	if !strings.HasPrefix(ev.GetType(), typePrefix) || isOther(ev.GetType()) {
		return eventstore.NewRecord{}, fmt.Errorf("encode event %s: type %q is no event's: %w",
			id, clip(ev.GetType()), ErrInconsistent)
	}
	if len(ev.GetSealed()) > 0 {
		return eventstore.NewRecord{}, fmt.Errorf("encode event %s: its personal part is sealed: %w", id, ErrInconsistent)
	}
	data, err := c.encodeData(ev)
	if err != nil {
		return eventstore.NewRecord{}, fmt.Errorf("encode event %s: %w", id, err)
	}
	metadata, err := encodeMetadata(ev)
	if err != nil {
		return eventstore.NewRecord{}, fmt.Errorf("encode event %s: %w", id, err)
	}
	return eventstore.NewRecord{
		ID: id, Type: ev.GetType(), ContentType: eventstore.ContentProtobuf, Data: data, Metadata: metadata,
	}, nil
}

func (c *Codec) encodeData(ev *eventv1.Event) ([]byte, error) {
	h := getHalves()
	defer h.release()
	var err error
	if h.whole, err = wire.Append(h.whole[:0], ev); err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	if !eventTexts.Valid(h.whole) {
		return nil, fmt.Errorf("%w: text that is not UTF-8", ErrInconsistent)
	}
	if err := h.split(); err != nil {
		return nil, err
	}
	sealed := h.sealed
	if key := ev.GetPayloadKey(); key != "" && len(sealed) > 0 {
		if c.sealer == nil {
			return nil, fmt.Errorf("seal with key %q: %w", key, ErrNoKey)
		}
		if sealed, err = c.sealer(key, sealed); err != nil {
			return nil, fmt.Errorf("seal with key %q: %w", key, err)
		}
		if len(sealed) == 0 {
			return nil, fmt.Errorf("seal with key %q: sealer gave nothing: %w", key, ErrInconsistent)
		}
	}
	if len(sealed) == 0 {
		return append(make([]byte, 0, len(h.facts)), h.facts...), nil
	}
	// sealed stands last: decoding then reads both halves in place.
	size := len(h.facts) + protowire.SizeTag(numSealed) + protowire.SizeBytes(len(sealed))
	data := append(make([]byte, 0, size), h.facts...)
	return appendBytes(data, numSealed, sealed), nil
}

// encodeMetadata is what EventStoreDB's own tools know to read.
func encodeMetadata(ev *eventv1.Event) ([]byte, error) {
	if ev.GetCorrelationId() == "" && ev.GetCausationId() == "" {
		return nil, nil
	}
	b, err := json.Marshal(struct {
		Correlation string `json:"$correlationId,omitempty"`
		Causation   string `json:"$causationId,omitempty"`
	}{ev.GetCorrelationId(), ev.GetCausationId()})
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return b, nil
}

// Decode reads a record back: whole, and brought up to the current schema
// version. Where the personal part is encrypted and its key is not to be had,
// the event comes without it: see IsSealed.
func (c *Codec) Decode(rec *eventstore.Record) (*eventv1.RecordedEvent, error) {
	out := newRecorded()
	if err := c.DecodeInto(rec, out); err != nil {
		return nil, err
	}
	return out, nil
}

// DecodeInto is Decode into a message that is used again and again, for scans:
// everything that it held before, nested messages, lists and bytes too, may be
// overwritten; strings stay as they were. After an error its content is
// undefined.
func (c *Codec) DecodeInto(rec *eventstore.Record, out *eventv1.RecordedEvent) error {
	if !IsEvent(rec) {
		return fmt.Errorf("decode %q at %d: %w", clip(rec.Type), rec.Position, ErrNotEvent)
	}
	if rec.Revision < 0 {
		return fmt.Errorf("decode %q at %d in %s: revision %d: %w",
			clip(rec.Type), rec.Position, rec.Stream, rec.Revision, ErrMalformed)
	}
	if out.Event == nil {
		out.Event = &eventv1.Event{}
	}
	if err := c.decodeData(rec.Data, out.Event); err != nil {
		return fmt.Errorf("decode %q at %d in %s: %w", clip(rec.Type), rec.Position, rec.Stream, err)
	}
	if out.RecordedTime == nil {
		out.RecordedTime = &timestamppb.Timestamp{}
	}
	out.RecordedTime.Seconds = rec.Recorded.Unix()
	out.RecordedTime.Nanos = int32(rec.Recorded.Nanosecond())
	out.Stream = rec.Stream
	out.Revision = uint64(rec.Revision)
	out.Position = uint64(rec.Position)
	return nil
}

func (c *Codec) decodeData(data []byte, ev *eventv1.Event) error {
	d := newDecoder(ev)
	if !d.decode(data) {
		return c.decodeSlowly(data, ev)
	}
	if len(d.sealed) > 0 {
		personal, err := c.open(ev.GetPayloadKey(), d.sealed)
		if err != nil {
			return err
		}
		if !d.merge(personal) {
			return c.decodeSlowly(data, ev)
		}
	}
	if !d.finish() {
		return c.decodeSlowly(data, ev)
	}
	return c.upcast(ev)
}

// decodeSlowly leaves the envelope to the library too.
func (c *Codec) decodeSlowly(data []byte, ev *eventv1.Event) error {
	ev.Reset()
	merge := proto.UnmarshalOptions{Merge: true}
	if err := merge.Unmarshal(data, ev); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if sealed := ev.GetSealed(); len(sealed) > 0 {
		personal, err := c.open(ev.GetPayloadKey(), sealed)
		if err != nil {
			return err
		}
		if personal != nil {
			ev.Sealed = nil
			if err := merge.Unmarshal(personal, ev); err != nil {
				return fmt.Errorf("%w: personal part: %w", ErrMalformed, err)
			}
		}
	}
	return c.upcast(ev)
}

// open gives the bytes of the personal part, nil where the key is not to be had.
func (c *Codec) open(key string, sealed []byte) ([]byte, error) {
	if key == "" {
		return sealed, nil
	}
	if c.opener == nil {
		return nil, nil
	}
	personal, err := c.opener(key, sealed)
	switch {
	case errors.Is(err, ErrNoKey):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("open with key %q: %w", clip(key), err)
	case personal == nil:
		// Nothing but not for want of a key.
		return []byte{}, nil
	default:
		return personal, nil
	}
}

// IsEvent says that a record is an Event as far as its routing fields tell;
// it is false for quarantined bodies and for records that others wrote.
func IsEvent(rec *eventstore.Record) bool {
	return rec.ContentType == eventstore.ContentProtobuf &&
		strings.HasPrefix(rec.Type, typePrefix) && !isOther(rec.Type)
}

// isOther is for Parley's own types that are no Events.
func isOther(typ string) bool { return typ == TypeQuarantine || typ == TypeIngressBatch }

// IsSealed says that the event's personal part is apart: its key was not to be had.
func IsSealed(ev *eventv1.Event) bool { return len(ev.GetSealed()) > 0 }

// canonicalUUID is the length of a UUID as RFC 9562 writes it; other spellings
// would make one id two texts.
const canonicalUUID = 36

// clip makes text from outside fit for an error message: short and UTF-8.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
