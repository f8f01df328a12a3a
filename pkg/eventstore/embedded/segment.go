package embedded

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// A segment is the value of a segment key: consecutive records of one commit.
//
//	byte     version, 1
//	8 bytes  recorded time of all of them, microseconds since 1970, little endian
//	uvarint  number of records, at least 1
//	then for each record:
//	uvarint  length of what follows of this record
//	byte     content type
//	16 bytes event id
//	uvarint  revision
//	uvarint  length of the stream's name, and the name; 0 for the one before
//	uvarint  length of the type, and the type; 0 for the one before
//	uvarint  length of the metadata, and the metadata
//	         the data
const segmentVersion = 1

// segmentTargetBytes is where a segment ends and the next begins. Larger ones
// scan little faster and make reads of single records dearer, since a segment
// is read and decompressed whole.
const segmentTargetBytes = 32 << 10

// segmentMostRecords is where a segment of small records ends. Backward reads
// count on it to know how far before a record its segment can begin.
const segmentMostRecords = 1024

// segmentWriter makes segments. The zero value is ready.
type segmentWriter struct {
	body   []byte
	count  int
	stream string
	typ    string
}

func (w *segmentWriter) reset() {
	w.body, w.count, w.stream, w.typ = w.body[:0], 0, "", ""
}

func (w *segmentWriter) isFull() bool {
	return len(w.body) >= segmentTargetBytes || w.count >= segmentMostRecords
}

func (w *segmentWriter) add(stream string, revision eventstore.Revision, r *eventstore.NewRecord) {
	streamName, typeName := stream, r.Type
	if stream == w.stream {
		streamName = ""
	} else {
		w.stream = stream
	}
	if r.Type == w.typ {
		typeName = ""
	} else {
		w.typ = r.Type
	}
	size := 1 + len(r.ID) + uvarintLen(uint64(revision)) +
		uvarintLen(uint64(len(streamName))) + len(streamName) +
		uvarintLen(uint64(len(typeName))) + len(typeName) +
		uvarintLen(uint64(len(r.Metadata))) + len(r.Metadata) + len(r.Data)
	b := binary.AppendUvarint(w.body, uint64(size))
	b = append(b, byte(r.ContentType))
	b = append(b, r.ID[:]...)
	b = binary.AppendUvarint(b, uint64(revision))
	b = binary.AppendUvarint(b, uint64(len(streamName)))
	b = append(b, streamName...)
	b = binary.AppendUvarint(b, uint64(len(typeName)))
	b = append(b, typeName...)
	b = binary.AppendUvarint(b, uint64(len(r.Metadata)))
	b = append(b, r.Metadata...)
	b = append(b, r.Data...)
	w.body = b
	w.count++
}

// appendTo appends the finished segment.
func (w *segmentWriter) appendTo(dst []byte, recorded time.Time) []byte {
	dst = append(dst, segmentVersion)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(recorded.UnixMicro()))
	dst = binary.AppendUvarint(dst, uint64(w.count))
	return append(dst, w.body...)
}

// segmentReader walks over a segment's records. Its byte fields point into the
// segment and describe the record that next has come to.
type segmentReader struct {
	value    []byte
	off      int
	first    eventstore.Position // of the segment
	last     eventstore.Position // of the segment
	recorded time.Time

	position    eventstore.Position
	revision    eventstore.Revision
	contentType eventstore.ContentType
	id          uuid.UUID
	stream      []byte
	typ         []byte
	metadata    []byte
	data        []byte
}

// open begins with the segment that begins at a position. It keeps value.
func (s *segmentReader) open(first eventstore.Position, value []byte) error {
	if len(value) > 0 && value[0] > segmentVersion {
		return fmt.Errorf("segment at position %d has version %d: %w", first, value[0], eventstore.ErrNewerFormat)
	}
	if len(value) < 10 || value[0] != segmentVersion {
		return s.corrupt(first, "header")
	}
	micros := int64(binary.LittleEndian.Uint64(value[1:]))
	count, off := uvarint(value, 9)
	if off < 0 || count == 0 || count > segmentMostRecords || first == 0 || first > math.MaxInt64 {
		return s.corrupt(first, "count")
	}
	*s = segmentReader{
		value: value, off: off, recorded: time.UnixMicro(micros).UTC(),
		first: first, last: first + eventstore.Position(count) - 1, position: first - 1,
	}
	return nil
}

// next goes to the next record. It answers false at the end.
func (s *segmentReader) next() (bool, error) {
	if s.position == s.last {
		if s.off != len(s.value) {
			return false, s.corrupt(s.last, "tail")
		}
		return false, nil
	}
	s.position++
	size, off := uvarint(s.value, s.off)
	if off < 0 || size > uint64(len(s.value)-off) || size < 1+16 {
		return false, s.corrupt(s.position, "length")
	}
	end := off + int(size)
	b := s.value[:end]
	s.contentType = eventstore.ContentType(b[off])
	s.id = uuid.UUID(b[off+1 : off+17])
	revision, off := uvarint(b, off+17)
	if off < 0 || revision > 1<<62 || s.contentType > eventstore.ContentJSON {
		return false, s.corrupt(s.position, "revision or content type")
	}
	s.revision = eventstore.Revision(revision)
	field, off := lengthPrefixed(b, off)
	if off < 0 {
		return false, s.corrupt(s.position, "stream")
	}
	if len(field) > 0 {
		s.stream = field
	}
	if field, off = lengthPrefixed(b, off); off < 0 {
		return false, s.corrupt(s.position, "type")
	}
	if len(field) > 0 {
		s.typ = field
	}
	if s.metadata, off = lengthPrefixed(b, off); off < 0 {
		return false, s.corrupt(s.position, "metadata")
	}
	if len(s.stream) == 0 || len(s.typ) == 0 {
		return false, s.corrupt(s.position, "stream or type")
	}
	s.data = b[off:]
	s.off = end
	return true, nil
}

func (s *segmentReader) corrupt(at eventstore.Position, what string) error {
	return fmt.Errorf("record at position %d: %s: %w", at, what, eventstore.ErrCorrupt)
}

// lengthPrefixed reads a length and that many bytes. The offset is negative
// where they are not there.
func lengthPrefixed(b []byte, off int) ([]byte, int) {
	n, off := uvarint(b, off)
	if off < 0 || n > uint64(len(b)-off) {
		return nil, -1
	}
	end := off + int(n)
	return b[off:end], end
}

// uvarint reads at an offset and returns the one behind, or a negative one.
func uvarint(b []byte, off int) (uint64, int) {
	if off < len(b) && b[off] < 0x80 {
		return uint64(b[off]), off + 1
	}
	return uvarintSlow(b, off)
}

func uvarintSlow(b []byte, off int) (uint64, int) {
	if off > len(b) {
		return 0, -1
	}
	v, n := binary.Uvarint(b[off:])
	if n <= 0 {
		return 0, -1
	}
	return v, off + n
}

func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
