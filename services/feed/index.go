package feed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
)

// Index knows where each event stands: a projection of event ids to positions.
// It decodes nothing, so no event can halt it. All methods may be called
// concurrently. Make it with OpenIndex.
type Index struct {
	deps IndexDeps
	gen  view.Generation

	mu      sync.Mutex
	running bool
	status  projection.Status
	// moved is closed and made anew with every move.
	moved chan struct{}
}

var _ projection.Projection = (*Index)(nil)

// IndexDeps are what the index stands on. It closes none of them.
type IndexDeps struct {
	Log eventstore.Store
	// Origins knows the logs that Log was copied from: an index of one of them
	// is left, and another one made. Optional.
	Origins token.Origins
	Views   view.Store
	// Lease is held while the index is written; who waits for it reads what
	// another process writes. Defaults to none: then nobody else may run it.
	Lease projection.Lease
	// PollInterval is how often somebody who waits looks what another one wrote,
	// should he miss the hint. Defaults to 1 second.
	PollInterval time.Duration
	// Logger. Defaults to none.
	Logger *slog.Logger
	// RetryDelay is the time before the first retry of whatever failed; it
	// doubles up to 64 times itself. Defaults to 50 milliseconds.
	RetryDelay time.Duration
}

// ErrUnknownEvent says that the index has no event with an id.
var ErrUnknownEvent = errors.New("unknown event")

const (
	indexName    = "feed"
	indexVersion = 1
	// positions is the collection: by tenant and event id, 8 bytes.
	positions = "positions"

	// commitEvents is how many events are gathered for a commit while behind.
	commitEvents = 8192
	pollInterval = time.Second
	retryDelay   = 50 * time.Millisecond
	retryDoubles = 6
)

