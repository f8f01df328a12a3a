package esdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/metadata"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// read makes one read over a connection and hands over what comes until there is no more, or no
// more is wanted.
func read(ctx context.Context, over *channel, req *streams.ReadReq, trailer *metadata.MD, take func(*streams.ReadResp) (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := over.streams.Read(ctx, req)
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			*trailer = stream.Trailer()
			return err
		}
		if more, err := take(resp); err != nil || !more {
			return err
		}
	}
}

// ReadStream is eventstore.Store's. It goes on over another connection where
// one fails.
func (s *Store) ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		err := s.readStream(ctx, stream, opts, func(r *eventstore.Record) bool { return yield(r, nil) })
		if err != nil {
			yield(nil, fmt.Errorf("read stream %.64q: %w", stream, err))
		}
	}
}

func (s *Store) readStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions, yield func(*eventstore.Record) bool) error {
	if err := eventstore.ValidateStream(stream); err != nil {
		return err
	}
	if opts.From < 0 && opts.From != eventstore.End || opts.Limit < 0 {
		return fmt.Errorf("from revision %s, limit %d: %w", opts.From, opts.Limit, eventstore.ErrInvalid)
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	if stream == logStream {
		return eventstore.ErrStreamNotFound
	}
	span := span{next: opts.From, count: everything, direction: opts.Direction}
	if opts.Limit > 0 {
		span.count = uint64(opts.Limit)
	}
	switch {
	case opts.From == eventstore.End && opts.Direction == eventstore.Forwards:
		span.direction, span.count = eventstore.Backwards, 1
	case opts.From == eventstore.End, opts.Direction == eventstore.Forwards && opts.Limit == 1:
		// It is bounded by itself.
	default:
		// The end as of now bounds it.
		head, err := s.streamHead(ctx, stream)
		if err != nil {
			return err
		}
		if head == eventstore.NoStream {
			return eventstore.ErrStreamNotFound
		}
		if opts.Direction == eventstore.Backwards {
			span.next = min(opts.From, head)
			break
		}
		if opts.From > head {
			return nil
		}
		span.count = min(span.count, uint64(head-opts.From)+1)
	}
	return s.readSpan(ctx, stream, span, yield)
}

// span is a part of a stream that is still to be read.
type span struct {
	next      eventstore.Revision // or End
	count     uint64
	direction eventstore.Direction
}

func (s *Store) readSpan(ctx context.Context, stream string, at span, yield func(*eventstore.Record) bool) error {
	return s.retry(ctx, func(ctx context.Context, l *link, trailer *metadata.MD, progress func()) error {
		if at.count == 0 {
			return nil
		}
		return read(ctx, l.reads, streamRequest(stream, at.next, at.direction, at.count), trailer, func(resp *streams.ReadResp) (bool, error) {
			if resp.GetStreamNotFound() != nil {
				return false, eventstore.ErrStreamNotFound
			}
			e := resp.GetEvent().GetEvent()
			if e == nil {
				return true, nil
			}
			progress()
			at.count--
			revision := eventstore.Revision(e.GetStreamRevision())
			last := at.count == 0
			if at.direction == eventstore.Forwards {
				at.next = revision + 1
			} else if at.next = revision - 1; revision == 0 {
				at.count, last = 0, true
			}
			if !ours(e) {
				return !last, nil
			}
			r, err := toRecord(e)
			if err != nil {
				return false, err
			}
			s.saw(r.Position)
			return yield(r) && !last, nil
		})
	})
}

// StreamHead is eventstore.Store's.
func (s *Store) StreamHead(ctx context.Context, stream string) (eventstore.Revision, error) {
	if err := eventstore.ValidateStream(stream); err != nil {
		return 0, err
	}
	if err := s.usable(ctx); err != nil {
		return 0, fmt.Errorf("head of stream %s: %w", stream, err)
	}
	if stream == logStream {
		return eventstore.NoStream, nil
	}
	head, err := s.streamHead(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("head of stream %s: %w", stream, err)
	}
	return head, nil
}

func (s *Store) streamHead(ctx context.Context, stream string) (eventstore.Revision, error) {
	head := eventstore.NoStream
	err := s.retry(ctx, func(ctx context.Context, l *link, trailer *metadata.MD, _ func()) error {
		return read(ctx, l.calls, streamRequest(stream, eventstore.End, eventstore.Backwards, 1), trailer, func(resp *streams.ReadResp) (bool, error) {
			if e := resp.GetEvent().GetEvent(); e != nil {
				head = eventstore.Revision(e.GetStreamRevision())
				return false, nil
			}
			return resp.GetStreamNotFound() == nil, nil
		})
	})
	return head, err
}

// usable says that neither the context nor the store has ended.
func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosed() {
		return eventstore.ErrClosed
	}
	return nil
}

