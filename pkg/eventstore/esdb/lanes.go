package esdb

import (
	"context"
	"slices"
	"sync"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// lanes let one append to a stream through at a time, in the order they came.
type lanes struct {
	mu     sync.Mutex
	closed bool
	// queues has an entry for each stream that is being appended to: those who
	// wait behind the append.
	queues map[string][]chan error
}

// enter waits for a stream's turn; whoever got it calls leave. It fails with
// the context's error or with ErrClosed.
func (l *lanes) enter(ctx context.Context, stream string) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return eventstore.ErrClosed
	}
	queue, busy := l.queues[stream]
	if !busy {
		if l.queues == nil {
			l.queues = map[string][]chan error{}
		}
		l.queues[stream] = nil
		l.mu.Unlock()
		return nil
	}
	turn := make(chan error, 1)
	l.queues[stream] = append(queue, turn)
	l.mu.Unlock()
	select {
	case err := <-turn:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	queue = l.queues[stream]
	if i := slices.Index(queue, turn); i >= 0 {
		l.queues[stream] = slices.Delete(queue, i, i+1)
		l.mu.Unlock()
		return context.Cause(ctx)
	}
	l.mu.Unlock()
	// The turn came at the same time: it goes to the next.
	if err := <-turn; err != nil {
		return err
	}
	l.leave(stream)
	return context.Cause(ctx)
}

func (l *lanes) leave(stream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := l.queues[stream]
	if len(queue) == 0 {
		delete(l.queues, stream)
		return
	}
	next := queue[0]
	l.queues[stream] = slices.Delete(queue, 0, 1)
	next <- nil
}

// close sends everyone away who waits.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for stream, queue := range l.queues {
		for _, turn := range queue {
			turn <- eventstore.ErrClosed
		}
		l.queues[stream] = nil
	}
}
