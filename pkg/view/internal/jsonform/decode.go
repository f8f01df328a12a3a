package jsonform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/parleyhq/parley/pkg/view"
)

// AppendWire appends the message that AppendJSON made the text of, as
// view.MarshalDocument does. It fails with view.ErrNewerFormat where the text
// has a field or an enum value that the message has not, else with
// view.ErrCorrupt; dst is then as it was.
func (c *Codec) AppendWire(dst, text []byte) ([]byte, error) {
	d, ok := decoders.Get().(*decoder)
	if !ok {
		d = &decoder{}
	}
	defer decoders.Put(d)
	d.in, d.pos, d.parts = text, 0, d.parts[:0]
	from := len(dst)
	out, err := d.message(dst, c.root, MaxDepth)
	if err == nil {
		if d.space(); d.pos != len(d.in) {
			err = errSyntax
		}
	}
	if err == nil && c.rearrange {
		var data []byte
		if data, err = c.canonical(out[from:]); err == nil {
			out = append(out[:from], data...)
		}
	}
	if err == nil {
		return out, nil
	}
	if !errors.Is(err, view.ErrNewerFormat) {
		// Not wrapped: to a reader it is never a mistake of his.
		err = fmt.Errorf("%w: %s at byte %d", view.ErrCorrupt, err.Error(), d.pos)
	}
	return dst, fmt.Errorf("JSON of %s: %w", c.root.name, err)
}

var (
	errSyntax = errors.New("not the JSON that was written")
	errRange  = errors.New("number out of range")
)

var decoders sync.Pool

type decoder struct {
	in  []byte
	pos int
	// parts are where the fields stand of the messages that are being made.
	parts []part
	// moved is for bringing them into order.
	moved []byte
	// text is that of a string with escapes.
	text []byte
}

type part struct {
	number   protowire.Number
	from, to int
}

// message appends a message without its length.
func (d *decoder) message(dst []byte, m *message, depth int) ([]byte, error) {
	if depth == 0 {
		return nil, errors.New("nested too deep")
	}
	switch {
	case m.special == wrapper:
		return d.wrapped(dst, m)
	case m.special != ordinary && d.peek() == '"':
		return d.time(dst, m)
	}
	if err := d.expect('{'); err != nil {
		return nil, err
	}
	base, begin, ordered := len(d.parts), len(dst), true
	for first := true; ; first = false {
		more, err := d.more(first, '}')
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		name, err := d.string()
		if err != nil {
			return nil, err
		}
		i := m.byName[string(name)]
		if i == 0 {
			return nil, fmt.Errorf("%w: message %s has no field %q; raise the projection's version, or use the binary that wrote it", view.ErrNewerFormat, m.name, name)
		}
		if err := d.expect(':'); err != nil {
			return nil, err
		}
		f, from := &m.fields[i-1], len(dst)
		if dst, err = d.field(dst, f, depth); err != nil {
			return nil, err
		}
		if n := len(d.parts); n > base && d.parts[n-1].number >= f.number {
			ordered = false
		}
		d.parts = append(d.parts, part{f.number, from, len(dst)})
	}
	var err error
	if !ordered {
		err = d.order(dst[begin:], d.parts[base:], begin)
	}
	d.parts = d.parts[:base]
	return dst, err
}

// order brings a message's fields into the order of their numbers. jsonb has
// them by the length of their names.
func (d *decoder) order(data []byte, parts []part, begin int) error {
	for i := 1; i < len(parts); i++ {
		for k := i; k > 0 && parts[k].number < parts[k-1].number; k-- {
			parts[k], parts[k-1] = parts[k-1], parts[k]
		}
	}
	d.moved = d.moved[:0]
	for i, p := range parts {
		if i > 0 && parts[i-1].number == p.number {
			return errors.New("a field twice")
		}
		d.moved = append(d.moved, data[p.from-begin:p.to-begin]...)
	}
	copy(data, d.moved)
	return nil
}

