package event

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// WithoutPersonal is a copy of a message without what is personal in it, at any
// depth: the fields that the contract marks, all that the contract does not
// know, which may be personal, and what an event has sealed. m is not changed;
// it must not be a nil interface.
func WithoutPersonal[M proto.Message](m M) M {
	out := proto.CloneOf(m)
	clearPersonal(out.ProtoReflect())
	return out
}

// IsPersonal says that the contract marks a field as data about a person.
func IsPersonal(field protoreflect.FieldDescriptor) bool { return isPersonal(field) }

// eventName is the message whose sealed part is personal though it is marked
// nowhere: to the codec it is neither fact nor personal, but both apart.
var eventName = (&eventv1.Event{}).ProtoReflect().Descriptor().FullName()

func clearPersonal(m protoreflect.Message) {
	if !m.IsValid() {
		return
	}
	if len(m.GetUnknown()) > 0 {
		m.SetUnknown(nil)
	}
	if md := m.Descriptor(); md.FullName() == eventName {
		m.Clear(md.Fields().ByNumber(numSealed))
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case isPersonal(field):
			m.Clear(field)
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					clearPersonal(v.Message())
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				clearPersonal(value.List().Get(i).Message())
			}
		default:
			clearPersonal(value.Message())
		}
		return true
	})
}
