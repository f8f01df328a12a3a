package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// foldState is what a runner drives: state that takes events, and gives what
// there is to commit.
type foldState interface {
	// fold takes events; those of a portion of dead letters with what is known of them.
	fold(ctx context.Context, events []*eventv1.RecordedEvent, d *portion) error
	// park sets one event aside.
	park(ctx context.Context, rec *eventv1.RecordedEvent, attempts int, cause error) error
	flush(ctx context.Context, batch *view.Batch, number uint64) error
	// reset forgets everything that is not stored.
	reset(empty bool, p *parked)
	// abandon forgets what was folded since the last flush, if all before is committed.
	abandon()
	// gently has it work on one processor and call rest often; nil for as fast as it can.
	gently(rest func())
	pendingBytes() int
	pendingDocuments() int
	evict(limit int, committed uint64)
}

// runner is one generation as this process has it open: it folds while it is
// run, and else follows what another process commits. It knows nothing of what
// is folded.
type runner struct {
	name  string
	ns    view.Namespace
	def   definition
	main  string
	types map[string]bool // that are decoded; nil for all
	deps  *Deps
	opts  Options
	gen   view.Generation
	log   *slog.Logger
	// committedBatch is told of each commit made here.
	committedBatch func(*runner, *view.Batch)

	// serves says that it answers reads.
	serves  atomic.Bool
	waiters waiters
	holder  *holder
	metrics *metrics
	pace    pace

	mu      sync.Mutex
	running bool
	status  Status
	rate    rate
	newest  time.Time
	pending time.Time // when the oldest event was recorded that is read and not committed
	letters letterCounts
	begun   bool // letters are known
	drains  []*drain

	// scan is the common scan that it takes part in; empty for none.
	scan string
	// sample is what the generation is filled of; nil for everything.
	sample *sample
	// suspects are events that failed once; each is tried again by itself.
	suspects map[uint64]int
	// asked wakes the session for a drain.
	asked chan struct{}
}

// newRunner opens a generation. Its metrics say of it what status does, pauses included.
func newRunner(ctx context.Context, def definition, ns view.Namespace, deps *Deps, opts Options, status func(*runner) Status) (*runner, error) {
	gen, err := deps.Views.Open(ctx, ns, def.Collections()...)
	if err != nil {
		return nil, err
	}
	r := &runner{
		name: ns.Projection, ns: ns, def: def, main: def.main(), types: def.types(), deps: deps, opts: opts, gen: gen,
		log:    deps.Logger.With("projection", ns.Projection, "generation", ns.String()),
		asked:  make(chan struct{}, 1),
		holder: newHolder(), suspects: map[uint64]int{},
	}
	if opts.LiveDelay > 0 {
		r.waiters.asked = make(chan struct{}, 1)
	}
	r.pace.now = deps.Now
	r.status = Status{Name: ns.Projection, Namespace: ns}
	if head, err := deps.Log.Head(ctx); err == nil {
		// Only for the lag: whatever is wrong shows when it is run.
		r.status.Head = head
	}
	c, err := gen.Checkpoint(ctx)
	if err == nil {
		r.waiters.set(c.Position)
		r.metrics, err = newMetrics(r, status, deps.Metrics)
	}
	if err != nil {
		return nil, errors.Join(err, gen.Close())
	}
	return r, nil
}

func (r *runner) position() eventstore.Position { return eventstore.Position(r.waiters.get()) }

// waitFor returns once the generation contains everything up to position.
func (r *runner) waitFor(ctx context.Context, position eventstore.Position) error {
	err := r.waiters.wait(ctx, uint64(position))
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("wait for position %d: %w", position, ctx.Err())
	}
	behind := &BehindError{Projection: r.name, Want: position, At: r.position()}
	if ctx.Err() == nil {
		behind.Err = err
	} else {
		behind.Err = r.currentStatus().Err
	}
	return behind
}

func (r *runner) currentStatus() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.deps.Now()
	s := r.status
	s.Position = r.position()
	s.Head = max(s.Head, s.Position)
	s.EventsPerSecond = r.rate.perSecond(now)
	s.DeadLetters, s.Waiting, s.OldestDeadLetter = r.letters.failed, r.letters.waiting, r.letters.oldest
	s.Diverged = r.letters.diverged > 0
	s.Serving = r.serves.Load()
	if s.Head > s.Position {
		oldest := r.pending
		if oldest.IsZero() {
			oldest = r.newest
		}
		if !oldest.IsZero() {
			s.Behind = max(now.Sub(oldest), 0)
		}
	}
	return s
}

// liveDelay is how long a commit may wait: not at all where the generation is
// still to serve.
func (r *runner) liveDelay() time.Duration {
	if !r.serves.Load() {
		return 0
	}
	return r.opts.LiveDelay
}

func (r *runner) isRunning() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

func (r *runner) setState(state State, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.State, r.status.Err = state, err
}

func (r *runner) sawHead(head eventstore.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Head = max(r.status.Head, head)
}

