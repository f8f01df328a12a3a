package customer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

var (
	catalogue = event.Types()
	start     = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
)

// generator makes events of every type of the catalogue from few different
// values, so that they meet.
type generator struct {
	r        *rand.Rand
	position uint64
}

func (g *generator) event() *eventv1.RecordedEvent {
	payload, ok := event.NewPayload(catalogue[g.r.IntN(len(catalogue))])
	if !ok {
		panic("a type of the catalogue has no payload")
	}
	m := payload.ProtoReflect()
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		g.fill(m.Mutable(field).Message(), 0)
		return true
	})
	return g.of(payload)
}

func (g *generator) of(payload *eventv1.Payload) *eventv1.RecordedEvent {
	g.position++
	ev := &eventv1.Event{
		Id: g.uuid(), Tenant: "acme", SchemaVersion: 1, ProfileId: profiles[g.r.IntN(len(profiles))], Source: "web/dev",
		SourceSequence: uint64(g.r.IntN(3)), Channel: []string{"web", "email", "phone", "chat"}[g.r.IntN(4)],
		Direction: eventv1.Direction(g.r.IntN(3)), Conversation: g.text(), Payload: payload, Backfill: g.r.IntN(9) == 0,
	}
	event.Stamp(ev)
	received := start.Add(time.Duration(g.r.IntN(30)) * time.Second)
	said := received.Add(-time.Duration(g.r.IntN(20)) * time.Second)
	switch g.r.IntN(12) {
	case 0:
		said = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	case 1:
		said = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	case 2:
		said = time.Time{}
	}
	event.SetOccurred(ev, said, received, g.r.IntN(3) == 0)
	for range g.r.IntN(4) {
		kind := []string{"user_id", "email", "phone", "anonymous_id", "handle:whatsapp", "loyalty"}[g.r.IntN(6)]
		value := fmt.Sprint("v", g.r.IntN(4))
		ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{
			Kind: kind, Value: value, Role: eventv1.IdentifierRole(g.r.IntN(5)),
			Strength: eventv1.IdentifierStrength(g.r.IntN(5)), ProfileId: kind + value,
		})
	}
	return &eventv1.RecordedEvent{
		Event: ev, Stream: "acme.web-1", Position: g.position, RecordedTime: timestamppb.New(received),
	}
}

// workload is an event of the shape that speeds are measured with: sessions of
// page views with three identifiers, one of which identifies and one orders.
func (g *generator) workload(i, session int) *eventv1.RecordedEvent {
	payload := &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{
		Path: "/pricing", Url: "https://www.example.com/pricing?utm_source=x", Title: "Pricing",
	}}}
	switch i % session {
	case 2:
		payload = &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{Traits: []*eventv1.Trait{
			{Name: "firstName", ValueJson: `"Ada"`}, {Name: "lastName", ValueJson: `"Lovelace"`}, {Name: "plan", ValueJson: `"pro"`},
		}}}}
	case 5:
		payload = &eventv1.Payload{Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{
			OrderId: fmt.Sprint("o-", i), Total: &typev1.Money{CurrencyCode: "EUR", Units: 39, Nanos: 900_000_000},
		}}}
	}
	ev := g.of(payload)
	e := ev.GetEvent()
	e.Channel, e.Direction = "web", eventv1.Direction_DIRECTION_INBOUND
	event.SetOccurred(e, start.Add(time.Duration(i)*time.Second), start.Add(time.Duration(i)*time.Second), false)
	e.Identifiers = []*eventv1.Identifier{
		{Kind: "anonymous_id", Value: "8f14e45f-ceea-467f-a8e5-3a7f6b8c9d01", Strength: 2, ProfileId: "pa"},
		{Kind: "user_id", Value: "user-4711", Strength: 4, ProfileId: "pb"},
		{Kind: "email", Value: "ada@example.com", Strength: 3, ProfileId: "pc"},
	}
	return ev
}

func (g *generator) uuid() string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(g.r.Uint32())
	}
	return id.String()
}

func (g *generator) text() string { return []string{"", "a", "b", "c"}[g.r.IntN(4)] }

func (g *generator) money() *typev1.Money {
	return &typev1.Money{CurrencyCode: []string{"EUR", "USD", "JPY", "eur"}[g.r.IntN(4)], Units: int64(g.r.IntN(100)), Nanos: int32(g.r.IntN(1_000_000_000))}
}

// fill sets fields at random.
func (g *generator) fill(m protoreflect.Message, depth int) {
	if depth > 3 {
		return
	}
	if m.Descriptor().FullName() == "parley.type.v1.Money" {
		money := g.money().ProtoReflect()
		money.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			m.Set(field, value)
			return true
		})
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if g.r.IntN(4) == 0 {
			continue
		}
		if field.IsList() {
			list := m.Mutable(field).List()
			for range g.r.IntN(3) {
				if field.Kind() == protoreflect.MessageKind {
					g.fill(list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(g.scalar(field))
				}
			}
			continue
		}
		if field.Kind() == protoreflect.MessageKind {
			g.fill(m.Mutable(field).Message(), depth+1)
			continue
		}
		m.Set(field, g.scalar(field))
	}
}

func (g *generator) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		if field.Name() == "value_json" {
			return protoreflect.ValueOfString([]string{`"x"`, "null", "42", `{"name":"Acme"}`, " null "}[g.r.IntN(5)])
		}
		if name := string(field.Name()); strings.Contains(name, "customer_id") || strings.Contains(name, "profile_id") {
			return protoreflect.ValueOfString(profiles[g.r.IntN(len(profiles))])
		}
		if field.ContainingMessage().Name() == "Trait" {
			return protoreflect.ValueOfString([]string{"name", "firstName", "plan", "zip"}[g.r.IntN(4)])
		}
		return protoreflect.ValueOfString(g.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(g.text()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(g.r.IntN(2) == 0)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(g.r.IntN(values.Len())).Number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(g.r.IntN(9)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(g.r.IntN(9)))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(g.r.IntN(9)))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(g.r.IntN(9)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(g.r.IntN(9)))
	default:
		panic("no value for a field of kind " + field.Kind().String())
	}
}
