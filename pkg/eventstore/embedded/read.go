package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Reads go chunk by chunk: between two no iterator is open, so that a reader
// that takes its time holds up nothing, and may append.
const (
	firstChunk = 64   // records
	mostChunk  = 1024 // records
	chunkBytes = 1 << 20
	// A chunk ends after so many bytes of segments looked at, matching or not,
	// so that a filter that matches nothing still gives way to cancellation.
	chunkScanBytes = 32 << 20
)

// ReadAll is eventstore.Store's.
func (s *Store) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		if opts.Limit < 0 {
			yield(nil, fmt.Errorf("read all: limit %d: %w", opts.Limit, eventstore.ErrInvalid))
			return
		}
		sc := scan{s: s, filter: newFilter(opts.Filter), head: s.durable()}
		at, left := opts.From, opts.Limit
		if opts.Direction == eventstore.Backwards && (at == 0 || at > sc.head) {
			at = sc.head + 1
		}
		for size := firstChunk; ; size = min(2*size, mostChunk) {
			if left > 0 {
				size = min(size, left)
			}
			err := ctx.Err()
			if err == nil {
				if opts.Direction == eventstore.Backwards {
					at, err = sc.backwards(at, size)
				} else {
					at, err = sc.forwards(at, size, chunkBytes)
				}
			}
			for _, r := range sc.records {
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, fmt.Errorf("read all from position %d: %w", at, err))
				return
			}
			if opts.Direction == eventstore.Backwards && at <= 1 || opts.Direction == eventstore.Forwards && at >= sc.head {
				return
			}
			if opts.Limit > 0 {
				if left -= len(sc.records); left == 0 {
					return
				}
			}
		}
	}
}

// scan reads parts of the log. records holds what the last call found; they
// are independent of the next, their slice is not.
type scan struct {
	s       *Store
	filter  filter
	head    eventstore.Position
	records []*eventstore.Record

	segment segmentReader
	arena   arena
	bytes   int
	scanned int
	// known is the first position of the segment that holds the record behind
	// the position that forwards answered with; 0 for unknown.
	known eventstore.Position
}

// An iterator over the segments is bounded to about as many positions as are
// wanted: else each of Pebble's tables that lie further on is opened and its
// first block read. Through a filter more are wanted than match.
const filterWindow = 16 << 10

// forwards reads behind a position up to the head and returns how far it
// looked.
func (sc *scan) forwards(after eventstore.Position, most, mostBytes int) (eventstore.Position, error) {
	sc.begin()
	if after >= sc.head {
		return after, nil
	}
	window := eventstore.Position(most)
	if !sc.filter.isZero() {
		window = max(window, filterWindow)
	}
	known, err := sc.find(after + 1)
	if err != nil {
		return after, err
	}
	sc.known = 0
	it, done, err := sc.s.segments(known, min(sc.head, after+window))
	if err != nil {
		return after, err
	}
	defer done()
	names := takeNames()
	defer names.giveBack()
	for valid := it.First(); valid; valid = it.Next() {
		if err := sc.load(it, after+1); err != nil {
			return after, err
		}
		for {
			more, err := sc.segment.next()
			if err != nil {
				return after, err
			}
			if !more {
				break
			}
			if sc.segment.position <= after {
				continue
			}
			if sc.filter.matches(&sc.segment) {
				if len(sc.records) >= most ||
					len(sc.records) > 0 && sc.bytes+len(sc.segment.data)+len(sc.segment.metadata) > mostBytes {
					sc.known = sc.segment.first
					return after, nil
				}
				sc.take(names)
			}
			after = sc.segment.position
		}
		sc.known = after + 1
		if sc.scanned >= chunkScanBytes {
			return after, nil
		}
	}
	if err := it.Error(); err != nil {
		return after, classifyRead(err)
	}
	if sc.known == 0 {
		return after, missing(after + 1)
	}
	return after, nil
}

