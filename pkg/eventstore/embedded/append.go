package embedded

import (
	"context"
	"fmt"
	"sync"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Append is eventstore.Store's.
func (s *Store) Append(
	ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord,
) (eventstore.Appended, error) {
	if err := eventstore.ValidateAppend(stream, expected, records); err != nil {
		return eventstore.Appended{}, fmt.Errorf("append: %w", err)
	}
	r := newRequest()
	r.oneAppend[0] = eventstore.StreamAppend{Stream: stream, Expected: expected, Records: records}
	r.appends, r.results = r.oneAppend[:], r.oneResult[:0]
	if err := s.submit(ctx, r); err != nil {
		return eventstore.Appended{}, fmt.Errorf("append to %s at revision %s: %w", stream, expected, err)
	}
	appended := r.results[0]
	r.recycle()
	return appended, nil
}

// AppendBatch is eventstore.Store's.
func (s *Store) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	if err := eventstore.ValidateBatch(appends); err != nil {
		return nil, fmt.Errorf("append batch: %w", err)
	}
	r := newRequest()
	r.appends, r.results = appends, make([]eventstore.Appended, 0, len(appends))
	if err := s.submit(ctx, r); err != nil {
		return nil, fmt.Errorf("append batch of %d: %w", len(appends), err)
	}
	results := r.results
	r.recycle()
	return results, nil
}

// request is an append that waits for its answer. The caller's records are
// read only under mu and before taken, so that they are the caller's again
// once it has returned.
type request struct {
	appends []eventstore.StreamAppend
	results []eventstore.Appended
	err     error
	done    chan struct{} // capacity 1

	mu sync.Mutex
	// taken: its records are in a commit, whose outcome decides.
	taken bool
	// withdrawn: the caller has gone, nothing may be appended.
	withdrawn bool
	// answered: done was sent to.
	answered bool

	oneAppend [1]eventstore.StreamAppend
	oneResult [1]eventstore.Appended
}

var requests sync.Pool

func newRequest() *request {
	r, ok := requests.Get().(*request)
	if !ok {
		return &request{done: make(chan struct{}, 1)}
	}
	return r
}

// recycle is for whoever has received from done.
func (r *request) recycle() {
	r.appends, r.results, r.err = nil, nil, nil
	r.taken, r.withdrawn, r.answered = false, false, false
	r.oneAppend[0] = eventstore.StreamAppend{}
	requests.Put(r)
}

// answer ends the request. Only the first one counts.
func (r *request) answer(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return
	}
	r.answered = true
	r.err = err
	r.done <- struct{}{}
}

func (s *Store) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		r.recycle()
		return err
	}
	if s.space.stalled.Load() > 0 {
		r.recycle()
		return fmt.Errorf("%w: %w", eventstore.ErrFull, errDiskFull)
	}
	if err := s.queue.push(r); err != nil {
		r.recycle()
		return err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		r.mu.Lock()
		switch {
		case r.answered:
			r.mu.Unlock()
			<-r.done
		case r.taken:
			r.mu.Unlock()
			return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, ctx.Err())
		default:
			r.withdrawn = true
			r.mu.Unlock()
			return ctx.Err()
		}
	}
	return r.err
}

// queue is what waits for the committer. It is as long as there are callers.
type queue struct {
	wake chan struct{} // capacity 1

	mu     sync.Mutex
	items  []*request
	closed bool
}

func (q *queue) push(r *request) error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return eventstore.ErrClosed
	}
	q.items = append(q.items, r)
	q.mu.Unlock()
	q.signal()
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves everything that waits behind dst.
func (q *queue) take(dst []*request) (all []*request, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dst = append(dst, q.items...)
	clear(q.items)
	q.items = q.items[:0]
	return dst, q.closed
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}
