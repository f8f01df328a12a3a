package pgview

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// Query is view.Reader's.
func (r *reader) Query(ctx context.Context, collection string, q view.Query) (view.Page, error) {
	page, err := r.queryIndex(ctx, collection, &q)
	if err != nil {
		return view.Page{}, fmt.Errorf("query %s by %s: %w", collection, q.Index, classify(ctx, err))
	}
	return page, nil
}

func (r *reader) queryIndex(ctx context.Context, name string, q *view.Query) (view.Page, error) {
	if err := r.enter(ctx); err != nil {
		return view.Page{}, err
	}
	defer r.store.guard.Leave()
	c, err := r.collection(name)
	if err != nil {
		return view.Page{}, err
	}
	index, err := c.index(q.Index, view.Ordered)
	if err != nil {
		return view.Page{}, err
	}
	if err := q.Validate(&c.Indexes[index]); err != nil {
		return view.Page{}, err
	}
	x := indexQuery{c: c, q: q, fingerprint: q.Fingerprint()}
	if err := x.prepare(index); err != nil {
		return view.Page{}, err
	}
	if (view.Key{Tenant: q.Tenant, ID: "x"}).Validate() != nil {
		return view.Page{}, nil // nobody is called so
	}
	return x.run(ctx, r)
}

// indexQuery is a query on its way to SQL. Entries of an index are found first,
// so that its order and the limit do the work, then their documents.
type indexQuery struct {
	c           *collection
	q           *view.Query
	fingerprint uint64
	// side is the index's table; nil where it is the collection's own.
	side *orderedIndex
	// fixed are the columns that the prefixes have, rest those behind, with the id.
	fixed, rest []column
	prefixes    []view.Tuple
	// behind is the cursor's place; nil for none.
	behind []any
}

func (x *indexQuery) prepare(index int) error {
	columns := x.c.primary
	if x.side = x.c.ordered[index]; x.side != nil {
		columns = x.side.columns
	}
	n := 0
	if len(x.q.Prefixes) > 0 {
		n = len(x.q.Prefixes[0])
	}
	x.fixed, x.rest = columns[:n], append(append([]column(nil), columns[n:]...), idColumn)
	seen := map[string]bool{}
	for _, prefix := range x.q.Prefixes {
		// All that are alike after they were cut are one.
		if k := string(view.AppendTuple(nil, prefix)); !seen[k] {
			seen[k] = true
			x.prefixes = append(x.prefixes, prefix)
		}
	}
	var err error
	x.behind, err = x.parseCursor()
	return err
}

// limits are those that statements are made with: few, so that few have to be
// prepared, and written out, so that the server plans for them.
var limits = [...]int{2, 11, 26, 51, 101, 251, 501, view.MaxLimit + 1}

func (x *indexQuery) limit() string {
	for _, n := range limits {
		if x.q.Limit < n {
			return strconv.Itoa(n)
		}
	}
	return strconv.Itoa(view.MaxLimit + 1)
}

// order is an ORDER BY of the columns behind the prefix.
func (x *indexQuery) order(prefix string) string {
	direction := ""
	if x.q.Reverse {
		direction = " DESC"
	}
	return " ORDER BY " + list(x.rest, func(c column) string { return prefix + c.name + direction })
}

// source is the table that has the entries.
func (x *indexQuery) source() string {
	if x.side != nil {
		return x.side.table.qualified
	}
	return x.c.table.qualified
}

// place are the columns of an entry that lead to its document.
func (x *indexQuery) place() []column {
	switch {
	case x.side == nil:
		return keyColumns(x.c.primary)[1:]
	case x.c.Clustered:
		return append(append([]column(nil), x.side.at...), idColumn)
	default:
		return []column{idColumn}
	}
}

// run makes the query.
func (x *indexQuery) run(ctx context.Context, r *reader) (page view.Page, err error) {
	b, err := x.statement()
	if err != nil {
		return view.Page{}, err
	}
	values := newValues(x.rest)
	n := len(x.rest)
	targets := append(values.targets(), nil, nil)
	more := false
	err = r.query(ctx, b.sql(), b.values, func(rows pgx.Rows) error {
		if len(page.Entries) == x.q.Limit {
			more = true
			return nil
		}
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		e := view.Entry{Key: view.Key{Tenant: x.q.Tenant, ID: *values.text(n - 1)}}
		if e.Data, err = x.c.document(rows, n); err != nil {
			return fmt.Errorf("document %s of an index entry: %w", e.Key.ID, err)
		}
		if e.Meta, err = columnBytes(rows, n+1); err != nil {
			return err
		}
		page.Entries = append(page.Entries, e)
		if len(page.Entries) == x.q.Limit {
			place := view.AppendTuple(nil, values.tuple(n-1))
			page.Next = formatCursor(x.fingerprint, append(place, e.Key.ID...))
		}
		return nil
	})
	if err != nil {
		return view.Page{}, err
	}
	if !more {
		page.Next = nil
	}
	return page, nil
}

// statement finds entries and then their documents.
func (x *indexQuery) statement() (*statement, error) {
	b := &statement{}
	if x.side == nil && len(x.prefixes) <= 1 {
		// The documents are where the entries are.
		return b, x.one(b, list(x.rest, with("s."))+", s.document, s.meta")
	}
	b.text("SELECT ", list(x.rest, with("e.")), ", d.document, d.meta FROM (")
	if err := x.entries(b); err != nil {
		return nil, err
	}
	b.text(") e LEFT JOIN ", x.c.table.qualified, " d ON d.tenant = ").arg(x.q.Tenant, tenantColumn)
	for i, to := range keyColumns(x.c.primary)[1:] {
		b.text(" AND d.", to.name, " = e.", x.place()[i].name)
	}
	b.text(x.order("e."), " LIMIT ").param(int64(x.q.Limit+1), "bigint")
	return b, nil
}