// Head is eventstore.Store's: it asks the leader, each time.
func (s *Store) Head(ctx context.Context) (eventstore.Position, error) {
	if err := s.usable(ctx); err != nil {
		return 0, fmt.Errorf("read head: %w", err)
	}
	if err := s.ask(ctx); err != nil {
		return 0, fmt.Errorf("read head: %w", err)
	}
	return s.known(), nil
}

// ask notes where the log's head is. It reads backwards until it comes to a
// record of the log, or to where it knows one to be.
func (s *Store) ask(ctx context.Context) error {
	known := s.known()
	return s.backwards(ctx, short, 0, 1, func(e *streams.ReadResp_ReadEvent_RecordedEvent) (bool, error) {
		at := eventstore.Position(e.GetCommitPosition())
		if ours(e) {
			s.saw(at)
			return false, nil
		}
		return at > known, nil
	})
}

// Records that a step backwards asks for: few at first, since most often the
// first is the one, then more.
const (
	stepGrows = 8
	lastStep  = 4096
)

// Which connection to read over.
func short(l *link) *channel   { return l.calls }
func lasting(l *link) *channel { return l.reads }

// backwards hands over what there is below a position, of the cluster's own
// records too, the latest first, until no more is wanted. 0 is the end.
func (s *Store) backwards(ctx context.Context, over func(*link) *channel, below eventstore.Position, step uint64, take func(*streams.ReadResp_ReadEvent_RecordedEvent) (bool, error)) error {
	return s.retry(ctx, func(ctx context.Context, l *link, trailer *metadata.MD, progress func()) error {
		for {
			got, wanted := uint64(0), true
			// One more than wanted: some servers begin with the position itself.
			err := read(ctx, over(l), backwardsRequest(below, step+1), trailer, func(resp *streams.ReadResp) (bool, error) {
				e := resp.GetEvent().GetEvent()
				if e == nil {
					return true, nil
				}
				got++
				progress()
				at := eventstore.Position(e.GetCommitPosition())
				if below > 0 && at >= below {
					return true, nil
				}
				below = at
				var err error
				wanted, err = take(e)
				return wanted && err == nil, err
			})
			if err != nil || !wanted || got <= step {
				return err
			}
			step = min(step*stepGrows, lastStep)
		}
	})
}

// ReadAll is eventstore.Store's. Forwards, the cluster applies the filter;
// backwards it is applied here.
func (s *Store) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		readSome := s.readForwards
		if opts.Direction == eventstore.Backwards {
			readSome = s.readBackwards
		}
		err := s.usable(ctx)
		if err == nil && opts.Limit < 0 {
			err = fmt.Errorf("limit %d: %w", opts.Limit, eventstore.ErrInvalid)
		}
		if err == nil {
			err = readSome(ctx, opts, func(r *eventstore.Record) bool { return yield(r, nil) })
		}
		if err != nil {
			yield(nil, fmt.Errorf("read log: %w", err))
		}
	}
}

