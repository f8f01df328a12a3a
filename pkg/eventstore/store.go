package eventstore

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"
)

// Store is an append-only log of records in streams. All methods may be called
// concurrently. Records handed out, by reads and by subscriptions, may be kept
// for ever, but not changed: their bytes may be shared. Data and Metadata of
// records read together may lie in one allocation (up to about 64 KiB), so
// whoever keeps one record of many for long keeps its neighbours' bytes too,
// unless it clones them; strings are independent.
type Store interface {
	// Append appends records to one stream, all or none, and returns the place
	// of the last one. It fails with *RevisionConflictError where the stream
	// is not at expected, unless exactly these event ids already stand behind
	// that revision (see Idempotency), with ErrTooLarge, ErrInvalid, ErrFull
	// or ErrClosed. At least one record is required.
	Append(ctx context.Context, stream string, expected Revision, records ...NewRecord) (Appended, error)

	// AppendBatch appends to many streams in one commit: all or nothing, in
	// the order given, and idempotent as a whole. A stream may occur more than once;
	// a later entry sees the earlier one. The results are in the order of the
	// appends. It fails as Append does, naming the stream, and with
	// ErrUnsupported where Capabilities().BatchAppend is missing.
	AppendBatch(ctx context.Context, appends []StreamAppend) ([]Appended, error)

	// ReadStream reads one stream from a revision on, inclusive; forwards or
	// backwards. A stream that never was yields ErrStreamNotFound as its only
	// error. The sequence ends at the stream's end as of when it is ranged
	// over, or after limit records (0: no limit). From a revision beyond the
	// end it yields nothing forwards, and begins at the end backwards. An
	// error ends the sequence. The caller may use the store while it ranges.
	ReadStream(ctx context.Context, stream string, opts ReadStreamOptions) iter.Seq2[*Record, error]

	// ReadAll reads the whole log in order of position, forwards or backwards,
	// and ends at the head as of when it is ranged over, or after limit
	// records. Behind the head it yields nothing.
	ReadAll(ctx context.Context, opts ReadAllOptions) iter.Seq2[*Record, error]

	// Subscribe reads the log from behind a position and goes on with what is
	// appended later, without a gap or a repetition between the two. It ends
	// with the context, with ErrClosed, or with the store's error. A position
	// ahead of the head is refused with ErrAhead: it is not of this log, or
	// the log was restored from before it. See Subscription.
	Subscribe(ctx context.Context, opts SubscribeOptions) (Subscription, error)

	// Head is the position of the last record, 0 for an empty log.
	Head(ctx context.Context) (Position, error)

	// StreamHead is the revision of the stream's last record; NoStream where
	// the stream never was.
	StreamHead(ctx context.Context, stream string) (Revision, error)

	// LogID names this log for ever. Tokens and checkpoints carry it, so that
	// one made from another log is recognised.
	LogID() uuid.UUID

	// Capabilities says what this driver can do beyond the contract.
	Capabilities() Capabilities

	// Close waits for appends in flight and ends every subscription with
	// ErrClosed. Whoever opened the store closes it. A second call does
	// nothing.
	Close() error
}

// Subscription hands out records one batch at a time; a subscriber that is
// slow is simply behind, it is never skipped. Not for concurrent use, except
// Close, which ends a Next that is blocked. An open subscription that nobody
// asks for more costs nothing but its place.
type Subscription interface {
	// Next blocks until there is something to say: records that match; or
	// that the subscription has reached the head for the first time since it
	// was behind; or, every SubscribeOptions.Heartbeat, how far it has looked.
	// An error of ctx leaves the subscription where it was; any other error is
	// final.
	Next(ctx context.Context) (Batch, error)
	// Close ends the subscription with ErrClosed. A second call does nothing.
	Close() error
}

// Batch is what one Next returns.
type Batch struct {
	// Records that match, in order of position; may be empty. The slice is
	// valid until the next call of Next, the records for ever.
	Records []*Record
	// Position up to which everything has been looked at: no record at or
	// below it will come in a later batch. It never goes back.
	Position Position
	// CaughtUp says that Position was the head when the batch was read.
	CaughtUp bool
}

