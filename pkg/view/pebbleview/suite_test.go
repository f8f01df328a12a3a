package pebbleview_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
	"github.com/parleyhq/parley/pkg/view/viewtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type backend struct {
	dir  string
	opts pebbleview.Options
}

func (b backend) Open(t *testing.T) view.Store {
	t.Helper()
	s, err := pebbleview.Open(b.dir, b.opts)
	require.NoError(t, err)
	return s
}

func TestSuite(t *testing.T) {
	t.Parallel()
	viewtest.Run(t, func(*testing.T) viewtest.Backend {
		return backend{dir: "views", opts: pebbleview.Options{FS: vfs.NewMem()}}
	})
}

// TestSuiteOnDisk has tables so small that everything is flushed and compacted.
func TestSuiteOnDisk(t *testing.T) {
	t.Parallel()
	viewtest.Run(t, func(t *testing.T) viewtest.Backend {
		return backend{dir: t.TempDir(), opts: pebbleview.Options{MemTableBytes: 64 << 10, CacheBytes: 1 << 20, MinFreeBytes: 1}}
	})
}
