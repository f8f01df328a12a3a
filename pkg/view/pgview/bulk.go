package pgview

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Many rows are written in portions.
const (
	portionRows  = 500
	portionBytes = 1 << 20
	// copyAtLeast is how many new rows are worth a COPY of their own.
	copyAtLeast = 50
)

// bulk writes many rows: those that are said to be new by COPY straight into
// their tables. Should one of them be there all the same everything is done
// again in a way that does not mind.
func (t *transaction) bulk(ctx context.Context) error {
	if err := t.exec(ctx, "SAVEPOINT parley"); err != nil {
		return err
	}
	err := t.tables(ctx, true)
	if state(err) == "23505" { // unique violation
		if err := t.exec(ctx, "ROLLBACK TO SAVEPOINT parley"); err != nil {
			return err
		}
		err = t.tables(ctx, false)
	}
	return err
}

func (t *transaction) exec(ctx context.Context, sql string) error {
	_, err := t.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

func (t *transaction) tables(ctx context.Context, fresh bool) error {
	for _, cw := range t.w.collections {
		if err := t.documents(ctx, cw, fresh); err != nil {
			return fmt.Errorf("collection %s: %w", cw.c.Name, err)
		}
		for i := range cw.c.Indexes {
			if err := t.entries(ctx, cw, i, fresh); err != nil {
				return fmt.Errorf("index %s of collection %s: %w", cw.c.Indexes[i].Name, cw.c.Name, err)
			}
			if err := t.texts(ctx, cw, i, fresh); err != nil {
				return fmt.Errorf("index %s of collection %s: %w", cw.c.Indexes[i].Name, cw.c.Name, err)
			}
		}
	}
	return nil
}

func (t *transaction) documents(ctx context.Context, cw *collectionWrites, fresh bool) error {
	c := cw.c
	deleted, put := cw.split()
	err := t.portions(ctx, c.sql.rm, len(deleted), nil, func(from, to int) ([]any, error) { return c.keyArgs(deleted[from:to]) })
	if err != nil {
		return err
	}
	var news []change
	if fresh {
		news, put = c.fresh(put)
	}
	if len(news) > 0 {
		columns := list(c.key(), plain) + ", document, meta"
		if c.hasTerms() {
			columns += ", terms"
		}
		rows := &copyRows{n: len(news), row: func(b *copyBuffer, i int) error { return c.copyRow(b, &news[i]) }}
		if err := t.copy(ctx, c.table.qualified, columns, rows); err != nil {
			return err
		}
	}
	size := func(i int) int { return len(put[i].op.Row.Data) }
	return t.portions(ctx, c.sql.put, len(put), size, func(from, to int) ([]any, error) { return c.putArgs(put[from:to]) })
}

// fresh takes the documents apart that are said to be new, if they are many.
func (c *collection) fresh(put []change) (fresh, others []change) {
	if c.Clustered {
		fresh = put
	} else {
		for _, ch := range put {
			if ch.prior.Exists() {
				others = append(others, ch)
			} else {
				fresh = append(fresh, ch)
			}
		}
	}
	if len(fresh) < copyAtLeast {
		return nil, put
	}
	return fresh, others
}

// copyRow is a document as a row of a COPY.
func (c *collection) copyRow(b *copyBuffer, ch *change) error {
	row := &ch.op.Row
	n := len(c.primary) + 4
	if c.hasTerms() {
		n++
	}
	b.fields(n)
	b.text(ch.op.Key.Tenant)
	if err := b.tuple(ch.tuple, c.primary); err != nil {
		return err
	}
	b.text(ch.op.Key.ID)
	if c.codec == nil {
		b.bytes(row.Data)
	} else if err := b.json(func(dst []byte) ([]byte, error) { return c.encode(dst, ch) }); err != nil {
		return err
	}
	if len(row.Meta) > 0 {
		b.bytes(row.Meta)
	} else {
		b.null()
	}
	if c.hasTerms() {
		b.scratch = row.Terms.AppendBinary(b.scratch[:0])
		b.bytes(b.scratch)
	}
	return nil
}

// encode appends a document's JSON.
func (c *collection) encode(dst []byte, ch *change) ([]byte, error) {
	out, err := c.codec.AppendJSON(dst, ch.op.Row.Data)
	if err != nil {
		return dst, fmt.Errorf("document %s of %s: %w", ch.op.Key.ID, c.Name, err)
	}
	return out, nil
}

func (t *transaction) entries(ctx context.Context, cw *collectionWrites, index int, fresh bool) error {
	o, e := cw.c.ordered[index], &cw.entries[index]
	if o == nil {
		return nil
	}
	err := t.portions(ctx, o.rm, len(e.remove), nil, func(from, to int) ([]any, error) { return o.removeArgs(e.remove[from:to]) })
	if err != nil {
		return err
	}
	if !fresh || len(e.add) < copyAtLeast {
		return t.portions(ctx, o.insert, len(e.add), nil, func(from, to int) ([]any, error) { return o.insertArgs(e.add[from:to]) })
	}
	columns := append(keyColumns(o.columns), o.at...)
	rows := &copyRows{n: len(e.add), row: func(b *copyBuffer, i int) error {
		x := &e.add[i]
		b.fields(len(columns))
		b.text(x.key.Tenant)
		if err := b.tuple(x.tuple, o.columns); err != nil {
			return err
		}
		b.text(x.key.ID)
		return b.tuple(x.at, o.at)
	}}
	return t.copy(ctx, o.table.qualified, list(columns, plain), rows)
}

func (t *transaction) texts(ctx context.Context, cw *collectionWrites, index int, fresh bool) error {
	x, w := cw.c.texts[index], &cw.texts[index]
	if x == nil {
		return nil
	}
	err := t.portions(ctx, x.rm, len(w.remove), nil, func(from, to int) ([]any, error) { return removeArgs(w.remove[from:to]), nil })
	if err != nil {
		return err
	}
	var news, others []textWrite
	for _, put := range w.put {
		if fresh && !put.stored {
			news = append(news, put)
		} else {
			others = append(others, put)
		}
	}
	if len(news) < copyAtLeast {
		news, others = nil, w.put
	}
	if len(news) > 0 {
		rows := &copyRows{n: len(news), row: func(b *copyBuffer, i int) error {
			put := &news[i]
			b.fields(5)
			b.text(put.key.Tenant)
			b.text(put.key.ID)
			b.int32(put.number)
			b.text(put.text)
			b.grams = put.grams(b.grams[:0])
			b.ints(b.grams)
			return nil
		}}
		if err := t.copy(ctx, x.table.qualified, "tenant, id, number, text, grams", rows); err != nil {
			return err
		}
	}
	size := func(i int) int { return 16 * len(others[i].text) }
	return t.portions(ctx, x.put, len(others), size, func(from, to int) ([]any, error) { return textArgs(others[from:to]), nil })
}

func (t *transaction) copy(ctx context.Context, table, columns string, rows *copyRows) error {
	_, err := t.conn.Conn().PgConn().CopyFrom(ctx, rows, "COPY "+table+" ("+columns+") FROM STDIN (FORMAT binary)")
	if rows.err != nil {
		return rows.err // what the server says of it is only that we gave up
	}
	return err
}

// portions runs a statement for rows, a portion at a time. The parameters of
// the next are made while the server works on the one before.
func (t *transaction) portions(ctx context.Context, sql string, n int, size func(i int) int, args func(from, to int) ([]any, error)) error {
	if n == 0 {
		return nil
	}
	type portion struct {
		args []any
		err  error
	}
	portions, stop := make(chan portion, 1), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(portions)
		for from := 0; from < n; {
			to, bytes := from, 0
			for to < n && to-from < portionRows && bytes < portionBytes {
				if size != nil {
					bytes += size(to)
				}
				to++
			}
			var p portion
			p.args, p.err = args(from, to)
			from = to
			select {
			case portions <- p:
			case <-stop:
				return
			}
		}
	}()
	var err error
	for p := range portions {
		if err = p.err; err == nil {
			_, err = t.conn.Exec(ctx, sql, p.args...)
		}
		if err != nil {
			break
		}
	}
	close(stop)
	<-done
	return err
}
