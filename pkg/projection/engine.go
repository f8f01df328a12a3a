package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// Engine runs one projection: all of its generations, of which one serves. All
// methods may be called concurrently.
type Engine[D proto.Message] struct {
	*host
	defs map[uint32]*Customers[D]
}

// New opens the projection and makes its engine, which reads at once and folds
// once it is run. Previous are the folds of earlier versions, so that their
// generations go on folding until they are dropped.
//
// It fails with view.ErrNewerFormat where a newer binary's generation serves,
// and with view.ErrSchema where the collections changed and the version did not.
func New[D proto.Message](ctx context.Context, def Customers[D], deps Deps, previous ...Customers[D]) (*Engine[D], error) {
	e := &Engine[D]{defs: map[uint32]*Customers[D]{def.Version: &def}}
	definitions := map[uint32]definition{def.Version: &def}
	for i := range previous {
		if previous[i].Name != def.Name || previous[i].Version >= def.Version {
			return nil, fmt.Errorf("projection %s version %d: %s version %d is no previous version of it: %w",
				def.Name, def.Version, previous[i].Name, previous[i].Version, view.ErrInvalid)
		}
		e.defs[previous[i].Version], definitions[previous[i].Version] = &previous[i], &previous[i]
	}
	h, err := newHost(ctx, &def, definitions, deps)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", def.Name, err)
	}
	e.host = h
	return e, nil
}

// Reader reads what the generation has computed that serves at this moment:
// all its calls are about that one, however long it is kept. Get one for each
// request.
func (e *Engine[D]) Reader() *Reader[D] {
	r := e.servingRunner()
	e.reads.Add(1)
	return &Reader[D]{engine: e, def: e.defs[r.ns.Version], runner: r, gen: r.gen, since: r.position()}
}

// Digest is the digest of the documents of the generation that serves.
// Bookkeeping, such as when a dead letter was last tried, is no part of it.
func (e *Engine[D]) Digest(ctx context.Context) (view.Digest, error) {
	return contentDigest(ctx, e.servingRunner().gen)
}

// Projection is what every engine offers, whatever it folds.
type Projection interface {
	// Name is the projection's.
	Name() string
	// Run folds, or stands by while another process does, until ctx ends; then
	// it returns nil. It goes on through failures that may pass (store
	// unavailable, disk full), and where a generation has halted; Status shows
	// it. It returns an error where a store was closed. It may be called again after
	// it has returned, not while it runs.
	Run(ctx context.Context) error
	// WaitFor returns once the views contain everything up to position: at
	// once where they do. It fails with *BehindError at ctx's deadline and
	// with what halted the projection where it will not get there.
	WaitFor(ctx context.Context, position eventstore.Position) error
	// Position up to which the views contain everything.
	Position() eventstore.Position
	// Status says how the generation does that serves.
	Status() Status
	// Close gives up the generations. Run must have returned.
	Close() error
}

// Deps are what an engine stands on. It closes none of them.
type Deps struct {
	Log eventstore.Store
	// Origins knows where positions of other logs are, where Log was copied
	// from them. Nil where it was not.
	Origins Origins
	Codec   Decoder
	Views   view.Store
	// Lease makes sure that one process folds and the others stand by. Nil
	// where no other process can have the views open.
	Lease Lease
	// Scans are shared by the engines of a process, so that several rebuilds
	// read the log once. Optional.
	Scans *Scans
	// Process is how this process names itself to operators. Defaults to none.
	Process string
	// Audit keeps what operators do. Required by Operations only.
	Audit Auditor
	// Logger. Defaults to none.
	Logger *slog.Logger
	// Metrics is where the engine registers its own. Defaults to none.
	Metrics prometheus.Registerer
	// Now tells how long ago something was, for batching, for Status and for when an event was
	// set aside; folds never see it. Defaults to time.Now.
	Now func() time.Time
	// Options tune it. The zero value is right.
	Options Options
}

func (d *Deps) complete() error {
	if d.Log == nil || d.Codec == nil || d.Views == nil {
		return errNoDependency
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	d.Options = d.Options.withDefaults()
	return nil
}

var errNoDependency = errors.New("a log, a codec and views are required")

// Origins is of a log that was copied from another one. A *posmap.Map is one.
//
// An event moves as it is, so the positions in it are of the log that it was
// first written to. Documents do not move: what is in them was computed from
// positions of the other log, and a fold that went on from there would give
// something else than a rebuild. So views that hold a log that this one was
// copied from are set aside, and a new generation is filled.
type Origins interface {
	// Resolve is where a position of a log is in this one. It fails with
	// *posmap.UnknownLogError for a log that this one was not copied from.
	Resolve(ctx context.Context, log uuid.UUID, position eventstore.Position) (eventstore.Position, error)
	// Within is where a position is in this log that stands in the event at
	// another one.
	Within(ctx context.Context, event, position eventstore.Position) (eventstore.Position, error)
}

// skippedAt is the position of the event that another one says is not to be folded.
func (d *Deps) skippedAt(ctx context.Context, event uint64, skip *eventv1.DeadLetterSkipped) (uint64, error) {
	if d.Origins == nil {
		return skip.GetPosition(), nil
	}
	position, err := d.Origins.Within(ctx, eventstore.Position(event), eventstore.Position(skip.GetPosition()))
	if err != nil {
		return 0, fmt.Errorf("which event the one at position %d skips: %w", event, err)
	}
	return uint64(position), nil
}

// Decoder gives back the events that records hold.
type Decoder interface {
	// DecodeInto decodes a record into ev, which may have been used before.
	DecodeInto(rec *eventstore.Record, ev *eventv1.RecordedEvent) error
}

// Lease is the right to fold a projection, of which one process at a time has
// it. It need not be exact: the fencing tokens of the views keep out who has lost it unawares.
type Lease interface {
	// Acquire waits for the right, at most until ctx ends. Lost is closed once it is gone; release
	// gives it back, and may be called more than once.
	Acquire(ctx context.Context) (lost <-chan struct{}, release func(), err error)
}
