package projection

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// compared is a document as it is compared: in canonical form.
type compared struct {
	key view.Key
	// order is what documents of the collection are ordered by.
	order      []byte
	data, meta []byte
}

// documents goes over a collection's documents in order, and sums up their
// digest; members says that they are customers, with their profiles in the meta.
func documents(ctx context.Context, r view.Reader, c *view.Collection, members bool, s *sample, digest *view.CollectionDigest) iter.Seq2[compared, error] {
	return func(yield func(compared, error) bool) {
		sum := view.NewDigester(c)
		for e, err := range r.Scan(ctx, c.Name, "") {
			if err != nil {
				yield(compared{}, err)
				return
			}
			if s != nil && !c.Clustered && !s.has(e.Key) {
				continue
			}
			if members {
				e.Meta, err = canonicalMembers(e.Meta, e.Key.ID, e.Data)
			}
			var data []byte
			if err == nil {
				data, err = sum.Add(e)
			}
			if err != nil {
				yield(compared{}, err)
				return
			}
			d := compared{key: e.Key, meta: slices.Clone(e.Meta), data: slices.Clone(data)}
			if d.order, err = orderOf(c, e); err != nil || !yield(d, nil) {
				if err != nil {
					yield(compared{}, err)
				}
				return
			}
			*digest = sum.Sum()
		}
		*digest = sum.Sum()
	}
}

// orderOf is what a collection's documents are ordered by.
func orderOf(c *view.Collection, e view.Entry) ([]byte, error) {
	order := view.AppendString(nil, e.Key.Tenant)
	if c.Clustered {
		doc := c.New()
		if err := proto.Unmarshal(e.Data, doc); err != nil {
			return nil, fmt.Errorf("document %s: %w: %w", e.Key.ID, view.ErrCorrupt, err)
		}
		terms, err := c.Terms(doc)
		if err != nil {
			return nil, err
		}
		tuple, err := terms.Clustered()
		if err != nil {
			return nil, err
		}
		order = append(order, tuple...)
	}
	return append(order, e.Key.ID...), nil
}

// Bounds on what is shown of a difference.
const (
	maxFields     = 32
	maxFieldBytes = 256
)

// fieldDifferences says in which fields two documents differ.
func fieldDifferences(c, o *view.Collection, a, b compared) []*opsv1.FieldDifference {
	d := &fieldDiffer{}
	if c.New == nil || o.New == nil {
		d.add("", hex.EncodeToString(a.data), hex.EncodeToString(b.data))
		return d.found
	}
	one, other := c.New(), o.New()
	if proto.Unmarshal(a.data, one) != nil || proto.Unmarshal(b.data, other) != nil ||
		one.ProtoReflect().Descriptor() != other.ProtoReflect().Descriptor() {
		d.add("", hex.EncodeToString(a.data), hex.EncodeToString(b.data))
		return d.found
	}
	d.messages("", one.ProtoReflect(), other.ProtoReflect())
	if !bytes.Equal(a.meta, b.meta) {
		same := 0
		for same < min(len(a.meta), len(b.meta)) && a.meta[same] == b.meta[same] {
			same++
		}
		// Long ones are cut: what differs comes first.
		d.add("(profiles)", hex.EncodeToString(a.meta[same:]), hex.EncodeToString(b.meta[same:]))
	}
	return d.found
}

// fieldDiffer gathers differing fields.
type fieldDiffer struct{ found []*opsv1.FieldDifference }

func (d *fieldDiffer) add(path, one, other string) {
	if len(d.found) < maxFields {
		d.found = append(d.found, &opsv1.FieldDifference{Path: path, Value: cutText(one, maxFieldBytes), OtherValue: cutText(other, maxFieldBytes)})
	}
}

func (d *fieldDiffer) messages(path string, one, other protoreflect.Message) {
	fields := one.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		at := string(fd.Name())
		if path != "" {
			at = path + "." + at
		}
		has, otherHas := one.Has(fd), other.Has(fd)
		switch {
		case !has && !otherHas:
		case has && otherHas && fd.IsList():
			d.lists(at, fd, one.Get(fd).List(), other.Get(fd).List())
		case has && otherHas && fd.IsMap():
			d.maps(at, fd, one.Get(fd).Map(), other.Get(fd).Map())
		default:
			d.values(at, fd, valueOf(one, fd), valueOf(other, fd))
		}
	}
}

// valueOf is a field's value, none where it is absent.
func valueOf(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Value {
	if !m.Has(fd) {
		return protoreflect.Value{}
	}
	return m.Get(fd)
}

func (d *fieldDiffer) lists(path string, fd protoreflect.FieldDescriptor, one, other protoreflect.List) {
	element := func(l protoreflect.List, i int) protoreflect.Value {
		if i >= l.Len() {
			return protoreflect.Value{}
		}
		return l.Get(i)
	}
	for i := range max(one.Len(), other.Len()) {
		d.singular(path+"["+strconv.Itoa(i)+"]", fd, element(one, i), element(other, i))
	}
}

func (d *fieldDiffer) maps(path string, fd protoreflect.FieldDescriptor, one, other protoreflect.Map) {
	keys := map[string]protoreflect.MapKey{}
	for _, m := range []protoreflect.Map{one, other} {
		m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys[k.String()] = k
			return true
		})
	}
	names := make([]string, 0, len(keys))
	for name := range keys {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare[string])
	for _, name := range names {
		d.singular(path+"["+strconv.Quote(name)+"]", fd.MapValue(), one.Get(keys[name]), other.Get(keys[name]))
	}
}

// values compares two values of a field, one of which may be none.
func (d *fieldDiffer) values(path string, fd protoreflect.FieldDescriptor, one, other protoreflect.Value) {
	switch {
	case fd.IsList() || fd.IsMap():
		d.add(path, wholeJSON(fd, one), wholeJSON(fd, other))
	default:
		d.singular(path, fd, one, other)
	}
}

func (d *fieldDiffer) singular(path string, fd protoreflect.FieldDescriptor, one, other protoreflect.Value) {
	switch {
	case one.IsValid() && other.IsValid() && fd.Message() != nil:
		if !proto.Equal(one.Message().Interface(), other.Message().Interface()) {
			if wellKnown(fd.Message()) {
				d.add(path, valueJSON(fd, one), valueJSON(fd, other))
				return
			}
			d.messages(path, one.Message(), other.Message())
		}
	case one.IsValid() != other.IsValid() || !one.Equal(other):
		d.add(path, valueJSON(fd, one), valueJSON(fd, other))
	}
}

func wellKnown(md protoreflect.MessageDescriptor) bool {
	return md.FullName().Parent() == "google.protobuf"
}

// wholeJSON says how many there are of a list or map that the other has not.
func wholeJSON(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case !v.IsValid():
		return ""
	case fd.IsList():
		return fmt.Sprintf("(%d)", v.List().Len())
	default:
		return fmt.Sprintf("(%d)", v.Map().Len())
	}
}

func valueJSON(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case !v.IsValid():
		return ""
	case fd.Message() != nil:
		text, err := protojson.Marshal(v.Message().Interface())
		if err != nil {
			return "(" + err.Error() + ")"
		}
		return string(text)
	case fd.Enum() != nil:
		if value := fd.Enum().Values().ByNumber(v.Enum()); value != nil {
			return string(value.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case fd.Kind() == protoreflect.StringKind:
		return strconv.Quote(v.String())
	case fd.Kind() == protoreflect.BytesKind:
		return hex.EncodeToString(v.Bytes())
	default:
		return v.String()
	}
}
