package customer

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// mask is what of a customer a caller wants: the fields to keep, each with what
// to keep of it. Nil keeps everything.
type mask map[protoreflect.FieldNumber]mask

// parseMask reads a read_mask. None, an empty one and `*` keep everything.
// A path goes through single messages; a list is kept as a whole.
func parseMask(read *fieldmaskpb.FieldMask) (mask, error) {
	if len(read.GetPaths()) == 0 {
		return nil, nil
	}
	root := (&customerv1.Customer{}).ProtoReflect().Descriptor()
	keep := mask{}
	all := false
	for i, path := range read.GetPaths() {
		if path == "*" {
			all = true
			continue
		}
		if err := keep.add(root, path); err != nil {
			return nil, rpcerr.InvalidField(fmt.Sprintf("read_mask.paths[%d]", i), err.Error())
		}
	}
	if all {
		return nil, nil
	}
	return keep, nil
}

// add adds a path. What a shorter path keeps as a whole stays whole.
func (m mask) add(md protoreflect.MessageDescriptor, path string) error {
	for {
		name, rest, nested := strings.Cut(path, ".")
		field := md.Fields().ByName(protoreflect.Name(name))
		if field == nil || !isServed(field) {
			return fmt.Errorf("%s has no field %q", md.Name(), name)
		}
		if !nested {
			m[field.Number()] = nil
			return nil
		}
		if field.IsList() || field.IsMap() || field.Message() == nil {
			return fmt.Errorf("%s.%s has no fields to choose from", md.Name(), name)
		}
		inner, there := m[field.Number()]
		if there && inner == nil {
			// Whole already; the rest of the path is still checked.
			inner = mask{}
		} else if !there {
			inner = mask{}
			m[field.Number()] = inner
		}
		m, md, path = inner, field.Message(), rest
	}
}

// isServed says that a field of Customer, or of what is in one, is for people to
// see. To them the others are not there.
func isServed(field protoreflect.FieldDescriptor) bool {
	return field.Number() < workingField || field.Parent() != (&customerv1.Customer{}).ProtoReflect().Descriptor()
}

// prune drops what the mask does not keep.
func (m mask) prune(msg protoreflect.Message) {
	if m == nil {
		return
	}
	msg.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		inner, keep := m[field.Number()]
		switch {
		case !keep:
			msg.Clear(field)
		case inner != nil:
			inner.prune(value.Message())
		}
		return true
	})
}

// encoded is what the mask keeps of a stored document, encoded.
func (m mask) encoded(stored []byte) ([]byte, error) {
	if m == nil {
		return visible(stored)
	}
	doc, err := m.decoded(stored)
	if err != nil {
		return nil, err
	}
	data, err := wire.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("customer document: %w", err)
	}
	return data, nil
}

// decoded is what the mask keeps of a stored document.
func (m mask) decoded(stored []byte) (*customerv1.Customer, error) {
	doc, err := decodeVisible(stored)
	if err != nil {
		return nil, err
	}
	m.prune(doc.ProtoReflect())
	return doc, nil
}
