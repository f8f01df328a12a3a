package esdb

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// waiting says how many wait for a stream's turn.
func (l *lanes) waiting(stream string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queues[stream])
}

func TestLanesKeepTheOrderOfAStream(t *testing.T) {
	t.Parallel()
	const count = 20
	var l lanes
	ctx := t.Context()
	require.NoError(t, l.enter(ctx, "a"))
	require.NoError(t, l.enter(ctx, "b"), "another stream goes beside it")
	l.leave("b")
	var order []int
	var wg sync.WaitGroup
	gone, cancel := context.WithCancel(ctx)
	for i := range count {
		waits := ctx
		if i%3 == 1 {
			waits = gone
		}
		wg.Go(func() {
			if err := l.enter(waits, "a"); err != nil {
				return
			}
			order = append(order, i)
			l.leave("a")
		})
		require.Eventually(t, func() bool { return l.waiting("a") == i+1 }, 10*time.Second, time.Millisecond)
	}
	cancel()
	require.Eventually(t, func() bool { return l.waiting("a") == count-7 }, 10*time.Second, time.Millisecond)
	l.leave("a")
	wg.Wait()
	require.Equal(t, []int{0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18}, order)
	require.Empty(t, l.queues)
}

func TestLanesCloseSendsThemAway(t *testing.T) {
	t.Parallel()
	var l lanes
	require.NoError(t, l.enter(t.Context(), "a"))
	sent := make(chan error, 1)
	go func() { sent <- l.enter(t.Context(), "a") }()
	require.Eventually(t, func() bool { return l.waiting("a") == 1 }, 10*time.Second, time.Millisecond)
	l.close()
	require.ErrorIs(t, <-sent, eventstore.ErrClosed)
	require.ErrorIs(t, l.enter(t.Context(), "b"), eventstore.ErrClosed)
	l.leave("a")
	require.Empty(t, l.queues)
}

// Whoever gives up at the moment its turn comes hands it on.
func TestLanesLoseNoTurn(t *testing.T) {
	t.Parallel()
	var l lanes
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					go cancel()
				}
				if l.enter(ctx, "a") == nil {
					l.leave("a")
				}
				cancel()
			}
		})
	}
	wg.Wait()
	require.NoError(t, l.enter(t.Context(), "a"))
	l.leave("a")
	require.Empty(t, l.queues)
}
