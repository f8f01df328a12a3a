package pgview

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// Control is view.Store's.
func (s *Store) Control(ctx context.Context, projection string) (view.Control, error) {
	c, err := s.control(ctx, projection)
	if err != nil {
		return view.Control{}, fmt.Errorf("control record of %s: %w", projection, classify(ctx, err))
	}
	return c, nil
}

func (s *Store) control(ctx context.Context, projection string) (c view.Control, err error) {
	if err := s.enterControl(ctx, projection); err != nil {
		return c, err
	}
	defer s.guard.Leave()
	var revision int64
	err = s.pool.QueryRow(ctx, `SELECT revision, data FROM `+s.own("controls")+` WHERE projection = $1::text`, projection).Scan(&revision, &c.Data)
	if errors.Is(err, pgx.ErrNoRows) {
		return view.Control{}, nil
	}
	c.Revision = uint64(revision)
	return c, err
}

// enterControl begins a call; guard.Leave ends it.
func (s *Store) enterControl(ctx context.Context, projection string) error {
	if err := (view.Namespace{Projection: projection}).Validate(); err != nil {
		return err
	}
	return s.guard.Enter(ctx)
}

// SaveControl is view.Store's.
func (s *Store) SaveControl(ctx context.Context, projection string, c view.Control) (uint64, error) {
	revision, err := s.saveControl(ctx, projection, c)
	if err != nil {
		return 0, fmt.Errorf("save control record of %s: %w", projection, classify(ctx, err))
	}
	s.wake.Alarm(projection)
	return revision, nil
}

func (s *Store) saveControl(ctx context.Context, projection string, c view.Control) (uint64, error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	if err := s.enterControl(ctx, projection); err != nil {
		return 0, err
	}
	defer s.guard.Leave()
	data := c.Data
	if data == nil {
		data = []byte{}
	}
	change, args := `INSERT INTO `+s.own("controls")+` (projection, revision, data) VALUES ($1::text, 1, $2::bytea) ON CONFLICT DO NOTHING RETURNING revision`,
		[]any{projection, data}
	if c.Revision > 0 {
		change = `UPDATE ` + s.own("controls") + ` SET revision = revision + 1, data = $2::bytea WHERE projection = $1::text AND revision = $3::bigint RETURNING revision`
		args = append(args, int64(c.Revision))
	}
	var revision int64
	var batch pgx.Batch
	batch.Queue(durable)
	batch.Queue(`WITH saved AS (`+change+`) SELECT revision, pg_notify('`+s.channel()+`', $1::text)::text FROM saved`, args...).
		QueryRow(func(row pgx.Row) error { return row.Scan(&revision, nil) })
	err := s.pool.SendBatch(ctx, &batch).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("revision %d: %w", c.Revision, view.ErrConflict)
	}
	return uint64(revision), err
}

// durable makes the transaction survive a crash once it is committed, also
// where the server was told that it need not, and all before it as well.
const durable = `SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`
