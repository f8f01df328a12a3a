package viewtest

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	// What the nasty message has fields of.
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

// Fill sets random fields of a message to values that are likely to get lost:
// extremes, zeros with and without a sign, texts with quotes and beyond the
// basic plane, moments out of all range, enum values that nobody knows.
func Fill(random *rand.Rand, m proto.Message) { fill(random, m.ProtoReflect(), 2) }

func fill(random *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if random.IntN(3) == 0 || fd.Message() != nil && depth == 0 {
			continue
		}
		switch {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			for range random.IntN(4) {
				value := entries.NewValue()
				if fd.MapValue().Message() != nil {
					fill(random, value.Message(), depth-1)
				} else {
					value = scalar(random, fd.MapValue())
				}
				entries.Set(scalar(random, fd.MapKey()).MapKey(), value)
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range random.IntN(4) {
				value := list.NewElement()
				if fd.Message() != nil {
					fill(random, value.Message(), depth-1)
				} else {
					value = scalar(random, fd)
				}
				list.Append(value)
			}
		case fd.Message() != nil:
			fill(random, m.Mutable(fd).Message(), depth-1)
		default:
			m.Set(fd, scalar(random, fd))
		}
	}
}

func pick[T any](random *rand.Rand, values ...T) T { return values[random.IntN(len(values))] }

func scalar(random *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(random.IntN(2) == 0)
	case protoreflect.EnumKind:
		if fd.Enum().IsClosed() || random.IntN(3) > 0 {
			values := fd.Enum().Values()
			return protoreflect.ValueOfEnum(values.Get(random.IntN(values.Len())).Number())
		}
		return protoreflect.ValueOfEnum(pick(random, 0, -1, protoreflect.EnumNumber(math.MaxInt32), protoreflect.EnumNumber(random.Int32())))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(pick(random, 0, 1, -1, math.MinInt32, math.MaxInt32, int32(random.Uint32())))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(pick(random, 0, 1, math.MaxUint32, random.Uint32()))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(pick(random, 0, 1, -1, math.MinInt64, math.MaxInt64, 1<<53+1, int64(random.Uint64()), random.Int64N(2e9)))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(pick(random, 0, 1, math.MaxUint64, 1<<53+1, random.Uint64()))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(pick(random, 0, float32(math.Copysign(0, -1)), 1, -1.5, math.MaxFloat32, math.SmallestNonzeroFloat32,
			float32(math.NaN()), math.Float32frombits(0xffc00001), float32(math.Inf(1)), float32(math.Inf(-1)), 16777217, 0.1, random.Float32()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(pick(random, 0, math.Copysign(0, -1), 1, -1.5, math.MaxFloat64, math.SmallestNonzeroFloat64,
			math.NaN(), math.Float64frombits(0xfff8000000000000), math.Inf(1), math.Inf(-1), 1e21, 1e-7, 0.1, 1<<53, random.Float64()))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text(random))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(pick(random, "", "\x00", "\xff\xfe", "bytes", "\x00\x01\x02", text(random))))
	default:
		panic("no scalar: " + fd.FullName())
	}
}

func text(random *rand.Rand) string {
	return pick(random, "", "Ada", `"quoted" \ {}`, "line\r\n\ttab\b\f\x01\x1f\x7f", "Zoë 李小龙 \U0001F600", "\u2028\u2029\ufeff\uffff", "NaN", "-0", "null",
		strings.Repeat("long ", random.IntN(200)), fmt.Sprint(random.Uint64()))
}

// Nasty makes an empty message with fields of every kind: with and without
// presence, repeated, packed and not, in maps, in a oneof, itself, and the
// well-known types.
func Nasty() proto.Message { return dynamicpb.NewMessage(nasty) }

var nasty = nastyDescriptor()

