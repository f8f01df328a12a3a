package pgview

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// migrations bring Parley's own tables from one version to the next. $ stands
// for the schema. What was released is never changed, only added to.
var migrations = []string{`
CREATE TABLE $.generations (
	number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	projection text COLLATE "C" NOT NULL,
	version bigint NOT NULL,
	generation bigint NOT NULL,
	schema_name text COLLATE "C" NOT NULL UNIQUE,
	collections text NOT NULL,
	shape text NOT NULL,
	token bigint NOT NULL DEFAULT 0,
	commits bigint NOT NULL DEFAULT 0,
	checkpoint_token bigint,
	log_id uuid,
	position bigint,
	created_time timestamptz NOT NULL DEFAULT now(),
	commit_time timestamptz,
	dropped_time timestamptz,
	removed boolean NOT NULL DEFAULT false
) WITH (fillfactor = 20);
COMMENT ON TABLE $.generations IS 'Each row is a copy of a projection''s collections, whose tables are in the schema schema_name: up to which position of which log it holds all, and the newest fencing token given out.';
CREATE UNIQUE INDEX generations_live ON $.generations (projection, version, generation) WHERE dropped_time IS NULL;

CREATE TABLE $.controls (
	projection text COLLATE "C" PRIMARY KEY,
	revision bigint NOT NULL,
	data bytea NOT NULL
);
COMMENT ON TABLE $.controls IS 'Which generations of a projection there are to be and which one serves, as its engine wrote it.';

CREATE FUNCTION $.begin_commit(class int, generation_number bigint, writer bigint, expected bigint, log uuid, up_to bigint) RETURNS bigint
LANGUAGE plpgsql AS $body$
DECLARE
	done bigint;
	found_row record;
BEGIN
	PERFORM pg_advisory_xact_lock(class, generation_number::int);
	UPDATE $.generations g SET checkpoint_token = writer, log_id = log, position = up_to, commits = g.commits + 1, commit_time = now()
		WHERE g.number = generation_number AND g.token = writer AND g.dropped_time IS NULL AND (expected IS NULL OR g.commits = expected)
		RETURNING g.commits, g.projection INTO found_row;
	IF FOUND THEN
		done := found_row.commits;
		PERFORM pg_notify('$channel', found_row.projection);
		RETURN done;
	END IF;
	SELECT g.token, g.commits INTO found_row FROM $.generations g WHERE g.number = generation_number AND g.dropped_time IS NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'PV001', MESSAGE = 'generation was dropped';
	ELSIF found_row.token > writer THEN
		RAISE EXCEPTION USING ERRCODE = 'PV002', MESSAGE = format('token %s, newest is %s', writer, found_row.token);
	ELSIF found_row.token < writer THEN
		RAISE EXCEPTION USING ERRCODE = 'PV003', MESSAGE = format('token %s was never given out', writer);
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'PV004', MESSAGE = format('%s commits are there where %s are expected: the outcome of one was not known, or the server lost some; read the checkpoint and go on from there', found_row.commits, expected);
END
$body$;
`}

// migrate makes Parley's own tables, or brings them up to date. Processes that
// start at once do it once.
func (s *Store) migrate(ctx context.Context) error {
	version, err := s.version(ctx, s.pool)
	if err == nil && version == len(migrations) {
		return nil
	}
	if err == nil {
		err = s.within(ctx, func(tx pgx.Tx) error { return s.migrateIn(ctx, tx) })
	}
	if err != nil {
		return fmt.Errorf("make tables in schema %s: %w", s.schema, classify(ctx, err))
	}
	return nil
}

func (s *Store) migrateIn(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1::int, 0)`, s.lockClass()); err != nil {
		return err
	}
	// Somebody may have done it meanwhile.
	version, err := s.version(ctx, tx)
	if err != nil {
		return err
	}
	if version == 0 {
		// One that is there already, empty, may have been made for us.
		sql := `CREATE SCHEMA IF NOT EXISTS ` + quote(s.schema) + `; CREATE TABLE IF NOT EXISTS ` + s.own("migrations") +
			` (version int PRIMARY KEY, time timestamptz NOT NULL DEFAULT now())`
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	for ; version < len(migrations); version++ {
		sql := strings.NewReplacer("$channel", s.channel(), "$body$", "$body$", "$.", quote(s.schema)+".").Replace(migrations[version])
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("version %d: %w", version+1, err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO `+s.own("migrations")+` (version) VALUES ($1)`, version+1); err != nil {
			return err
		}
	}
	return nil
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version of Parley's own tables; 0 for none.
func (s *Store) version(ctx context.Context, q querier) (int, error) {
	// Not by to_regclass, which may remember what was there before a lock.
	var there bool
	err := q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1::text AND c.relname = 'migrations')`, s.schema).Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	var version int
	if err := q.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+s.own("migrations")).Scan(&version); err != nil {
		return 0, err
	}
	if version > len(migrations) {
		return 0, fmt.Errorf("%w: they are of version %d, this binary knows up to %d: start the newer binary, or give this one another schema, in which it computes its views anew",
			view.ErrNewerFormat, version, len(migrations))
	}
	return version, nil
}

// channel is that of the notifications.
func (s *Store) channel() string { return s.schema + "_wake" }

// lockClass tells this store's advisory locks from all others in the database.
func (s *Store) lockClass() int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte("parley views " + s.schema)) // never fails
	return int32(h.Sum32())
}

// stalledAfter is how long a process may pause between two statements of a
// transaction. What it holds would keep all others waiting for as long as it is
// stopped, and their waiting cannot tell it from one that works.
const stalledAfter = 5 * time.Second

// within runs do in a transaction, which is not for commits: a pause in them is
// ended by whoever takes the generation over.
func (s *Store) within(ctx context.Context, do func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', $1::text, true)`, strconv.FormatInt(stalledAfter.Milliseconds(), 10))
		if err != nil {
			return err
		}
		return do(tx)
	})
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		err = fmt.Errorf("%w: the transaction was rolled back: %w", view.ErrUnavailable, err)
	}
	return err
}