// OpenIndex opens the index where it was left.
func OpenIndex(ctx context.Context, deps IndexDeps) (*Index, error) {
	if deps.Log == nil || deps.Views == nil {
		return nil, errors.New("feed index: Log and Views are required")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	deps.Logger = deps.Logger.With("projection", indexName)
	if deps.RetryDelay <= 0 {
		deps.RetryDelay = retryDelay
	}
	if deps.PollInterval <= 0 {
		deps.PollInterval = pollInterval
	}
	x := &Index{deps: deps, moved: make(chan struct{})}
	if err := x.open(ctx); err != nil {
		return nil, err
	}
	return x, nil
}

// checkpoint is the last commit's, which must be of this log.
func (x *Index) checkpoint(ctx context.Context) (view.Checkpoint, error) {
	c, err := x.gen.Checkpoint(ctx)
	if err != nil {
		return c, fmt.Errorf("feed index: checkpoint: %w", err)
	}
	if !c.IsZero() && c.LogID != x.deps.Log.LogID() {
		return c, x.otherLog(c)
	}
	return c, nil
}

func (x *Index) otherLog(c view.Checkpoint) error {
	return fmt.Errorf("feed index: %w: it holds log %s up to %d, this log is %s; start with the data that belong together, or remove the views, which are then computed anew from this log",
		projection.ErrOtherLog, c.LogID, c.Position, x.deps.Log.LogID())
}

// Find is the position of an event, or wraps ErrUnknownEvent.
func (x *Index) Find(ctx context.Context, tenant string, id uuid.UUID) (eventstore.Position, error) {
	data, err := x.gen.Get(ctx, positions, view.Key{Tenant: tenant, ID: id.String()})
	if errors.Is(err, view.ErrNotFound) {
		return 0, fmt.Errorf("event %s: %w", id, ErrUnknownEvent)
	}
	if err != nil {
		return 0, fmt.Errorf("event %s: %w", id, err)
	}
	const size = 8
	if len(data) != size {
		return 0, fmt.Errorf("event %s: position of %d bytes: %w", id, len(data), view.ErrCorrupt)
	}
	return eventstore.Position(binary.BigEndian.Uint64(data)), nil
}

// Name is the projection's.
func (x *Index) Name() string { return indexName }

// Run indexes, or waits for its turn, until ctx ends, then returns nil.
// Failures that may pass are retried; it returns those that will not.
func (x *Index) Run(ctx context.Context) error {
	if err := x.begin(); err != nil {
		return err
	}
	run := x.write
	if x.deps.Lease != nil {
		run = x.takeTurns
	}
	err := run(ctx)
	x.end(err)
	return err
}

// write indexes until ctx ends.
func (x *Index) write(ctx context.Context) error {
	delay := x.deps.RetryDelay
	for {
		from := x.Position()
		last := x.index(ctx)
		if ctx.Err() != nil || !passes(last) {
			return unlessEnded(ctx, last)
		}
		if x.Position() > from {
			delay = x.deps.RetryDelay
		}
		x.set(func(s *projection.Status) { s.State, s.Err = projection.Retrying, last })
		x.deps.Logger.WarnContext(ctx, "indexing failed, retrying", "error", last, "position", uint64(x.Position()), "delay", delay)
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		delay = min(2*delay, x.deps.RetryDelay<<retryDoubles)
	}
}

// unlessEnded is the error, unless it is that ctx has ended.
func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// passes says that waiting may mend the failure.
func passes(err error) bool {
	for _, final := range []error{
		view.ErrFenced, view.ErrFailed, view.ErrClosed, view.ErrCorrupt, view.ErrInvalid,
		eventstore.ErrClosed, eventstore.ErrAhead, eventstore.ErrCorrupt, projection.ErrOtherLog,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func (x *Index) begin() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running {
		return fmt.Errorf("feed index: %w", projection.ErrRunning)
	}
	x.running = true
	x.status.State, x.status.Err = projection.CatchingUp, nil
	return nil
}

func (x *Index) end(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running = false
	x.status.State, x.status.Err = projection.Stopped, err
	if err != nil {
		x.status.State = projection.Halted
	}
	x.wake()
}

// index takes over as the index's writer and indexes from the checkpoint on.
func (x *Index) index(ctx context.Context) (err error) {
	fence, err := x.gen.Fence(ctx)
	if err != nil {
		return fmt.Errorf("feed index: %w", err)
	}
	checkpoint, err := x.checkpoint(ctx)
	if err != nil {
		return err
	}
	x.reach(eventstore.Position(checkpoint.Position), nil)
	sub, err := x.deps.Log.Subscribe(ctx, eventstore.SubscribeOptions{After: eventstore.Position(checkpoint.Position)})
	if err != nil {
		return fmt.Errorf("feed index: read behind %d: %w", checkpoint.Position, err)
	}
	defer func() { err = errors.Join(err, closing(sub)) }()
	batch := &view.Batch{}
	for {
		read, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("feed index: %w", err)
		}
		for _, rec := range read.Records {
			x.put(batch, rec)
		}
		if batch.Len() < commitEvents && !read.CaughtUp {
			continue
		}
		if batch.Len() > 0 {
			batch.Checkpoint = view.Checkpoint{
				Namespace: x.gen.Namespace(), Token: fence, LogID: x.deps.Log.LogID(), Position: uint64(read.Position),
			}
			if err := x.gen.Commit(ctx, batch); err != nil {
				return fmt.Errorf("feed index: commit up to %d: %w", read.Position, err)
			}
			batch.Reset()
		}
		x.reach(read.Position, &read)
	}
}

func (x *Index) put(batch *view.Batch, rec *eventstore.Record) {
	tenant := event.TenantOf(rec.Stream)
	if tenant == "" || !event.IsEvent(rec) {
		return
	}
	row := view.Row{Data: binary.BigEndian.AppendUint64(nil, uint64(rec.Position))}
	batch.PutRow(positions, view.Key{Tenant: tenant, ID: rec.ID.String()}, row, view.Absent())
}

// reach notes how far the index has come.
func (x *Index) reach(position eventstore.Position, read *eventstore.Batch) {
	x.set(func(s *projection.Status) {
		s.Position = max(s.Position, position)
		s.Head = max(s.Head, position)
		s.Behind = 0
		s.Err = nil
		if s.State = projection.CatchingUp; read != nil && read.CaughtUp {
			s.State = projection.Live
		}
	})
}

func (x *Index) set(change func(*projection.Status)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change(&x.status)
	x.wake()
}

// wake wakes whoever waits. The caller holds mu.
func (x *Index) wake() {
	close(x.moved)
	x.moved = make(chan struct{})
}

// WaitFor returns once the index has everything up to position.
func (x *Index) WaitFor(ctx context.Context, position eventstore.Position) error {
	for {
		x.mu.Lock()
		status, moved := x.status, x.moved
		x.mu.Unlock()
		if status.Position >= position {
			return nil
		}
		if status.State == projection.Halted {
			return fmt.Errorf("feed index halted: %w", status.Err)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("wait for the feed index: %w", ctx.Err())
			}
			return &projection.BehindError{Projection: indexName, Want: position, At: status.Position, Err: status.Err}
		}
	}
}

// Position up to which the index has everything.
func (x *Index) Position() eventstore.Position {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.status.Position
}

// Status says how it does.
func (x *Index) Status() projection.Status {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.status
}

// Close gives up the generation. Run must have returned.
func (x *Index) Close() error {
	if err := x.gen.Close(); err != nil {
		return fmt.Errorf("close feed index: %w", err)
	}
	return nil
}
