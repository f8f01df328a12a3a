package event

import (
	"reflect"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	optionsv1 "github.com/parleyhq/parley/proto/gen/parley/options/v1"
)

// Types of records that are no Events.
const (
	// TypeIngressBatch is the CloudEvents type of an IngressBatch on NATS.
	TypeIngressBatch = "parley.ingress.batch"
	// TypeQuarantine is the type of a record on a quarantine stream; its data
	// is a QuarantinedBody.
	TypeQuarantine = "parley.quarantine.body"

	// typePrefix begins every type of the catalogue.
	typePrefix = "parley."
)

// TypeOf is the type that a payload has and the schema version that it is
// written in. It is not ok for nil, for an empty payload, and for one that
// this contract does not know.
func TypeOf(p *eventv1.Payload) (typ string, version uint32, ok bool) {
	kind := p.GetKind()
	if kind == nil {
		return "", 0, false
	}
	e, ok := contract.byWrapper[reflect.TypeOf(kind)]
	if !ok {
		return "", 0, false
	}
	return e.typ, e.version, true
}

// NewPayload makes an empty payload of a type: its member is set and has
// nothing in it.
func NewPayload(typ string) (*eventv1.Payload, bool) {
	e, ok := contract.byType[typ]
	if !ok {
		return nil, false
	}
	p := &eventv1.Payload{}
	m := p.ProtoReflect()
	m.Set(e.field, m.NewField(e.field))
	return p, true
}

// Types are the types of the catalogue in alphabetical order.
func Types() []string { return slices.Clone(contract.types) }

// Version is the schema version in which this contract describes a type, 0 for
// a type that it does not know.
func Version(typ string) uint32 {
	if e, ok := contract.byType[typ]; ok {
		return e.version
	}
	return 0
}

// Stamp sets type and schema version of an event from its payload. It is not
// ok, and changes nothing, where the payload has no type.
func Stamp(ev *eventv1.Event) bool {
	typ, version, ok := TypeOf(ev.GetPayload())
	if ok {
		ev.Type, ev.SchemaVersion = typ, version
	}
	return ok
}

// entry is one member of the payload.
type entry struct {
	typ     string
	version uint32
	field   protoreflect.FieldDescriptor
	// facts are the member's fields that are not personal.
	facts fieldSet
}

// contract is what the descriptors say, computed once.
var contract = readContract()

type contractTables struct {
	types     []string
	byType    map[string]*entry
	byWrapper map[reflect.Type]*entry
	// byNumber are the payload's members, indexed by field number.
	byNumber []*entry
	// facts are the envelope's fields that are not personal, without sealed and payload.
	facts fieldSet
}

func readContract() *contractTables {
	c := &contractTables{
		byType:    map[string]*entry{},
		byWrapper: map[reflect.Type]*entry{},
		facts:     factFields((&eventv1.Event{}).ProtoReflect().Descriptor(), numSealed, numPayload),
	}
	members := (&eventv1.Payload{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	for i := range members.Len() {
		field := members.Get(i)
		e := &entry{field: field, facts: factFields(field.Message())}
		// A member without the option cannot be told from its type; a test
		// keeps the contract from having one.
		if said, ok := proto.GetExtension(field.Message().Options(), optionsv1.E_Event).(*optionsv1.EventType); ok {
			e.typ, e.version = said.GetType(), said.GetSchemaVersion()
		}
		p := &eventv1.Payload{}
		m := p.ProtoReflect()
		m.Set(field, m.NewField(field))
		c.byWrapper[reflect.TypeOf(p.GetKind())] = e
		c.byType[e.typ] = e
		c.types = append(c.types, e.typ)
		number := int(field.Number())
		if number >= len(c.byNumber) {
			c.byNumber = append(c.byNumber, make([]*entry, number+1-len(c.byNumber))...)
		}
		c.byNumber[number] = e
	}
	slices.Sort(c.types)
	return c
}

// fieldSet says, by field number, with which wire types a field is a fact: a
// bit for each type. A field that is personal or unknown has no bit.
type fieldSet []uint8

func (s fieldSet) has(number protowire.Number, typ protowire.Type) bool {
	return int(number) < len(s) && s[number]&(1<<(typ&7)) != 0
}

// factFields reads a message's marks.
func factFields(md protoreflect.MessageDescriptor, except ...protowire.Number) fieldSet {
	var s fieldSet
	fields := md.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if isPersonal(field) || slices.Contains(except, field.Number()) {
			continue
		}
		number := int(field.Number())
		if number >= len(s) {
			s = append(s, make([]uint8, number+1-len(s))...)
		}
		s[number] |= 1 << wireType(field.Kind())
		if field.IsList() {
			// Packed or not, both are read.
			s[number] |= 1 << protowire.BytesType
		}
	}
	return s
}

func isPersonal(field protoreflect.FieldDescriptor) bool {
	personal, ok := proto.GetExtension(field.Options(), optionsv1.E_Personal).(bool)
	return ok && personal
}

// wireType is how a single value of a kind is written.
func wireType(kind protoreflect.Kind) protowire.Type {
	switch kind {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.Int32Kind, protoreflect.Sint32Kind,
		protoreflect.Uint32Kind, protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Uint64Kind:
		return protowire.VarintType
	default:
		return protowire.VarintType
	}
}
