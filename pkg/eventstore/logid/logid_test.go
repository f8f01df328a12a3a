package logid_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/pkg/eventstore/eventstoretest"
	"github.com/parleyhq/parley/pkg/eventstore/logid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) eventstore.Store {
	t.Helper()
	store, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// TestOneID has a log be the same one at hand and over the wire.
func TestOneID(t *testing.T) {
	t.Parallel()
	behind := open(t)
	url := esdbservertest.Start(t, esdbserver.Config{Store: logid.Shown(behind)})
	for range 2 {
		store, err := esdb.Open(t.Context(), esdb.Config{URL: config.Secret(url)})
		require.NoError(t, err)
		require.Equal(t, behind.LogID(), store.LogID())
		require.NoError(t, store.Close())
	}
	head, err := behind.Head(t.Context())
	require.NoError(t, err)
	require.Zero(t, head, "nothing was written")
}

func TestConformance(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(t *testing.T) eventstore.Store { return logid.Shown(open(t)) })
}

func TestTheStream(t *testing.T) {
	t.Parallel()
	require.Empty(t, event.TenantOf(logid.Stream))
	store := logid.Shown(open(t))
	var conflict *eventstore.RevisionConflictError
	for _, expected := range []eventstore.Revision{eventstore.NoStream, eventstore.Any, 0} {
		record := eventstore.NewRecord{ID: uuid.New(), Type: "t"}
		_, err := store.Append(t.Context(), logid.Stream, expected, record)
		require.ErrorAs(t, err, &conflict)
		_, err = store.AppendBatch(t.Context(), []eventstore.StreamAppend{
			{Stream: "a", Expected: eventstore.Any, Records: []eventstore.NewRecord{record}},
			{Stream: logid.Stream, Expected: expected, Records: []eventstore.NewRecord{record}},
		})
		require.ErrorAs(t, err, &conflict)
	}
	head, err := store.StreamHead(t.Context(), logid.Stream)
	require.NoError(t, err)
	require.Zero(t, head)
	for _, tc := range []struct {
		opts eventstore.ReadStreamOptions
		want int
	}{
		{eventstore.ReadStreamOptions{}, 1},
		{eventstore.ReadStreamOptions{From: eventstore.End}, 1},
		{eventstore.ReadStreamOptions{From: eventstore.End, Direction: eventstore.Backwards, Limit: 1}, 1},
		{eventstore.ReadStreamOptions{From: 3, Direction: eventstore.Backwards}, 1},
		{eventstore.ReadStreamOptions{From: 1}, 0},
	} {
		count := 0
		for rec, err := range store.ReadStream(t.Context(), logid.Stream, tc.opts) {
			require.NoError(t, err)
			require.Equal(t, store.LogID(), rec.ID)
			require.Zero(t, rec.Revision)
			count++
		}
		require.Equal(t, tc.want, count, "%+v", tc.opts)
	}
}
