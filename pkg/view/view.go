package view

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"
)

// Store holds generations. All methods may be called concurrently.
type Store interface {
	// Open opens a generation, making it where it is not yet there. The
	// collections are remembered; opening again with other collections or
	// indexes fails with ErrSchema. A generation may be open more than once;
	// fencing tokens keep its writers apart.
	Open(ctx context.Context, ns Namespace, collections ...Collection) (Generation, error)
	// Namespaces lists the generations there are, in order of projection,
	// version and generation.
	Namespaces(ctx context.Context) ([]Namespace, error)
	// Drop removes a generation with all its rows. It fails with ErrInUse
	// while it is open here, with ErrNotFound where there is none. Where it is
	// open in another process (Shared), calls there answer ErrDropped from then on.
	Drop(ctx context.Context, ns Namespace) error
	// Control is what was last saved as the projection's control record; the
	// zero Control where nothing was.
	Control(ctx context.Context, projection string) (Control, error)
	// SaveControl replaces the control record where its revision still is
	// c.Revision, and returns the new revision; else it fails with
	// ErrConflict. Once it has returned the record survives a crash, as do all
	// commits before it. After any other error it may have been saved all the
	// same: read it again. Fails with ErrInvalid where the name is none or the data are too large.
	SaveControl(ctx context.Context, projection string, c Control) (revision uint64, err error)
	// Wake gives a channel that has something in it after a commit to a
	// generation of the projection or a change of its control record, whichever
	// process made it. It is a hint only: one may be missed, so whoever follows
	// looks by himself now and then as well. stop ends it; it may be called again.
	Wake(projection string) (wake <-chan struct{}, stop func())
	// Shared says that other processes may have the same store open.
	Shared() bool
	// Failed says why the store takes no more commits, nil while it does.
	Failed() error
	// Close closes the store; its generations answer ErrClosed from then on. A second call does nothing.
	Close() error
}

// Control is a small record beside a projection's generations: which there
// are to be and which one serves. A store looks at none of it.
type Control struct {
	// Revision counts the changes of the record, from 1; 0 says that there is none.
	Revision uint64
	// Data is at most MaxControlBytes.
	Data []byte
}

// Namespace names a generation.
type Namespace struct {
	// Projection is 1 to 64 characters: lower case letters, digits, underscores.
	Projection string
	// Version of the projection's code: raised when its fold or its collections change.
	Version uint32
	// Generation counts the fillings of this version.
	Generation uint32
}

// String is the namespace as people read it, for example `customer/v3/g1`.
func (n Namespace) String() string {
	return fmt.Sprintf("%s/v%d/g%d", n.Projection, n.Version, n.Generation)
}

// Generation is one filled copy of a projection's collections. All methods may
// be called concurrently; commits of one generation happen one after the other.
type Generation interface {
	Reader
	// Namespace is what was opened.
	Namespace() Namespace
	// Fence takes a fencing token greater than all before it. From then on
	// commits with an older one fail with ErrFenced.
	Fence(ctx context.Context) (uint64, error)
	// Commit writes the batch's rows and its checkpoint, all or nothing. It
	// fails with ErrFenced, ErrFull, ErrUnavailable, ErrFailed, ErrInvalid,
	// ErrDropped, ErrServer, ErrCorrupt or ErrClosed and has then changed nothing,
	// but for one case: where the connection to a server breaks, or ctx ends, in the
	// middle, the commit may have been made all the same. The error says so, and
	// Checkpoint tells. A writer whose commit failed reads Checkpoint and goes
	// on from there; until he has, a store that notices that it is not where
	// he thinks answers ErrUnavailable. The batch may be reset and used again
	// afterwards.
	Commit(ctx context.Context, batch *Batch) error
	// Snapshot gives a reader that sees the last commit's state for as long as
	// it is open. Keep it open for moments only.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Digest is a canonical hash over all documents: two generations that hold the
	// same documents have the same digest, whatever the driver, and in whatever
	// order and portions they were written.
	Digest(ctx context.Context) (Digest, error)
	// Close gives up this handle. A second call does nothing.
	Close() error
}

// Snapshot is a Reader of one commit's state.
type Snapshot interface {
	Reader
	// Close lets go of the state. A second call does nothing.
	Close() error
}

