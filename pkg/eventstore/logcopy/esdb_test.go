package logcopy_test

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/logid"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
)

// openServed is an event store over the wire.
func openServed(t *testing.T) eventstore.Store {
	t.Helper()
	url := esdbservertest.Start(t, esdbserver.Config{Store: open(t)})
	return dial(t, url)
}

func dial(t testing.TB, url string) eventstore.Store {
	t.Helper()
	store, err := esdb.Open(t.Context(), esdb.Config{URL: config.Secret(url)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func serveOnDisk(b *testing.B) eventstore.Store {
	b.Helper()
	return dial(b, esdbservertest.Start(b, esdbserver.Config{Store: onDisk(b)}))
}

// TestOverTheWire moves a log into an EventStoreDB, on to another one, and back.
func TestOverTheWire(t *testing.T) {
	t.Parallel()
	from := open(t)
	newWriter(testseed.Rand(t), from).write(t, 500)
	for _, to := range []eventstore.Store{openServed(t), openServed(t), open(t)} {
		_, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{MapRecords: 90})
		require.NoError(t, err)
		isCopy(t, from, to)
		from = to
	}
}

// TestTwoWays begins a copy over the wire, and goes on with the source at hand.
func TestTwoWays(t *testing.T) {
	t.Parallel()
	from, to := open(t), open(t)
	w := newWriter(testseed.Rand(t), from)
	w.write(t, 100)
	wire := dial(t, esdbservertest.Start(t, esdbserver.Config{Store: logid.Shown(from)}))
	first, err := logcopy.Copy(t.Context(), wire, to, logcopy.Options{})
	require.NoError(t, err)
	w.write(t, 100)
	second, err := logcopy.Copy(t.Context(), from, to, logcopy.Options{})
	require.NoError(t, err)
	require.Equal(t, first.Copied, second.Found)
	isCopy(t, from, to)
}

// TestServerKilled has the target's server die and come back while a log is
// copied into it.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	from := open(t)
	newWriter(rnd, from).write(t, 800)
	behind, err := embedded.Open("behind", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1 << 10})
	require.NoError(t, err)
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	t.Cleanup(func() { require.NoError(t, behind.Close()) })
	server.Start()
	to := dial(t, server.URL())
	var kills sync.WaitGroup
	defer kills.Wait()
	killing := make(chan struct{}, 1)
	after, killed := 1+rnd.IntN(150), 0
	_, err = logcopy.Copy(t.Context(), from, to, logcopy.Options{MapRecords: 100, Patience: patience, Progress: func(logcopy.Progress) {
		if after--; after > 0 || killed == 3 {
			return
		}
		select {
		case killing <- struct{}{}:
			killed++
			after = 1 + rnd.IntN(150)
			kills.Go(func() {
				server.Kill()
				server.Start()
				<-killing
			})
		default:
		}
	}})
	require.NoError(t, err)
	require.Positive(t, killed)
	isCopy(t, from, to)
}
