package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// Engine runs one projection. All methods may be called concurrently.
type Engine[D proto.Message] struct {
	*runner
	def *Customers[D]
}

// New opens the projection's generation and makes its engine, which reads at
// once and folds once it is run.
func New[D proto.Message](ctx context.Context, def Customers[D], deps Deps) (*Engine[D], error) {
	e, err := newEngine(ctx, &def, deps)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", def.Name, err)
	}
	return e, nil
}

func newEngine[D proto.Message](ctx context.Context, def *Customers[D], deps Deps) (*Engine[D], error) {
	if err := def.validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil || deps.Codec == nil || deps.Views == nil {
		return nil, errNoDependency
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	opts := deps.Options.withDefaults()
	ns := view.Namespace{Projection: def.Name, Version: def.Version, Generation: opts.Generation}
	gen, err := deps.Views.Open(ctx, ns, def.collections()...)
	if err != nil {
		return nil, err
	}
	r := &runner{
		name: def.Name, documents: def.Documents.Name, types: def.types(), deps: deps, opts: opts, gen: gen,
		state: newFolder(def, gen, opts.Partitions),
		log:   deps.Logger.With("projection", def.Name),
	}
	if opts.LiveDelay > 0 {
		r.waiters.asked = make(chan struct{}, 1)
	}
	r.status = Status{Name: def.Name, Namespace: ns}
	c, err := gen.Checkpoint(ctx)
	if err == nil {
		r.waiters.set(c.Position)
		r.metrics, err = newMetrics(r, deps.Metrics)
	}
	if err != nil {
		return nil, errors.Join(err, gen.Close())
	}
	return &Engine[D]{runner: r, def: def}, nil
}

// Reader reads what the engine has computed.
func (e *Engine[D]) Reader() *Reader[D] { return &Reader[D]{def: e.def, gen: e.gen} }

// Digest is the digest of everything that the engine has stored.
func (e *Engine[D]) Digest(ctx context.Context) (view.Digest, error) { return e.gen.Digest(ctx) }

// Projection is what every engine offers, whatever it folds.
type Projection interface {
	// Name is the projection's.
	Name() string
	// Run folds until ctx ends, then returns nil. It goes on through failures that may
	// pass (store unavailable, disk full), which Status shows. It returns an
	// error that no waiting mends: *FoldError, ErrOtherLog, view.ErrFenced, view.ErrFailed, or
	// that a store was closed; reads go on then. It may be called again after
	// it has returned, not while it runs.
	Run(ctx context.Context) error
	// WaitFor returns once the views contain everything up to position: at
	// once where they do. It fails with *BehindError at ctx's deadline and
	// with what halted the projection where it will not get there.
	WaitFor(ctx context.Context, position eventstore.Position) error
	// Position up to which the views contain everything.
	Position() eventstore.Position
	// Status says how it does.
	Status() Status
	// Close gives up the generation. Run must have returned.
	Close() error
}

// Deps are what an engine stands on. It closes none of them.
type Deps struct {
	Log   eventstore.Store
	Codec Decoder
	Views view.Store
	// Logger. Defaults to none.
	Logger *slog.Logger
	// Metrics is where the engine registers its own. Defaults to none.
	Metrics prometheus.Registerer
	// Now tells how long ago something was, for batching and for Status; folds never see it.
	// Defaults to time.Now.
	Now func() time.Time
	// Options tune it. The zero value is right.
	Options Options
}

// Decoder gives back the events that records hold.
type Decoder interface {
	// DecodeInto decodes a record into ev, which may have been used before.
	DecodeInto(rec *eventstore.Record, ev *eventv1.RecordedEvent) error
}

// Options tune an engine. They change no result.
type Options struct {
	// Generation to fill and serve.
	Generation uint32
	// CommitEvents is the largest number of events in a commit. Defaults to 16,384.
	CommitEvents int
	// CommitBytes is about the largest size of a commit, in bytes of rows. Defaults to 12 MiB.
	CommitBytes int
	// CommitDelay is how long a commit may wait for more events while the
	// projection is behind; once caught up none waits. Defaults to 1 second.
	CommitDelay time.Duration
	// LiveDelay is how long a commit may wait for more events once the
	// projection has caught up, unless somebody waits for it (WaitFor): for a read
	// model that is asked now and then, and whose documents change often. Defaults to not at all.
	LiveDelay time.Duration
	// ReadBatch is the largest number of events decoded and folded together. Defaults to 2,048.
	ReadBatch int
	// ReadAhead is how many of those may wait. Defaults to 4.
	ReadAhead int
	// Decoders is the number of goroutines that decode. Defaults to 2.
	Decoders int
	// Partitions is the number of goroutines that fold. Defaults to the number of CPUs, at most 16.
	Partitions int
	// ReplayCacheBytes bounds the documents kept in memory between commits
	// while the projection is behind, estimated. Defaults to 48 MiB.
	ReplayCacheBytes int
	// LiveCacheBytes is the same once it has caught up. Defaults to 16 MiB.
	LiveCacheBytes int
	// FoldAttempts is how often an event's fold is tried before the projection
	// halts. Defaults to 3.
	FoldAttempts int
	// RetryDelay is the time before the first retry of whatever failed; it doubles up to 64 times
	// itself. Defaults to 50 milliseconds.
	RetryDelay time.Duration
}

// Status is how a projection does.
type Status struct {
	Name      string
	Namespace view.Namespace
	State     State
	// Position up to which the views contain everything.
	Position eventstore.Position
	// Head is the log's last position as far as known.
	Head eventstore.Position
	// Behind is how far Position is behind the log in time: 0 when caught up, else the age of
	// the newest event folded.
	Behind time.Duration
	// EventsPerSecond folded of late.
	EventsPerSecond float64
	// Err is why it is not running, or what it is retrying.
	Err error
}

// State of a projection.
type State uint8

// The states of a projection.
const (
	// Stopped: Run was not called or has returned nil.
	Stopped State = iota
	// CatchingUp: behind the log.
	CatchingUp
	// Live: at the log's head.
	Live
	// Retrying: waiting for a failure to pass.
	Retrying
	// Halted: will not go on by itself.
	Halted
)

// String names the state.
func (s State) String() string {
	switch s {
	case Stopped:
		return "stopped"
	case CatchingUp:
		return "catching up"
	case Live:
		return "live"
	case Retrying:
		return "retrying"
	case Halted:
		return "halted"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// ErrBehind is what a *BehindError is.
var ErrBehind = errors.New("read model is behind")

// ErrOtherLog says that a generation was filled from another log than the one
// at hand.
var ErrOtherLog = errors.New("the read model was filled from another log")

// ErrRunning says that Run was called while it runs.
var ErrRunning = errors.New("projection is already running")

// BehindError says that the views did not get to a position in time.
type BehindError struct {
	Projection string
	// Want is what was waited for, At where the views are.
	Want, At eventstore.Position
	// Err is what the projection is failing with, if it is.
	Err error
}

func (e *BehindError) Error() string {
	msg := fmt.Sprintf("%s: %s at position %d, %d before %d", e.Projection, ErrBehind, e.At, e.Want-e.At, e.Want)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is says that it is ErrBehind.
func (e *BehindError) Is(target error) bool { return target == ErrBehind }

func (e *BehindError) Unwrap() error { return e.Err }

// FoldError says which event a projection halted at.
type FoldError struct {
	Projection string
	Stream     string
	Position   eventstore.Position
	EventID    string
	Type       string
	// Attempts made.
	Attempts int
	// Err of the fold or the decoder; of a panic, with its stack.
	Err error
}

func (e *FoldError) Error() string {
	return fmt.Sprintf("%s halted at position %d (event %s, %s, stream %s) after %d attempts: %v",
		e.Projection, e.Position, e.EventID, e.Type, e.Stream, e.Attempts, e.Err)
}

func (e *FoldError) Unwrap() error { return e.Err }