// Reader reads documents. Bytes handed out belong to the caller.
type Reader interface {
	// Checkpoint is that of the last commit; the zero Checkpoint before the first.
	Checkpoint(ctx context.Context) (Checkpoint, error)
	// Get returns the stored bytes of a document, or ErrNotFound. Clustered
	// collections have no access by key: ErrInvalid.
	Get(ctx context.Context, collection string, key Key) ([]byte, error)
	// GetMany returns the bytes of many documents of one state, in the order of keys; nil
	// for those that there are not. A document without any bytes is empty, not nil.
	GetMany(ctx context.Context, collection string, keys []Key) ([][]byte, error)
	// Load returns a document with all that is stored beside it, for a writer
	// who is going to put it again, or ErrNotFound.
	Load(ctx context.Context, collection string, key Key) (Row, error)
	// Query reads an ordered index.
	Query(ctx context.Context, collection string, q Query) (Page, error)
	// Search reads a text index.
	Search(ctx context.Context, collection string, s Search) (Page, error)
	// Scan goes over the documents of one state, in order of tenant and key
	// (clustered collections: of tenant and their first index). An empty
	// tenant means all of them. An error ends the sequence.
	Scan(ctx context.Context, collection, tenant string) iter.Seq2[Entry, error]
}

// Key is a document's primary key. Both parts are UTF-8 of at most 512 bytes without U+0000; ID is not empty.
type Key struct {
	Tenant string
	ID     string
}

// Entry is a document found.
type Entry struct {
	Key  Key
	Data []byte
	// Meta as given to PutRow.
	Meta []byte
}

// Row is what is stored for a document.
type Row struct {
	// Data is the document, marshalled.
	Data []byte
	// Meta is the writer's own bookkeeping, kept beside the document and no part of it.
	Meta []byte
	// Terms are its index entries.
	Terms Terms
}

// Checkpoint says which part of which log a generation holds, and who wrote it.
type Checkpoint struct {
	Namespace Namespace
	// Token is the fencing token of the writer.
	Token uint64
	// LogID names the log that Position is a place in.
	LogID uuid.UUID
	// Position up to which all of the log is in the rows.
	Position uint64
}

// IsZero says that nothing was ever committed.
func (c Checkpoint) IsZero() bool { return c.LogID == uuid.Nil && c.Position == 0 }

// Query asks for documents by an ordered index.
type Query struct {
	Tenant string
	// Index is the name of an Ordered index.
	Index string
	// Prefixes are values that the leading columns must equal, all of the
	// same number of columns. Documents of several prefixes are merged in the order
	// of the columns behind them. None stands for the whole index. A document that
	// stands in the index with several tuples comes once for each of them, except
	// where they differ in the prefix only.
	Prefixes []Tuple
	// From and To bound the column behind the prefix: From inclusive, To
	// exclusive. The zero Value is no bound.
	From, To Value
	// Reverse goes from the greatest to the least.
	Reverse bool
	// Limit is the largest number of documents, 1 to MaxLimit.
	Limit int
	// Cursor is Page.Next of the page before, with all else unchanged; nil for the first.
	Cursor []byte
}

// Search asks for documents whose text contains every word of a query.
type Search struct {
	Tenant string
	// Index is the name of a Text index.
	Index string
	// Text is the words, apart by white space. Each must occur somewhere in the
	// document's text, also within a word; case and diacritics do not matter.
	// The words together have at least MinSearchRunes characters; MaxSearchBytes at most.
	Text string
	// Limit is the largest number of documents, 1 to MaxLimit.
	Limit int
	// Cursor is Page.Next of the page before, with all else unchanged; nil for the first.
	Cursor []byte
}

// Page is a part of an answer. A page of a Search may have fewer entries than
// asked for, even none, and still have a Next: the work of one call is bounded.
type Page struct {
	Entries []Entry
	// Next continues behind this page; nil at the end.
	Next []byte
}

// Bounds on requests.
const (
	MaxLimit       = 1000
	MaxPrefixes    = 20_000
	MinSearchRunes = 2
	MaxSearchBytes = 1024
	MaxKeyBytes    = 512
	// MaxControlBytes is the largest control record.
	MaxControlBytes = 1 << 20
)