func (s *Store) readForwards(ctx context.Context, opts eventstore.ReadAllOptions, yield func(*eventstore.Record) bool) error {
	if err := s.ask(ctx); err != nil {
		return err
	}
	f := &forwards{s: s, at: opts.From, head: s.known(), left: opts.Limit, filter: opts.Filter, yield: yield}
	// A limit of one most often asks for the record right behind, whose
	// position From was made from.
	stepped := opts.Limit == 1 && opts.From > 0
	if stepped {
		if err := f.step(ctx); err != nil {
			return err
		}
	}
	err := f.rest(ctx)
	if errors.Is(err, eventstore.ErrInvalid) && f.at == opts.From && !stepped {
		// The cluster takes positions of records only.
		if err := f.step(ctx); err != nil {
			return err
		}
		err = f.rest(ctx)
	}
	return err
}

// forwards is a read that is under way.
type forwards struct {
	s        *Store
	at, head eventstore.Position
	left     int // records; 0 and below: without a limit
	filter   eventstore.Filter
	yield    func(*eventstore.Record) bool
	done     bool
}

func (f *forwards) take(r *eventstore.Record) {
	f.left--
	f.done = !f.yield(r) || f.left == 0
}

// step takes the record at the very next position, if there is one: that
// position is another record's where the place to read from is none's.
func (f *forwards) step(ctx context.Context) error {
	if f.at >= f.head {
		return nil
	}
	err := f.s.retry(ctx, func(ctx context.Context, l *link, trailer *metadata.MD, _ func()) error {
		return read(ctx, l.calls, atRequest(f.at+1), trailer, func(resp *streams.ReadResp) (bool, error) {
			e := resp.GetEvent().GetEvent()
			if e == nil || eventstore.Position(e.GetCommitPosition()) != f.at+1 {
				return e == nil, nil
			}
			f.at++
			if !ours(e) || !f.filter.Matches(string(e.GetStreamIdentifier().GetStreamName()), e.GetMetadata()[metaType]) {
				return false, nil
			}
			r, err := toRecord(e)
			if err == nil {
				f.take(r)
			}
			return false, err
		})
	})
	if errors.Is(err, eventstore.ErrInvalid) {
		// There is none.
		return nil
	}
	return err
}

// rest subscribes up to the head.
func (f *forwards) rest(ctx context.Context) error {
	return f.s.retry(ctx, func(ctx context.Context, l *link, trailer *metadata.MD, progress func()) error {
		if f.done || f.at >= f.head {
			return nil
		}
		return f.s.subscribeOnce(ctx, l.reads, f.at, f.filter, trailer, func(n news) (bool, error) {
			switch n.kind {
			case newsBegun, newsLost:
				return true, nil
			case newsCaughtUp:
				// What the head said was there before, is through.
				f.at = f.head
			case newsLooked:
				f.at = n.at
			case newsRecord:
				if f.at = n.at; f.at > f.head {
					return false, nil
				}
				f.take(n.record)
			}
			progress()
			return !f.done && f.at < f.head, nil
		})
	})
}

func (s *Store) readBackwards(ctx context.Context, opts eventstore.ReadAllOptions, yield func(*eventstore.Record) bool) error {
	below := opts.From
	if below > s.known() {
		if err := s.ask(ctx); err != nil {
			return err
		}
		if below > s.known() {
			below = 0
		}
	}
	step := uint64(searchWindow)
	if opts.Filter.IsZero() && opts.Limit > 0 {
		step = min(uint64(opts.Limit), lastStep)
	}
	left := opts.Limit
	return s.backwards(ctx, lasting, below, step, func(e *streams.ReadResp_ReadEvent_RecordedEvent) (bool, error) {
		if !ours(e) || !opts.Filter.Matches(string(e.GetStreamIdentifier().GetStreamName()), e.GetMetadata()[metaType]) {
			return true, nil
		}
		r, err := toRecord(e)
		if err != nil {
			return false, err
		}
		left--
		return yield(r) && left != 0, nil
	})
}
