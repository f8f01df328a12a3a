// Package wake tells whoever follows a projection that there may be something new.
package wake

import "sync"

// Hub knows who follows which projection. The zero value is ready. All methods
// may be called concurrently.
type Hub struct {
	mu        sync.Mutex
	followers map[string]map[chan struct{}]struct{}
}

// Follow gives a channel that has something in it after each Alarm for the
// projection, however many there were. stop ends it; it may be called again.
func (h *Hub) Follow(projection string) (wake <-chan struct{}, stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.followers == nil {
		h.followers = map[string]map[chan struct{}]struct{}{}
	}
	if h.followers[projection] == nil {
		h.followers[projection] = map[chan struct{}]struct{}{}
	}
	c := make(chan struct{}, 1)
	h.followers[projection][c] = struct{}{}
	return c, func() { h.leave(projection, c) }
}

func (h *Hub) leave(projection string, c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers[projection], c)
	if len(h.followers[projection]) == 0 {
		delete(h.followers, projection)
	}
}

// Alarm wakes the followers of a projection. It waits for none.
func (h *Hub) Alarm(projection string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.followers[projection] {
		alarm(c)
	}
}

// AlarmAll wakes everybody: something may have been missed.
func (h *Hub) AlarmAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, followers := range h.followers {
		for c := range followers {
			alarm(c)
		}
	}
}

func alarm(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake already
	}
}
