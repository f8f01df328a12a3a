package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// fold is what a runner drives: state that takes events, and gives what there
// is to commit.
type foldState interface {
	fold(ctx context.Context, events []*eventv1.RecordedEvent) error
	flush(ctx context.Context, batch *view.Batch, number uint64) error
	reset(empty bool)
	pendingBytes() int
	pendingDocuments() int
	evict(limit int, committed uint64)
}

// runner carries events from the log through a fold into commits. It knows
// nothing of what is folded.
type runner struct {
	name      string
	documents string
	types     map[string]bool // that are decoded; nil for all
	deps      Deps
	opts      Options
	gen       view.Generation
	state     foldState
	log       *slog.Logger
	waiters   waiters
	hub       hub
	metrics   *metrics

	mu      sync.Mutex
	running bool
	status  Status
	rate    rate
	newest  time.Time

	poison poison
}

// poison is an event that failed and is being tried again, by itself.
type poison struct {
	position eventstore.Position
	attempts int
}

func (o Options) withDefaults() Options {
	o.Generation = cmp.Or(o.Generation, 1)
	o.CommitEvents = positive(o.CommitEvents, 1<<14)
	o.CommitBytes = positive(o.CommitBytes, 12<<20)
	o.CommitDelay = positive(o.CommitDelay, time.Second)
	o.ReadBatch = positive(o.ReadBatch, 2048)
	o.ReadAhead = positive(o.ReadAhead, 4)
	o.Decoders = positive(o.Decoders, 2)
	o.Partitions = positive(o.Partitions, min(runtime.GOMAXPROCS(0), 16))
	o.ReplayCacheBytes = positive(o.ReplayCacheBytes, 48<<20)
	o.LiveCacheBytes = positive(o.LiveCacheBytes, 16<<20)
	o.FoldAttempts = positive(o.FoldAttempts, 3)
	o.RetryDelay = positive(o.RetryDelay, 50*time.Millisecond)
	return o
}

func positive[N int | time.Duration](n, otherwise N) N {
	if n > 0 {
		return n
	}
	return otherwise
}

// Name is Projection's.
func (r *runner) Name() string { return r.name }

// Position is Projection's.
func (r *runner) Position() eventstore.Position { return eventstore.Position(r.waiters.get()) }

// WaitFor is Projection's.
func (r *runner) WaitFor(ctx context.Context, position eventstore.Position) error {
	err := r.waiters.wait(ctx, uint64(position))
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("wait for position %d: %w", position, ctx.Err())
	}
	behind := &BehindError{Projection: r.name, Want: position, At: r.Position()}
	if ctx.Err() == nil {
		behind.Err = err
	} else {
		behind.Err = r.Status().Err
	}
	return behind
}

// Status is Projection's.
func (r *runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Position = r.Position()
	s.Head = max(s.Head, s.Position)
	s.EventsPerSecond = r.rate.perSecond(r.deps.Now())
	if s.Head > s.Position && !r.newest.IsZero() {
		s.Behind = max(r.deps.Now().Sub(r.newest), 0)
	}
	return s
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

// Close is Projection's.
func (r *runner) Close() error {
	r.metrics.unregister()
	if err := r.gen.Close(); err != nil {
		return fmt.Errorf("close projection %s: %w", r.name, err)
	}
	return nil
}

// Run is Projection's.
func (r *runner) Run(ctx context.Context) error {
	r.mu.Lock()
	if r.running {
		r.mu.Unlock()
		return fmt.Errorf("run projection %s: %w", r.name, ErrRunning)
	}
	r.running = true
	r.mu.Unlock()
	r.poison = poison{}
	r.waiters.halt(nil)
	err := r.run(ctx)
	if err != nil {
		err = fmt.Errorf("run projection %s: %w", r.name, err)
		r.setState(Halted, err)
		r.waiters.halt(err)
		r.log.Error("projection halted", "position", r.Position(), "error", err)
	} else {
		r.setState(Stopped, nil)
	}
	r.mu.Lock()
	r.running = false
	r.mu.Unlock()
	return err
}

// run keeps a session going until there is no sense in it.
func (r *runner) run(ctx context.Context) error {
	token, err := r.gen.Fence(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	delay := r.opts.RetryDelay
	for {
		before := r.Position()
		err := r.session(ctx, token)
		if ctx.Err() != nil {
			return nil
		}
		if r.final(err) {
			return err
		}
		if r.Position() > before {
			delay = r.opts.RetryDelay
		}
		r.metrics.retries.Inc()
		r.setState(Retrying, err)
		r.log.Warn("projection retries", "position", r.Position(), "error", err, "delay", delay)
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		delay = min(2*delay, 64*r.opts.RetryDelay)
	}
}

// final says whether trying again is of no use, and keeps count of poison.
func (r *runner) final(err error) bool {
	var fe *FoldError
	if errors.As(err, &fe) {
		if r.poison.position != fe.Position {
			r.poison = poison{position: fe.Position}
		}
		r.poison.attempts++
		fe.Attempts = r.poison.attempts
		r.metrics.foldErrors.Inc()
		return fe.Attempts >= r.opts.FoldAttempts
	}
	for _, end := range []error{
		ErrOtherLog, view.ErrFenced, view.ErrFailed, view.ErrClosed, view.ErrInvalid, view.ErrCorrupt,
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
			ErrOtherLog, r.gen.Namespace(), c.LogID, c.Position, own)
	}
	r.waiters.set(c.Position)
	return eventstore.Position(c.Position), nil
}

// rate measures events per second over the last seconds.
type rate struct {
	since  time.Time
	events int
	last   float64
}

const rateWindow = 2 * time.Second

func (r *rate) add(now time.Time, events int) {
	if r.since.IsZero() {
		r.since = now
	}
	r.events += events
	if d := now.Sub(r.since); d >= rateWindow {
		r.last = float64(r.events) / d.Seconds()
		r.since, r.events = now, 0
	}
}

func (r *rate) perSecond(now time.Time) float64 {
	d := now.Sub(r.since)
	if r.since.IsZero() || d <= 0 {
		return r.last
	}
	if d >= rateWindow || r.last == 0 {
		return float64(r.events) / d.Seconds()
	}
	return r.last
}
