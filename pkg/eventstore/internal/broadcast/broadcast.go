// Package broadcast wakes everybody who waits for something to have changed.
package broadcast

import "sync"

// Broadcast wakes whoever waits. Whoever waits takes the channel first and looks
// after, so that nothing falls between the two. The zero value is ready; all
// methods may be called concurrently.
type Broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// Wait is a channel that the next Send closes.
func (b *Broadcast) Wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// Send wakes all who wait.
func (b *Broadcast) Send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