// find returns the first position of the segment that holds a position at or
// below the head.
func (sc *scan) find(position eventstore.Position) (eventstore.Position, error) {
	if position == 1 || sc.known > 0 && sc.known <= position {
		return max(sc.known, 1), nil
	}
	lowest := eventstore.Position(1)
	if position > segmentMostRecords {
		lowest = position - segmentMostRecords
	}
	it, done, err := sc.s.segments(lowest, position)
	if err != nil {
		return 0, err
	}
	defer done()
	if !it.Last() {
		if err := it.Error(); err != nil {
			return 0, classifyRead(err)
		}
		return 0, missing(position)
	}
	return decodeSegmentKey(it.Key())
}

// backwards reads below a position down to the first one and returns how far
// it looked: everything from there on.
func (sc *scan) backwards(below eventstore.Position, most int) (eventstore.Position, error) {
	sc.begin()
	if below <= 1 {
		return below, nil
	}
	window := eventstore.Position(most)
	if !sc.filter.isZero() {
		window = max(window, filterWindow)
	}
	lowest := eventstore.Position(1)
	if most := window + segmentMostRecords; below > most {
		lowest = below - most
	}
	it, done, err := sc.s.segments(lowest, below-1)
	if err != nil {
		return below, err
	}
	defer done()
	start := below
	names := takeNames()
	defer names.giveBack()
	var found []segmentReader
	for valid := it.Last(); valid; valid = it.Prev() {
		if err := sc.load(it, below-1); err != nil {
			return below, err
		}
		found = found[:0]
		for {
			more, err := sc.segment.next()
			if err != nil {
				return below, err
			}
			if !more {
				break
			}
			if sc.segment.position < below && sc.filter.matches(&sc.segment) {
				found = append(found, sc.segment)
			}
		}
		first := sc.segment.first
		for i := len(found) - 1; i >= 0; i-- {
			sc.segment = found[i]
			sc.take(names)
			below = found[i].position
			if len(sc.records) >= most || sc.bytes > chunkBytes {
				return below, nil
			}
		}
		below = first
		if sc.scanned >= chunkScanBytes {
			return below, nil
		}
	}
	if err := it.Error(); err != nil {
		return below, classifyRead(err)
	}
	if below == start {
		return below, missing(below - 1)
	}
	return below, nil
}

func missing(position eventstore.Position) error {
	return fmt.Errorf("record at position %d: missing: %w", position, eventstore.ErrCorrupt)
}

func (sc *scan) begin() {
	sc.records, sc.bytes, sc.scanned = sc.records[:0], 0, 0
}

// load opens the segment that an iterator stands at, which must hold a
// position.
func (sc *scan) load(it *pebble.Iterator, position eventstore.Position) error {
	first, err := decodeSegmentKey(it.Key())
	if err != nil {
		return err
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return fmt.Errorf("segment at position %d: %w", first, classifyRead(err))
	}
	sc.scanned += len(value)
	if err := sc.segment.open(first, value); err != nil {
		return err
	}
	if position < first || position > sc.segment.last {
		return missing(position)
	}
	return nil
}

// take copies the record that the segment reader stands at.
func (sc *scan) take(names *names) {
	seg := &sc.segment
	r := sc.arena.record()
	r.ID = seg.id
	r.Type = names.get(seg.typ)
	r.ContentType = seg.contentType
	r.Data = sc.arena.copy(seg.data)
	r.Metadata = sc.arena.copy(seg.metadata)
	r.Stream = names.get(seg.stream)
	r.Revision = seg.revision
	r.Position = seg.position
	r.Recorded = seg.recorded
	sc.bytes += len(seg.data) + len(seg.metadata)
	sc.records = append(sc.records, r)
}

