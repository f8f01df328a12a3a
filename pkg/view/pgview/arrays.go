package pgview

import (
	"time"

	"github.com/parleyhq/parley/pkg/view"
)

// array gathers one column's values of many rows, as a parameter.
type array struct {
	typ    view.ColumnType
	texts  []string
	ints   []int64
	times  []time.Time
	byteas [][]byte
}

func newArray(c column, n int) *array {
	a := &array{typ: c.typ}
	switch c.typ {
	case view.ColumnString:
		a.texts = make([]string, 0, n)
	case view.ColumnInt64:
		a.ints = make([]int64, 0, n)
	case view.ColumnTime:
		a.times = make([]time.Time, 0, n)
	default:
		a.byteas = make([][]byte, 0, n)
	}
	return a
}

// add takes a value as asArg gives it.
func (a *array) add(value any) {
	switch v := value.(type) {
	case string:
		a.texts = append(a.texts, v)
	case int64:
		a.ints = append(a.ints, v)
	case time.Time:
		a.times = append(a.times, v)
	case []byte:
		a.byteas = append(a.byteas, v)
	}
}

func (a *array) addValue(v view.Value) {
	switch a.typ {
	case view.ColumnString:
		a.texts = append(a.texts, v.AsString())
	case view.ColumnInt64:
		a.ints = append(a.ints, v.AsInt64())
	case view.ColumnTime:
		a.times = append(a.times, v.AsTime())
	default:
		a.byteas = append(a.byteas, []byte(v.AsString()))
	}
}

func (a *array) param() any {
	switch a.typ {
	case view.ColumnString:
		return a.texts
	case view.ColumnInt64:
		return a.ints
	case view.ColumnTime:
		return a.times
	default:
		return a.byteas
	}
}
