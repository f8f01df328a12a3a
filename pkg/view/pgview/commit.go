package pgview

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parleyhq/parley/pkg/view"
)

// A commit of up to so many documents and bytes is one round trip.
const (
	fewDocuments = 256
	fewBytes     = 1 << 20
)

// Commit is view.Generation's.
func (g *generation) Commit(ctx context.Context, b *view.Batch) error {
	if err := g.commit(ctx, b); err != nil {
		return fmt.Errorf("commit to %s: %w", g.shared.ns, err)
	}
	g.store.wake.Alarm(g.shared.ns.Projection)
	return nil
}

func (g *generation) commit(ctx context.Context, b *view.Batch) error {
	if err := g.enter(ctx); err != nil {
		return err
	}
	defer g.store.guard.Leave()
	sh := g.shared
	if err := sh.lockCommit(ctx); err != nil {
		return err
	}
	defer sh.unlockCommit()
	switch c := &b.Checkpoint; {
	case c.Namespace != sh.ns:
		return fmt.Errorf("checkpoint of %s: %w", c.Namespace, view.ErrInvalid)
	case c.Token < sh.writer.token:
		return fmt.Errorf("token %d, newest is %d: %w", c.Token, sh.writer.token, view.ErrFenced)
	case c.Token > math.MaxInt64:
		return fmt.Errorf("token %d was never given out: %w", c.Token, view.ErrInvalid)
	}
	w, err := gather(g.layout, b)
	if err != nil {
		return err
	}
	sh.expect(b.Checkpoint.Token)
	t := transaction{g: g, w: w, few: b.Len() <= fewDocuments && b.Bytes() <= fewBytes}
	if err := t.run(ctx, &b.Checkpoint); err != nil {
		sh.failed.Store(true)
		sh.writer.numbers = nil // what was allocated may be taken, or not
		if state(err) == "25006" {
			g.store.pool.Reset() // the server became a standby: look for the primary
		}
		return t.failure(ctx, err)
	}
	sh.failed.Store(false)
	sh.writer.token, sh.writer.commits, sh.writer.known = b.Checkpoint.Token, t.commits, true
	sh.writer.filling = !t.few || sh.writer.filling && !t.settled
	g.store.metrics.committed(t.way(), b.Len())
	return nil
}

// expect brings what a commit of the token relies on up to date.
func (sh *shared) expect(token uint64) {
	found := sh.found.Swap(nil)
	switch {
	case token != sh.writer.token:
		// Given out elsewhere: by a store that is closed, or another process.
		sh.writer = writer{filling: true}
	case found != nil && sh.failed.Load():
		// The writer has read the checkpoint since his commit failed.
		sh.writer.commits, sh.writer.known = found.commits, true
	}
	if sh.writer.numbers == nil {
		sh.writer.numbers = map[numberKey]int32{}
	}
}

// transaction writes one batch.
type transaction struct {
	g    *generation
	w    *writes
	few  bool
	conn *pgxpool.Conn
	// commits there are with this one.
	commits int64
	// ending says that the server may have been told to commit.
	ending bool
	// settled says that texts are where searches find them fast.
	settled bool
	numbers map[numberKey]int32
}

func (t *transaction) way() string {
	if t.few {
		return wayRoundTrip
	}
	return wayCopy
}

// failure classifies an error, and says so where the outcome is not known.
func (t *transaction) failure(ctx context.Context, err error) error {
	unsure := t.ending && !certain(err)
	err = classify(ctx, err)
	if unsure {
		return fmt.Errorf("the connection broke and the commit may have been made all the same, the checkpoint tells: %w", err)
	}
	return err
}

func (t *transaction) run(ctx context.Context, c *view.Checkpoint) (err error) {
	if t.conn, err = t.g.store.pool.Acquire(ctx); err != nil {
		return err
	}
	defer t.conn.Release()
	t.numbers = map[numberKey]int32{}
	var batch pgx.Batch
	if t.few && !t.w.unresolved() && t.allocated() {
		// All statements up to the end of the batch are one transaction.
		t.begin(&batch, c)
		if err := t.finish(ctx, &batch); err != nil {
			return err
		}
		t.keep()
		return nil
	}
	batch.Queue("BEGIN")
	t.begin(&batch, c)
	if err := t.within(ctx, &batch); err != nil {
		// Where it cannot be rolled back the pool closes the connection.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), evictAfter)
		defer cancel()
		_, _ = t.conn.Exec(ctx, "ROLLBACK", pgx.QueryExecModeSimpleProtocol)
		return err
	}
	t.keep()
	return nil
}

// begin takes the generation's row and moves the checkpoint.
func (t *transaction) begin(batch *pgx.Batch, c *view.Checkpoint) {
	s, sh := t.g.store, t.g.shared
	var expected *int64
	if sh.writer.known {
		expected = &sh.writer.commits
	}
	batch.Queue(`SELECT `+s.own("begin_commit")+`($1::int, $2::bigint, $3::bigint, $4::bigint, $5::text::uuid, $6::bigint)`,
		s.lockClass(), sh.number, int64(c.Token), expected, c.LogID.String(), int64(c.Position)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&t.commits) })
}

// within runs what is in an explicit transaction, beginning with the batch.
func (t *transaction) within(ctx context.Context, batch *pgx.Batch) error {
	t.w.queuePriors(batch)
	if err := t.conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if err := t.w.resolve(); err != nil {
		return err
	}
	var numbers pgx.Batch
	t.queueNumbers(&numbers)
	if err := t.conn.SendBatch(ctx, &numbers).Close(); err != nil {
		return err
	}
	if err := t.allocate(); err != nil {
		return err
	}
	var last pgx.Batch
	if t.few {
		if err := t.queueWrites(&last); err != nil {
			return err
		}
	} else if err := t.bulk(ctx); err != nil {
		return err
	}
	last.Queue("COMMIT")
	t.ending = true
	return t.conn.SendBatch(ctx, &last).Close()
}

// finish sends a batch that is the whole transaction.
func (t *transaction) finish(ctx context.Context, batch *pgx.Batch) error {
	if err := t.allocate(); err != nil {
		return err
	}
	if err := t.queueWrites(batch); err != nil {
		return err
	}
	t.ending = true
	return t.conn.SendBatch(ctx, batch).Close()
}

// keep keeps what the next commit need not look up.
func (t *transaction) keep() {
	for k, next := range t.numbers {
		t.g.shared.writer.numbers[k] = next
	}
}
