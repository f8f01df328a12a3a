package pebbleview

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/view"
)

// Query is view.Reader's.
func (r *reader) Query(ctx context.Context, collection string, q view.Query) (view.Page, error) {
	if err := r.enter(ctx); err != nil {
		return view.Page{}, fmt.Errorf("query %s by %s: %w", collection, q.Index, err)
	}
	defer r.store.guard.Leave()
	page, err := r.query(ctx, collection, &q)
	if err != nil {
		return view.Page{}, fmt.Errorf("query %s by %s: %w", collection, q.Index, err)
	}
	return page, nil
}

func (r *reader) query(ctx context.Context, name string, q *view.Query) (page view.Page, err error) {
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
	fingerprint := q.Fingerprint()
	behind, err := parseCursor(q.Cursor, fingerprint)
	if err != nil {
		return view.Page{}, err
	}
	source, release := r.pinned()
	defer func() { err = errors.Join(err, release()) }()

	area := uint8(1 + index)
	if c.Clustered && index == 0 {
		area = areaDocuments
	}
	m := merge{limit: q.Limit + 1, reverse: q.Reverse, keepValues: c.Clustered}
	base := view.AppendString(appendArea(nil, r.shared.number, c.id, area), q.Tenant)
	if err := m.run(ctx, source, base, q, behind); err != nil {
		return view.Page{}, err
	}
	found := m.found
	if len(found) > q.Limit {
		found = found[:q.Limit]
		page.Next = formatCursor(fingerprint, found[q.Limit-1].place)
	}
	columns := c.Indexes[index].Columns
	if len(q.Prefixes) > 0 {
		columns = columns[len(q.Prefixes[0]):]
	}
	page.Entries = make([]view.Entry, 0, len(found))
	for i := range found {
		e, err := r.entry(source, c, index, columns, q.Tenant, &found[i])
		if err != nil {
			return view.Page{}, err
		}
		page.Entries = append(page.Entries, e)
	}
	return page, nil
}

// entry fetches the document that an index entry leads to.
func (r *reader) entry(source pebble.Reader, c *collection, index int, columns []view.ColumnType, tenant string, f *foundEntry) (view.Entry, error) {
	_, id, err := view.CutTuple(f.place, columns)
	if err != nil {
		return view.Entry{}, fmt.Errorf("index entry: %w", err)
	}
	key := view.Key{Tenant: tenant, ID: string(id)}
	var row view.Row
	switch {
	case !c.Clustered:
		row, err = getRow(source, appendDocumentKey(nil, r.shared.number, c.id, key))
	case index == 0:
		row, err = parseRow(f.value)
	default:
		row, err = getRow(source, appendTupleKey(nil, r.shared.number, c.id, areaDocuments, key, f.value))
	}
	if err != nil {
		return view.Entry{}, fmt.Errorf("document %s of an index entry: %w: %w", key.ID, view.ErrCorrupt, err)
	}
	return view.Entry{Key: key, Data: row.Data, Meta: row.Meta}, nil
}

// foundEntry is an index entry: its place behind the prefix, that is the
// remaining columns and the id, and its value.
type foundEntry struct {
	place, value []byte
}

// merge finds the first entries of several prefixes in the order of what is
// behind these. It goes through one after the other and keeps the best: a
// prefix is left as soon as its entries cannot be among them.
type merge struct {
	limit      int
	reverse    bool
	keepValues bool
	// found is in order once run returns.
	found []foundEntry
}

func (m *merge) compare(a, b []byte) int {
	if m.reverse {
		return bytes.Compare(b, a)
	}
	return bytes.Compare(a, b)
}

func (m *merge) run(ctx context.Context, source pebble.Reader, base []byte, q *view.Query, behind []byte) error {
	it, err := source.NewIter(&pebble.IterOptions{LowerBound: base, UpperBound: successor(base)})
	if err != nil {
		return fmt.Errorf("iterate: %w", err)
	}
	prefixes := q.Prefixes
	if len(prefixes) == 0 {
		prefixes = []view.Tuple{nil}
	}
	var begin []byte
	for i, prefix := range prefixes {
		if i%64 == 63 {
			if err := ctx.Err(); err != nil {
				return errors.Join(err, it.Close())
			}
		}
		begin = view.AppendTuple(append(begin[:0], base...), prefix)
		lower, upper := bounds(begin, q, behind)
		if upper != nil && bytes.Compare(lower, upper) >= 0 {
			continue
		}
		it.SetBounds(lower, upper)
		m.take(it, len(begin))
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("iterate: %w", err)
	}
	return nil
}

