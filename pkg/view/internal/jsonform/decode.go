package jsonform

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

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

func (d *decoder) space() {
	for d.pos < len(d.in) {
		switch d.in[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek is the next byte that is no space; 0 at the end.
func (d *decoder) peek() byte {
	if d.space(); d.pos < len(d.in) {
		return d.in[d.pos]
	}
	return 0
}

func (d *decoder) expect(c byte) error {
	if d.peek() != c {
		return errSyntax
	}
	d.pos++
	return nil
}

// more goes to the next element of a list or object; false behind the last.
func (d *decoder) more(first bool, closing byte) (bool, error) {
	switch c := d.peek(); {
	case c == closing:
		d.pos++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		d.pos++
		return true, nil
	default:
		return false, errSyntax
	}
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

// word is a number or one of true and false.
func (d *decoder) word() []byte {
	from := d.pos
	for d.pos < len(d.in) {
		switch c := d.in[d.pos]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c >= 'a' && c <= 'z', c == 'E':
			d.pos++
		default:
			return d.in[from:d.pos]
		}
	}
	return d.in[from:]
}

// string reads a string, which is good until the next one.
func (d *decoder) string() ([]byte, error) {
	if err := d.expect('"'); err != nil {
		return nil, err
	}
	rest := d.in[d.pos:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, errSyntax
	}
	escape := bytes.IndexByte(rest[:end], '\\')
	if escape < 0 {
		d.pos += end + 1
		return rest[:end], nil
	}
	d.text = append(d.text[:0], rest[:escape]...)
	d.pos += escape
	for d.pos < len(d.in) {
		switch c := d.in[d.pos]; c {
		case '"':
			d.pos++
			return d.text, nil
		case '\\':
			if err := d.escape(); err != nil {
				return nil, err
			}
		default:
			d.text = append(d.text, c)
			d.pos++
		}
	}
	return nil, errSyntax
}

// escape takes an escape and appends what it stands for to d.text.
func (d *decoder) escape() error {
	if d.pos+1 >= len(d.in) {
		return errSyntax
	}
	c := d.in[d.pos+1]
	d.pos += 2
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, err := d.hex()
		if err != nil {
			return err
		}
		if utf16.IsSurrogate(r) {
			if !bytes.HasPrefix(d.in[d.pos:], []byte(`\u`)) {
				return errSyntax
			}
			d.pos += 2
			low, err := d.hex()
			if err != nil {
				return err
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return errSyntax
			}
		}
		d.text = utf8.AppendRune(d.text, r)
		return nil
	default:
		return errSyntax
	}
	d.text = append(d.text, c)
	return nil
}

func (d *decoder) hex() (rune, error) {
	if d.pos+4 > len(d.in) {
		return 0, errSyntax
	}
	n, err := strconv.ParseUint(string(d.in[d.pos:d.pos+4]), 16, 32)
	if err != nil {
		return 0, errSyntax
	}
	d.pos += 4
	return rune(n), nil
}

// appendScalarText appends the value that a text stands for; quoted says that
// it was a string.
func appendScalarText(dst []byte, f *field, text []byte, quoted bool) ([]byte, error) {
	switch f.kind {
	case protoreflect.StringKind, protoreflect.BytesKind:
		if !quoted {
			return nil, errSyntax
		}
		if f.kind == protoreflect.StringKind {
			return protowire.AppendBytes(dst, text), nil
		}
		from := len(dst)
		dst, err := base64.StdEncoding.AppendDecode(dst, text)
		if err != nil {
			return nil, err
		}
		return insertLength(dst, from), nil
	case protoreflect.BoolKind:
		b := string(text) == "true"
		if !b && string(text) != "false" {
			return nil, errSyntax
		}
		return protowire.AppendVarint(dst, protowire.EncodeBool(b)), nil
	case protoreflect.EnumKind:
		return appendEnum(dst, f, text, quoted)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return appendFloatText(dst, f.kind, text)
	default:
		return appendIntegerText(dst, f.kind, text)
	}
}

func appendEnum(dst []byte, f *field, text []byte, quoted bool) ([]byte, error) {
	if quoted {
		n, ok := f.enum.values[string(text)]
		if !ok {
			return nil, fmt.Errorf("%w: field %s has the unknown value %q; raise the projection's version, or use the binary that wrote it", view.ErrNewerFormat, f.name, text)
		}
		return protowire.AppendVarint(dst, uint64(int64(n))), nil
	}
	n, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil {
		return nil, errRange
	}
	return protowire.AppendVarint(dst, uint64(n)), nil
}

func appendIntegerText(dst []byte, kind protoreflect.Kind, text []byte) ([]byte, error) {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, err := strconv.ParseInt(string(text), 10, 32)
		if err != nil {
			return nil, errRange
		}
		switch kind {
		case protoreflect.Int32Kind:
			return protowire.AppendVarint(dst, uint64(n)), nil
		case protoreflect.Sint32Kind:
			return protowire.AppendVarint(dst, protowire.EncodeZigZag(n)), nil
		default:
			return protowire.AppendFixed32(dst, uint32(n)), nil
		}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return nil, errRange
		}
		switch kind {
		case protoreflect.Int64Kind:
			return protowire.AppendVarint(dst, uint64(n)), nil
		case protoreflect.Sint64Kind:
			return protowire.AppendVarint(dst, protowire.EncodeZigZag(n)), nil
		default:
			return protowire.AppendFixed64(dst, uint64(n)), nil
		}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := strconv.ParseUint(string(text), 10, 32)
		if err != nil {
			return nil, errRange
		}
		if kind == protoreflect.Uint32Kind {
			return protowire.AppendVarint(dst, n), nil
		}
		return protowire.AppendFixed32(dst, uint32(n)), nil
	default:
		n, err := strconv.ParseUint(string(text), 10, 64)
		if err != nil {
			return nil, errRange
		}
		if kind == protoreflect.Uint64Kind {
			return protowire.AppendVarint(dst, n), nil
		}
		return protowire.AppendFixed64(dst, n), nil
	}
}

