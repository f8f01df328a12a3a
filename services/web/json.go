package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// A body is checked once for being JSON, by checkJSON. What follows walks over
// the text that was found valid: raw values are parts of it, so that numbers
// and strings stay as they were written and nothing is copied.

// checker is a decoder with its buffer; both are used again.
type checker struct {
	dec jsontext.Decoder
	src bytes.Buffer
}

var checkers = sync.Pool{New: func() any { return new(checker) }}

// checkJSON says why text is not exactly one JSON value. Repeated names and
// invalid UTF-8 are let through: they are the fault of one event of a batch, and
// are found there.
func checkJSON(text []byte) error {
	c, ok := checkers.Get().(*checker)
	if !ok {
		c = new(checker)
	}
	defer checkers.Put(c)
	c.src = *bytes.NewBuffer(text)
	c.dec.Reset(&c.src, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	_, err := c.dec.ReadValue()
	if err == nil {
		if _, err = c.dec.ReadToken(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = fmt.Errorf("more text after the value, at byte %d", c.dec.InputOffset())
		}
	}
	// Neither the pool nor the next user may hold on to this text.
	c.src = bytes.Buffer{}
	c.dec.Reset(&c.src)
	switch syntax, is := errors.AsType[*jsontext.SyntacticError](err); {
	case err == nil:
		return nil
	case is:
		// The library's message has a pointer into the value, with names in it.
		return fmt.Errorf("not JSON at byte %d", syntax.ByteOffset)
	case errors.Is(err, io.EOF):
		return errors.New("empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("not JSON: it ends at byte %d", len(text))
	default:
		return err
	}
}

// members walks over the members of an object: the name in its quotes, and the
// value, both as they stand in the text. object is a value out of a text that
// checkJSON passed.
func members(object string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		i := 1
		for {
			i = skipSpace(object, i)
			if object[i] == ',' {
				i = skipSpace(object, i+1)
			}
			if object[i] == '}' {
				return
			}
			name := object[i:skipValue(object, i)]
			// Behind the name stand space, a colon, space.
			i = skipSpace(object, i+len(name)) + 1
			i = skipSpace(object, i)
			value := object[i:skipValue(object, i)]
			i += len(value)
			if !yield(name, value) {
				return
			}
		}
	}
}

// elements walks over the elements of an array.
func elements(array string) iter.Seq[string] {
	return func(yield func(string) bool) {
		i := 1
		for {
			i = skipSpace(array, i)
			if array[i] == ',' {
				i = skipSpace(array, i+1)
			}
			if array[i] == ']' {
				return
			}
			value := array[i:skipValue(array, i)]
			i += len(value)
			if !yield(value) {
				return
			}
		}
	}
}

func skipSpace(s string, i int) int {
	for s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r' {
		i++
	}
	return i
}

// skipValue is the index behind the value that begins at i.
func skipValue(s string, i int) int {
	switch s[i] {
	case '"':
		return skipString(s, i)
	case '{', '[':
		depth := 0
		for {
			switch s[i] {
			case '"':
				i = skipString(s, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			default:
			}
			i++
		}
	default:
		for i < len(s) {
			switch s[i] {
			case ',', '}', ']', ' ', '\n', '\t', '\r':
				return i
			default:
				i++
			}
		}
		return i
	}
}

// skipString is the index behind the string that begins at i.
func skipString(s string, i int) int {
	for i++; ; i++ {
		i += strings.IndexByte(s[i:], '"')
		slashes := 0
		for s[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// unquote is the text of a string value. Escapes that are no Unicode (half a
// surrogate pair) become U+FFFD; bytes that are none stay.
func unquote(quoted string) string {
	inner := quoted[1 : len(quoted)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner
	}
	// The error says that something was replaced, which is meant.
	text, _ := jsontext.AppendUnquote(make([]byte, 0, len(inner)), quoted)
	return string(text)
}

// isNull says that a value is absent or null, which are the same here.
func isNull(raw string) bool { return raw == "" || raw[0] == 'n' }

func isString(raw string) bool { return raw != "" && raw[0] == '"' }

func isObject(raw string) bool { return raw != "" && raw[0] == '{' }

func isArray(raw string) bool { return raw != "" && raw[0] == '[' }

func isNumber(raw string) bool {
	return raw != "" && (raw[0] == '-' || (raw[0] >= '0' && raw[0] <= '9'))
}

// plainText is the text of a string and the digits of a number as they were
// written; empty for all else.
func plainText(raw string) string {
	switch {
	case isString(raw):
		return unquote(raw)
	case isNumber(raw):
		return raw
	default:
		return ""
	}
}

// appendCompact appends a value without the space between its tokens, and says
// how deep it nests: 0 for a scalar, 1 for an object of scalars.
func appendCompact(dst []byte, raw string) (compact []byte, depth int) {
	level := 0
	for i := 0; i < len(raw); {
		switch c := raw[i]; c {
		case '"':
			end := skipString(raw, i)
			dst = append(dst, raw[i:end]...)
			i = end
			continue
		case ' ', '\n', '\t', '\r':
			i++
			continue
		case '{', '[':
			level++
			depth = max(depth, level)
			dst = append(dst, c)
		case '}', ']':
			level--
			dst = append(dst, c)
		default:
			dst = append(dst, c)
		}
		i++
	}
	return dst, depth
}

// escapedNUL is how JSON writes U+0000, which no text may have once recorded.
const escapedNUL = `\u0000`
