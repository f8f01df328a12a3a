package projection

import (
	"context"
	"math"
	"sync"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// holder keeps a generation from going beyond a position, so that two can be
// compared as of the same one.
type holder struct {
	mu    sync.Mutex
	limit eventstore.Position
	// changed is closed and made anew when the limit changes, stood when the
	// session has heeded the last one: then stands is where it is.
	changed, stood chan struct{}
	stands         eventstore.Position
}

const unlimited eventstore.Position = math.MaxUint64

func newHolder() *holder {
	return &holder{limit: unlimited, changed: make(chan struct{}), stood: make(chan struct{})}
}

// set moves the limit.
func (h *holder) set(limit eventstore.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit = limit
	close(h.changed)
	h.changed, h.stood = make(chan struct{}), make(chan struct{})
}

// get is the limit, and what is closed once it changes.
func (h *holder) get() (eventstore.Position, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.limit, h.changed
}

// stand tells where the session is, having committed all that it folded.
func (h *holder) stand(at eventstore.Position, heeded <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed != heeded {
		return // the limit has changed again
	}
	select {
	case <-h.stood:
	default:
		h.stands = at
		close(h.stood)
	}
}

// freeze keeps a generation where it is, once it has committed what it has
// folded, and says where that is.
func (r *runner) freeze(ctx context.Context) (eventstore.Position, error) {
	r.holder.set(0)
	r.holder.mu.Lock()
	stood := r.holder.stood
	r.holder.mu.Unlock()
	wakeUp(r.asked)
	select {
	case <-stood:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	r.holder.mu.Lock()
	defer r.holder.mu.Unlock()
	return r.holder.stands, nil
}

// release lets a generation go on.
func (r *runner) release() { r.holder.set(unlimited) }

// heed commits what was folded where the limit is behind it, and says so.
func (s *session) heed(ctx context.Context) error {
	limit, changed := s.r.holder.get()
	if limit == unlimited {
		return nil
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.r.holder.stand(s.position, changed)
	return nil
}

// holdBack lets the session pass once it may go beyond position. Until then
// it stands at the limit, or where it is if that is further, with everything committed.
func (s *session) holdBack(ctx context.Context, position eventstore.Position) error {
	for {
		limit, changed := s.r.holder.get()
		if position <= limit {
			return nil
		}
		s.position = max(s.position, limit)
		if err := s.heed(ctx); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
