package esdb

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff waits longer from time to time, and never the same as others do.
type backoff struct{ next time.Duration }

// The shortest and the longest wait between two tries.
const (
	firstWait = 20 * time.Millisecond
	lastWait  = time.Second
)

// wait returns false when the context ended first.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(2*b.next, firstWait), lastWait)
	timer := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() { b.next = 0 }
