package pgview

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/parleyhq/parley/pkg/view"
)

// reader reads the newest state, or that of a snapshot.
type reader struct {
	store    *Store
	shared   *shared
	layout   *layout
	gone     *atomic.Bool
	declared []view.Collection
	// snapshot to read from; nil for the newest state.
	snapshot *snapshot
}

// enter begins a call; store.guard.Leave ends it.
func (r *reader) enter(ctx context.Context) error {
	if r.gone.Load() {
		return view.ErrClosed
	}
	return r.store.guard.Enter(ctx)
}

// query runs one statement and calls row for each row of its answer. It is one
// round trip.
func (r *reader) query(ctx context.Context, sql string, args []any, row func(rows pgx.Rows) error) error {
	if r.snapshot != nil {
		r.snapshot.mu.Lock()
		defer r.snapshot.mu.Unlock()
		if r.snapshot.closed.Load() {
			return view.ErrClosed
		}
		rows, err := r.snapshot.conn.Query(ctx, sql, args...)
		return each(rows, err, row)
	}
	rows, err := r.store.pool.Query(ctx, sql, args...)
	return each(rows, err, row)
}

func each(rows pgx.Rows, err error, row func(rows pgx.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// pinned is a reader of one state, for several statements; release lets go of it.
func (r *reader) pinned(ctx context.Context) (pinned *reader, release func(), err error) {
	if r.snapshot != nil {
		return r, func() {}, nil
	}
	s, err := r.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &s.reader, func() { s.end(ctx) }, nil
}

func (r *reader) collection(name string) (*collection, error) {
	c := r.layout.byName[name]
	if c == nil {
		return nil, fmt.Errorf("unknown collection %q: %w", name, view.ErrInvalid)
	}
	return c, nil
}

// keyed begins a call for documents by key.
func (r *reader) keyed(ctx context.Context, name string) (*collection, error) {
	c, err := r.collection(name)
	if err != nil {
		return nil, err
	}
	if c.Clustered {
		return nil, fmt.Errorf("collection is clustered, documents are not found by key: %w", view.ErrInvalid)
	}
	return c, r.enter(ctx)
}

func (c *collection) index(name string, kind view.IndexKind) (int, error) {
	for i := range c.Indexes {
		if c.Indexes[i].Name == name {
			if c.Indexes[i].Kind != kind {
				return 0, fmt.Errorf("index %q of %s is of another kind: %w", name, c.Name, view.ErrInvalid)
			}
			return i, nil
		}
	}
	return 0, fmt.Errorf("unknown index %q of %s: %w", name, c.Name, view.ErrInvalid)
}

// Get is view.Reader's.
func (r *reader) Get(ctx context.Context, collection string, key view.Key) ([]byte, error) {
	data, err := r.get(ctx, collection, key)
	if err != nil {
		return nil, fmt.Errorf("get %s of %s: %w", key.ID, collection, classify(ctx, err))
	}
	return data, nil
}

func (r *reader) get(ctx context.Context, name string, key view.Key) (data []byte, err error) {
	c, err := r.keyed(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.store.guard.Leave()
	if key.Validate() != nil {
		return nil, view.ErrNotFound // nothing can be stored under it
	}
	err = r.query(ctx, c.sql.get, []any{key.Tenant, key.ID}, func(rows pgx.Rows) error {
		data, err = c.document(rows, 0)
		return err
	})
	if err == nil && data == nil {
		err = view.ErrNotFound
	}
	return data, err
}

// GetMany is view.Reader's.
func (r *reader) GetMany(ctx context.Context, collection string, keys []view.Key) ([][]byte, error) {
	all, err := r.getMany(ctx, collection, keys)
	if err != nil {
		return nil, fmt.Errorf("get %d of %s: %w", len(keys), collection, classify(ctx, err))
	}
	return all, nil
}

func (r *reader) getMany(ctx context.Context, name string, keys []view.Key) ([][]byte, error) {
	c, err := r.keyed(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.store.guard.Leave()
	all := make([][]byte, len(keys))
	places := make([]int, 0, len(keys))
	tenants, ids := make([]string, 0, len(keys)), make([]string, 0, len(keys))
	for i, key := range keys {
		if key.Validate() == nil {
			places, tenants, ids = append(places, i), append(tenants, key.Tenant), append(ids, key.ID)
		}
	}
	if len(places) == 0 {
		return all, nil
	}
	err = r.query(ctx, c.sql.getMany, []any{tenants, ids}, func(rows pgx.Rows) error {
		var i int64
		if err := rows.Scan(&i, nil); err != nil {
			return err
		}
		data, err := c.document(rows, 1)
		all[places[i-1]] = data
		return err
	})
	return all, err
}

// Load is view.Reader's.
func (r *reader) Load(ctx context.Context, collection string, key view.Key) (view.Row, error) {
	row, err := r.load(ctx, collection, key)
	if err != nil {
		return view.Row{}, fmt.Errorf("load %s of %s: %w", key.ID, collection, classify(ctx, err))
	}
	return row, nil
}

func (r *reader) load(ctx context.Context, name string, key view.Key) (row view.Row, err error) {
	c, err := r.keyed(ctx, name)
	if err != nil {
		return view.Row{}, err
	}
	defer r.store.guard.Leave()
	if key.Validate() != nil {
		return view.Row{}, view.ErrNotFound
	}
	err = r.query(ctx, c.sql.load, []any{key.Tenant, key.ID}, func(rows pgx.Rows) error {
		if row.Data, err = c.document(rows, 0); err != nil {
			return err
		}
		if row.Meta, err = columnBytes(rows, 1); err != nil || !c.hasTerms() {
			return err
		}
		row.Terms, err = terms(rows, 2)
		return err
	})
	if err == nil && row.Data == nil {
		err = view.ErrNotFound
	}
	return row, err
}

// document is the i-th column of the row at hand as the bytes of a document;
// empty, not nil, for an empty one.
func (c *collection) document(rows pgx.Rows, i int) ([]byte, error) {
	raw, err := rawColumn(rows, i)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, fmt.Errorf("no document: %w", view.ErrCorrupt)
	}
	if c.codec == nil {
		return append(make([]byte, 0, len(raw)), raw...), nil
	}
	return c.codec.AppendWire(make([]byte, 0, len(raw)/2), raw)
}

// columnBytes are those of the i-th column of the row at hand; nil for none.
func columnBytes(rows pgx.Rows, i int) ([]byte, error) {
	raw, err := rawColumn(rows, i)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return append(make([]byte, 0, len(raw)), raw...), nil
}

func terms(rows pgx.Rows, i int) (view.Terms, error) {
	raw, err := columnBytes(rows, i)
	if err != nil {
		return view.Terms{}, err
	}
	t, rest, err := view.CutTerms(raw)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes behind index entries: %w", len(rest), view.ErrCorrupt)
	}
	return t, err
}

// rawColumn is what the server sent of a jsonb or bytea column, without what is
// put around it; good until the next row.
func rawColumn(rows pgx.Rows, i int) ([]byte, error) {
	raw := rows.RawValues()[i]
	if raw == nil {
		return nil, nil
	}
	switch fd := &rows.FieldDescriptions()[i]; {
	case fd.DataTypeOID == pgtype.JSONBOID && fd.Format == pgx.BinaryFormatCode:
		if len(raw) == 0 || raw[0] != 1 {
			return nil, errors.New("jsonb of an unknown version")
		}
		return raw[1:], nil
	case fd.DataTypeOID == pgtype.ByteaOID && fd.Format == pgx.TextFormatCode:
		return unhex(raw, fd)
	default:
		return raw, nil
	}
}

func unhex(raw []byte, fd *pgconn.FieldDescription) ([]byte, error) {
	if len(raw) < 2 || raw[0] != '\\' || raw[1] != 'x' {
		return nil, fmt.Errorf("column %s is not in hexadecimal: set bytea_output to hex", fd.Name)
	}
	out := make([]byte, hex.DecodedLen(len(raw)-2))
	if _, err := hex.Decode(out, raw[2:]); err != nil {
		return nil, fmt.Errorf("column %s: %w", fd.Name, err)
	}
	return out, nil
}

// scanPage is how many documents a scan fetches at a time.
const scanPage = 500

// Scan is view.Reader's.
func (r *reader) Scan(ctx context.Context, collection, tenant string) iter.Seq2[view.Entry, error] {
	return func(yield func(view.Entry, error) bool) {
		if err := r.scan(ctx, collection, tenant, yield); err != nil {
			yield(view.Entry{}, fmt.Errorf("scan %s: %w", collection, classify(ctx, err)))
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
	if (view.Key{Tenant: tenant, ID: "x"}).Validate() != nil {
		return nil
	}
	one, release, err := r.pinned(ctx)
	if err != nil {
		return err
	}
	defer release()
	var last []any
	for {
		entries, key, err := one.scanPage(ctx, c, tenant, last)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !yield(e, nil) {
				return nil
			}
		}
		if len(entries) < scanPage {
			return nil
		}
		last = key
	}
}

// scanPage reads the documents behind last, and gives the last one's key.
func (r *reader) scanPage(ctx context.Context, c *collection, tenant string, last []any) ([]view.Entry, []any, error) {
	key := c.key()
	var b statement
	b.text("SELECT ", list(key, plain), ", document, meta FROM ", c.table.qualified)
	word := " WHERE "
	if tenant != "" {
		b.text(" WHERE tenant = ").arg(tenant, tenantColumn)
		word = " AND "
	}
	if last != nil {
		b.text(word, "(", list(key, plain), ") > (")
		b.args(last, key).text(")")
	}
	b.text(" ORDER BY ", list(key, plain), " LIMIT ", strconv.Itoa(scanPage))
	entries := make([]view.Entry, 0, scanPage)
	values := newValues(key)
	targets := append(values.targets(), nil, nil)
	err := r.query(ctx, b.sql(), b.values, func(rows pgx.Rows) error {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		e := view.Entry{Key: view.Key{Tenant: *values.text(0), ID: *values.text(len(key) - 1)}}
		var err error
		if e.Data, err = c.document(rows, len(key)); err == nil {
			e.Meta, err = columnBytes(rows, len(key)+1)
		}
		entries = append(entries, e)
		return err
	})
	if err != nil || len(entries) == 0 {
		return nil, nil, err
	}
	return entries, values.args(), nil
}
