package recorder

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// signalling says now and then that appends were made.
type signalling struct {
	eventstore.Store
	every   int64
	appends atomic.Int64
	signal  chan struct{}
}

func (s *signalling) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	if s.appends.Add(1)%s.every == 0 {
		select {
		case s.signal <- struct{}{}:
		default:
		}
	}
	return s.Store.Append(ctx, stream, expected, records...)
}

// TestOverEventStoreDBsProtocol records through the driver for EventStoreDB, whose
// server is stopped in the middle of batches and started again: what is recorded
// is what a recorder records beside the store.
func TestOverEventStoreDBsProtocol(t *testing.T) {
	t.Parallel()
	seedsOf(t, time.Second, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: openLog(t)})
		server.Start()
		driver, err := esdb.Open(t.Context(), esdb.Config{URL: config.Secret(server.URL()), Patience: 200 * time.Millisecond})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, driver.Close()) })
		store := &signalling{Store: driver, every: 40 + rng.Int64N(60), signal: make(chan struct{}, 1)}

		plain, over := newRig(t, openLog(t)), newRig(t, store)
		over.deps.NewcomersInOrder = true
		messages := newTraffic(t, rng).messages(80)
		ctx, cancel := context.WithCancel(t.Context())
		var restarts sync.WaitGroup
		restarts.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-store.signal:
					server.Stop()
					server.Start()
				case <-ctx.Done():
				}
			}
		})
		for at := 0; at < len(messages); {
			n := min(1+rng.IntN(20), len(messages)-at)
			plain.record(messages[at : at+n]...)
			require.Eventually(t, func() bool { return over.handle(t.Context(), messages[at:at+n]) == nil }, deadline, time.Millisecond)
			at += n
		}
		cancel()
		restarts.Wait()
		got := over.record(messages...)
		require.Equal(t, plain.byStream(), over.byStream())
		require.Equal(t, plain.portableIndex(), over.portableIndex())
		requireSameAnswers(t, plain.record(messages...), got, true)
		over.requireIndexIsLog()
	})
}
