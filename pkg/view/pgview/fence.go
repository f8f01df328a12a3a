package pgview

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// Fence is view.Generation's. A commit of another process that is under way is
// waited for; one that takes more than evictAfter is ended.
func (g *generation) Fence(ctx context.Context) (uint64, error) {
	token, err := g.fence(ctx)
	if err != nil {
		return 0, fmt.Errorf("fence %s: %w", g.shared.ns, classify(ctx, err))
	}
	return token, nil
}

func (g *generation) fence(ctx context.Context) (uint64, error) {
	if err := g.enter(ctx); err != nil {
		return 0, err
	}
	defer g.store.guard.Leave()
	if err := g.shared.lockCommit(ctx); err != nil {
		return 0, err
	}
	defer g.shared.unlockCommit()
	s := g.store
	var token, commits int64
	err := s.evicting(ctx, g.shared.number, func(batch *pgx.Batch) {
		batch.Queue(durable)
		batch.Queue(`UPDATE `+s.own("generations")+` SET token = token + 1 WHERE number = $1::bigint AND dropped_time IS NULL RETURNING token, commits`, g.shared.number).
			QueryRow(func(row pgx.Row) error { return row.Scan(&token, &commits) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, view.ErrDropped
	}
	if err != nil {
		return 0, err
	}
	g.shared.writer = writer{token: uint64(token), commits: commits, known: true, numbers: map[numberKey]int32{}, filling: true}
	g.shared.failed.Store(false)
	return uint64(token), nil
}

const (
	// evictAfter is how long somebody else's commit may keep a successor waiting.
	evictAfter = 2 * time.Second
	// evictions is how often that is tried.
	evictions = 5
)

// evicting runs statements that change a generation's row, in one transaction
// and round trip. A process that hangs in the middle of a commit, stopped or on a machine
// that is, would hold it up for ever: its session is ended.
func (s *Store) evicting(ctx context.Context, number int64, queue func(batch *pgx.Batch)) error {
	for range evictions {
		var batch pgx.Batch
		batch.Queue(`SELECT set_config('lock_timeout', $1::text, true)`, fmt.Sprintf("%dms", evictAfter.Milliseconds()))
		queue(&batch)
		err := s.pool.SendBatch(ctx, &batch).Close()
		if state(err) != "55P03" { // lock not available
			return err
		}
		ended, err := s.evict(ctx, number)
		if err != nil {
			return err
		}
		s.log.Warn("a commit of another process did not come to an end; its session was ended", "sessions", ended)
	}
	return fmt.Errorf("generation's row stays locked: %w", errInterrupted)
}

// evict ends the sessions with a commit to a generation under way.
func (s *Store) evict(ctx context.Context, number int64) (ended int, err error) {
	rows, err := s.pool.Query(ctx, `SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
		AND l.classid::bigint = $1::bigint AND l.objid::bigint = $2::bigint`, int64(uint32(s.lockClass())), number)
	err = each(rows, err, func(rows pgx.Rows) error {
		var done bool
		err := rows.Scan(&done)
		if done {
			ended++
		}
		return err
	})
	if state(err) == "42501" {
		err = fmt.Errorf("%w: another user's session holds the generation, let both be the same: %w", view.ErrUnavailable, err)
	}
	return ended, err
}
