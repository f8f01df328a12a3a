package feed_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/services/feed"
)

// baton is a lease within this process that can be lost.
type baton struct{ free chan chan struct{} }

func newBaton() *baton {
	b := &baton{free: make(chan chan struct{}, 1)}
	b.free <- make(chan struct{})
	return b
}

func (b *baton) Acquire(ctx context.Context) (<-chan struct{}, func(), error) {
	select {
	case lost := <-b.free:
		return lost, func() {
			select {
			case <-lost:
			default:
				b.free <- make(chan struct{})
			}
		}, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// TestIndexInTurns has three processes over the same views: one writes, whoever
// waits finds what that one wrote, and takes over from one that stops or that
// thinks it still writes.
func TestIndexInTurns(t *testing.T) {
	t.Parallel()
	h := &house{t: t, codec: event.NewCodec()}
	h.log, h.views = projectiontest.NewLog(t), projectiontest.NewViews(t)
	lease := newBaton()
	start := func(lease projection.Lease) (x *feed.Index, stop func()) {
		x, err := feed.OpenIndex(t.Context(), feed.IndexDeps{Log: h.log, Views: h.views, Lease: lease, PollInterval: 5 * time.Millisecond})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- x.Run(ctx) }()
		stop = func() {
			cancel()
			require.NoError(t, <-ran)
			require.NoError(t, x.Close())
		}
		require.Eventually(t, func() bool { return x.Status().State == projection.Live }, patience, time.Millisecond)
		return x, stop
	}
	finds := func(x *feed.Index, id string, position eventstore.Position) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, x.WaitFor(ctx, position))
		found, err := x.Find(ctx, "acme", uuid.MustParse(id))
		require.NoError(t, err)
		require.Equal(t, position, found)
	}
	one, stopOne := start(lease)
	two, stopTwo := start(lease)
	ev, position := h.append("acme", "web", "s1", page("/1"))
	finds(one, ev.GetId(), position)
	finds(two, ev.GetId(), position)

	stopOne()
	ev, position = h.append("acme", "web", "s1", page("/2"))
	finds(two, ev.GetId(), position)

	// Somebody else is given the lease while two thinks that it holds it.
	three, stopThree := start(newBaton())
	for range 10 {
		ev, position = h.append("acme", "web", "s1", page("/3"))
		finds(three, ev.GetId(), position)
		finds(two, ev.GetId(), position)
	}
	stopThree()
	ev, position = h.append("acme", "web", "s1", page("/4"))
	finds(two, ev.GetId(), position)
	stopTwo()
}
