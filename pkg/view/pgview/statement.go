package pgview

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/parleyhq/parley/pkg/view"
)

// statement puts a query with its parameters together.
type statement struct {
	b      strings.Builder
	values []any
}

func (s *statement) text(parts ...string) *statement {
	for _, part := range parts {
		s.b.WriteString(part)
	}
	return s
}

// param adds a parameter. Its type is always said: not every query mode knows it.
func (s *statement) param(value any, typ string) *statement {
	s.values = append(s.values, value)
	return s.text("$", strconv.Itoa(len(s.values)), "::", typ)
}

// arg adds a parameter of a column's type.
func (s *statement) arg(value any, c column) *statement { return s.param(value, c.sqlType()) }

// args adds parameters for columns, with commas between.
func (s *statement) args(values []any, columns []column) *statement {
	for i, c := range columns {
		if i > 0 {
			s.text(", ")
		}
		s.arg(values[i], c)
	}
	return s
}

func (s *statement) sql() string { return s.b.String() }

// values are where a row's columns are scanned to.
type values struct {
	columns []column
	at      []any
}

func newValues(columns []column) *values {
	v := &values{columns: columns, at: make([]any, len(columns))}
	for i, c := range columns {
		switch c.typ {
		case view.ColumnString:
			v.at[i] = new(string)
		case view.ColumnInt64:
			v.at[i] = new(int64)
		case view.ColumnTime:
			v.at[i] = new(time.Time)
		default:
			v.at[i] = new([]byte)
		}
	}
	return v
}

// targets for rows.Scan.
func (v *values) targets() []any { return append([]any(nil), v.at...) }

func (v *values) text(i int) *string {
	s, ok := v.at[i].(*string)
	if !ok {
		return new(string)
	}
	return s
}

// args are the values as parameters.
func (v *values) args() []any {
	all := make([]any, len(v.at))
	for i, at := range v.at {
		switch p := at.(type) {
		case *string:
			all[i] = *p
		case *int64:
			all[i] = *p
		case *time.Time:
			all[i] = *p
		case *[]byte:
			all[i] = append([]byte{}, *p...)
		}
	}
	return all
}

// tuple is the values from the first on as a tuple of the columns.
func (v *values) tuple(n int) view.Tuple {
	t := make(view.Tuple, 0, n)
	for _, at := range v.at[:n] {
		switch p := at.(type) {
		case *string:
			t = append(t, view.String(*p))
		case *int64:
			t = append(t, view.Int64(*p))
		case *time.Time:
			t = append(t, view.Time(*p))
		case *[]byte:
			t = append(t, view.Bytes(*p))
		}
	}
	return t
}

// asArg is a value as a parameter, cut as entries of an index are.
func asArg(v view.Value) (any, error) {
	cut, _, err := view.CutValue(view.AppendValue(nil, v), v.Type())
	if err != nil {
		return nil, err
	}
	switch cut.Type() {
	case view.ColumnString:
		return cut.AsString(), nil
	case view.ColumnInt64:
		return cut.AsInt64(), nil
	case view.ColumnTime:
		return cut.AsTime(), nil
	case view.ColumnBytes:
		return []byte(cut.AsString()), nil
	default:
		return nil, fmt.Errorf("value of type %s: %w", cut.Type(), view.ErrInvalid)
	}
}
