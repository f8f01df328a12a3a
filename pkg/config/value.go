package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. As text it is a number with an optional unit: `512`,
// `64KiB`, `1.5GiB`, `10MB`.
type Bytes int64

// units, the longer names first, so that a suffix is found whole.
var units = []struct {
	name string
	size float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, scale := strings.TrimSpace(string(text)), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, scale = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n*scale > math.MaxInt64/2 {
		return errors.New("want a size, for example 64MiB")
	}
	*b = Bytes(n * scale)
	return nil
}

// MarshalText writes the size in the largest binary unit that leaves it whole.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String is the text form.
func (b Bytes) String() string {
	for _, u := range []struct {
		name string
		size Bytes
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

var durationType = reflect.TypeFor[time.Duration]()

// setText sets a setting from its text form.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		return nil
	}
	if v.Type() == durationType {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q: want a duration, for example 30s", text)
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q: want true or false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q: want a whole number", text)
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return fmt.Errorf("%q: want a number", text)
		}
		v.SetFloat(n)
	case reflect.Slice:
		return setListText(v, text)
	default:
		return fmt.Errorf("settings of type %s are not supported", v.Type())
	}
	return nil
}

// supported says whether setText can fill a type, so that a wrong struct fails
// when it is bound, not when somebody uses the setting.
func supported(t reflect.Type) bool {
	if t == durationType || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return true
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Struct {
			return t.Elem().Kind() == reflect.String
		}
		for i := range t.Elem().NumField() {
			f := t.Elem().Field(i)
			if f.Tag.Get(keyTag) == "" || !supported(f.Type) {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// keyTag names the fields of a list's elements.
const keyTag = "key"

// setListText sets a list: strings split by commas, or structs split by
// semicolons or line breaks.
func setListText(v reflect.Value, text string) error {
	list := reflect.MakeSlice(v.Type(), 0, 0)
	split := func(r rune) bool { return r == ',' }
	if v.Type().Elem().Kind() == reflect.Struct {
		split = func(r rune) bool { return r == ';' || r == '\n' }
	}
	for part := range strings.FieldsFuncSeq(text, split) {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() == reflect.Struct {
			if err := setStructText(e, part); err != nil {
				return err
			}
		} else {
			e.SetString(part)
		}
		list = reflect.Append(list, e)
	}
	v.Set(list)
	return nil
}

// setStructText sets an element from `name=shop,scopes=record+read`.
func setStructText(v reflect.Value, text string) error {
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q: want %s", pair, structForm(v.Type()))
		}
		f, ok := elementField(v, strings.TrimSpace(key))
		if !ok {
			return fmt.Errorf("%q is no key of it; want %s", strings.TrimSpace(key), structForm(v.Type()))
		}
		value = strings.TrimSpace(value)
		if f.Kind() == reflect.Slice {
			value = strings.ReplaceAll(value, "+", ",")
		}
		if err := setText(f, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// elementField finds the field of a list's element by its key.
func elementField(v reflect.Value, key string) (reflect.Value, bool) {
	i := slices.Index(elementKeys(v.Type()), key)
	if i < 0 {
		return reflect.Value{}, false
	}
	return v.Field(i), true
}

func elementKeys(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get(keyTag)
	}
	return keys
}

// structForm describes the text form of a list's element.
func structForm(t reflect.Type) string {
	return strings.Join(elementKeys(t), "=…,") + "=…"
}

// text is the text form of a setting, secrets hidden.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case fmt.Stringer:
		return x.String()
	}
	if v.Kind() != reflect.Slice {
		return fmt.Sprint(v.Interface())
	}
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = elementText(v.Index(i))
	}
	if v.Type().Elem().Kind() == reflect.Struct {
		return strings.Join(parts, ";")
	}
	return strings.Join(parts, ",")
}

func elementText(v reflect.Value) string {
	if v.Kind() != reflect.Struct {
		return v.String()
	}
	var pairs []string
	for i, key := range elementKeys(v.Type()) {
		if f := v.Field(i); !f.IsZero() {
			pairs = append(pairs, key+"="+strings.ReplaceAll(text(f), ",", "+"))
		}
	}
	return strings.Join(pairs, ",")
}
