package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
)

// open opens the newest generation of the index, or another one where that is of
// a log that this one was copied from: its rows are positions there.
func (x *Index) open(ctx context.Context) error {
	number, err := x.newest(ctx)
	if err != nil {
		return err
	}
	err = x.openGeneration(ctx, number)
	if !errors.Is(err, projection.ErrOtherLog) || x.deps.Origins == nil {
		return err
	}
	old := x.gen.Namespace()
	before, err := x.gen.Checkpoint(ctx)
	if err == nil {
		_, err = x.deps.Origins.Resolve(ctx, before.LogID, eventstore.Position(before.Position))
	}
	if err = errors.Join(err, x.gen.Close()); err != nil {
		var unknown *posmap.UnknownLogError
		if errors.As(err, &unknown) {
			return x.otherLog(before)
		}
		return fmt.Errorf("feed index: %w", err)
	}
	if err := x.openGeneration(ctx, number+1); err != nil {
		return err
	}
	x.deps.Logger.Info("the log was copied from the one that the feed's index is of; it is computed anew")
	if err := x.deps.Views.Drop(ctx, old); err != nil && !errors.Is(err, view.ErrInUse) && !errors.Is(err, view.ErrNotFound) {
		x.deps.Logger.Warn("the index of the log before is still there", "generation", old.String(), "error", err)
	}
	return nil
}

// newest is the number of the newest generation there is; 1 where there is none.
func (x *Index) newest(ctx context.Context) (uint32, error) {
	all, err := x.deps.Views.Namespaces(ctx)
	if err != nil {
		return 0, fmt.Errorf("feed index: %w", err)
	}
	number := uint32(1)
	for _, ns := range all {
		if ns.Projection == indexName && ns.Version == indexVersion {
			number = max(number, ns.Generation)
		}
	}
	return number, nil
}

// openGeneration opens a generation. One of another log stays open, with
// projection.ErrOtherLog, where it may be left for another one.
func (x *Index) openGeneration(ctx context.Context, number uint32) error {
	ns := view.Namespace{Projection: indexName, Version: indexVersion, Generation: number}
	gen, err := x.deps.Views.Open(ctx, ns, view.Collection{Name: positions})
	if err != nil {
		return fmt.Errorf("open feed index: %w", err)
	}
	x.gen = gen
	x.status = projection.Status{Name: indexName, Namespace: ns}
	checkpoint, err := x.checkpoint(ctx)
	switch {
	case errors.Is(err, projection.ErrOtherLog) && x.deps.Origins != nil:
		return err
	case err != nil:
		return errors.Join(err, gen.Close())
	}
	x.status.Position = eventstore.Position(checkpoint.Position)
	return nil
}