// field appends a field with its tag.
func (d *decoder) field(dst []byte, f *field, depth int) ([]byte, error) {
	switch {
	case f.isMap:
		return d.entries(dst, f, depth)
	case f.repeated:
		return d.list(dst, f, depth)
	default:
		return d.value(append(dst, f.tag...), f, depth)
	}
}

func (d *decoder) value(dst []byte, f *field, depth int) ([]byte, error) {
	if f.message == nil {
		return d.scalar(dst, f)
	}
	from := len(dst)
	dst, err := d.message(dst, f.message, depth-1)
	if err != nil {
		return nil, err
	}
	return insertLength(dst, from), nil
}

// insertLength puts the length of what begins at from before it.
func insertLength(dst []byte, from int) []byte {
	n := len(dst) - from
	size := protowire.SizeVarint(uint64(n))
	var zero [binary.MaxVarintLen64]byte
	dst = append(dst, zero[:size]...)
	copy(dst[from+size:], dst[from:from+n])
	binary.PutUvarint(dst[from:], uint64(n))
	return dst
}

func (d *decoder) list(dst []byte, f *field, depth int) ([]byte, error) {
	if err := d.expect('['); err != nil {
		return nil, err
	}
	begin, from := len(dst), 0
	if f.packed {
		dst = append(dst, f.tag...)
		from = len(dst)
	}
	for first := true; ; first = false {
		more, err := d.more(first, ']')
		if err != nil {
			return nil, err
		}
		if !more {
			if first {
				return dst[:begin], nil
			}
			break
		}
		if !f.packed {
			dst = append(dst, f.tag...)
		}
		if dst, err = d.value(dst, f, depth); err != nil {
			return nil, err
		}
	}
	if f.packed {
		dst = insertLength(dst, from)
	}
	return dst, nil
}

func (d *decoder) entries(dst []byte, f *field, depth int) ([]byte, error) {
	if err := d.expect('{'); err != nil {
		return nil, err
	}
	key, value := &f.message.fields[0], &f.message.fields[1]
	for first := true; ; first = false {
		more, err := d.more(first, '}')
		if err != nil || !more {
			return dst, err
		}
		dst = append(dst, f.tag...)
		from := len(dst)
		text, err := d.string()
		if err != nil {
			return nil, err
		}
		if dst, err = appendScalarText(append(dst, key.tag...), key, text, true); err != nil {
			return nil, err
		}
		if err := d.expect(':'); err != nil {
			return nil, err
		}
		if dst, err = d.value(append(dst, value.tag...), value, depth); err != nil {
			return nil, err
		}
		dst = insertLength(dst, from)
	}
}

// scalar appends a value without its tag.
func (d *decoder) scalar(dst []byte, f *field) ([]byte, error) {
	if d.peek() == '"' {
		text, err := d.string()
		if err != nil {
			return nil, err
		}
		return appendScalarText(dst, f, text, true)
	}
	return appendScalarText(dst, f, d.word(), false)
}

// wrapped appends the message around a value; nothing for the default.
func (d *decoder) wrapped(dst []byte, m *message) ([]byte, error) {
	value, from := &m.fields[0], len(dst)
	dst, err := d.scalar(append(dst, value.tag...), value)
	if err != nil {
		return nil, err
	}
	for _, b := range dst[from+len(value.tag):] {
		if b != 0 {
			return dst, nil
		}
	}
	return dst[:from], nil
}

// time appends a timestamp or a duration that was written as text.
func (d *decoder) time(dst []byte, m *message) ([]byte, error) {
	text, err := d.string()
	if err != nil {
		return nil, err
	}
	var seconds, nanos int64
	if m.special == timestamp {
		seconds, nanos, err = parseTimestamp(text)
	} else {
		seconds, nanos, err = parseDuration(text)
	}
	if err != nil {
		return nil, err
	}
	if seconds != 0 {
		dst = protowire.AppendVarint(append(dst, m.fields[0].tag...), uint64(seconds))
	}
	if nanos != 0 {
		dst = protowire.AppendVarint(append(dst, m.fields[1].tag...), uint64(nanos))
	}
	return dst, nil
}
