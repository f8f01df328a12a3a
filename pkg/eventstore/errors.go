package eventstore

import (
	"errors"
	"fmt"
	"strconv"
)

// The errors that every driver classifies its failures into. They are wrapped
// with what was being done; test with errors.Is and errors.As.
var (
	// ErrStreamNotFound: no record was ever appended to the stream.
	ErrStreamNotFound = errors.New("stream not found")
	// ErrInvalid: the caller's mistake (a malformed stream name, no records, the same id twice).
	ErrInvalid = errors.New("invalid request")
	// ErrTooLarge: a record or an append is over MaxRecordBytes or MaxAppendBytes.
	ErrTooLarge = errors.New("too large")
	// ErrFull: the store cannot take more (disk full). Nothing of the append
	// was kept; what was acknowledged before is intact.
	ErrFull = errors.New("store is full")
	// ErrClosed: the store or the subscription was closed.
	ErrClosed = errors.New("closed")
	// ErrUnavailable: the store cannot be reached now; the append may or may not
	// have happened. Retry with the same expected revision.
	ErrUnavailable = errors.New("store unavailable")
	// ErrUnsupported: the driver lacks the capability.
	ErrUnsupported = errors.New("not supported by this event store")
	// ErrAhead: the position is ahead of the log's head.
	ErrAhead = errors.New("position is ahead of the log")
	// ErrCorrupt: what is stored cannot be what was written. The message names
	// the place.
	ErrCorrupt = errors.New("corrupt data")
	// ErrInUse: this store is already open, here or in another process.
	ErrInUse = errors.New("already in use")
	// ErrNewerFormat: the data was written by a newer version.
	ErrNewerFormat = errors.New("written by a newer version")
)

// RevisionConflictError says that a stream was not where the append expected.
type RevisionConflictError struct {
	Stream   string
	Expected Revision
	Actual   Revision
}

func (e *RevisionConflictError) Error() string {
	return fmt.Sprintf("stream %s: expected revision %s, is at %s", e.Stream, e.Expected, e.Actual)
}

// String names the special values.
func (r Revision) String() string {
	switch r {
	case NoStream:
		return "none"
	case Any:
		return "any"
	case End:
		return "end"
	default:
		return strconv.FormatInt(int64(r), 10)
	}
}

// Bounds on what one append may carry, chosen under EventStoreDB's default
// maximum append size of 1 MiB so that a log can move between drivers.
const (
	MaxStreamNameBytes = 512
	MaxTypeBytes       = 256
	MaxRecordBytes     = 1_000_000 // data and metadata of one record
	MaxAppendRecords   = 10_000
	MaxAppendBytes     = 16 << 20 // of a whole AppendBatch; one stream's part is bound by MaxRecordBytes on EventStoreDB
)
