package event_test

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	optionsv1 "github.com/parleyhq/parley/proto/gen/parley/options/v1"
)

// Every string that a filler writes has a number of its own, and says whether
// the field's owner marked it as personal.
const (
	factMark     = "fact#"
	personalMark = "personal#"
)

// filler sets every field of a message to something that is not its default.
type filler struct{ n int }

func (f *filler) next() int { f.n++; return f.n }

// fill sets all fields of m; personal says that m itself is part of a personal
// field. depth counts the levels below Event at which marks have effect.
func (f *filler) fill(m protoreflect.Message, personal bool, marks bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.ContainingOneof() != nil && !fd.HasOptionalKeyword() {
			continue
		}
		own := personal || (marks && personalOption(fd))
		if fd.IsList() {
			list := m.Mutable(fd).List()
			for range 2 {
				if fd.Kind() == protoreflect.MessageKind {
					f.fill(list.AppendMutable().Message(), own, false)
				} else {
					list.Append(f.scalar(fd, own))
				}
			}
			continue
		}
		if fd.Kind() == protoreflect.MessageKind {
			f.fill(m.Mutable(fd).Message(), own, false)
			continue
		}
		m.Set(fd, f.scalar(fd, own))
	}
}

func (f *filler) scalar(fd protoreflect.FieldDescriptor, personal bool) protoreflect.Value {
	n := f.next()
	text := fmt.Sprintf("%s%d;", factMark, n)
	if personal {
		text = fmt.Sprintf("%s%d;", personalMark, n)
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n))
	default:
		panic(fmt.Sprintf("no value for %s", fd.FullName()))
	}
}

func personalOption(fd protoreflect.FieldDescriptor) bool {
	return proto.GetExtension(fd.Options(), optionsv1.E_Personal).(bool)
}

// fullEvent has every field of the envelope and of a type's payload set, but
// those that the codec sets.
func fullEvent(typ string) *eventv1.Event {
	f := &filler{}
	ev := &eventv1.Event{}
	m := ev.ProtoReflect()
	f.fill(m, false, true)
	p, ok := event.NewPayload(typ)
	if !ok {
		panic("no type " + typ)
	}
	pm := p.ProtoReflect()
	f.fill(pm.Mutable(pm.WhichOneof(pm.Descriptor().Oneofs().ByName("kind"))).Message(), false, true)
	ev.Payload = p
	ev.Id = uuid.NewSHA1(uuid.NameSpaceOID, []byte(typ)).String()
	ev.Sealed, ev.PayloadKey = nil, ""
	event.Stamp(ev)
	return ev
}

// trackEvent is an event as the web gateway makes most: about 500 bytes.
func trackEvent() *eventv1.Event {
	received := time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)
	ev := &eventv1.Event{
		Id:             event.DeterministicID("default", "web/dev", "ajs-next-1741064767-1b9d6bcd").String(),
		Tenant:         "default",
		ProfileId:      "abcdefghijklmnopqrstuvwxyz",
		Source:         "web/dev",
		SourceId:       "ajs-next-1741064767-1b9d6bcd",
		ContentDigest:  event.ContentDigest([]byte("content")),
		Channel:        "web",
		Direction:      eventv1.Direction_DIRECTION_INBOUND,
		Conversation:   "2b1f7a4e-anonymous-5d6e",
		SourceSequence: 7,
		Identifiers: []*eventv1.Identifier{
			{
				Kind: "anonymous_id", Value: "2b1f7a4e-0c3d-4f5e-8a9b-anon", Role: eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER,
				Strength: eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_WEAK, ProfileId: "zyxwvutsrqponmlkjihgfedcba",
			},
			{
				Kind: "user_id", Value: "user-4711", Role: eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER,
				Strength: eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_UNIQUE, ProfileId: "abcdefghijklmnopqrstuvwxyz",
			},
		},
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_Tracked{Tracked: &eventv1.Tracked{
			Name: "Product Viewed", Path: "/products/42", Url: "https://shop.example/products/42?ref=a",
			IpAddress: "192.0.2.17", UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
			PropertiesJson: `{"product_id":"42","category":"Shoes","price":39.9,"currency":"EUR"}`,
		}}},
	}
	event.Stamp(ev)
	event.SetOccurred(ev, received.Add(-time.Second), received, true)
	return ev
}

// recordOf is a record as a store hands it out.
func recordOf(rec eventstore.NewRecord) *eventstore.Record {
	return &eventstore.Record{
		NewRecord: rec, Stream: "default.web-1", Revision: 3, Position: 42,
		Recorded: time.Date(2026, 3, 4, 5, 6, 8, 123_456_000, time.UTC),
	}
}
