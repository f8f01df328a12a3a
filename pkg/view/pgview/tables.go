package pgview

import (
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// queueWrites adds the statements that write all tables. Each takes its rows as
// one array for each column, so there are as many as tables are touched.
func (t *transaction) queueWrites(batch *pgx.Batch) error {
	texts := false
	for _, cw := range t.w.collections {
		deleted, put := cw.split()
		if len(deleted) > 0 {
			args, err := cw.c.keyArgs(deleted)
			if err != nil {
				return err
			}
			batch.Queue(cw.c.sql.rm, args...)
		}
		if len(put) > 0 {
			args, err := cw.c.putArgs(put)
			if err != nil {
				return err
			}
			batch.Queue(cw.c.sql.put, args...)
		}
		if err := cw.queueEntries(batch); err != nil {
			return err
		}
		for i := range cw.texts {
			x := &cw.texts[i]
			if len(x.remove) > 0 {
				batch.Queue(cw.c.texts[i].rm, removeArgs(x.remove)...)
			}
			if len(x.put) > 0 {
				if !texts {
					batch.Queue(`SELECT set_config('gin_pending_list_limit', $1::text, true)`, fewPending)
				}
				texts = true
				batch.Queue(cw.c.texts[i].put, textArgs(x.put)...)
			}
		}
	}
	t.settle(batch)
	return nil
}

func (cw *collectionWrites) queueEntries(batch *pgx.Batch) error {
	for i := range cw.entries {
		e, o := &cw.entries[i], cw.c.ordered[i]
		if len(e.remove) > 0 {
			args, err := o.removeArgs(e.remove)
			if err != nil {
				return err
			}
			batch.Queue(o.rm, args...)
		}
		if len(e.add) > 0 {
			args, err := o.insertArgs(e.add)
			if err != nil {
				return err
			}
			batch.Queue(o.insert, args...)
		}
	}
	return nil
}

// arrays are the arrays of several columns.
type arrays []*array

func newArrays(columns []column, n int) arrays {
	all := make(arrays, len(columns))
	for i, c := range columns {
		all[i] = newArray(c, n)
	}
	return all
}

// addTuple adds an encoded tuple's values to as many arrays from the i-th on.
func (a arrays) addTuple(i int, tuple []byte) error {
	for ; len(tuple) > 0; i++ {
		v, rest, err := view.CutValue(tuple, a[i].typ)
		if err != nil {
			return err
		}
		a[i].addValue(v)
		tuple = rest
	}
	return nil
}

func (a arrays) params() []any {
	all := make([]any, len(a))
	for i := range a {
		all[i] = a[i].param()
	}
	return all
}

// keyArgs are the keys of documents.
func (c *collection) keyArgs(changes []change) ([]any, error) {
	key := c.key()
	a := newArrays(key, len(changes))
	for i := range changes {
		ch := &changes[i]
		a[0].add(ch.op.Key.Tenant)
		if err := a.addTuple(1, ch.tuple); err != nil {
			return nil, err
		}
		a[len(key)-1].add(ch.op.Key.ID)
	}
	return a.params(), nil
}

// putArgs are documents with their keys and all beside them.
func (c *collection) putArgs(changes []change) ([]any, error) {
	args, err := c.keyArgs(changes)
	if err != nil {
		return nil, err
	}
	var texts []string
	var opaque, terms [][]byte
	metas := make([][]byte, len(changes))
	var buf []byte
	for i := range changes {
		row := &changes[i].op.Row
		if len(row.Meta) > 0 {
			metas[i] = row.Meta
		}
		if c.hasTerms() {
			terms = append(terms, row.Terms.AppendBinary(nil))
		}
		if c.codec == nil {
			opaque = append(opaque, orEmpty(row.Data))
			continue
		}
		if buf, err = c.encode(buf[:0], &changes[i]); err != nil {
			return nil, err
		}
		texts = append(texts, string(buf))
	}
	if c.codec == nil {
		args = append(args, opaque, metas)
	} else {
		args = append(args, texts, metas)
	}
	if c.hasTerms() {
		args = append(args, terms)
	}
	return args, nil
}

// orEmpty is b, and empty where that is nil: a nil would be no value.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (o *orderedIndex) removeArgs(entries []entry) ([]any, error) {
	a := newArrays(keyColumns(o.columns), len(entries))
	for i := range entries {
		if err := a.addEntry(o, &entries[i]); err != nil {
			return nil, err
		}
	}
	return a.params(), nil
}

func (o *orderedIndex) insertArgs(entries []entry) ([]any, error) {
	key := keyColumns(o.columns)
	a := newArrays(append(key, o.at...), len(entries))
	for i := range entries {
		if err := a.addEntry(o, &entries[i]); err != nil {
			return nil, err
		}
		if len(o.at) > 0 {
			if err := a.addTuple(len(key), entries[i].at); err != nil {
				return nil, err
			}
		}
	}
	return a.params(), nil
}

func (a arrays) addEntry(o *orderedIndex, e *entry) error {
	a[0].add(e.key.Tenant)
	if err := a.addTuple(1, e.tuple); err != nil {
		return err
	}
	a[1+len(o.columns)].add(e.key.ID)
	return nil
}

func removeArgs(keys []view.Key) []any {
	tenants, ids := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		tenants[i], ids[i] = key.Tenant, key.ID
	}
	return []any{tenants, ids}
}

func textArgs(put []textWrite) []any {
	n := len(put)
	tenants, ids, texts, grams := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	numbers := make([]int32, n)
	var list []int32
	var buf []byte
	for i := range put {
		x := &put[i]
		tenants[i], ids[i], numbers[i], texts[i] = x.key.Tenant, x.key.ID, x.number, x.text
		list = x.grams(list[:0])
		buf = append(buf[:0], '{')
		for k, gram := range list {
			if k > 0 {
				buf = append(buf, ',')
			}
			buf = strconv.AppendInt(buf, int64(gram), 10)
		}
		grams[i] = string(append(buf, '}'))
	}
	return []any{tenants, ids, numbers, texts, grams}
}
