package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// The first byte of a key says what it is. Segments sort before runs and grow
// towards them, so that a compaction of what is new leaves old segments alone.
const (
	prefixSegment = 'r'
	prefixRun     = 's'
)

const segmentKeyBytes = 1 + 8

// segmentKey is the key of the segment whose first record has this position.
// Positions have no gaps, so that behind a segment's last record the next
// segment's key is known; and runs name their segments, so that a record of a
// stream is found without a search.
func segmentKey(dst []byte, first eventstore.Position) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixSegment), uint64(first))
}

func decodeSegmentKey(key []byte) (eventstore.Position, error) {
	if len(key) != segmentKeyBytes || key[0] != prefixSegment {
		return 0, fmt.Errorf("segment key %x: %w", key, eventstore.ErrCorrupt)
	}
	return eventstore.Position(binary.BigEndian.Uint64(key[1:])), nil
}

// runKey is the key of a run of records that begins at a revision. Names hold
// no 0x00 (eventstore.ValidateStream), so no stream's keys lie among another's
// and the order is that of names, then revisions.
func runKey(dst []byte, stream string, first eventstore.Revision) []byte {
	dst = append(dst, prefixRun)
	dst = append(dst, stream...)
	dst = append(dst, 0)
	return binary.BigEndian.AppendUint64(dst, uint64(first))
}

// runBounds are the bounds of a stream's keys: inclusive below, exclusive
// above.
func runBounds(dst []byte, stream string) (lower, upper []byte) {
	n := 1 + len(stream) + 1
	dst = append(dst, prefixRun)
	dst = append(dst, stream...)
	dst = append(dst, 0)
	dst = append(dst, dst[:n]...)
	dst[2*n-1] = 1
	return dst[:n:n], dst[n:]
}

func decodeRunKey(key []byte) (stream []byte, first eventstore.Revision, err error) {
	n := len(key) - 9
	if n < 2 || key[0] != prefixRun || key[n] != 0 || bytes.IndexByte(key[1:n], 0) >= 0 || key[n+1] >= 0x80 {
		return nil, 0, fmt.Errorf("run key %x: %w", key, eventstore.ErrCorrupt)
	}
	return key[1:n], eventstore.Revision(binary.BigEndian.Uint64(key[n+1:])), nil
}

// run says that count records of a stream, from a revision on, stand one
// behind the other in the log from a position on.
//
//	byte    version, 1
//	uvarint position of the first record
//	uvarint number of records
//	uvarint how far before the first record its segment begins
//	uvarint for each further segment: how many records of the run the one before holds
type run struct {
	first    eventstore.Revision
	position eventstore.Position
	count    uint64
	segment  eventstore.Position // that holds the first record
	further  []byte              // encoded
}

func (r run) last() eventstore.Revision { return r.first + eventstore.Revision(r.count) - 1 }

const runVersion = 1

// runWriter makes the value of a run.
type runWriter struct {
	further []byte
	since   eventstore.Position // where the run's part of the segment begins
}

func (w *runWriter) begin(position eventstore.Position) {
	w.further, w.since = w.further[:0], position
}

// cut says that a further segment begins at a position.
func (w *runWriter) cut(position eventstore.Position) {
	w.further = binary.AppendUvarint(w.further, uint64(position-w.since))
	w.since = position
}

func (w *runWriter) appendTo(dst []byte, position, segment eventstore.Position, count uint64) []byte {
	dst = append(dst, runVersion)
	dst = binary.AppendUvarint(dst, uint64(position))
	dst = binary.AppendUvarint(dst, count)
	dst = binary.AppendUvarint(dst, uint64(position-segment))
	return append(dst, w.further...)
}

// decodeRun keeps value.
func decodeRun(key, value []byte) (run, error) {
	_, first, err := decodeRunKey(key)
	if err != nil {
		return run{}, err
	}
	if len(value) > 0 && value[0] > runVersion {
		return run{}, fmt.Errorf("run %q has version %d: %w", key, value[0], eventstore.ErrNewerFormat)
	}
	r, ok := decodeRunValue(value)
	if !ok || uint64(first)+r.count > math.MaxInt64 {
		return run{}, fmt.Errorf("run %q holds %x: %w", key, value, eventstore.ErrCorrupt)
	}
	r.first = first
	return r, nil
}

func decodeRunValue(value []byte) (r run, ok bool) {
	if len(value) == 0 || value[0] != runVersion {
		return run{}, false
	}
	position, off := uvarint(value, 1)
	if off < 0 {
		return run{}, false
	}
	count, off := uvarint(value, off)
	if off < 0 {
		return run{}, false
	}
	before, off := uvarint(value, off)
	if off < 0 || position == 0 || position > math.MaxInt64 || before >= position ||
		count == 0 || count > eventstore.MaxAppendRecords {
		return run{}, false
	}
	r = run{
		position: eventstore.Position(position),
		count:    count,
		segment:  eventstore.Position(position - before),
		further:  value[off:],
	}
	return r, true
}

// place is where a record is.
type place struct {
	position eventstore.Position
	segment  eventstore.Position // the one that holds it
}

// places appends where the run's records from one revision to another are,
// both inclusive and both in the run. It answers false where that is corrupt.
func (r run) places(dst []place, from, to eventstore.Revision) ([]place, bool) {
	segment, further := r.segment, r.further
	at, end := r.position, r.position+eventstore.Position(r.count)
	var next eventstore.Position // where the next segment begins
	for first := true; ; first = false {
		if len(further) > 0 {
			n, off := uvarint(further, 0)
			if off < 0 || n == 0 || n >= uint64(end-at) {
				return dst, false
			}
			next, further = at+eventstore.Position(n), further[off:]
		} else {
			next = end
		}
		if !first {
			segment = at
		}
		for ; at < next; at++ {
			if revision := r.first + eventstore.Revision(at-r.position); revision >= from && revision <= to {
				dst = append(dst, place{position: at, segment: segment})
			}
		}
		if at == end {
			return dst, true
		}
	}
}
