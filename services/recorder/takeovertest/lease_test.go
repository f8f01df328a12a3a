package takeovertest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
)

// A renewal that was done although its answer came too late, as after a short
// pause or a slow disk at NATS, does not cost the lease: the key is the
// holder's own.
func TestLeaseOutlastsARenewalWithoutAnswer(t *testing.T) {
	t.Parallel()
	b, err := bus.Open(t.Context(), bus.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}, bus.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	held, err := b.Lease("recorder").Acquire(ctx)
	require.NoError(t, err)
	defer held.Release()

	nc, err := nats.Connect("nats://" + b.Addr())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	kv, err := js.KeyValue(ctx, "PARLEY_LEASES")
	require.NoError(t, err)
	entry, err := kv.Get(ctx, "recorder")
	require.NoError(t, err)
	unanswered, err := kv.Put(ctx, "recorder", entry.Value())
	require.NoError(t, err)

	// It renews again, on top of that.
	require.Eventually(t, func() bool {
		entry, err := kv.Get(ctx, "recorder")
		return err == nil && entry.Revision() > unanswered || closed(held.Lost())
	}, deadline, 10*time.Millisecond)
	require.False(t, closed(held.Lost()), "lost although nobody has taken it")

	// What somebody else has written does cost it.
	_, err = kv.Put(ctx, "recorder", []byte("somebody"))
	require.NoError(t, err)
	select {
	case <-held.Lost():
	case <-ctx.Done():
		require.Fail(t, "two hold the lease")
	}
}
