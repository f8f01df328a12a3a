package config

import (
	"fmt"
	"io"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Write writes the settings as a file that --config takes, each under what it
// is for. Secrets are hidden, so a file written with some needs them filled in.
func (l *Loader) Write(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range l.settings {
		value, err := node(s.value)
		if err != nil {
			return fmt.Errorf("write setting %s: %w", s.name, err)
		}
		root.Content = append(root.Content,
			&yaml.Node{Kind: yaml.ScalarNode, Value: s.name, HeadComment: s.usage}, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return nil
}

func node(v reflect.Value) (*yaml.Node, error) {
	if v.Kind() != reflect.Slice {
		n := &yaml.Node{}
		n.SetString(text(v))
		if k := v.Kind(); v.Type() != durationType && (k == reflect.Bool || k == reflect.Int || k == reflect.Float64) {
			n.Tag = ""
		}
		return n, nil
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if v.Len() == 0 {
		n.Style = yaml.FlowStyle
	}
	for i := range v.Len() {
		e := v.Index(i)
		if e.Kind() != reflect.Struct {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: e.String()})
			continue
		}
		m := &yaml.Node{Kind: yaml.MappingNode}
		for j, key := range elementKeys(e.Type()) {
			if e.Field(j).IsZero() {
				continue
			}
			value, err := node(e.Field(j))
			if err != nil {
				return nil, err
			}
			m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
		}
		n.Content = append(n.Content, m)
	}
	return n, nil
}
