package jsonform

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/view"
)

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
