package esdb_test

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/pkg/eventstore/eventstoretest"
)

// sparse has positions as EventStoreDB has them: far apart, and none that is not
// a record's can be read from.
type sparse struct{ eventstore.Store }

// apart is how far positions are from one another. The server tells checkpoints
// this far apart, which it takes for a count: so they are records' positions.
const apart = 500

func moved(r *eventstore.Record) *eventstore.Record {
	out := *r
	out.Position *= apart
	return &out
}

func aligned(at eventstore.Position) error {
	if at%apart != 0 {
		return fmt.Errorf("position %d: trying to read from an invalid position: %w", at, eventstore.ErrInvalid)
	}
	return nil
}

func (s sparse) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	appended, err := s.Store.Append(ctx, stream, expected, records...)
	appended.Position *= apart
	return appended, err
}

func (s sparse) ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error] {
	return far(s.Store.ReadStream(ctx, stream, opts))
}

func (s sparse) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	// The server reads from right below what it was asked for.
	at := opts.From
	if opts.Direction == eventstore.Forwards && at > 0 {
		at++
	}
	if err := aligned(at); err != nil {
		return func(yield func(*eventstore.Record, error) bool) { yield(nil, err) }
	}
	opts.From /= apart
	return far(s.Store.ReadAll(ctx, opts))
}

func far(seq iter.Seq2[*eventstore.Record, error]) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		for r, err := range seq {
			if r != nil {
				r = moved(r)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (s sparse) Head(ctx context.Context) (eventstore.Position, error) {
	head, err := s.Store.Head(ctx)
	return head * apart, err
}

func (s sparse) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	if err := aligned(opts.After); err != nil {
		return nil, err
	}
	opts.After /= apart
	sub, err := s.Store.Subscribe(ctx, opts)
	return sparseSubscription{sub}, err
}

type sparseSubscription struct{ eventstore.Subscription }

func (s sparseSubscription) Next(ctx context.Context) (eventstore.Batch, error) {
	batch, err := s.Subscription.Next(ctx)
	batch.Position *= apart
	records := make([]*eventstore.Record, 0, len(batch.Records))
	for _, r := range batch.Records {
		records = append(records, moved(r))
	}
	batch.Records = records
	return batch, err
}

func TestConformanceWherePositionsAreFarApart(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(t *testing.T) eventstore.Store {
		return open(t, esdb.Config{URL: config.Secret(esdbservertest.Start(t, esdbserver.Config{Store: sparse{memory(t)}}))})
	})
}

// A record is found by its position, as dead letters and indexes keep it.
func TestARecordIsReadByItsPosition(t *testing.T) {
	t.Parallel()
	store := open(t, esdb.Config{URL: config.Secret(esdbservertest.Start(t, esdbserver.Config{Store: sparse{memory(t)}}))})
	ctx := deadline(t)
	for i := range 5 {
		_, err := store.Append(ctx, "acme.a", eventstore.Revision(i-1), record("a"))
		require.NoError(t, err)
	}
	log := all(t, store, eventstore.ReadAllOptions{})
	require.Len(t, log, 5)
	for i, r := range log {
		one := all(t, store, eventstore.ReadAllOptions{From: r.Position - 1, Limit: 1})
		require.Len(t, one, 1)
		require.Equal(t, r.ID, one[0].ID)
		require.Len(t, all(t, store, eventstore.ReadAllOptions{From: r.Position - 1}), 5-i)
		require.Len(t, all(t, store, eventstore.ReadAllOptions{From: r.Position - 1, Limit: 2}), min(2, 5-i))
		next := all(t, store, eventstore.ReadAllOptions{From: r.Position, Limit: 1})
		require.Len(t, next, min(1, 4-i))
	}
	for _, err := range store.ReadAll(ctx, eventstore.ReadAllOptions{From: log[0].Position + 17}) {
		require.ErrorIs(t, err, eventstore.ErrInvalid)
	}
}
