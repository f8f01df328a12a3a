package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
)

func acquire(t *testing.T, l *bus.Lease) *bus.Held {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	held, err := l.Acquire(ctx)
	require.NoError(t, err)
	return held
}

// acquireLater is acquire in the background.
func acquireLater(t *testing.T, l *bus.Lease) <-chan *bus.Held {
	t.Helper()
	got := make(chan *bus.Held, 1)
	go func() {
		held, err := l.Acquire(t.Context())
		if err == nil {
			got <- held
		}
	}()
	return got
}

func TestLeaseIsHeldByOne(t *testing.T) {
	t.Parallel()
	server := open(t, embedded(t))
	a, b := open(t, external(server)), open(t, external(server))
	first := acquire(t, a.Lease("recorder"))
	other := acquire(t, b.Lease("something-else"))
	defer other.Release()

	waiting := acquireLater(t, b.Lease("recorder"))
	// It outlasts its time, since it is renewed.
	select {
	case <-waiting:
		t.Fatal("two hold the lease")
	case <-first.Lost():
		t.Fatal("lost although it was renewed")
	case <-time.After(bus.LeaseTTL + bus.LeaseTTL/2):
	}
	first.Release()
	first.Release()
	second := await(t, waiting)
	second.Release()
	<-second.Lost()
}

func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		require.Fail(t, "it did not come in time")
		var none T
		return none
	}
}

// A holder that is silent, as one that was paused, loses the lease and learns of
// it as soon as it can.
func TestLeaseOfASilentHolder(t *testing.T) {
	t.Parallel()
	server := open(t, embedded(t))
	a := open(t, external(server))
	first := acquire(t, a.Lease("recorder"))

	// Somebody rewrites the key, as whoever takes it over does.
	js, err := jetstream.New(raw(t, server))
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), "PARLEY_LEASES")
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "recorder", []byte("somebody"))
	require.NoError(t, err)
	await(t, first.Lost())
	first.Release()

	// That one is silent, so it is taken from him, but not before his time.
	began := time.Now()
	second := acquire(t, a.Lease("recorder"))
	require.Greater(t, time.Since(began), bus.LeaseTTL-bus.LeaseTTL/3)
	second.Release()
}

func TestLeaseWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	cfg := embedded(t)
	server := open(t, cfg)
	cfg.Listen = server.Addr()
	a := open(t, external(server))
	first := acquire(t, a.Lease("recorder"))
	require.NoError(t, server.Close())
	await(t, first.Lost()) // nobody could say that it is still his
	waiting := acquireLater(t, a.Lease("recorder"))
	open(t, cfg)
	await(t, waiting).Release()
}

func TestLeaseEndsWithItsContextAndTheBus(t *testing.T) {
	t.Parallel()
	server := open(t, embedded(t))
	a := open(t, external(server))
	first := acquire(t, a.Lease("recorder"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Lease("recorder").Acquire(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, a.Close())
	<-first.Lost()
	_, err = a.Lease("recorder").Acquire(t.Context())
	require.Error(t, err)
	// What was given back can be had at once.
	acquire(t, open(t, external(server)).Lease("recorder")).Release()
}
