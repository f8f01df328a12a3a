package pgview

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// Drop is view.Store's. The generation is gone at once for everybody; its
// tables go a few at a time, since the server has room for so many locks only.
// What a crash leaves of them is removed when a store is opened, and by the next Drop.
func (s *Store) Drop(ctx context.Context, ns view.Namespace) error {
	if err := s.drop(ctx, ns); err != nil {
		return fmt.Errorf("drop generation %s: %w", ns, classify(ctx, err))
	}
	return nil
}

func (s *Store) drop(ctx context.Context, ns view.Namespace) error {
	if err := ns.Validate(); err != nil {
		return err
	}
	if err := s.guard.Enter(ctx); err != nil {
		return err
	}
	defer s.guard.Leave()
	left, err := s.leftOver(ctx, ns)
	if err != nil {
		return err
	}
	if err := s.markDropped(ctx, ns); err != nil && (!left || !errors.Is(err, view.ErrNotFound)) {
		return err
	}
	if err := s.finishDrops(ctx); err != nil {
		return fmt.Errorf("it is gone, but not all of its tables are: drop it again: %w", err)
	}
	return nil
}

// leftOver says whether a generation of this name was dropped and has tables still.
func (s *Store) leftOver(ctx context.Context, ns view.Namespace) (left bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+s.own("generations")+
		` WHERE projection = $1::text AND version = $2::bigint AND generation = $3::bigint AND dropped_time IS NOT NULL AND NOT removed)`,
		ns.Projection, int64(ns.Version), int64(ns.Generation)).Scan(&left)
	return left, err
}

// markDropped makes a generation's row that of one that was.
func (s *Store) markDropped(ctx context.Context, ns view.Namespace) error {
	g, err := s.findGeneration(ctx, ns)
	if errors.Is(err, pgx.ErrNoRows) {
		return view.ErrNotFound
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	open := s.generations[g.number] != nil
	s.mu.Unlock()
	if open {
		return view.ErrInUse
	}
	err = s.evicting(ctx, g.number, func(batch *pgx.Batch) {
		batch.Queue(`UPDATE `+s.own("generations")+` SET dropped_time = now() WHERE number = $1::bigint AND dropped_time IS NULL RETURNING number`, g.number).
			QueryRow(func(row pgx.Row) error { return row.Scan(nil) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return view.ErrNotFound // somebody else was faster
	}
	return err
}

// tablesAtOnce are dropped in one transaction.
const tablesAtOnce = 16

// finishDrops removes what there is of generations that were dropped.
func (s *Store) finishDrops(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `SELECT number, schema_name FROM `+s.own("generations")+` WHERE dropped_time IS NOT NULL AND NOT removed ORDER BY number`)
	var numbers []int64
	var schemas []string
	err = each(rows, err, func(rows pgx.Rows) error {
		var number int64
		var schema string
		err := rows.Scan(&number, &schema)
		numbers, schemas = append(numbers, number), append(schemas, schema)
		return err
	})
	for i := range numbers {
		if err == nil {
			err = s.removeTables(ctx, numbers[i], schemas[i])
		}
	}
	return err
}

// removeTables drops a schema, a few tables at a time.
func (s *Store) removeTables(ctx context.Context, number int64, schema string) error {
	for done := false; !done; {
		err := s.within(ctx, func(tx pgx.Tx) error {
			// One process at a time does it.
			var tables []string
			// A reader of another process may hold a table for long.
			if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', '10s', true)`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1::int, $2::int)`, s.lockClass(), -int32(number)); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, `SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1::text AND c.relkind = 'r' LIMIT $2::bigint`, schema, int64(tablesAtOnce))
			err = each(rows, err, func(rows pgx.Rows) error {
				var name string
				err := rows.Scan(&name)
				tables = append(tables, quote(schema)+"."+quote(name))
				return err
			})
			if err != nil {
				return err
			}
			if done = len(tables) == 0; done {
				_, err = tx.Exec(ctx, `DROP SCHEMA IF EXISTS `+quote(schema)+` CASCADE`)
				if err == nil {
					_, err = tx.Exec(ctx, `UPDATE `+s.own("generations")+` SET removed = true WHERE number = $1::bigint`, number)
				}
				return err
			}
			// CASCADE takes what people made upon them, such as views.
			_, err = tx.Exec(ctx, `DROP TABLE IF EXISTS `+strings.Join(tables, ", ")+` CASCADE`)
			return err
		})
		if err != nil {
			return fmt.Errorf("remove schema %s: %w", schema, err)
		}
	}
	return nil
}
