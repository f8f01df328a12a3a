package esdb_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/pkg/eventstore/eventstoretest"
)

// patience is how long anything may take that is waited for.
const patience = 30 * time.Second

// memory is the store behind a server.
func memory(t testing.TB) *embedded.Store {
	t.Helper()
	store, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func open(t testing.TB, cfg esdb.Config) *esdb.Store {
	t.Helper()
	store, err := esdb.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// served opens a store on a server of its own.
func served(t testing.TB) (*esdb.Store, *embedded.Store) {
	t.Helper()
	behind := memory(t)
	url := esdbservertest.Start(t, esdbserver.Config{Store: behind})
	return open(t, esdb.Config{URL: config.Secret(url)}), behind
}

func TestConformance(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(t *testing.T) eventstore.Store {
		store, _ := served(t)
		return store
	})
}

// deadline is a context that ends with the test's patience.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
