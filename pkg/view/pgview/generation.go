package pgview

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parleyhq/parley/pkg/view"
)

// generation is a handle of a generation.
type generation struct {
	reader
	closed atomic.Bool
}

var _ view.Generation = (*generation)(nil)

// Open is view.Store's.
func (s *Store) Open(ctx context.Context, ns view.Namespace, collections ...view.Collection) (view.Generation, error) {
	g, err := s.openGeneration(ctx, ns, collections)
	if err != nil {
		return nil, fmt.Errorf("open generation %s: %w", ns, classify(ctx, err))
	}
	return g, nil
}

func (s *Store) openGeneration(ctx context.Context, ns view.Namespace, collections []view.Collection) (*generation, error) {
	if err := errors.Join(ns.Validate(), view.ValidateCollections(collections)); err != nil {
		return nil, err
	}
	if err := s.guard.Enter(ctx); err != nil {
		return nil, err
	}
	defer s.guard.Leave()
	// What the columns are, and thereby the names, does not depend on the schema.
	draft, err := newLayout("", collections)
	if err != nil {
		return nil, err
	}
	stored, err := s.findGeneration(ctx, ns)
	if errors.Is(err, pgx.ErrNoRows) {
		if stored, err = s.makeGeneration(ctx, ns, collections, draft.shape); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if schema := view.Schema(collections); stored.collections != schema {
		return nil, fmt.Errorf("%w: raise the version of projection %s; filled with\n%sdeclared are\n%s", view.ErrSchema, ns.Projection, stored.collections, schema)
	}
	if err := s.checkShape(ctx, ns, stored, draft.shape); err != nil {
		return nil, err
	}
	l, err := newLayout(stored.schemaName, collections)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.generations[stored.number]
	if sh == nil {
		sh = &shared{ns: ns, number: stored.number, schema: stored.schemaName, commit: make(chan struct{}, 1)}
		s.generations[stored.number] = sh
	}
	sh.handles++
	g := &generation{}
	g.reader = reader{store: s, shared: sh, layout: l, gone: &g.closed, declared: collections}
	return g, nil
}

// storedGeneration is a row of the generations.
type storedGeneration struct {
	number      int64
	schemaName  string
	collections string
	shape       string
}

// findGeneration fails with pgx.ErrNoRows where there is none.
func (s *Store) findGeneration(ctx context.Context, ns view.Namespace) (g storedGeneration, err error) {
	err = s.pool.QueryRow(ctx, `SELECT number, schema_name, collections, shape FROM `+s.own("generations")+
		` WHERE projection = $1::text AND version = $2::bigint AND generation = $3::bigint AND dropped_time IS NULL`,
		ns.Projection, int64(ns.Version), int64(ns.Generation)).Scan(&g.number, &g.schemaName, &g.collections, &g.shape)
	return g, err
}

// makeGeneration makes a generation's row and tables, unless somebody else did.
func (s *Store) makeGeneration(ctx context.Context, ns view.Namespace, collections []view.Collection, shape string) (g storedGeneration, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1::int, 0)`, s.lockClass()); err != nil {
			return err
		}
		var before int64
		err := tx.QueryRow(ctx, `SELECT count(*) FROM `+s.own("generations")+` WHERE projection = $1::text AND version = $2::bigint AND generation = $3::bigint`,
			ns.Projection, int64(ns.Version), int64(ns.Generation)).Scan(&before)
		if err != nil {
			return err
		}
		g = storedGeneration{collections: view.Schema(collections), shape: shape}
		err = tx.QueryRow(ctx, `INSERT INTO `+s.own("generations")+` (projection, version, generation, schema_name, collections, shape)
			VALUES ($1::text, $2::bigint, $3::bigint, gen_random_uuid()::text, $4::text, $5::text) ON CONFLICT DO NOTHING RETURNING number`,
			ns.Projection, int64(ns.Version), int64(ns.Generation), g.collections, g.shape).Scan(&g.number)
		if err != nil {
			return err
		}
		g.schemaName = schemaName(s.schema, ns, g.number, before > 0)
		if _, err := tx.Exec(ctx, `UPDATE `+s.own("generations")+` SET schema_name = $1::text WHERE number = $2::bigint`, g.schemaName, g.number); err != nil {
			return err
		}
		return s.makeTables(ctx, tx, ns, g.schemaName, collections)
	})
	if errors.Is(err, pgx.ErrNoRows) { // somebody was faster
		return s.findGeneration(ctx, ns)
	}
	return g, err
}

func (s *Store) makeTables(ctx context.Context, tx pgx.Tx, ns view.Namespace, schema string, collections []view.Collection) error {
	l, err := newLayout(schema, collections)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `CREATE SCHEMA `+quote(schema))
	if state(err) == "42P06" {
		return fmt.Errorf("%w: schema %s is there and not Parley's: rename or drop it, or give Parley another schema", view.ErrServer, schema)
	}
	if err != nil {
		return err
	}
	comment := fmt.Sprintf("Parley: version %d, generation %d of the projection %s. Written by Parley alone.", ns.Version, ns.Generation, ns.Projection)
	if _, err := tx.Exec(ctx, `COMMENT ON SCHEMA `+quote(schema)+` IS '`+comment+`'`); err != nil {
		return err
	}
	for _, statement := range l.create(s.lz4) {
		if _, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
	}
	return nil
}

// checkShape makes sure that the documents can be read with the messages as
// they are now, and notes what these have beyond those of before.
func (s *Store) checkShape(ctx context.Context, ns view.Namespace, g storedGeneration, shape string) error {
	if line := missing(shape, g.shape); line != "" {
		return fmt.Errorf("%w: raise the version of projection %s; documents have %q, which the messages have not", view.ErrSchema, ns.Projection, line)
	}
	if shape == g.shape {
		return nil
	}
	_, err := s.pool.Exec(ctx, `UPDATE `+s.own("generations")+` SET shape = $1::text WHERE number = $2::bigint`, shape, g.number)
	return err
}

// Namespace is view.Generation's.
func (g *generation) Namespace() view.Namespace { return g.shared.ns }

// Close is view.Generation's.
func (g *generation) Close() error {
	if !g.closed.Swap(true) {
		g.store.release(g.shared)
	}
	return nil
}

// Digest is view.Generation's.
func (g *generation) Digest(ctx context.Context) (view.Digest, error) {
	s, err := g.Snapshot(ctx)
	if err != nil {
		return view.Digest{}, err
	}
	d, err := view.ComputeDigest(ctx, s, g.declared)
	return d, errors.Join(err, s.Close())
}

// Checkpoint is view.Reader's.
func (r *reader) Checkpoint(ctx context.Context) (view.Checkpoint, error) {
	c, err := r.checkpoint(ctx)
	if err != nil {
		return view.Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", r.shared.ns, classify(ctx, err))
	}
	return c, nil
}

func (r *reader) checkpoint(ctx context.Context) (view.Checkpoint, error) {
	if err := r.enter(ctx); err != nil {
		return view.Checkpoint{}, err
	}
	defer r.store.guard.Leave()
	if r.snapshot != nil {
		return r.snapshot.checkpoint, nil
	}
	failed := r.shared.failed.Load()
	c, commits, err := scanCheckpoint(r.store.pool.QueryRow(ctx, r.store.checkpointSQL(), r.shared.number), r.shared.ns)
	if err == nil && failed {
		// Whoever's commit failed goes on from what he reads here.
		r.shared.found.Store(&writer{commits: commits, known: true})
	}
	return c, err
}

func (s *Store) checkpointSQL() string {
	return `SELECT commits, checkpoint_token, log_id::text, position FROM ` + s.own("generations") + ` WHERE number = $1::bigint AND dropped_time IS NULL`
}

func scanCheckpoint(row pgx.Row, ns view.Namespace) (c view.Checkpoint, commits int64, err error) {
	var token, position *int64
	var log *string
	err = row.Scan(&commits, &token, &log, &position)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, 0, view.ErrDropped
	}
	if err != nil || token == nil {
		return c, commits, err
	}
	if log == nil || position == nil {
		return c, 0, fmt.Errorf("checkpoint without log or position: %w", view.ErrCorrupt)
	}
	// Postgres has no unsigned numbers: the bits are kept.
	c = view.Checkpoint{Namespace: ns, Token: uint64(*token), Position: uint64(*position)}
	if c.LogID, err = uuid.Parse(*log); err != nil {
		return c, 0, fmt.Errorf("checkpoint's log: %w: %w", view.ErrCorrupt, err)
	}
	return c, commits, nil
}

// snapshot is a transaction of its own.
type snapshot struct {
	reader
	closed     atomic.Bool
	checkpoint view.Checkpoint
	// mu is held while the connection is used: it takes one call at a time.
	mu   sync.Mutex
	conn *pgxpool.Conn
}

// snapshotIdle is how long a snapshot may lie unused before the server ends it,
// so that one that was forgotten, or whose process hangs, does not keep rows
// from being cleaned up for ever.
const snapshotIdle = 10 * time.Minute

// Snapshot is view.Generation's.
func (g *generation) Snapshot(ctx context.Context) (view.Snapshot, error) {
	if err := g.enter(ctx); err != nil {
		return nil, fmt.Errorf("snapshot of %s: %w", g.shared.ns, err)
	}
	s, err := g.begin(ctx)
	if err != nil {
		g.store.guard.Leave()
		return nil, fmt.Errorf("snapshot of %s: %w", g.shared.ns, classify(ctx, err))
	}
	// Left by the snapshot's Close.
	return s, nil
}

// begin begins a transaction that sees one state.
func (r *reader) begin(ctx context.Context) (*snapshot, error) {
	select {
	case r.store.long <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := r.store.pool.Acquire(ctx)
	if err != nil {
		<-r.store.long
		return nil, err
	}
	s := &snapshot{reader: *r, conn: conn}
	s.gone, s.snapshot = &s.closed, s
	// The state is that of the first query, which therefore comes at once.
	var batch pgx.Batch
	batch.Queue(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`)
	batch.Queue(`SELECT set_config('idle_in_transaction_session_timeout', $1::text, true)`, strconv.FormatInt(snapshotIdle.Milliseconds(), 10))
	batch.Queue(r.store.checkpointSQL(), r.shared.number).QueryRow(func(row pgx.Row) (err error) {
		s.checkpoint, _, err = scanCheckpoint(row, r.shared.ns)
		return err
	})
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		s.end(ctx)
		return nil, err
	}
	return s, nil
}

// end gives the connection back.
func (s *snapshot) end(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The transaction is ended by the pool where it is not: nothing was written.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := s.conn.Exec(ctx, `ROLLBACK`, pgx.QueryExecModeSimpleProtocol); err != nil {
		_ = s.conn.Conn().Close(ctx) // it is of no use any more
	}
	s.conn.Release()
	<-s.store.long
}

// Close is view.Snapshot's.
func (s *snapshot) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	defer s.store.guard.Leave()
	s.end(context.Background())
	return nil
}
