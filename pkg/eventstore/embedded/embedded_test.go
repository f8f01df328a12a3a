package embedded_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/eventstoretest"
)

func open(t testing.TB, dir string, opts embedded.Options) *embedded.Store {
	t.Helper()
	store, err := embedded.Open(dir, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		eventstoretest.Run(t, func(t *testing.T) eventstore.Store { return open(t, t.TempDir(), embedded.Options{MinFreeBytes: -1}) })
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		eventstoretest.Run(t, func(t *testing.T) eventstore.Store { return open(t, "store", embedded.Options{FS: vfs.NewMem()}) })
	})
}
