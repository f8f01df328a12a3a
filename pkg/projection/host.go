package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// host is a projection as this process has it: its generations, which of them
// serves, and what operators want, whatever is folded.
type host struct {
	name        string
	current     definition
	definitions map[uint32]definition // by version
	deps        Deps
	log         *slog.Logger
	hub         hub
	// reads counts the readers handed out.
	reads atomic.Int64
	// poke wakes Run.
	poke chan struct{}

	// opening is held while a generation is opened, which may take long.
	opening sync.Mutex

	mu      sync.RWMutex
	serving *runner
	// runners are the generations that are open here.
	runners map[view.Namespace]*runner
	// foldings are the runners that are run.
	foldings map[*runner]*folding
	running  bool
	active   bool
	closed   bool
	// promised is the greatest position that anybody was told the views contain.
	promised uint64
	control  *control
	failed   error // why the control record could not be followed
	unread   error // why it could not even be read: the views are away
	// scratch is the generation that is filled to verify, sample what it is filled of; nil for all.
	scratch view.Namespace
	sample  *sample
}

// folding is a runner that is run.
type folding struct {
	cancel context.CancelFunc
	done   chan struct{}
	// resumed is the number of resumptions when it was started, err what it ended with.
	resumed uint64
	err     error
}

func newHost(ctx context.Context, current definition, definitions map[uint32]definition, deps Deps) (*host, error) {
	for _, def := range definitions {
		if err := def.validate(); err != nil {
			return nil, err
		}
	}
	if err := deps.complete(); err != nil {
		return nil, err
	}
	name, _ := current.label()
	h := &host{
		name: name, current: current, definitions: definitions, deps: deps, log: deps.Logger.With("projection", name),
		poke: make(chan struct{}, 1), runners: map[view.Namespace]*runner{}, foldings: map[*runner]*folding{},
	}
	c, serving, err := h.establish(ctx)
	if err != nil {
		return nil, err
	}
	h.control = c
	if h.serving, err = h.open(ctx, serving); err != nil {
		return nil, err
	}
	if err := h.leaveOrigin(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.serving.serves.Store(true)
	return h, nil
}

// open opens a generation of a version that this binary has. Reads do not wait
// for it, however long the store takes.
func (h *host) open(ctx context.Context, ns view.Namespace) (*runner, error) {
	if r := h.runnerOf(ns); r != nil {
		return r, nil
	}
	h.opening.Lock()
	defer h.opening.Unlock()
	h.mu.RLock()
	known, closed, scratch, chosen := h.runners[ns], h.closed, h.scratch, h.sample
	h.mu.RUnlock()
	switch {
	case known != nil:
		return known, nil
	case closed:
		return nil, view.ErrClosed
	}
	r, err := newRunner(ctx, h.definitions[ns.Version], ns, &h.deps, h.deps.Options, h.statusOf)
	if err != nil {
		return nil, err
	}
	r.committedBatch = h.committedBatch
	if ns == scratch {
		r.sample = chosen
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.Join(view.ErrClosed, r.close())
	}
	h.runners[ns] = r
	return r, nil
}

// committedBatch tells watchers of what readers see.
func (h *host) committedBatch(r *runner, batch *view.Batch) {
	if h.servingRunner() == r {
		h.hub.committed(r.main, batch)
	}
}

func (h *host) servingRunner() *runner {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.serving
}

// Name is Projection's.
func (h *host) Name() string { return h.name }

// Position is Projection's.
func (h *host) Position() eventstore.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	position := h.serving.position()
	h.promised = max(h.promised, uint64(position))
	return position
}

// WaitFor is Projection's.
func (h *host) WaitFor(ctx context.Context, position eventstore.Position) error {
	for {
		r := h.servingRunner()
		err := r.waitFor(ctx, position)
		if h.promise(r, position, err == nil) {
			var behind *BehindError
			if errors.As(err, &behind) && behind.Err == nil {
				behind.Err = h.statusOf(r).Err
			}
			return err
		}
	}
}

// promise notes what somebody is told that the views contain; false where
// another generation serves meanwhile.
func (h *host) promise(r *runner, position eventstore.Position, reached bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving != r {
		return false
	}
	if reached {
		h.promised = max(h.promised, uint64(position))
	}
	return true
}

// flip makes reads see another generation, as soon as that contains whatever
// anybody was told that the views contain.
func (h *host) flip(ctx context.Context, to *runner) error {
	for {
		h.mu.Lock()
		promised := eventstore.Position(h.promised)
		if to.position() >= promised {
			from := h.serving
			h.serving = to
			from.serves.Store(false)
			to.serves.Store(true)
			h.mu.Unlock()
			from.pace.reads.Store(&h.reads)
			to.pace.reads.Store(nil)
			h.hub.all()
			h.log.Info("another generation serves", "generation", to.ns.String(), "before", from.ns.String(), "position", to.position())
			return nil
		}
		h.mu.Unlock()
		if err := to.waitFor(ctx, promised); err != nil {
			return err
		}
	}
}

// Status is Projection's.
func (h *host) Status() Status { return h.statusOf(h.servingRunner()) }

func (h *host) statusOf(r *runner) Status {
	s := r.currentStatus()
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch pause := h.control.GetPause(); {
	case pause != nil:
		s.State, s.Err = Paused, fmt.Errorf("%w by %s: %s", ErrPaused, cmp.Or(pause.GetActor().GetId(), "an operator"), cmp.Or(pause.GetReason(), "no reason given"))
	case s.Err != nil:
		// What stopped the fold says more.
	case h.unread != nil:
		// Nobody may fold just now, and reads fail all the same.
		s.State, s.Err = Retrying, h.unread
	case s.State == Stopped && h.failed != nil:
		s.State, s.Err = Retrying, h.failed
	}
	return s
}

// Close is Projection's.
func (h *host) Close() error {
	h.mu.Lock()
	h.closed = true
	runners := h.opened()
	clear(h.runners)
	h.mu.Unlock()
	var err error
	for _, r := range runners {
		err = errors.Join(err, r.close())
	}
	return err
}

// opened are the runners in a fixed order, under mu.
func (h *host) opened() []*runner {
	all := make([]*runner, 0, len(h.runners))
	for _, r := range h.runners {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *runner) int {
		return cmp.Or(cmp.Compare(a.ns.Version, b.ns.Version), cmp.Compare(a.ns.Generation, b.ns.Generation))
	})
	return all
}

// runnerOf is an open generation; nil where it is not open here.
func (h *host) runnerOf(ns view.Namespace) *runner {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.runners[ns]
}

func (h *host) isClosed() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.closed
}
