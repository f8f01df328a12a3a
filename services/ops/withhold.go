package ops

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/event"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// withheld stands for a value that operators do not get to see; as JSON, like the values themselves.
const withheld = `"(personal)"`

// withhold is a difference without the values that are personal, or that may
// be: that they differ, and where, stays. Nil stays nil.
func (p *operated) withhold(d *opsv1.Difference) *opsv1.Difference {
	if d == nil {
		return nil
	}
	d = proto.CloneOf(d)
	for _, c := range d.GetCollections() {
		message := p.messages[c.GetCollection()]
		for _, doc := range c.GetExamples() {
			for _, f := range doc.GetFields() {
				if message != nil && isFact(message.ProtoReflect().Descriptor(), f.GetPath()) {
					continue
				}
				if f.GetValue() != "" {
					f.Value = withheld
				}
				if f.GetOtherValue() != "" {
					f.OtherValue = withheld
				}
			}
		}
	}
	return d
}

// isFact says that what is at a path of a message, for example
// `channels[1].inbound_count`, is surely not personal: no field on the way to
// it is, nor any in it. What is not understood is no fact.
func isFact(md protoreflect.MessageDescriptor, path string) bool {
	for {
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		field := md.Fields().ByTextName(path[:end])
		if field == nil {
			field = md.Fields().ByJSONName(path[:end])
		}
		if field == nil || event.IsPersonal(field) {
			return false
		}
		if path = path[end:]; strings.HasPrefix(path, "[") {
			var ok bool
			if path, ok = skipIndex(field, path); !ok {
				return false
			}
		}
		inner := field.Message()
		if path == "" {
			return inner == nil || !holdsPersonal(inner, nil)
		}
		if inner == nil || path[0] != '.' {
			return false
		}
		md, path = inner, path[1:]
	}
}

// skipIndex is the path behind the index that it begins with. Into a map none
// leads: no contract has one, and its keys might be personal.
func skipIndex(field protoreflect.FieldDescriptor, path string) (rest string, ok bool) {
	index, rest, closed := strings.Cut(path[1:], "]")
	if !closed || !field.IsList() {
		return "", false
	}
	_, err := strconv.ParseUint(index, 10, 32)
	return rest, err == nil
}

// holdsPersonal says that a field of a message, or of a message in it, is
// personal. above are the messages that it is looked for in already.
func holdsPersonal(md protoreflect.MessageDescriptor, above []protoreflect.FullName) bool {
	if slices.Contains(above, md.FullName()) {
		return false
	}
	above = append(above, md.FullName())
	for i := range md.Fields().Len() {
		field := md.Fields().Get(i)
		if event.IsPersonal(field) || field.Message() != nil && holdsPersonal(field.Message(), above) {
			return true
		}
	}
	return false
}
