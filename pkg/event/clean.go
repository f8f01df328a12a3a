package event

import (
	"bytes"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/wire"
)

const (
	replacement = "\uFFFD"
	// escapedNUL is U+0000 as JSON text spells it; there is no other spelling
	// but of the digits, which are all zeros.
	escapedNUL         = `\u0000`
	escapedReplacement = `\ufffd`
	// jsonSuffix ends the names of the string fields that hold JSON text.
	jsonSuffix = "_json"
)

// CleanText replaces U+0000 by U+FFFD and says whether there was any.
func CleanText(s string) (string, bool) {
	if strings.IndexByte(s, 0) < 0 {
		return s, false
	}
	return strings.ReplaceAll(s, "\x00", replacement), true
}

// CleanJSON is CleanText for JSON text, where U+0000 may also stand as an
// escape and would come forth when the text is parsed.
func CleanJSON(s string) (string, bool) {
	s, changed := CleanText(s)
	if !strings.Contains(s, escapedNUL) {
		return s, changed
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		switch {
		case s[i] != '\\':
			b.WriteByte(s[i])
			i++
		case strings.HasPrefix(s[i:], escapedNUL):
			b.WriteString(escapedReplacement)
			i += len(escapedNUL)
			changed = true
		default:
			// An escape is at least two bytes: a backslash behind a backslash
			// begins none.
			n := min(2, len(s)-i)
			b.WriteString(s[i : i+n])
			i += n
		}
	}
	return b.String(), changed
}

// SanitizeNUL replaces U+0000 by U+FFFD in all text of an event, also where
// JSON text spells it as an escape, and sets nul_replaced where there was any:
// jsonb refuses that character. It says whether there was any.
func SanitizeNUL(ev *eventv1.Event) bool {
	if !mayHaveNUL(ev) || !cleanMessage(ev.ProtoReflect()) {
		return false
	}
	ev.NulReplaced = true
	return true
}

// mayHaveNUL looks at the marshalled bytes, which is much faster than visiting
// every field. A zero byte may be something else there, so a yes is a maybe.
func mayHaveNUL(ev *eventv1.Event) bool {
	h := getHalves()
	defer h.release()
	var err error
	if h.whole, err = wire.Append(h.whole[:0], ev); err != nil {
		return true
	}
	return bytes.IndexByte(h.whole, 0) >= 0 || bytes.Contains(h.whole, []byte(escapedNUL))
}

func cleanMessage(m protoreflect.Message) bool {
	changed := false
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			changed = cleanMap(m, field, v.Map()) || changed
		case field.IsList():
			changed = cleanList(field, v.List()) || changed
		case field.Kind() == protoreflect.StringKind:
			if s, did := cleanField(field, v.String()); did {
				m.Set(field, protoreflect.ValueOfString(s))
				changed = true
			}
		case field.Kind() == protoreflect.MessageKind:
			changed = cleanMessage(m.Mutable(field).Message()) || changed
		}
		return true
	})
	return changed
}

func cleanList(field protoreflect.FieldDescriptor, list protoreflect.List) bool {
	changed := false
	for i := range list.Len() {
		switch field.Kind() {
		case protoreflect.StringKind:
			if s, did := cleanField(field, list.Get(i).String()); did {
				list.Set(i, protoreflect.ValueOfString(s))
				changed = true
			}
		case protoreflect.MessageKind:
			changed = cleanMessage(list.Get(i).Message()) || changed
		default:
			return false
		}
	}
	return changed
}

// cleanMap cleans values and, by entering the value anew, keys.
func cleanMap(m protoreflect.Message, field protoreflect.FieldDescriptor, entries protoreflect.Map) bool {
	changed := false
	type pair struct {
		from, to protoreflect.MapKey
	}
	var renamed []pair
	entries.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		switch field.MapValue().Kind() {
		case protoreflect.StringKind:
			if s, did := cleanField(field, v.String()); did {
				entries.Set(key, protoreflect.ValueOfString(s))
				changed = true
			}
		case protoreflect.MessageKind:
			changed = cleanMessage(v.Message()) || changed
		default:
		}
		if field.MapKey().Kind() == protoreflect.StringKind {
			if s, did := CleanText(key.String()); did {
				renamed = append(renamed, pair{key, protoreflect.ValueOfString(s).MapKey()})
			}
		}
		return true
	})
	for _, p := range renamed {
		v := m.Get(field).Map().Get(p.from)
		entries.Clear(p.from)
		entries.Set(p.to, v)
		changed = true
	}
	return changed
}

func cleanField(field protoreflect.FieldDescriptor, s string) (string, bool) {
	if strings.HasSuffix(string(field.Name()), jsonSuffix) {
		return CleanJSON(s)
	}
	return CleanText(s)
}
