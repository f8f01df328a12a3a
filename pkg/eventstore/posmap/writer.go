package posmap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Writer writes the map of a log while that is being filled. It is for whoever
// fills it, alone, and not for concurrent use.
type Writer struct {
	target   eventstore.Store
	stream   string
	revision eventstore.Revision
	state    state
	open     bool

	runs    []byte
	run     run
	last    pair
	pending int // records
}

// OtherSourceError says that a log is a copy of another log than the one at hand.
type OtherSourceError struct{ Target, Filled, Source uuid.UUID }

func (e *OtherSourceError) Error() string {
	return fmt.Sprintf("log %s is a copy of log %s, not of log %s", e.Target, e.Filled, e.Source)
}

// ErrTwoWriters says that somebody else writes the same map.
var ErrTwoWriters = errors.New("another copy into the same log is under way")

// OpenWriter continues the map of the target, which begins with Open where there
// is none yet. It fails with *OtherSourceError, and as reads do.
func OpenWriter(ctx context.Context, target eventstore.Store, source uuid.UUID) (*Writer, error) {
	w := &Writer{
		target: target, stream: StreamOf(target.LogID()), revision: eventstore.NoStream,
		state: state{Format: format, Source: source},
	}
	o, found, err := loadOrigin(ctx, target, target.LogID())
	if err != nil || !found {
		return w, err
	}
	if o.Source != source {
		return nil, &OtherSourceError{Target: o.Target, Filled: o.Source, Source: source}
	}
	w.revision, w.open = o.head, !o.Complete
	w.state.Old, w.state.New, w.state.Records = o.Old, o.New, o.Records
	w.last = pair{o.Old, o.New}
	return w, nil
}

// Origin is what the map says as it was written last.
func (w *Writer) Origin() Origin {
	return Origin{
		Source: w.state.Source, Target: w.target.LogID(), Old: w.state.Old, New: w.state.New, Records: w.state.Records,
		Complete: w.revision >= 0 && !w.open,
	}
}

// Exists says that the log has a map.
func (w *Writer) Exists() bool { return w.revision >= 0 }

// Stream is where the map is.
func (w *Writer) Stream() string { return w.stream }

// Pending is how many pairs are not written yet.
func (w *Writer) Pending() int { return w.pending }

// Records is how many pairs there are, pending ones too.
func (w *Writer) Records() uint64 { return w.state.Records + uint64(w.pending) }

// Open says in the log that records are being copied. It is to be called before
// the first one is; again it does nothing.
func (w *Writer) Open(ctx context.Context) error {
	if w.open {
		return nil
	}
	if err := w.append(ctx, typeOpened, content{state: w.state}); err != nil {
		return err
	}
	w.open = true
	return nil
}

// Add notes where a record of the source stands in the target. Positions must
// grow on both sides.
func (w *Writer) Add(old, position eventstore.Position) error {
	p := pair{old, position}
	if p.old <= w.last.old || p.new <= w.last.new {
		return fmt.Errorf("map of positions: %d at %d, behind %d at %d: %w", p.old, p.new, w.last.old, w.last.new, eventstore.ErrCorrupt)
	}
	if w.pending == 0 || !w.run.add(p) {
		if w.pending > 0 {
			w.runs = appendRun(w.runs, w.run)
		}
		w.run = run{first: p, step: pair{p.old - w.last.old, p.new - w.last.new}, count: 1}
	}
	w.last = p
	w.pending++
	return nil
}

// Flush writes the pairs that are pending. Whoever gets an error opens another
// writer to go on.
func (w *Writer) Flush(ctx context.Context) error {
	if w.pending == 0 {
		return nil
	}
	if err := w.Open(ctx); err != nil {
		return err
	}
	next := w.state
	next.Old, next.New = w.last.old, w.last.new
	next.Records += uint64(w.pending)
	w.runs = appendRun(w.runs, w.run)
	if err := w.append(ctx, typePositions, content{state: next, Runs: w.runs}); err != nil {
		return err
	}
	w.state, w.runs, w.pending = next, w.runs[:0], 0
	return nil
}

// Complete writes what is pending, and that everything that was copied is
// mapped. Where the log says so already it does nothing.
func (w *Writer) Complete(ctx context.Context) error {
	if err := w.Flush(ctx); err != nil {
		return err
	}
	if w.Exists() && !w.open {
		return nil
	}
	if err := w.append(ctx, typeCompleted, content{state: w.state}); err != nil {
		return err
	}
	w.open = false
	return nil
}

func (w *Writer) append(ctx context.Context, typ string, c content) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("map of positions: %w", err)
	}
	rec := eventstore.NewRecord{Type: typ, ContentType: eventstore.ContentJSON, Data: data}
	// The same record at the same place has the same id, so that its repetition is none.
	rec.ID = uuid.NewSHA1(w.target.LogID(), fmt.Appendf(nil, "%s %d %s", typ, w.revision+1, data))
	appended, err := w.target.Append(ctx, w.stream, w.revision, rec)
	if err != nil {
		if _, conflict := errors.AsType[*eventstore.RevisionConflictError](err); conflict {
			err = fmt.Errorf("%w: %w", ErrTwoWriters, err)
		}
		return fmt.Errorf("map of positions: %w", err)
	}
	w.revision = appended.Revision
	return nil
}