// close gives up the generation. run must have returned.
func (r *runner) close() error {
	r.metrics.unregister()
	r.waiters.halt(view.ErrClosed)
	if err := r.gen.Close(); err != nil {
		return fmt.Errorf("close generation %s: %w", r.ns, err)
	}
	return nil
}

// run folds until ctx ends, then returns nil, or an error that no waiting mends.
func (r *runner) run(ctx context.Context) error {
	r.mu.Lock()
	r.running = true
	r.mu.Unlock()
	clear(r.suspects)
	r.waiters.halt(nil)
	err := r.attempts(ctx)
	switch {
	case r.deps.Lease != nil && errors.Is(err, view.ErrFenced):
		// It is somebody else's turn, whom readers of this process follow.
		r.log.Info("another process folds now", "position", r.position(), "error", err)
		r.setState(following(r.currentStatus()), nil)
	case err != nil:
		err = fmt.Errorf("run projection %s: %w", r.name, err)
		r.setState(Halted, err)
		r.waiters.halt(err)
		r.log.Error("projection halted", "position", r.position(), "error", err)
	default:
		r.setState(Stopped, nil)
	}
	r.mu.Lock()
	r.running, r.begun = false, false
	drains := r.drains
	r.drains = nil
	r.mu.Unlock()
	for _, d := range drains {
		d.finish(cmpErr(err, context.Canceled))
	}
	return err
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// attempts keeps a session going until there is no sense in it.
func (r *runner) attempts(ctx context.Context) error {
	token, err := r.fence(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	delay := r.opts.RetryDelay
	for {
		before := r.position()
		err := r.session(ctx, token)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errScanOver):
			r.scan = ""
			continue
		case r.suspect(err):
			// It is tried again by itself, at once.
			continue
		case final(err):
			return err
		}
		if r.position() > before {
			delay = r.opts.RetryDelay
		}
		r.retrying(err, delay)
		if !sleep(ctx, delay) {
			return nil
		}
		delay = min(2*delay, 64*r.opts.RetryDelay)
	}
}

// fence takes a fencing token, as soon as the views can be written.
func (r *runner) fence(ctx context.Context) (uint64, error) {
	delay := r.opts.RetryDelay
	for {
		token, err := r.gen.Fence(ctx)
		if err == nil || final(err) || ctx.Err() != nil {
			return token, err
		}
		r.retrying(err, delay)
		if !sleep(ctx, delay) {
			return 0, ctx.Err()
		}
		delay = min(2*delay, 64*r.opts.RetryDelay)
	}
}

func (r *runner) retrying(err error, delay time.Duration) {
	r.metrics.retries.Inc()
	r.setState(Retrying, err)
	r.log.Warn("projection retries", "position", r.position(), "error", err, "delay", delay)
}

// sleep waits; false says that ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// suspect notes which event a session failed at, if one is the cause.
func (r *runner) suspect(err error) bool {
	var fe *FoldError
	var tooMany *TooManyDeadLettersError
	if !errors.As(err, &fe) || errors.As(err, &tooMany) {
		return false
	}
	r.metrics.foldErrors.Inc()
	r.suspects[uint64(fe.Position)]++
	r.log.Warn("an event could not be folded and is tried by itself", "position", fe.Position, "event_id", fe.EventID, "error", fe.Err)
	return true
}

// final says whether trying again is of no use.
func final(err error) bool {
	var tooMany *TooManyDeadLettersError
	if errors.As(err, &tooMany) {
		return true
	}
	for _, end := range []error{
		ErrOtherLog, view.ErrFenced, view.ErrFailed, view.ErrClosed, view.ErrInvalid, view.ErrCorrupt, view.ErrDropped, view.ErrServer,
		eventstore.ErrClosed, eventstore.ErrAhead, eventstore.ErrCorrupt, eventstore.ErrInvalid,
	} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// checkpoint finds where to go on.
func (r *runner) checkpoint(ctx context.Context) (eventstore.Position, error) {
	c, err := r.gen.Checkpoint(ctx)
	if err != nil {
		return 0, err
	}
	if c.IsZero() {
		return 0, nil
	}
	if own := r.deps.Log.LogID(); c.LogID != own {
		return 0, fmt.Errorf("%w: generation %s holds log %s up to %d, this log is %s; start with the data that belong together, or remove the views, which are then computed anew from this log",
			ErrOtherLog, r.ns, c.LogID, c.Position, own)
	}
	r.waiters.set(c.Position)
	return eventstore.Position(c.Position), nil
}

// committed tells everybody of a commit.
func (r *runner) committed(c commit, position eventstore.Position) {
	r.mu.Lock()
	r.rate.add(r.deps.Now(), c.events)
	if !c.newest.IsZero() {
		r.newest, r.pending = c.newest, time.Time{}
	}
	r.letters = c.letters
	r.mu.Unlock()
	r.metrics.events.Add(float64(c.events))
	r.waiters.advance(uint64(position))
	if c.batch != nil {
		r.committedBatch(r, c.batch)
	}
}

// read notes that an event was read that is not committed.
func (r *runner) read(recorded time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending.IsZero() {
		r.pending = recorded
	}
}
