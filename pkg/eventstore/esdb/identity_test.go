package esdb_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// TestIdentify serves a log that there was before: by the driver it has the same
// id, and the same positions.
func TestIdentify(t *testing.T) {
	t.Parallel()
	log := memory(t)
	appended, err := log.Append(t.Context(), "acme.a", eventstore.NoStream, record("a"))
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, esdb.Identify(t.Context(), log))
	}
	url := esdbservertest.Start(t, esdbserver.Config{Store: log})
	store := open(t, esdb.Config{URL: config.Secret(url)})
	require.Equal(t, log.LogID(), store.LogID())
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, appended.Position, head)
}

// TestIdentifyKeepsWhatThereIs does so with a log that was opened by the driver
// first.
func TestIdentifyKeepsWhatThereIs(t *testing.T) {
	t.Parallel()
	log := memory(t)
	url := esdbservertest.Start(t, esdbserver.Config{Store: log})
	id := open(t, esdb.Config{URL: config.Secret(url)}).LogID()
	require.NoError(t, esdb.Identify(t.Context(), log))
	require.Equal(t, id, open(t, esdb.Config{URL: config.Secret(url)}).LogID())
}