func appendFloatText(dst []byte, kind protoreflect.Kind, text []byte) ([]byte, error) {
	size := 64
	if kind == protoreflect.FloatKind {
		size = 32
	}
	var bits uint64
	switch {
	case string(text) == "NaN" && size == 64:
		bits = nan64
	case string(text) == "NaN":
		bits = nan32
	case bytes.HasPrefix(text, []byte("NaN(")) && bytes.HasSuffix(text, []byte(")")):
		var err error
		if bits, err = strconv.ParseUint(string(text[4:len(text)-1]), 16, size); err != nil {
			return nil, errRange
		}
	default:
		n, err := strconv.ParseFloat(string(text), size)
		if err != nil {
			return nil, errRange
		}
		if bits = math.Float64bits(n); size == 32 {
			bits = uint64(math.Float32bits(float32(n)))
		}
	}
	if size == 32 {
		return protowire.AppendFixed32(dst, uint32(bits)), nil
	}
	return protowire.AppendFixed64(dst, bits), nil
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

func parseTimestamp(text []byte) (seconds, nanos int64, err error) {
	const whole = len("2006-01-02T15:04:05")
	if len(text) <= whole || text[len(text)-1] != 'Z' {
		return 0, 0, errSyntax
	}
	var n [6]int
	for i, at := range [...]struct {
		from, to int
		behind   byte
	}{{0, 4, '-'}, {5, 7, '-'}, {8, 10, 'T'}, {11, 13, ':'}, {14, 16, ':'}, {17, 19, 0}} {
		for _, c := range text[at.from:at.to] {
			if c < '0' || c > '9' {
				return 0, 0, errSyntax
			}
			n[i] = 10*n[i] + int(c-'0')
		}
		if at.behind != 0 && text[at.to] != at.behind {
			return 0, 0, errSyntax
		}
	}
	t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
	if t.Year() != n[0] || int(t.Month()) != n[1] || t.Day() != n[2] || t.Hour() != n[3] || t.Minute() != n[4] || t.Second() != n[5] {
		return 0, 0, errRange
	}
	nanos, err = parseNanos(text[whole : len(text)-1])
	return t.Unix(), nanos, err
}

func parseDuration(text []byte) (seconds, nanos int64, err error) {
	text, ok := bytes.CutSuffix(text, []byte("s"))
	if !ok {
		return 0, 0, errSyntax
	}
	text, negative := bytes.CutPrefix(text, []byte("-"))
	whole, fraction := text, text[len(text):]
	if i := bytes.IndexByte(text, '.'); i >= 0 {
		whole, fraction = text[:i], text[i:]
	}
	n, err := strconv.ParseUint(string(whole), 10, 62)
	if err != nil {
		return 0, 0, errRange
	}
	if nanos, err = parseNanos(fraction); err != nil {
		return 0, 0, err
	}
	if negative {
		return -int64(n), -nanos, nil
	}
	return int64(n), nanos, nil
}

// parseNanos reads a fraction with its point; nothing is 0.
func parseNanos(text []byte) (int64, error) {
	if len(text) == 0 {
		return 0, nil
	}
	if text[0] != '.' || len(text) < 2 || len(text) > 10 {
		return 0, errSyntax
	}
	nanos := int64(0)
	for i := 1; i < 10; i++ {
		nanos *= 10
		if i < len(text) {
			if text[i] < '0' || text[i] > '9' {
				return 0, errSyntax
			}
			nanos += int64(text[i] - '0')
		}
	}
	return nanos, nil
}