// entries is the select of the first entries.
func (x *indexQuery) entries(b *statement) error {
	if len(x.prefixes) > 1 {
		return x.merged(b)
	}
	return x.one(b, list(x.entryColumns(), with("s.")))
}

// one is the first entries of one prefix, or of the whole index.
func (x *indexQuery) one(b *statement, columns string) error {
	b.text("SELECT ", columns, " FROM ", x.source(), " s WHERE s.tenant = ").arg(x.q.Tenant, tenantColumn)
	if len(x.prefixes) == 1 {
		for i, c := range x.fixed {
			value, err := asArg(x.prefixes[0][i])
			if err != nil {
				return err
			}
			b.text(" AND s.", c.name, " = ").arg(value, c)
		}
	}
	if err := x.bounds(b); err != nil {
		return err
	}
	b.text(x.order("s."), " LIMIT ", x.limit())
	return nil
}

// entryColumns are the columns of an entry that are needed, each once.
func (x *indexQuery) entryColumns() []column {
	all := append([]column(nil), x.rest...)
	for _, c := range x.place() {
		there := false
		for _, o := range all {
			there = there || o.name == c.name
		}
		if !there {
			all = append(all, c)
		}
	}
	return all
}

// merged is the first entries of each of several prefixes, merged. An entry
// under several of them at the same place comes once.
func (x *indexQuery) merged(b *statement) error {
	b.text("SELECT DISTINCT ON (", list(x.rest, with("l.")), ") ", list(x.entryColumns(), with("l.")), " FROM unnest(")
	for i, c := range x.fixed {
		if i > 0 {
			b.text(", ")
		}
		values, err := x.fixedValues(i, c)
		if err != nil {
			return err
		}
		b.param(values, c.sqlType()+"[]")
	}
	b.text(") AS p(", list(x.fixed, plain), ") CROSS JOIN LATERAL (SELECT ", list(x.entryColumns(), with("s.")), " FROM ", x.source(), " s WHERE s.tenant = ").
		arg(x.q.Tenant, tenantColumn).text(" AND ", equal("s.", "p.", x.fixed))
	if err := x.bounds(b); err != nil {
		return err
	}
	b.text(x.order("s."), " LIMIT ", x.limit(), ") l", x.order("l."), " LIMIT ", x.limit())
	return nil
}

// fixedValues are the i-th values of all prefixes.
func (x *indexQuery) fixedValues(i int, c column) (any, error) {
	v := newArray(c, len(x.prefixes))
	for _, prefix := range x.prefixes {
		value, err := asArg(prefix[i])
		if err != nil {
			return nil, err
		}
		v.add(value)
	}
	return v.param(), nil
}

// bounds adds what the query's range and cursor say.
func (x *indexQuery) bounds(b *statement) error {
	for _, bound := range []struct {
		value view.Value
		op    string
	}{{x.q.From, " >= "}, {x.q.To, " < "}} {
		if bound.value.IsZero() {
			continue
		}
		value, err := asArg(bound.value)
		if err != nil {
			return err
		}
		b.text(" AND s.", x.rest[0].name, bound.op).arg(value, x.rest[0])
	}
	if x.behind != nil {
		op := " > ("
		if x.q.Reverse {
			op = " < ("
		}
		b.text(" AND (", list(x.rest, with("s.")), ")", op).args(x.behind, x.rest).text(")")
	}
	return nil
}

// A cursor is its version, the fingerprint of the query that it continues, and a place.
const (
	cursorVersion = 1
	cursorHeader  = 9
)

func formatCursor(fingerprint uint64, place []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{cursorVersion}, fingerprint)
	return append(b, place...)
}

// cutCursor gives the place; nil for no cursor.
func cutCursor(b []byte, fingerprint uint64) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) <= cursorHeader || b[0] != cursorVersion || binary.BigEndian.Uint64(b[1:]) != fingerprint {
		return nil, view.ErrInvalidCursor
	}
	return b[cursorHeader:], nil
}

// parseCursor gives the place as the values of the columns behind the prefix.
func (x *indexQuery) parseCursor() ([]any, error) {
	place, err := cutCursor(x.q.Cursor, x.fingerprint)
	if err != nil || place == nil {
		return nil, err
	}
	types := make([]view.ColumnType, len(x.rest)-1)
	for i := range types {
		types[i] = x.rest[i].typ
	}
	tuple, id, err := view.CutTuple(place, types)
	// What cannot be a value was not made here either.
	if err != nil || (view.Key{ID: string(id)}).Validate() != nil {
		return nil, view.ErrInvalidCursor
	}
	all := make([]any, 0, len(x.rest))
	for i, v := range tuple {
		if types[i] == view.ColumnString && view.String(v.AsString()) != v || types[i] == view.ColumnTime && view.Time(v.AsTime()) != v {
			return nil, view.ErrInvalidCursor
		}
		value, err := asArg(v)
		if err != nil {
			return nil, view.ErrInvalidCursor
		}
		all = append(all, value)
	}
	return append(all, string(id)), nil
}
