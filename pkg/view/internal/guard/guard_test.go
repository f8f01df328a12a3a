package guard_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/internal/guard"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	g := guard.New()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, g.Enter(ended), context.Canceled)
	require.NoError(t, g.Enter(t.Context()))
	require.NoError(t, g.Enter(t.Context()))
	require.True(t, g.Close())
	require.False(t, g.Close())
	require.ErrorIs(t, g.Enter(t.Context()), view.ErrClosed)
	g.Leave()
	select {
	case <-g.Idle():
		t.Fatal("a call is still under way")
	default:
	}
	g.Leave()
	<-g.Idle()

	unused := guard.New()
	require.True(t, unused.Close())
	<-unused.Idle()
}

func TestGuardConcurrently(t *testing.T) {
	t.Parallel()
	g := guard.New()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for g.Enter(t.Context()) == nil {
				g.Leave()
			}
		})
	}
	g.Close()
	<-g.Idle()
	wg.Wait()
}
