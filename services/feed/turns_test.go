package feed_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
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

// TestIndexOfALogThatWasMoved opens the index of a log that this one was copied
// from: it finds events where they are now.
func TestIndexOfALogThatWasMoved(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	ev, position := h.append("acme", "web", "s1", page("/1"))
	require.NoError(t, h.index.WaitFor(t.Context(), position))
	require.Eventually(t, func() bool { return committed(t, h.views) == position }, patience, time.Millisecond)
	log := projectiontest.NewLog(t)
	_, err := logcopy.Copy(t.Context(), h.log, log, logcopy.Options{})
	require.NoError(t, err)
	origins, err := posmap.Load(t.Context(), log)
	require.NoError(t, err)
	moved, err := origins.Resolve(t.Context(), h.log.LogID(), position)
	require.NoError(t, err)
	for range 2 {
		x, err := feed.OpenIndex(t.Context(), feed.IndexDeps{Log: log, Origins: origins, Views: h.views})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- x.Run(ctx) }()
		require.NoError(t, x.WaitFor(ctx, moved))
		found, err := x.Find(ctx, "acme", uuid.MustParse(ev.GetId()))
		require.NoError(t, err)
		require.Equal(t, moved, found)
		cancel()
		require.NoError(t, <-ran)
		require.NoError(t, x.Close())
	}
}

// committed is up to where the first generation of the index is stored.
func committed(t *testing.T, views view.Store) eventstore.Position {
	t.Helper()
	gen, err := views.Open(t.Context(), view.Namespace{Projection: "feed", Version: 1, Generation: 1}, view.Collection{Name: "positions"})
	require.NoError(t, err)
	defer func() { require.NoError(t, gen.Close()) }()
	checkpoint, err := gen.Checkpoint(t.Context())
	require.NoError(t, err)
	return eventstore.Position(checkpoint.Position)
}
