package recorder

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// remote is a store as a cluster is: no commit over many streams, no dense
// positions, a bound on what one append takes. Every call can be made to fail.
type remote struct {
	eventstore.Store
	// plain positions are those of the store below.
	plain bool
	// around an append: it calls do, or does not, once or later. Defaults to calling it.
	around func(stream string, do appendOnce) (eventstore.Appended, error)
	// asked is called before every question. Defaults to none.
	asked func() error

	appends, questions atomic.Int64
}

type appendOnce func() (eventstore.Appended, error)

// Positions of a remote store, with gaps.
const (
	positionStep  = 7
	positionFirst = 3
	// serverBytes is EventStoreDB's bound on an append, in which types count twice.
	serverBytes = 1 << 20
)

func (s *remote) outside(p eventstore.Position) eventstore.Position {
	if p == 0 || s.plain {
		return p
	}
	return p*positionStep + positionFirst
}

func (s *remote) inside(p eventstore.Position) (eventstore.Position, error) {
	if s.plain {
		return p, nil
	}
	if p != 0 && (p < positionFirst+positionStep || p%positionStep != positionFirst) {
		return 0, fmt.Errorf("position %d is no record's: %w", p, eventstore.ErrInvalid)
	}
	return p / positionStep, nil
}

func (s *remote) Capabilities() eventstore.Capabilities {
	no := eventstore.Capability{Reason: "it is remote"}
	return eventstore.Capabilities{BatchAppend: no, DensePositions: no}
}

func (s *remote) AppendBatch(context.Context, []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	return nil, eventstore.ErrUnsupported
}

func (s *remote) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	s.appends.Add(1)
	if size := sizeOf(records); size > serverBytes {
		return eventstore.Appended{}, fmt.Errorf("%d bytes: %w", size, eventstore.ErrTooLarge)
	}
	do := func() (eventstore.Appended, error) {
		a, err := s.Store.Append(ctx, stream, expected, records...)
		a.Position = s.outside(a.Position)
		return a, err
	}
	if s.around != nil {
		return s.around(stream, do)
	}
	return do()
}

func (s *remote) ask() error {
	s.questions.Add(1)
	if s.asked != nil {
		return s.asked()
	}
	return nil
}

func (s *remote) Head(ctx context.Context) (eventstore.Position, error) {
	if err := s.ask(); err != nil {
		return 0, err
	}
	p, err := s.Store.Head(ctx)
	return s.outside(p), err
}

func (s *remote) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	from, err := s.inside(opts.From)
	opts.From = from
	return s.read(err, s.Store.ReadAll(ctx, opts))
}

func (s *remote) ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error] {
	return s.read(nil, s.Store.ReadStream(ctx, stream, opts))
}

func (s *remote) read(failed error, records iter.Seq2[*eventstore.Record, error]) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		err := failed
		if err == nil {
			err = s.ask()
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for rec, err := range records {
			if err == nil {
				moved := *rec
				moved.Position = s.outside(rec.Position)
				rec = &moved
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

var errInjected = errors.New("injected")

// away is what a store says that cannot be reached.
func away() error { return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, errInjected) }
