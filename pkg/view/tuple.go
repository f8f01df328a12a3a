package view

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Tuple is one entry of a document in an index: a value for each column.
type Tuple []Value

// Value is a value of an index column. The zero Value is none.
type Value struct {
	kind ColumnType
	n    int64
	s    string
}

// MaxValueBytes is the largest size of a string or of bytes in an ordered
// index; what is longer is cut, in documents and in queries alike, strings
// between characters.
const MaxValueBytes = 512

// String makes a value of a ColumnString, or a text. U+0000 is taken out and
// what is not UTF-8 replaced by U+FFFD, since not every driver could keep it.
func String(s string) Value {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return Value{kind: ColumnString, s: strings.ToValidUTF8(s, "\uFFFD")}
}

// Int64 makes a value of a ColumnInt64.
func Int64(n int64) Value { return Value{kind: ColumnInt64, n: n} }

// Time makes a value of a ColumnTime, rounded down to microseconds. What is
// before the year 1 counts as its beginning, what is after 9999 as its end.
func Time(t time.Time) Value {
	switch {
	case t.Unix() < minSeconds:
		return Value{kind: ColumnTime, n: minSeconds * 1e6}
	case t.Unix() > maxSeconds:
		return Value{kind: ColumnTime, n: maxSeconds*1e6 + 999_999}
	default:
		return Value{kind: ColumnTime, n: t.UnixMicro()}
	}
}

// The first and the last second of the years 1 to 9999.
const (
	minSeconds = -62_135_596_800
	maxSeconds = 253_402_300_799
)

// Bytes makes a value of a ColumnBytes.
func Bytes(b []byte) Value { return Value{kind: ColumnBytes, s: string(b)} }

// IsZero says that there is no value.
func (v Value) IsZero() bool { return v.kind == 0 }

// Type is the type of column that the value is for.
func (v Value) Type() ColumnType { return v.kind }

// AsString returns the value of a String or of Bytes.
func (v Value) AsString() string { return v.s }

// AsInt64 returns the value of an Int64.
func (v Value) AsInt64() int64 { return v.n }

// AsTime returns the value of a Time, in UTC.
func (v Value) AsTime() time.Time { return time.UnixMicro(v.n).UTC() }

// The encoding keeps order: bytes.Compare of two encodings orders as the tuples
// do, column by column. Strings and bytes end with 0x00 0x01, and 0x00 within
// them is 0x00 0xff, so a shorter one sorts before its continuations and one
// column's end cannot be taken for another's beginning. Numbers are 8 bytes,
// big endian, with the sign bit flipped.
const (
	escape     = 0x00
	terminator = 0x01
	escaped    = 0xff
)

// AppendValue appends the order-preserving encoding of a value.
func AppendValue(dst []byte, v Value) []byte {
	switch v.kind {
	case ColumnInt64, ColumnTime:
		return binary.BigEndian.AppendUint64(dst, uint64(v.n)^(1<<63))
	case ColumnString:
		return AppendString(dst, cutText(v.s, MaxValueBytes))
	default:
		return AppendString(dst, v.s[:min(len(v.s), MaxValueBytes)])
	}
}

// AppendTuple appends the order-preserving encoding of a tuple.
func AppendTuple(dst []byte, t Tuple) []byte {
	for _, v := range t {
		dst = AppendValue(dst, v)
	}
	return dst
}

// AppendString appends a string in the order-preserving encoding.
func AppendString(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, escape)
		if i < 0 {
			return append(append(dst, s...), escape, terminator)
		}
		dst = append(append(dst, s[:i]...), escape, escaped)
		s = s[i+1:]
	}
}

// CutString takes a string in the order-preserving encoding off the front of b.
func CutString(b []byte) (s string, rest []byte, err error) {
	i := bytes.IndexByte(b, escape)
	if i >= 0 && i+1 < len(b) && b[i+1] == terminator {
		return string(b[:i]), b[i+2:], nil
	}
	var out []byte
	for {
		i := bytes.IndexByte(b, escape)
		if i < 0 || i+1 >= len(b) {
			return "", nil, fmt.Errorf("string without end: %w", ErrCorrupt)
		}
		out = append(out, b[:i]...)
		switch b[i+1] {
		case terminator:
			return string(out), b[i+2:], nil
		case escaped:
			out = append(out, escape)
			b = b[i+2:]
		default:
			return "", nil, fmt.Errorf("string with escape %#02x: %w", b[i+1], ErrCorrupt)
		}
	}
}

// CutValue takes a value of the given type off the front of b.
func CutValue(b []byte, t ColumnType) (v Value, rest []byte, err error) {
	switch t {
	case ColumnInt64, ColumnTime:
		if len(b) < 8 {
			return Value{}, nil, fmt.Errorf("number of %d bytes: %w", len(b), ErrCorrupt)
		}
		n := int64(binary.BigEndian.Uint64(b) ^ (1 << 63))
		return Value{kind: t, n: n}, b[8:], nil
	case ColumnString, ColumnBytes:
		s, rest, err := CutString(b)
		return Value{kind: t, s: s}, rest, err
	default:
		return Value{}, nil, fmt.Errorf("column type %d: %w", t, ErrInvalid)
	}
}

// CutTuple takes values of the given types off the front of b.
func CutTuple(b []byte, types []ColumnType) (t Tuple, rest []byte, err error) {
	t = make(Tuple, 0, len(types))
	for i, ct := range types {
		var v Value
		if v, b, err = CutValue(b, ct); err != nil {
			return nil, nil, fmt.Errorf("column %d: %w", i, err)
		}
		t = append(t, v)
	}
	return t, b, nil
}

// Compare orders tuples as their encodings do.
func (t Tuple) Compare(u Tuple) int {
	return bytes.Compare(AppendTuple(nil, t), AppendTuple(nil, u))
}

// matches says whether the tuple's values are of the first of these types.
func (t Tuple) matches(types []ColumnType) bool {
	if len(t) > len(types) {
		return false
	}
	for i, v := range t {
		if v.kind != types[i] {
			return false
		}
	}
	return true
}
