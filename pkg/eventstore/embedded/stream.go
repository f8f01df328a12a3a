package embedded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// firstStreamChunk is small, since all that is known of a stream's records is
// that one can have a megabyte.
const firstStreamChunk = 16

// ReadStream is eventstore.Store's.
func (s *Store) ReadStream(
	ctx context.Context, stream string, opts eventstore.ReadStreamOptions,
) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		if err := s.readStream(ctx, stream, opts, yield); err != nil {
			yield(nil, fmt.Errorf("read stream %s: %w", stream, err))
		}
	}
}

func (s *Store) readStream(
	ctx context.Context, stream string, opts eventstore.ReadStreamOptions, yield func(*eventstore.Record, error) bool,
) error {
	if err := eventstore.ValidateStream(stream); err != nil {
		return err
	}
	if opts.Limit < 0 || opts.From < 0 && opts.From != eventstore.End {
		return fmt.Errorf("from revision %d, limit %d: %w", int64(opts.From), opts.Limit, eventstore.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	bound := s.durable()
	head, err := s.streamHead(stream, bound)
	if err != nil {
		return err
	}
	if head == eventstore.NoStream {
		return eventstore.ErrStreamNotFound
	}
	from, left := opts.From, head+1
	if opts.Limit > 0 {
		left = min(left, eventstore.Revision(opts.Limit))
	}
	if from == eventstore.End || opts.Direction == eventstore.Backwards && from > head {
		from = head
	}
	rd := streamReader{s: s, stream: stream}
	for size := eventstore.Revision(firstStreamChunk); left > 0 && from >= 0 && from <= head; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(size, left)
		if opts.Direction == eventstore.Backwards {
			n = min(n, from+1)
			err = rd.read(from-n+1, from)
		} else {
			n = min(n, head-from+1)
			err = rd.read(from, from+n-1)
		}
		if err != nil {
			return err
		}
		if opts.Direction == eventstore.Backwards {
			for i := len(rd.records) - 1; i >= 0; i-- {
				if !yield(rd.records[i], nil) {
					return nil
				}
			}
			from -= n
		} else {
			for _, r := range rd.records {
				if !yield(r, nil) {
					return nil
				}
			}
			from += n
		}
		left -= n
		if rd.scan.bytes > chunkBytes {
			size = max(size/4, 1)
		} else {
			size = min(2*size, mostChunk)
		}
	}
	return nil
}

// StreamHead is eventstore.Store's.
func (s *Store) StreamHead(ctx context.Context, stream string) (eventstore.Revision, error) {
	if err := eventstore.ValidateStream(stream); err != nil {
		return 0, fmt.Errorf("read head: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("read head of stream %s: %w", stream, err)
	}
	head, err := s.streamHead(stream, s.durable())
	if err != nil {
		return 0, fmt.Errorf("read head of stream %s: %w", stream, err)
	}
	return head, nil
}

// streamHead finds the revision of the last record up to a position.
func (s *Store) streamHead(stream string, bound eventstore.Position) (eventstore.Revision, error) {
	lower, upper := runBounds(nil, stream)
	it, done, err := s.iterate(lower, upper)
	if err != nil {
		return 0, err
	}
	defer done()
	for valid := it.Last(); valid; valid = it.Prev() {
		r, err := loadRun(it)
		if err != nil {
			return 0, err
		}
		if r.position <= bound {
			return r.last(), nil
		}
	}
	if err := it.Error(); err != nil {
		return 0, classifyRead(err)
	}
	return eventstore.NoStream, nil
}

// holds says whether exactly an append's records stand behind the revision it
// expects, and where the last one is.
func (s *Store) holds(a *eventstore.StreamAppend) (eventstore.Position, bool, error) {
	rd := streamReader{s: s, stream: a.Stream}
	from := a.Expected + 1
	var position eventstore.Position
	for i := 0; i < len(a.Records); {
		if err := rd.read(from+eventstore.Revision(i), a.Expected+eventstore.Revision(len(a.Records))); err != nil {
			return 0, false, err
		}
		for _, r := range rd.records {
			if r.ID != a.Records[i].ID {
				return 0, false, nil
			}
			position = r.Position
			i++
		}
	}
	return position, true, nil
}

func loadRun(it *pebble.Iterator) (run, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return run{}, classifyRead(err)
	}
	return decodeRun(it.Key(), value)
}

// streamReader reads parts of one stream by way of its runs.
type streamReader struct {
	s       *Store
	stream  string
	records []*eventstore.Record
	scan    scan
}

// read gets the records from one revision to another, both inclusive and both
// there, in order.
func (rd *streamReader) read(from, to eventstore.Revision) error {
	places, err := rd.find(from, to)
	if err != nil {
		return err
	}
	rd.s.gate.RLock()
	defer rd.s.gate.RUnlock()
	if rd.s.db == nil {
		return eventstore.ErrClosed
	}
	names := takeNames()
	defer names.giveBack()
	rd.scan.begin()
	for len(places) > 0 {
		n, err := rd.readSegment(places, from, names)
		if err != nil {
			return err
		}
		places, from = places[n:], from+eventstore.Revision(n)
	}
	rd.records = rd.scan.records
	return nil
}

// readSegment gets as many records as are in the first one's segment.
func (rd *streamReader) readSegment(places []place, from eventstore.Revision, names *names) (n int, err error) {
	segment := places[0].segment
	value, closer, err := rd.s.db.Get(segmentKey(make([]byte, 0, segmentKeyBytes), segment))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, missing(places[0].position)
	}
	if err != nil {
		return 0, fmt.Errorf("segment at position %d: %w", segment, classifyRead(err))
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	sc := &rd.scan
	if err := sc.segment.open(segment, value); err != nil {
		return 0, err
	}
	for n < len(places) && places[n].segment == segment {
		more, err := sc.segment.next()
		if err != nil {
			return 0, err
		}
		if !more {
			return 0, missing(places[n].position)
		}
		if sc.segment.position != places[n].position {
			continue
		}
		if string(sc.segment.stream) != rd.stream || sc.segment.revision != from+eventstore.Revision(n) {
			return 0, fmt.Errorf("record at position %d: is not revision %d of its stream: %w",
				places[n].position, from+eventstore.Revision(n), eventstore.ErrCorrupt)
		}
		sc.take(names)
		n++
	}
	return n, nil
}

// find finds the places of the records from one revision to another.
func (rd *streamReader) find(from, to eventstore.Revision) ([]place, error) {
	lower, upper := runBounds(nil, rd.stream)
	it, done, err := rd.s.iterate(lower, upper)
	if err != nil {
		return nil, err
	}
	defer done()
	places := make([]place, 0, to-from+1)
	next := from
	for valid := it.SeekLT(runKey(nil, rd.stream, from+1)); valid && next <= to; valid = it.Next() {
		r, err := loadRun(it)
		if err != nil {
			return nil, err
		}
		if r.first > next || r.last() < next {
			break
		}
		var ok bool
		if places, ok = r.places(places, next, to); !ok {
			return nil, fmt.Errorf("run of stream %s at revision %d: %w", rd.stream, r.first, eventstore.ErrCorrupt)
		}
		next = r.last() + 1
	}
	if err := it.Error(); err != nil {
		return nil, classifyRead(err)
	}
	if next <= to {
		return nil, fmt.Errorf("stream %s: revision %d: missing: %w", rd.stream, next, eventstore.ErrCorrupt)
	}
	return places, nil
}

// recover finds the head, and when it was recorded.
func (s *Store) recover() error {
	it, done, err := s.segments(1, math.MaxUint64-1)
	if err != nil {
		return err
	}
	defer done()
	if it.Last() {
		var sc scan
		first, err := decodeSegmentKey(it.Key())
		if err != nil {
			return err
		}
		if err := sc.load(it, first); err != nil {
			return err
		}
		s.head.Store(uint64(sc.segment.last))
		s.lastRecorded = sc.segment.recorded
		return nil
	}
	if err := it.Error(); err != nil {
		return classifyRead(err)
	}
	return nil
}