// bounds are where a prefix's entries begin and end.
func bounds(begin []byte, q *view.Query, behind []byte) (lower, upper []byte) {
	lower, upper = slices.Clone(begin), successor(begin)
	if !q.From.IsZero() {
		lower = view.AppendValue(lower, q.From)
	}
	if !q.To.IsZero() {
		upper = view.AppendValue(slices.Clone(begin), q.To)
	}
	if behind != nil {
		place := slices.Concat(begin, behind)
		if q.Reverse {
			if upper == nil || bytes.Compare(place, upper) < 0 {
				upper = place
			}
		} else if place = append(place, 0); bytes.Compare(place, lower) > 0 {
			lower = place
		}
	}
	return lower, upper
}

// take merges the iterator's entries into what was found.
func (m *merge) take(it *pebble.Iterator, skip int) {
	step, valid := it.Next, it.First
	if m.reverse {
		step, valid = it.Prev, it.Last
	}
	at := 0 // entries of one prefix come in order: the next is behind the last
	for ok := valid(); ok; ok = step() {
		place := it.Key()[skip:]
		full := len(m.found) == m.limit
		if full && m.compare(place, m.found[len(m.found)-1].place) >= 0 {
			return
		}
		n, same := slices.BinarySearchFunc(m.found[at:], place, func(f foundEntry, p []byte) int { return m.compare(f.place, p) })
		at += n
		if same {
			continue
		}
		if full {
			m.found = m.found[:len(m.found)-1]
		}
		f := foundEntry{place: slices.Clone(place)}
		if m.keepValues {
			f.value = slices.Clone(it.Value())
		}
		m.found = slices.Insert(m.found, at, f)
	}
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

// parseCursor gives the place; nil for no cursor.
func parseCursor(b []byte, fingerprint uint64) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) <= cursorHeader || b[0] != cursorVersion || binary.BigEndian.Uint64(b[1:]) != fingerprint {
		return nil, view.ErrInvalidCursor
	}
	return b[cursorHeader:], nil
}

// searchFingerprint tells searches apart, and generations: numbers of documents are a generation's own.
func (r *reader) searchFingerprint(s *view.Search) uint64 {
	h := fnv.New64a()
	// Writes to a hash never fail.
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, r.shared.number))
	for _, part := range []string{s.Tenant, s.Index, s.Text} {
		_, _ = h.Write(view.AppendString(nil, part))
	}
	return h.Sum64()
}

// Scan is view.Reader's.
func (r *reader) Scan(ctx context.Context, collection, tenant string) iter.Seq2[view.Entry, error] {
	return func(yield func(view.Entry, error) bool) {
		if err := r.scan(ctx, collection, tenant, yield); err != nil {
			yield(view.Entry{}, fmt.Errorf("scan %s: %w", collection, err))
		}
	}
}

// scan returns nil once yield has had enough.
func (r *reader) scan(ctx context.Context, name, tenant string, yield func(view.Entry, error) bool) error {
	c, err := r.collection(name)
	if err != nil {
		return err
	}
	if err := r.enter(ctx); err != nil {
		return err
	}
	defer r.store.guard.Leave()
	base := appendArea(nil, r.shared.number, c.id, areaDocuments)
	lower := base
	if tenant != "" {
		lower = view.AppendString(slices.Clone(base), tenant)
	}
	it, err := r.source().NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: successor(lower)})
	if err != nil {
		return fmt.Errorf("iterate: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		e, err := c.scanned(it.Key()[len(base):], it.Value())
		if err = errors.Join(err, ctx.Err()); err != nil {
			return errors.Join(err, it.Close())
		}
		if !yield(e, nil) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("iterate: %w", err)
	}
	return nil
}

func (c *collection) scanned(key, value []byte) (view.Entry, error) {
	tenant, rest, err := view.CutString(key)
	if err != nil {
		return view.Entry{}, fmt.Errorf("document key: %w", err)
	}
	if c.Clustered {
		if _, rest, err = view.CutTuple(rest, c.Indexes[0].Columns); err != nil {
			return view.Entry{}, fmt.Errorf("document key: %w", err)
		}
	}
	row, err := parseRow(slices.Clone(value))
	if err != nil {
		return view.Entry{}, err
	}
	return view.Entry{Key: view.Key{Tenant: tenant, ID: string(rest)}, Data: row.Data, Meta: row.Meta}, nil
}
