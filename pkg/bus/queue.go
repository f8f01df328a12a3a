package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// queue is the bounded hand-over from the subscription to the handler. Once it
// has failed, pushing and taking answer with the failure and what it held is
// gone: it is delivered again.
type queue struct {
	maxItems int
	maxBytes int

	mu    sync.Mutex
	items []item // items[head:] wait
	head  int
	bytes int
	err   error

	changed chan struct{} // cap 1, wakes take
	room    chan struct{} // cap 1, wakes push
	failed  chan struct{} // closed with err
}

// item is a message with what acknowledges it.
type item struct {
	Message
	ack jetstream.Msg
}

// size is what an item counts for.
func (it *item) size() int { return len(it.Data) + 512 }

func newQueue(maxItems, maxBytes int) *queue {
	return &queue{
		maxItems: maxItems, maxBytes: maxBytes,
		changed: make(chan struct{}, 1), room: make(chan struct{}, 1), failed: make(chan struct{}),
	}
}

// push blocks while the queue is full. One goroutine pushes.
func (q *queue) push(it item) {
	for {
		q.mu.Lock()
		waiting := len(q.items) - q.head
		if q.err != nil {
			q.mu.Unlock()
			return
		}
		if waiting == 0 || waiting < q.maxItems && q.bytes+it.size() <= q.maxBytes {
			q.items = append(q.items, it)
			q.bytes += it.size()
			q.mu.Unlock()
			wake(q.changed)
			return
		}
		q.mu.Unlock()
		select {
		case <-q.room:
		case <-q.failed:
			return
		}
	}
}

// fail ends the queue; the first error stays.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	q.err = err
	q.items, q.head, q.bytes = nil, 0, 0
	close(q.failed)
}

// failure is the error it failed with, or nil.
func (q *queue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// take appends to dst what waits, at least one item and otherwise at most n
// and size bytes. Once there is one it waits up to linger for more. When ctx has
// ended it takes nothing. One goroutine takes.
func (q *queue) take(ctx context.Context, dst []item, n, size int, linger time.Duration) ([]item, error) {
	var timer *time.Timer
	var lingered <-chan time.Time
	expired := linger <= 0
	for {
		if err := ctx.Err(); err != nil {
			return dst, err
		}
		q.mu.Lock()
		if q.err != nil {
			q.mu.Unlock()
			return dst, q.err
		}
		waiting := len(q.items) - q.head
		full := waiting >= min(n, q.maxItems) || q.bytes >= min(size, q.maxBytes)
		if waiting > 0 && (expired || full) {
			dst = q.pop(dst, n, size)
			q.mu.Unlock()
			wake(q.room)
			return dst, nil
		}
		q.mu.Unlock()
		if waiting > 0 && timer == nil {
			timer = time.NewTimer(linger)
			defer timer.Stop()
			lingered = timer.C
		}
		select {
		case <-q.changed:
		case <-lingered:
			expired = true
		case <-q.failed:
		case <-ctx.Done():
			return dst, ctx.Err()
		}
	}
}

// pop moves items out. mu is held and there is at least one.
func (q *queue) pop(dst []item, n, size int) []item {
	taken := 0
	for q.head < len(q.items) && taken < n {
		it := &q.items[q.head]
		if taken > 0 && it.size() > size {
			break
		}
		size -= it.size()
		q.bytes -= it.size()
		dst = append(dst, *it)
		*it = item{} // do not keep its data alive
		q.head++
		taken++
	}
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	} else if q.head > len(q.items)/2 {
		kept := copy(q.items, q.items[q.head:])
		clear(q.items[kept:])
		q.items, q.head = q.items[:kept], 0
	}
	return dst
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
