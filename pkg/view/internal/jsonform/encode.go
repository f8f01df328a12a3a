package jsonform

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/view"
)

// AppendJSON appends the JSON form of a marshalled message. After an error dst
// is as it was.
func (c *Codec) AppendJSON(dst, data []byte) ([]byte, error) {
	out, err := appendMessage(dst, c.root, data, MaxDepth)
	if errors.Is(err, errNotCanonical) {
		if data, err = c.canonical(data); err == nil {
			out, err = appendMessage(dst, c.root, data, MaxDepth)
		}
	}
	if errors.Is(err, errNotCanonical) {
		err = fmt.Errorf("%w: %w", view.ErrInvalid, err)
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// errNotCanonical is met in bytes that marshalling would not have made.
var errNotCanonical = errors.New("bytes are not as marshalling makes them")

func (c *Codec) canonical(data []byte) ([]byte, error) {
	doc := c.make()
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(data, doc); err != nil {
		return nil, fmt.Errorf("%w: %w", view.ErrInvalid, err)
	}
	return view.MarshalDocument(doc)
}

// presence notes which fields and oneofs of a message were met.
type presence struct {
	small [4]uint64
	large []bool
}

func newPresence(m *message) (p presence) {
	// Oneofs are no more than fields.
	if 2*len(m.fields) > 64*len(p.small) {
		p.large = make([]bool, 2*len(m.fields)+1)
	}
	return p
}

// set says whether it was set already.
func (p *presence) set(i int) bool {
	if p.large != nil {
		was := p.large[i]
		p.large[i] = true
		return was
	}
	bit := uint64(1) << (i & 63)
	was := p.small[i>>6]&bit != 0
	p.small[i>>6] |= bit
	return was
}

// meet notes a field; an error where it must not be there again.
func (p *presence) meet(m *message, f *field) error {
	if p.set(f.index) || f.oneof > 0 && p.set(len(m.fields)+f.oneof-1) {
		return errNotCanonical
	}
	return nil
}

func unknown(m *message, n protowire.Number) error {
	return fmt.Errorf("field %d is not known to message %s, and JSON cannot keep it: %w", n, m.name, view.ErrInvalid)
}

func malformed(m *message, n int) error {
	return fmt.Errorf("message %s: %w: %w", m.name, view.ErrInvalid, protowire.ParseError(n))
}

// next takes a field's tag off data.
func (m *message) next(data []byte) (*field, protowire.Type, []byte, error) {
	n, typ, size := protowire.ConsumeTag(data)
	if size < 0 {
		return nil, 0, nil, malformed(m, size)
	}
	f := m.byNumber(n)
	if f == nil {
		return nil, 0, nil, unknown(m, n)
	}
	return f, typ, data[size:], nil
}

func appendMessage(dst []byte, m *message, data []byte, depth int) ([]byte, error) {
	if depth == 0 {
		return nil, fmt.Errorf("messages are nested more than %d deep: %w", MaxDepth, view.ErrInvalid)
	}
	switch m.special {
	case timestamp, duration:
		return appendTime(dst, m, data)
	case wrapper:
		return appendWrapped(dst, m, data)
	default:
	}
	dst = append(dst, '{')
	met := newPresence(m)
	var open *field // a list or map to which more may belong
	for first := true; len(data) > 0; first = false {
		f, typ, rest, err := m.next(data)
		if err != nil {
			return nil, err
		}
		if f != open || open == nil {
			if open != nil {
				dst = append(dst, open.closing())
				open = nil
			}
			if err := met.meet(m, f); err != nil {
				return nil, err
			}
			if !first {
				dst = append(dst, ',')
			}
			dst = append(dst, f.prefix...)
			if f.repeated {
				dst = append(dst, f.opening())
				open = f
			}
		} else {
			dst = append(dst, ',')
		}
		if dst, data, err = appendField(dst, m, f, typ, rest, depth); err != nil {
			return nil, err
		}
	}
	if open != nil {
		dst = append(dst, open.closing())
	}
	return append(dst, '}'), nil
}

func (f *field) opening() byte {
	if f.isMap {
		return '{'
	}
	return '['
}

func (f *field) closing() byte {
	if f.isMap {
		return '}'
	}
	return ']'
}

// appendField appends a value, several where they are packed.
func appendField(dst []byte, m *message, f *field, typ protowire.Type, data []byte, depth int) (out, rest []byte, err error) {
	want := wireTypeOf(f.kind)
	if f.repeated && typ == protowire.BytesType && want != protowire.BytesType {
		return appendPacked(dst, m, f, data)
	}
	if typ != want {
		return nil, nil, unknown(m, f.number)
	}
	if f.isMap {
		return appendEntry(dst, m, f, data, depth)
	}
	if f.message != nil {
		value, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return nil, nil, malformed(m, n)
		}
		dst, err = appendMessage(dst, f.message, value, depth-1)
		return dst, data[n:], err
	}
	dst, rest, zero, err := appendScalar(dst, m, f, data)
	if zero && !f.presence && !f.repeated {
		return nil, nil, errNotCanonical
	}
	return dst, rest, err
}

func appendPacked(dst []byte, m *message, f *field, data []byte) (out, rest []byte, err error) {
	list, n := protowire.ConsumeBytes(data)
	if n < 0 {
		return nil, nil, malformed(m, n)
	}
	if len(list) == 0 {
		return nil, nil, errNotCanonical
	}
	for first := true; len(list) > 0; first = false {
		if !first {
			dst = append(dst, ',')
		}
		if dst, list, _, err = appendScalar(dst, m, f, list); err != nil {
			return nil, nil, err
		}
	}
	return dst, data[n:], nil
}

// appendEntry appends a map's entry.
func appendEntry(dst []byte, m *message, f *field, data []byte, depth int) (out, rest []byte, err error) {
	entry, n := protowire.ConsumeBytes(data)
	if n < 0 {
		return nil, nil, malformed(m, n)
	}
	for want := protowire.Number(1); want <= 2; want++ {
		if len(entry) == 0 {
			return nil, nil, errNotCanonical
		}
		part, typ, behind, err := f.message.next(entry)
		if err != nil {
			return nil, nil, err
		}
		if part.number != want || typ != wireTypeOf(part.kind) {
			return nil, nil, errNotCanonical
		}
		if want == 1 {
			dst, entry, err = appendKey(dst, f.message, part, behind)
			dst = append(dst, ':')
		} else if part.message != nil {
			dst, entry, err = appendField(dst, f.message, part, typ, behind, depth)
		} else {
			dst, entry, _, err = appendScalar(dst, f.message, part, behind)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if len(entry) > 0 {
		return nil, nil, errNotCanonical
	}
	return dst, data[n:], nil
}

// appendKey appends a map's key: always a string.
func appendKey(dst []byte, m *message, f *field, data []byte) (out, rest []byte, err error) {
	from := len(dst)
	dst = append(dst, '"')
	if dst, data, _, err = appendScalar(dst, m, f, data); err != nil {
		return nil, nil, err
	}
	if dst[from+1] == '"' { // it is a string by itself
		return append(dst[:from], dst[from+1:]...), data, nil
	}
	return append(dst, '"'), data, nil
}

// appendScalar appends one value and says whether it is the default.
func appendScalar(dst []byte, m *message, f *field, data []byte) (out, rest []byte, zero bool, err error) {
	switch wireTypeOf(f.kind) {
	case protowire.VarintType:
		v, n := protowire.ConsumeVarint(data)
		if n < 0 {
			return nil, nil, false, malformed(m, n)
		}
		dst, zero, err = appendVarint(dst, m, f, v)
		return dst, data[n:], zero, err
	case protowire.Fixed32Type:
		v, n := protowire.ConsumeFixed32(data)
		if n < 0 {
			return nil, nil, false, malformed(m, n)
		}
		switch f.kind {
		case protoreflect.FloatKind:
			dst = appendFloat32(dst, v)
		case protoreflect.Sfixed32Kind:
			dst = strconv.AppendInt(dst, int64(int32(v)), 10)
		default:
			dst = strconv.AppendUint(dst, uint64(v), 10)
		}
		return dst, data[n:], v == 0, nil
	case protowire.Fixed64Type:
		v, n := protowire.ConsumeFixed64(data)
		if n < 0 {
			return nil, nil, false, malformed(m, n)
		}
		switch f.kind {
		case protoreflect.DoubleKind:
			dst = appendFloat64(dst, v)
		case protoreflect.Sfixed64Kind:
			dst = appendQuotedInt(dst, int64(v))
		default:
			dst = appendQuotedUint(dst, v)
		}
		return dst, data[n:], v == 0, nil
	default:
		v, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return nil, nil, false, malformed(m, n)
		}
		if f.kind == protoreflect.BytesKind {
			dst = append(base64.StdEncoding.AppendEncode(append(dst, '"'), v), '"')
		} else if dst, err = appendString(dst, v); err != nil {
			return nil, nil, false, fmt.Errorf("field %s of %s: %w", f.name, m.name, err)
		}
		return dst, data[n:], len(v) == 0, nil
	}
}

func appendVarint(dst []byte, m *message, f *field, v uint64) (out []byte, zero bool, err error) {
	switch f.kind {
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v != 0), v == 0, nil
	case protoreflect.Int32Kind:
		return strconv.AppendInt(dst, int64(int32(v)), 10), int32(v) == 0, nil
	case protoreflect.Sint32Kind:
		return strconv.AppendInt(dst, int64(int32(protowire.DecodeZigZag(v&math.MaxUint32))), 10), uint32(v) == 0, nil
	case protoreflect.Uint32Kind:
		return strconv.AppendUint(dst, uint64(uint32(v)), 10), uint32(v) == 0, nil
	case protoreflect.Int64Kind:
		return appendQuotedInt(dst, int64(v)), v == 0, nil
	case protoreflect.Sint64Kind:
		return appendQuotedInt(dst, protowire.DecodeZigZag(v)), v == 0, nil
	case protoreflect.EnumKind:
		n := int32(v)
		if name, ok := f.enum.names[n]; ok {
			dst = append(append(append(dst, '"'), name...), '"')
		} else if f.enum.closed {
			return nil, false, fmt.Errorf("value %d of field %s of %s is not known, and JSON cannot keep it: %w", n, f.name, m.name, view.ErrInvalid)
		} else {
			dst = strconv.AppendInt(dst, int64(n), 10)
		}
		return dst, n == 0, nil
	default:
		return appendQuotedUint(dst, v), v == 0, nil
	}
}

func appendQuotedInt(dst []byte, n int64) []byte {
	return append(strconv.AppendInt(append(dst, '"'), n, 10), '"')
}

func appendQuotedUint(dst []byte, n uint64) []byte {
	return append(strconv.AppendUint(append(dst, '"'), n, 10), '"')
}

// The bits of NaN, as Go has them.
const (
	nan32 = 0x7fc00000
	nan64 = 0x7ff8000000000001
)

func appendFloat32(dst []byte, bits uint32) []byte {
	n := math.Float32frombits(bits)
	if n != n && bits != nan32 {
		return fmt.Appendf(dst, `"NaN(%08x)"`, bits)
	}
	return appendFloat(dst, float64(n), 32)
}

func appendFloat64(dst []byte, bits uint64) []byte {
	n := math.Float64frombits(bits)
	if n != n && bits != nan64 {
		return fmt.Appendf(dst, `"NaN(%016x)"`, bits)
	}
	return appendFloat(dst, n, 64)
}

func appendFloat(dst []byte, n float64, size int) []byte {
	switch {
	case math.IsNaN(n):
		return append(dst, `"NaN"`...)
	case math.IsInf(n, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(n, -1):
		return append(dst, `"-Infinity"`...)
	case n == 0 && math.Signbit(n):
		return append(dst, `"-0"`...)
	}
	format := byte('f')
	if abs := math.Abs(n); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, n, format, -1, size)
}

// asIs says which bytes of a text need no escape.
var asIs = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

// appendString appends a text of outside.
func appendString(dst, s []byte) ([]byte, error) {
	if !utf8.Valid(s) {
		return nil, fmt.Errorf("text is not UTF-8: %w", view.ErrInvalid)
	}
	if bytes.IndexByte(s, 0) >= 0 {
		return nil, fmt.Errorf("text has U+0000, which a JSON column refuses: %w", view.ErrInvalid)
	}
	return appendText(dst, s), nil
}

// appendText appends a text as a JSON string.
func appendText[T []byte | string](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if asIs[c] {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}

// appendWrapped appends the value alone.
func appendWrapped(dst []byte, m *message, data []byte) ([]byte, error) {
	value := &m.fields[0]
	if len(data) == 0 {
		return appendDefault(dst, value.kind), nil
	}
	f, typ, rest, err := m.next(data)
	if err != nil {
		return nil, err
	}
	if dst, rest, err = appendField(dst, m, f, typ, rest, 1); err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errNotCanonical
	}
	return dst, nil
}

func appendDefault(dst []byte, kind protoreflect.Kind) []byte {
	switch kind {
	case protoreflect.BoolKind:
		return append(dst, "false"...)
	case protoreflect.StringKind, protoreflect.BytesKind:
		return append(dst, `""`...)
	case protoreflect.Int64Kind, protoreflect.Uint64Kind:
		return append(dst, `"0"`...)
	default:
		return append(dst, '0')
	}
}

// What protobuf's JSON mapping can say.
const (
	minSeconds         = -62135596800
	maxSeconds         = 253402300799
	maxDurationSeconds = 315576000000
)

// appendTime appends a timestamp or a duration.
func appendTime(dst []byte, m *message, data []byte) ([]byte, error) {
	var parts [2]int64
	var met presence
	for len(data) > 0 {
		f, typ, rest, err := m.next(data)
		if err != nil {
			return nil, err
		}
		if typ != protowire.VarintType {
			return nil, unknown(m, f.number)
		}
		v, n := protowire.ConsumeVarint(rest)
		if n < 0 {
			return nil, malformed(m, n)
		}
		if f.kind == protoreflect.Int32Kind {
			v = uint64(int64(int32(v)))
		}
		if met.set(f.index) || v == 0 {
			return nil, errNotCanonical
		}
		parts[f.index], data = int64(v), rest[n:]
	}
	seconds, nanos := parts[0], parts[1]
	switch {
	case m.special == timestamp && seconds >= minSeconds && seconds <= maxSeconds && nanos >= 0 && nanos < 1e9:
		dst = time.Unix(seconds, 0).UTC().AppendFormat(append(dst, '"'), "2006-01-02T15:04:05")
		return append(appendNanos(dst, nanos), 'Z', '"'), nil
	case m.special == duration && seconds >= -maxDurationSeconds && seconds <= maxDurationSeconds && max(nanos, -nanos) < 1e9 && (seconds == 0 || nanos == 0 || seconds < 0 == (nanos < 0)):
		dst = append(dst, '"')
		if seconds < 0 || nanos < 0 {
			dst = append(dst, '-')
		}
		dst = strconv.AppendInt(dst, max(seconds, -seconds), 10)
		return append(appendNanos(dst, max(nanos, -nanos)), 's', '"'), nil
	}
	dst = append(dst, '{')
	if seconds != 0 {
		dst = appendQuotedInt(append(dst, m.fields[0].prefix...), seconds)
	}
	if nanos != 0 {
		if seconds != 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(dst, m.fields[1].prefix...), nanos, 10)
	}
	return append(dst, '}'), nil
}

// appendNanos appends a fraction of 0, 3, 6 or 9 digits.
func appendNanos(dst []byte, nanos int64) []byte {
	if nanos == 0 {
		return dst
	}
	from := len(dst)
	dst = strconv.AppendInt(dst, 1e9+nanos, 10) // a one, and nine digits
	dst[from] = '.'
	for range 2 {
		if !bytes.HasSuffix(dst, []byte("000")) {
			break
		}
		dst = dst[:len(dst)-3]
	}
	return dst
}
