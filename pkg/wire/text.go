package wire

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TextCheck finds texts that are not UTF-8 in the bytes of a message: what the
// library checks beyond the generated methods. Safe for concurrent use.
type TextCheck struct {
	fields []textField // by field number
}

// textField says what of a length-delimited field is to be looked at.
type textField struct {
	text   bool
	nested *TextCheck
}

// NewTextCheck reads a message's descriptor, and those of its fields.
func NewTextCheck(md protoreflect.MessageDescriptor) *TextCheck {
	return newTextCheck(md, map[protoreflect.FullName]*TextCheck{})
}

func newTextCheck(md protoreflect.MessageDescriptor, known map[protoreflect.FullName]*TextCheck) *TextCheck {
	if c, ok := known[md.FullName()]; ok {
		return c
	}
	c := &TextCheck{}
	known[md.FullName()] = c
	for i := range md.Fields().Len() {
		field := md.Fields().Get(i)
		var f textField
		switch {
		case field.Kind() == protoreflect.StringKind:
			f.text = true
		case field.Message() != nil:
			f.nested = newTextCheck(field.Message(), known)
		default:
			continue
		}
		number := int(field.Number())
		if number >= len(c.fields) {
			c.fields = append(c.fields, make([]textField, number+1-len(c.fields))...)
		}
		c.fields[number] = f
	}
	return c
}

// maxNesting is the library's own limit of messages within messages.
const maxNesting = protowire.DefaultRecursionLimit

// Valid says that data is a message of which all texts are UTF-8. It is false
// too for a field's number that takes more bytes than it needs, which nobody
// writes and which the library writes anew.
func (c *TextCheck) Valid(data []byte) bool { return c.valid(data, maxNesting) }

func (c *TextCheck) valid(data []byte, depth int) bool {
	if depth == 0 {
		return false
	}
	for len(data) > 0 {
		number, typ, n := protowire.ConsumeTag(data)
		if n < 0 || n != protowire.SizeTag(number) || !number.IsValid() {
			return false
		}
		data = data[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, typ, data); n < 0 {
				return false
			}
			data = data[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return false
		}
		data = data[n:]
		if int(number) >= len(c.fields) {
			continue
		}
		switch f := &c.fields[number]; {
		case f.text:
			if !utf8.Valid(value) {
				return false
			}
		case f.nested != nil:
			if !f.nested.valid(value, depth-1) {
				return false
			}
		}
	}
	return true
}