// segments iterates over the segments that begin from one position to another.
// The iterator is to be ended with done before anything else is asked.
func (s *Store) segments(from, to eventstore.Position) (it *pebble.Iterator, done func(), err error) {
	return s.iterate(segmentKey(make([]byte, 0, segmentKeyBytes), from), segmentKey(make([]byte, 0, segmentKeyBytes), to+1))
}

func (s *Store) iterate(lower, upper []byte) (it *pebble.Iterator, done func(), err error) {
	s.gate.RLock()
	if s.db == nil {
		s.gate.RUnlock()
		return nil, nil, eventstore.ErrClosed
	}
	it, err = s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		s.gate.RUnlock()
		return nil, nil, classifyRead(err)
	}
	return it, func() {
		if err := it.Close(); err != nil {
			// Whatever is wrong was told by Error already.
			s.log.Debug("close iterator", "error", err)
		}
		s.gate.RUnlock()
	}, nil
}

func classifyRead(err error) error {
	switch {
	case errors.Is(err, eventstore.ErrCorrupt), errors.Is(err, eventstore.ErrNewerFormat):
		return err
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err)
	default:
		return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	}
}

// filter is eventstore.Filter over bytes.
type filter struct {
	types    []string
	prefixes [][]byte
}

func newFilter(f eventstore.Filter) filter {
	out := filter{types: f.Types}
	for _, p := range f.StreamPrefixes {
		out.prefixes = append(out.prefixes, []byte(p))
	}
	return out
}

func (f *filter) isZero() bool { return len(f.types) == 0 && len(f.prefixes) == 0 }

func (f *filter) matches(s *segmentReader) bool {
	return f.matchesType(s.typ) && f.matchesStream(s.stream)
}

func (f *filter) matchesType(typ []byte) bool {
	for _, t := range f.types {
		if t == string(typ) {
			return true
		}
	}
	return len(f.types) == 0
}

func (f *filter) matchesStream(stream []byte) bool {
	for _, p := range f.prefixes {
		if bytes.HasPrefix(stream, p) {
			return true
		}
	}
	return len(f.prefixes) == 0
}

// arena hands out records and bytes from blocks, which grow with what is asked
// for. Nothing is ever taken back: what was handed out stays, and keeps its
// block.
type arena struct {
	records   []eventstore.Record
	nextSlab  int
	bytes     []byte
	nextBlock int
}

const (
	mostSlab  = 256      // records, 37 KiB
	mostBlock = 64 << 10 // bytes
)

func (a *arena) record() *eventstore.Record {
	if len(a.records) == 0 {
		a.nextSlab = min(max(2*a.nextSlab, 8), mostSlab)
		a.records = make([]eventstore.Record, a.nextSlab)
	}
	r := &a.records[0]
	a.records = a.records[1:]
	return r
}

// copy returns nil for nothing.
func (a *arena) copy(b []byte) []byte {
	n := len(b)
	if n == 0 {
		return nil
	}
	if n > cap(a.bytes)-len(a.bytes) {
		if n > mostBlock/4 {
			return bytes.Clone(b)
		}
		a.nextBlock = min(max(2*a.nextBlock, 1<<10, n), mostBlock)
		a.bytes = make([]byte, 0, a.nextBlock)
	}
	at := len(a.bytes)
	a.bytes = append(a.bytes, b...)
	return a.bytes[at : at+n : at+n]
}

// names makes strings of streams and types, the same ones again where they
// recur: they do, and a string of its own keeps nothing else alive.
type names struct {
	table [4096]string
}

var (
	namesPool sync.Pool
	namesSeed = maphash.MakeSeed()
)

func takeNames() *names {
	n, ok := namesPool.Get().(*names)
	if !ok {
		return new(names)
	}
	return n
}

func (n *names) giveBack() { namesPool.Put(n) }

func (n *names) get(b []byte) string {
	at := &n.table[maphash.Bytes(namesSeed, b)%uint64(len(n.table))]
	if *at != string(b) {
		*at = string(b)
	}
	return *at
}