// Position is a place in the whole log. 0 is before the first record.
type Position uint64

// Revision is a place in one stream: 0 for its first record, and the special
// values below as an expectation.
type Revision int64

const (
	// NoStream expects that the stream does not exist.
	NoStream Revision = -1
	// Any expects nothing. It gives up idempotency: only for appends whose
	// repetition is harmless.
	Any Revision = -2
	// End is the last record, as a place to read backwards from.
	End Revision = -3
)

// NewRecord is a record to append. The store looks at none of Data and
// Metadata.
type NewRecord struct {
	// ID identifies the event for idempotency within its stream. Not zero.
	ID uuid.UUID
	// Type is 1 to 256 bytes of UTF-8 without control characters, and does
	// not begin with '$'.
	Type string
	// ContentType is one of ContentProtobuf, ContentJSON.
	ContentType ContentType
	Data        []byte
	// Metadata is JSON, or nothing.
	Metadata []byte
}

// Record is a record in the log. Its routing fields (everything but Data and
// Metadata) are had without decoding the payload.
type Record struct {
	NewRecord
	Stream   string
	Revision Revision
	Position Position
	// Recorded is when the store took it, in UTC with microseconds. It never
	// goes back along the log.
	Recorded time.Time
}

// ContentType says how Data is encoded.
type ContentType uint8

// The content types that EventStoreDB tells apart.
const (
	ContentProtobuf ContentType = iota // application/octet-stream
	ContentJSON                        // application/json
)

// StreamAppend is one stream's part of AppendBatch.
type StreamAppend struct {
	Stream   string
	Expected Revision
	Records  []NewRecord
}

// Appended is the place of the last record of an append.
type Appended struct {
	Revision Revision
	Position Position
	// Repeated says that the records were already there: the place is that of
	// the first time.
	Repeated bool
}

// Direction of a read.
type Direction uint8

// Forwards is towards the head.
const (
	Forwards Direction = iota
	Backwards
)

// ReadStreamOptions says where and how far to read. The zero value reads the
// whole stream forwards.
type ReadStreamOptions struct {
	// From is the first revision to read, inclusive; End for the last one.
	From      Revision
	Direction Direction
	// Limit is the largest number of records; 0 for no limit.
	Limit int
}

// ReadAllOptions says where and how far to read. The zero value reads the
// whole log forwards.
type ReadAllOptions struct {
	// From is exclusive: forwards it starts behind From, backwards with the
	// last record below From. Backwards, 0 stands for the head.
	From      Position
	Direction Direction
	// Limit is the largest number of records that match; 0 for no limit.
	Limit  int
	Filter Filter
}

// SubscribeOptions says where to begin and what to hand out.
type SubscribeOptions struct {
	// After is the position behind which to begin; 0 is the start.
	After  Position
	Filter Filter
	// MaxBatch is the largest number of records in a batch. Defaults to 1024.
	MaxBatch int
	// MaxBatchBytes bounds a batch's data; a larger single record still comes. Defaults to 4 MiB.
	MaxBatchBytes int
	// Heartbeat is the longest time Next waits without anything to say.
	// Defaults to 5 seconds.
	Heartbeat time.Duration
}

// Filter chooses records by their routing fields. A record matches when one of
// Types is its type (or Types is empty) and its stream begins with one of
// StreamPrefixes (or StreamPrefixes is empty).
type Filter struct {
	Types          []string
	StreamPrefixes []string
}

// Capabilities is what a driver can do beyond the contract. A capability that
// is missing says why in the text beside it.
type Capabilities struct {
	// BatchAppend: AppendBatch commits many streams at once.
	BatchAppend Capability
	// DensePositions: positions count records, so that lag can be told in events.
	DensePositions Capability
}

// Capability is a yes, or a no with its reason.
type Capability struct {
	Supported bool
	// Reason says why not; empty where supported.
	Reason string
}
