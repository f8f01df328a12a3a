package jsonform

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/view"
)

// MaxDepth is how deep messages may be nested.
const MaxDepth = 500

// Codec knows one type of message. It is safe for concurrent use.
type Codec struct {
	root *message
	make func() proto.Message
	// rearrange says that bytes in the order of field numbers need not be what
	// marshalling gives.
	rearrange bool
	shape     string
}

// New makes a codec for the messages that newMessage makes. It fails with
// view.ErrInvalid for types that cannot be kept.
func New(newMessage func() proto.Message) (*Codec, error) {
	md := newMessage().ProtoReflect().Descriptor()
	p := planner{known: map[protoreflect.FullName]*message{}, enums: map[protoreflect.FullName]*enum{}}
	root, err := p.message(md)
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", md.FullName(), err)
	}
	slices.Sort(p.shape)
	return &Codec{root: root, make: newMessage, rearrange: p.rearrange, shape: strings.Join(p.shape, "\n")}, nil
}

// Shape is what reading the JSON relies on: a line for each field and enum
// value of all messages within, sorted. Documents written under one shape can
// be read under another that has all of its lines.
func (c *Codec) Shape() string { return c.shape }

// special are messages with a form of their own.
type special uint8

const (
	ordinary special = iota
	timestamp
	duration
	wrapper
)

// message is the plan for one type.
type message struct {
	name    protoreflect.FullName
	special special
	// fields in the order of their numbers.
	fields []field
	// small are indexes of fields by number, plus one; large are those of numbers beyond.
	small  []int16
	large  map[protowire.Number]int16
	byName map[string]int16
}

type field struct {
	number protowire.Number
	// index of the field in its message.
	index int
	kind  protoreflect.Kind
	// prefix is `"name":`.
	prefix   []byte
	name     string
	repeated bool
	packed   bool
	// presence says that a default that is written out counts.
	presence bool
	// oneof is the number of the oneof, plus one.
	oneof int
	// message of a message field, and of a map's entries.
	message *message
	isMap   bool
	enum    *enum
	// tag as it is written; that of the packed list where it is packed.
	tag []byte
}

type enum struct {
	names  map[int32]string
	values map[string]int32
	closed bool
}

func (m *message) byNumber(n protowire.Number) *field {
	if int(n) < len(m.small) {
		if i := m.small[n]; i > 0 {
			return &m.fields[i-1]
		}
		return nil
	}
	if i := m.large[n]; i > 0 {
		return &m.fields[i-1]
	}
	return nil
}

type planner struct {
	known     map[protoreflect.FullName]*message
	enums     map[protoreflect.FullName]*enum
	shape     []string
	rearrange bool
}

// smallNumbers are looked up in an array.
const smallNumbers = 256

func (p *planner) message(md protoreflect.MessageDescriptor) (*message, error) {
	if m := p.known[md.FullName()]; m != nil {
		return m, nil
	}
	m := &message{name: md.FullName(), special: specialOf(md.FullName()), byName: map[string]int16{}, large: map[protowire.Number]int16{}}
	p.known[m.name] = m
	descriptors := make([]protoreflect.FieldDescriptor, 0, md.Fields().Len())
	for i := range md.Fields().Len() {
		descriptors = append(descriptors, md.Fields().Get(i))
	}
	slices.SortFunc(descriptors, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })
	m.fields = make([]field, len(descriptors))
	for i, fd := range descriptors {
		f := &m.fields[i]
		f.index = i
		if err := p.field(f, fd); err != nil {
			return nil, fmt.Errorf("field %s: %w", fd.FullName(), err)
		}
		m.byName[f.name] = int16(i + 1)
		if n := int(f.number); n < smallNumbers {
			if n >= len(m.small) {
				m.small = append(m.small, make([]int16, n+1-len(m.small))...)
			}
			m.small[n] = int16(i + 1)
		} else {
			m.large[f.number] = int16(i + 1)
		}
	}
	return m, nil
}

func specialOf(name protoreflect.FullName) special {
	switch name {
	case "google.protobuf.Timestamp":
		return timestamp
	case "google.protobuf.Duration":
		return duration
	case "google.protobuf.BoolValue", "google.protobuf.BytesValue", "google.protobuf.DoubleValue", "google.protobuf.FloatValue",
		"google.protobuf.Int32Value", "google.protobuf.Int64Value", "google.protobuf.StringValue", "google.protobuf.UInt32Value",
		"google.protobuf.UInt64Value":
		return wrapper
	default:
		return ordinary
	}
}

func (p *planner) field(f *field, fd protoreflect.FieldDescriptor) error {
	f.number, f.kind, f.name = fd.Number(), fd.Kind(), fd.JSONName()
	f.prefix = append(appendText(nil, f.name), ':')
	f.repeated, f.isMap, f.packed, f.presence = fd.Cardinality() == protoreflect.Repeated, fd.IsMap(), fd.IsPacked(), fd.HasPresence()
	if o := fd.ContainingOneof(); o != nil && !o.IsSynthetic() {
		f.oneof = o.Index() + 1
		p.rearrange = true
	}
	p.rearrange = p.rearrange || f.isMap
	wireType := wireTypeOf(f.kind)
	if f.packed {
		wireType = protowire.BytesType
	}
	f.tag = protowire.AppendTag(nil, f.number, wireType)
	typ := f.kind.String()
	var err error
	switch f.kind {
	case protoreflect.GroupKind:
		return fmt.Errorf("groups cannot be kept as JSON: %w", view.ErrInvalid)
	case protoreflect.MessageKind:
		typ = string(fd.Message().FullName())
		f.message, err = p.message(fd.Message())
	case protoreflect.EnumKind:
		typ = string(fd.Enum().FullName())
		f.enum = p.enum(fd.Enum())
	default:
	}
	if f.repeated {
		typ = "repeated " + typ
	}
	p.shape = append(p.shape, fmt.Sprintf("%s %d %s %s", fd.Parent().FullName(), f.number, f.name, typ))
	return err
}

func (p *planner) enum(ed protoreflect.EnumDescriptor) *enum {
	if e := p.enums[ed.FullName()]; e != nil {
		return e
	}
	e := &enum{names: map[int32]string{}, values: map[string]int32{}, closed: ed.IsClosed()}
	p.enums[ed.FullName()] = e
	for i := range ed.Values().Len() {
		v := ed.Values().Get(i)
		name, number := string(v.Name()), int32(v.Number())
		if _, alias := e.names[number]; !alias {
			e.names[number] = name
		}
		e.values[name] = number
		p.shape = append(p.shape, string(ed.FullName())+" "+strconv.Itoa(int(number))+" "+name)
	}
	return e
}

func wireTypeOf(kind protoreflect.Kind) protowire.Type {
	switch kind {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	default:
		return protowire.VarintType
	}
}
