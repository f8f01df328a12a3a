package broadcast_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore/internal/broadcast"
)

// TestNothingFallsBetween has many wait for a count that others change: none
// stays behind.
func TestNothingFallsBetween(t *testing.T) {
	t.Parallel()
	const waiting, changes = 8, 1000
	var b broadcast.Broadcast
	var mu sync.Mutex
	count := 0
	look := func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
	var wg sync.WaitGroup
	for range waiting {
		wg.Go(func() {
			for {
				changed := b.Wait()
				if look() == changes {
					return
				}
				<-changed
			}
		})
	}
	for range changes {
		mu.Lock()
		count++
		mu.Unlock()
		b.Send()
	}
	wg.Wait()
	select {
	case <-b.Wait():
		require.Fail(t, "nothing was sent since")
	default:
	}
}
