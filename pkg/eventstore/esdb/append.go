package esdb

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/metadata"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// maxAppendBytes is what EventStoreDB takes in one append where nobody set it
// otherwise, counted as it does. An append over it is refused rather than
// split: what is split is not all or nothing.
const maxAppendBytes = 1 << 20

// Append is eventstore.Store's. Appends to one stream go one by one in the
// order in which they were called, those to different streams side by side.
//
// Where the answer is lost, it looks whether the records are there and tries
// again where they are not, unless expected is Any: then it is ErrUnavailable,
// and the records may be there. Records that an own earlier try left there, or
// another call, are Repeated.
func (s *Store) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	appended, err := s.append(ctx, stream, expected, records)
	var conflict *eventstore.RevisionConflictError
	switch {
	case err == nil && appended.Repeated:
		s.metrics.appends.WithLabelValues(outcomeRepeated).Inc()
	case err == nil:
		s.metrics.appends.WithLabelValues(outcomeDone).Inc()
	case errors.As(err, &conflict):
		s.metrics.appends.WithLabelValues(outcomeConflict).Inc()
	default:
		s.metrics.appends.WithLabelValues(outcomeFailed).Inc()
	}
	if err != nil {
		return eventstore.Appended{}, fmt.Errorf("append %d records to %.64q at revision %s: %w", len(records), stream, expected, err)
	}
	return appended, nil
}

// AppendBatch is eventstore.Store's: ErrUnsupported.
func (s *Store) AppendBatch(context.Context, []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	return nil, fmt.Errorf("append to many streams at once: %s: %w", s.Capabilities().BatchAppend.Reason, eventstore.ErrUnsupported)
}

func (s *Store) append(ctx context.Context, stream string, expected eventstore.Revision, records []eventstore.NewRecord) (eventstore.Appended, error) {
	if err := validate(stream, expected, records); err != nil {
		return eventstore.Appended{}, err
	}
	if err := ctx.Err(); err != nil {
		return eventstore.Appended{}, err
	}
	if !s.enter(&s.appends) {
		return eventstore.Appended{}, eventstore.ErrClosed
	}
	defer s.appends.Done()
	op, cancel := s.operation(ctx)
	defer cancel()
	// What is not on its way yet ends as soon as the store is being closed.
	wait, leave := context.WithCancelCause(op)
	defer leave(nil)
	defer s.onClosing(func() { leave(eventstore.ErrClosed) })()
	if err := s.lanes.enter(wait, stream); err != nil {
		if !errors.Is(err, eventstore.ErrClosed) {
			err = ended(ctx, wait, nil)
		}
		return eventstore.Appended{}, err
	}
	defer s.lanes.leave(stream)
	if err := s.slots.Acquire(wait, 1); err != nil {
		return eventstore.Appended{}, ended(ctx, wait, nil)
	}
	defer s.slots.Release(1)
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	a := &appending{s: s, stream: stream, expected: expected, records: records}
	appended, err := a.settle(ctx, wait, op)
	if err != nil && a.open {
		s.doubt.Store(true)
	}
	return appended, err
}

// validate checks what the contract does, and what only EventStoreDB bounds.
func validate(stream string, expected eventstore.Revision, records []eventstore.NewRecord) error {
	if err := eventstore.ValidateAppend(stream, expected, records); err != nil {
		return err
	}
	if stream == logStream {
		return fmt.Errorf("stream %s is the driver's own: %w", logStream, eventstore.ErrInvalid)
	}
	size := 0
	for i := range records {
		size += len(records[i].Data) + len(records[i].Metadata) + 2*len(records[i].Type)
	}
	if size > maxAppendBytes {
		return fmt.Errorf("%d bytes for one stream, EventStoreDB takes %d; append them in parts: %w", size, maxAppendBytes, eventstore.ErrTooLarge)
	}
	return nil
}

// appending is one append until it is known what came of it.
type appending struct {
	s        *Store
	stream   string
	expected eventstore.Revision
	records  []eventstore.NewRecord
	// before is a position that no record had that was written since.
	before eventstore.Position
	// open: a try may have written the records.
	open bool
}

// settle sends the append until it knows what came of it. It waits, for a
// connection or for the next try, until wait ends, and for an answer until op does.
func (a *appending) settle(ctx, wait, op context.Context) (eventstore.Appended, error) {
	if err := a.s.dispel(op); err != nil {
		if wait.Err() != nil {
			err = ended(ctx, wait, err)
		}
		return eventstore.Appended{}, err
	}
	a.before = a.s.known()
	var pause backoff
	for {
		appended, err := a.try(wait, op)
		switch {
		case err == nil:
			return appended, nil
		case !mayRetry(err):
			return eventstore.Appended{}, err
		case wasSent(err):
			a.open = true
			if a.expected == eventstore.Any && wait.Err() == nil {
				return eventstore.Appended{}, err
			}
		}
		if !pause.wait(wait) {
			return eventstore.Appended{}, ended(ctx, wait, err)
		}
	}
}

