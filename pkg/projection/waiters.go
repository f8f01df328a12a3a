package projection

import (
	"container/heap"
	"context"
	"sync"
)

// waiters knows a position and wakes who waits for it, each once, when it is
// reached.
type waiters struct {
	mu       sync.Mutex
	position uint64
	// halted is why the position will not move any more.
	halted error
	queue  waiterHeap
	// asked wakes whoever may hold a commit back while nobody waits; nil for none.
	asked chan struct{}
}

type waiter struct {
	position uint64
	index    int
	ready    chan struct{}
}

// get is the position.
func (w *waiters) get() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position
}

// waited says that somebody waits.
func (w *waiters) waited() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) > 0
}

// advance moves the position and wakes who waited for it.
func (w *waiters) advance(position uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.position = max(w.position, position)
	for len(w.queue) > 0 && w.queue[0].position <= w.position {
		w.queue.wakeFirst()
	}
}

// set puts the position where a generation was found to be.
func (w *waiters) set(position uint64) {
	w.mu.Lock()
	w.position = position
	w.mu.Unlock()
	w.advance(position)
}

// halt wakes all with an error; nil takes it back.
func (w *waiters) halt(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.halted = err
	if err == nil {
		return
	}
	for len(w.queue) > 0 {
		w.queue.wakeFirst()
	}
}

// wait returns nil once position is reached, the error of halt, or ctx's.
func (w *waiters) wait(ctx context.Context, position uint64) error {
	w.mu.Lock()
	if w.position >= position {
		w.mu.Unlock()
		return nil
	}
	if err := w.halted; err != nil {
		w.mu.Unlock()
		return err
	}
	me := &waiter{position: position, ready: make(chan struct{})}
	heap.Push(&w.queue, me)
	w.mu.Unlock()
	select {
	case w.asked <- struct{}{}:
	default:
	}
	select {
	case <-me.ready:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if me.index >= 0 {
		heap.Remove(&w.queue, me.index)
	}
	switch {
	case w.position >= position:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return w.halted
	}
}

// waiterHeap has the least position first.
type waiterHeap []*waiter

func (h *waiterHeap) wakeFirst() {
	first := (*h)[0]
	heap.Pop(h)
	close(first.ready)
}

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].position < h[j].position }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is heap.Interface's.
func (h *waiterHeap) Push(x any) {
	if w, ok := x.(*waiter); ok {
		w.index = len(*h)
		*h = append(*h, w)
	}
}

// Pop is heap.Interface's.
func (h *waiterHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.index = -1
	return w
}
