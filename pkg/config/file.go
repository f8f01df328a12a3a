package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes is more than any configuration needs; a file beyond it is
// something else.
const maxFileBytes = 1 << 20

// whatItIs says what a configuration file is, in errors about one that is none.
const whatItIs = `a configuration is YAML with one setting a line, named as the flags are, for example "grpc-listen: 127.0.0.1:7300"`

// loadFile fills the settings that a file names.
func (l *Loader) loadFile(name string) error {
	where := "--" + FileFlag + " " + name
	data, err := readFile(name)
	if err != nil {
		return &Error{Where: where, Err: err}
	}
	root, err := parseFile(data)
	if err != nil {
		return &Error{Where: where, Err: err}
	}
	if root == nil {
		return nil
	}
	var errs []error
	seen := map[string]bool{}
	for key, value := range pairs(root) {
		place := fmt.Sprintf("%s:%d: %s", where, key.Line, key.Value)
		s := l.byName[key.Value]
		switch {
		case s == nil || s == l.file:
			err = fmt.Errorf("there is no such setting%s", l.didYouMean(key.Value))
		case seen[key.Value]:
			err = errors.New("the setting is there twice")
		default:
			err = setNode(s.value, value)
		}
		seen[key.Value] = true
		if err != nil {
			errs = append(errs, &Error{Where: place, Err: err})
		}
	}
	return errors.Join(errs...)
}

func readFile(name string) (data []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, errors.New("there is no such file; name another one or leave --config out")
		}
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("is a directory; %s", whatItIs)
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("has more than %d bytes; %s", maxFileBytes, whatItIs)
	}
	return data, nil
}

// parseFile is the mapping of a file; nil for one without settings.
func parseFile(data []byte) (*yaml.Node, error) {
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("is no text; %s", whatItIs)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, fmt.Errorf("is no configuration (%s); %s", strings.TrimPrefix(err.Error(), "yaml: "), whatItIs)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one YAML document; keep one")
	}
	root := resolve(&doc)
	switch {
	case root == nil || root.Tag == "!!null":
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("is no configuration; %s", whatItIs)
	}
	return root, nil
}

// resolve follows documents and aliases to what they stand for.
func resolve(n *yaml.Node) *yaml.Node {
	for n != nil {
		switch {
		case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
			n = n.Content[0]
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		default:
			return n
		}
	}
	return nil
}

// pairs ranges over a mapping.
func pairs(n *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for pair := range slices.Chunk(n.Content, 2) {
			if !yield(resolve(pair[0]), resolve(pair[1])) {
				return
			}
		}
	}
}

// setNode sets a setting from the file's form of it. Nothing leaves it as it is.
func setNode(v reflect.Value, n *yaml.Node) error {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return nil
	case n.Kind == yaml.ScalarNode:
		return setText(v, n.Value)
	case n.Kind == yaml.SequenceNode && v.Kind() == reflect.Slice:
		list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
		for _, item := range n.Content {
			e := reflect.New(v.Type().Elem()).Elem()
			if err := setElement(e, resolve(item)); err != nil {
				return err
			}
			list = reflect.Append(list, e)
		}
		v.Set(list)
		return nil
	case v.Kind() == reflect.Slice:
		return errors.New("want a list")
	default:
		return errors.New("want a single value")
	}
}

// setElement sets one element of a list.
func setElement(v reflect.Value, n *yaml.Node) error {
	switch {
	case v.Kind() != reflect.Struct && n.Kind == yaml.ScalarNode:
		v.SetString(n.Value)
		return nil
	case v.Kind() != reflect.Struct:
		return fmt.Errorf("line %d: want a single value", n.Line)
	case n.Kind == yaml.ScalarNode:
		return setStructText(v, n.Value)
	case n.Kind != yaml.MappingNode:
		return fmt.Errorf("line %d: want %s", n.Line, structForm(v.Type()))
	}
	seen := map[string]bool{}
	for key, value := range pairs(n) {
		f, ok := elementField(v, key.Value)
		if !ok {
			return fmt.Errorf("line %d: there is no %q in it; there are %s", key.Line, key.Value, strings.Join(elementKeys(v.Type()), ", "))
		}
		if seen[key.Value] {
			return fmt.Errorf("line %d: %s is there twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if err := setNode(f, value); err != nil {
			return fmt.Errorf("line %d: %s: %w", key.Line, key.Value, err)
		}
	}
	return nil
}

// didYouMean suggests the setting whose name is nearest.
func (l *Loader) didYouMean(name string) string {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	best, least := "", 4 // more than three edits are another word
	for _, s := range l.settings {
		if d := distance(name, s.name); d < least {
			best, least = s.name, d
		}
	}
	if best == "" {
		return "; `parley serve --help` lists them"
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of edits between two names (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