func nastyDescriptor() protoreflect.MessageDescriptor {
	message := &descriptorpb.DescriptorProto{Name: proto.String("Nasty")}
	number := int32(0)
	add := func(name string, f *descriptorpb.FieldDescriptorProto) *descriptorpb.FieldDescriptorProto {
		// Numbers go down as names go up, and some are large.
		number++
		f.Name, f.Number = proto.String(name), proto.Int32(3000-number*13)
		if f.Label == nil {
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		}
		message.Field = append(message.Field, f)
		return f
	}
	repeated := descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	of := func(kind protoreflect.Kind) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Type: descriptorpb.FieldDescriptorProto_Type(kind).Enum()}
		if kind == protoreflect.EnumKind {
			f.TypeName = proto.String(".parley.viewtest.Colour")
		}
		return f
	}
	entry := func(name string, key protoreflect.Kind, value *descriptorpb.FieldDescriptorProto) {
		value.Name, value.Number, value.Label = proto.String("value"), proto.Int32(2), descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		k := of(key)
		k.Name, k.Number, k.Label = proto.String("key"), proto.Int32(1), descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		typ := strings.ToUpper(name[:1]) + name[1:] + "Entry"
		message.NestedType = append(message.NestedType, &descriptorpb.DescriptorProto{
			Name: proto.String(typ), Field: []*descriptorpb.FieldDescriptorProto{k, value}, Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
		})
		add(name, &descriptorpb.FieldDescriptorProto{
			Label: repeated, Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String(".parley.viewtest.Nasty." + typ),
		})
	}
	messageOf := func(name string) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String(name)}
	}
	message.OneofDecl = append(message.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("one")})
	inOne := map[string]*descriptorpb.FieldDescriptorProto{}
	var optional []*descriptorpb.FieldDescriptorProto
	for kind := protoreflect.DoubleKind; kind <= protoreflect.Sint64Kind; kind++ {
		if kind == protoreflect.MessageKind || kind == protoreflect.GroupKind {
			continue
		}
		name := kind.String()
		add("plain_"+name, of(kind))
		optional = append(optional, add("optional_"+name, of(kind)))
		inOne["in_one_"+name] = of(kind)
		add("many_"+name, of(kind)).Label = repeated
		if kind != protoreflect.StringKind && kind != protoreflect.BytesKind {
			loose := add("loose_"+name, of(kind))
			loose.Label, loose.Options = repeated, &descriptorpb.FieldOptions{Packed: proto.Bool(false)}
		}
		entry("by"+name, protoreflect.StringKind, of(kind))
		switch kind {
		case protoreflect.DoubleKind, protoreflect.FloatKind, protoreflect.BytesKind, protoreflect.EnumKind, protoreflect.StringKind:
		default:
			entry("from"+name, kind, of(protoreflect.StringKind))
		}
	}
	for _, name := range []string{
		"Timestamp", "Duration", "Any", "Empty", "FieldMask", "Struct", "Value", "ListValue", "StringValue", "BytesValue", "BoolValue",
		"DoubleValue", "FloatValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value",
	} {
		lower := strings.ToLower(name)
		add("a_"+lower, messageOf(".google.protobuf."+name))
		add("many_"+lower, messageOf(".google.protobuf."+name)).Label = repeated
		inOne["in_one_"+lower] = messageOf(".google.protobuf." + name)
		entry("by"+lower, protoreflect.StringKind, messageOf(".google.protobuf."+name))
	}
	add("itself", messageOf(".parley.viewtest.Nasty"))
	add("many_selves", messageOf(".parley.viewtest.Nasty")).Label = repeated
	for _, name := range slices.Sorted(maps.Keys(inOne)) { // they have to stand together
		add(name, inOne[name]).OneofIndex = proto.Int32(0)
	}
	for _, f := range optional { // their oneofs come behind the real one
		f.Proto3Optional, f.OneofIndex = proto.Bool(true), proto.Int32(int32(len(message.OneofDecl)))
		message.OneofDecl = append(message.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("_" + f.GetName())})
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("parley/viewtest/nasty.proto"), Package: proto.String("parley.viewtest"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{message},
		EnumType: []*descriptorpb.EnumDescriptorProto{{
			Name: proto.String("Colour"), Options: &descriptorpb.EnumOptions{AllowAlias: proto.Bool(true)},
			Value: []*descriptorpb.EnumValueDescriptorProto{
				{Name: proto.String("COLOUR_UNSPECIFIED"), Number: proto.Int32(0)}, {Name: proto.String("COLOUR_GREY"), Number: proto.Int32(-3)},
				{Name: proto.String("COLOUR_GRAY"), Number: proto.Int32(-3)}, {Name: proto.String("COLOUR_RED"), Number: proto.Int32(7)},
			},
		}},
	}
	for _, name := range []string{"any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"} {
		file.Dependency = append(file.Dependency, "google/protobuf/"+name+".proto")
	}
	fd, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		panic(err)
	}
	return fd.Messages().Get(0)
}

// WithUnknown is the bytes of a message with a field that it does not have.
func WithUnknown(data []byte) []byte {
	data = protowire.AppendTag(append([]byte(nil), data...), protowire.MaxValidNumber, protowire.VarintType)
	return protowire.AppendVarint(data, 1)
}