// dispel asks where the head is after an append ended without its answer, for it
// may have moved the head.
func (s *Store) dispel(op context.Context) error {
	if !s.doubt.Swap(false) {
		return nil
	}
	err := s.ask(op)
	if err != nil {
		s.doubt.Store(true)
	}
	return err
}

// wasSent says that the cluster may have done what failed.
func wasSent(err error) bool {
	var call *callError
	return errors.As(err, &call) && call.verdict != moved && !errors.Is(err, errNoConnection)
}

// try sends the append once.
func (a *appending) try(wait, op context.Context) (eventstore.Appended, error) {
	if a.open {
		last, err := a.standing(wait, op)
		if err != nil || last != nil {
			return last.repeated(), err
		}
	}
	appended, err := a.s.send(wait, op, a.stream, a.expected, a.records)
	var conflict *eventstore.RevisionConflictError
	switch {
	case errors.As(err, &conflict) && a.expected != eventstore.Any:
		last, readErr := a.standing(wait, op)
		if readErr != nil {
			return eventstore.Appended{}, readErr
		}
		if last == nil {
			return eventstore.Appended{}, err
		}
		return last.repeated(), nil
	case err != nil:
		return eventstore.Appended{}, err
	case appended.Position > a.before:
		a.s.saw(appended.Position)
		return appended, nil
	case a.expected == eventstore.Any:
		// The cluster remembers ids for a while even where nothing is expected.
		appended.Repeated = true
		return appended, nil
	}
	// A success with a place that was there before is a repetition, of which
	// the cluster need not tell the exact place.
	last, err := a.standing(wait, op)
	if err == nil && last == nil {
		err = fmt.Errorf("the event store says that the records are there, but they are not: %w", eventstore.ErrCorrupt)
	}
	return last.repeated(), err
}

// stood is the last record of an append that was there already.
type stood eventstore.Appended

func (s *stood) repeated() eventstore.Appended {
	if s == nil {
		return eventstore.Appended{}
	}
	return eventstore.Appended{Revision: s.Revision, Position: s.Position, Repeated: true}
}

// standing returns the place of the last record where exactly these ids stand
// behind expected, and nothing where they do not.
func (a *appending) standing(wait, op context.Context) (*stood, error) {
	var last *stood
	from := a.expected + 1 // NoStream is -1
	err := a.s.once(wait, op, func(ctx context.Context, l *link, trailer *metadata.MD) error {
		last = nil
		at := 0
		return read(ctx, l.calls, streamRequest(a.stream, from, eventstore.Forwards, uint64(len(a.records))), trailer, func(resp *streams.ReadResp) (bool, error) {
			if resp.GetStreamNotFound() != nil {
				return false, nil
			}
			e := resp.GetEvent().GetEvent()
			if e == nil {
				return true, nil
			}
			id, err := toUUID(e.GetId())
			if err != nil || id != a.records[at].ID || e.GetStreamRevision() != uint64(from)+uint64(at) {
				return false, err
			}
			if at++; at == len(a.records) {
				last = &stood{Revision: eventstore.Revision(e.GetStreamRevision()), Position: eventstore.Position(e.GetCommitPosition())}
				a.s.saw(last.Position)
			}
			return at < len(a.records), nil
		})
	})
	return last, err
}

// send makes one append call.
func (s *Store) send(wait, op context.Context, stream string, expected eventstore.Revision, records []eventstore.NewRecord) (eventstore.Appended, error) {
	var answer *streams.AppendResp
	err := s.once(wait, op, func(ctx context.Context, l *link, trailer *metadata.MD) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		call, err := l.calls.streams.Append(ctx)
		if err != nil {
			return err
		}
		// A send that fails with io.EOF has its reason in the answer.
		err = call.Send(appendHeader(stream, expected))
		for i := 0; i < len(records) && err == nil; i++ {
			err = call.Send(proposed(&records[i]))
		}
		if err == nil || errors.Is(err, io.EOF) {
			answer, err = call.CloseAndRecv()
		}
		if err != nil {
			*trailer = call.Trailer()
		}
		return err
	})
	if err != nil {
		return eventstore.Appended{}, err
	}
	if wrong := answer.GetWrongExpectedVersion(); wrong != nil {
		return eventstore.Appended{}, &eventstore.RevisionConflictError{Stream: stream, Expected: expected, Actual: actual(wrong)}
	}
	success := answer.GetSuccess()
	if success == nil {
		return eventstore.Appended{}, errors.New("the event store's answer to an append says nothing")
	}
	return eventstore.Appended{
		Revision: eventstore.Revision(success.GetCurrentRevision()),
		Position: eventstore.Position(success.GetPosition().GetCommitPosition()),
	}, nil
}

func actual(wrong *streams.AppendResp_WrongExpectedVersion) eventstore.Revision {
	switch current := wrong.GetCurrentRevisionOption().(type) {
	case *streams.AppendResp_WrongExpectedVersion_CurrentRevision:
		return eventstore.Revision(current.CurrentRevision)
	default:
		return eventstore.NoStream
	}
}
