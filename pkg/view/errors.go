package view

import "errors"

// The errors that every driver classifies its failures into. They are wrapped
// with what was being done; test with errors.Is.
var (
	// ErrNotFound: there is no document with this key.
	ErrNotFound = errors.New("document not found")
	// ErrInvalid: the caller's mistake (an unknown collection or index, a tuple of the wrong types, a limit out of range).
	ErrInvalid = errors.New("invalid request")
	// ErrInvalidCursor: the cursor was not made by this query.
	ErrInvalidCursor = errors.New("invalid cursor")
	// ErrSchema: the generation was filled with other indexes than are
	// declared now. The projection's version has to be raised.
	ErrSchema = errors.New("collections differ from what the generation was filled with")
	// ErrNewerFormat: the data was written by a newer version.
	ErrNewerFormat = errors.New("written by a newer version")
	// ErrInUse: the store is already open, here or in another process; or, to Drop, the generation is.
	ErrInUse = errors.New("already in use")
	// ErrConflict: the control record was changed by somebody else since it was read.
	ErrConflict = errors.New("changed by somebody else")
	// ErrDropped: the generation was dropped while it was open here, by another
	// process; nothing of it can be read or written any more.
	ErrDropped = errors.New("generation was dropped")
	// ErrServer: the server of the views cannot be used (too old a version, a right or an extension is missing).
	ErrServer = errors.New("unsuitable server")
	// ErrFenced: a newer writer has taken over this generation.
	ErrFenced = errors.New("a newer writer has taken over")
	// ErrFull: the store cannot take more (disk full). Nothing of the commit
	// was kept; reads go on.
	ErrFull = errors.New("store is full")
	// ErrUnavailable: the store cannot be written now, or not be reached; nothing
	// of the commit was kept, unless the error says that this is not known. Retry.
	ErrUnavailable = errors.New("store unavailable")
	// ErrFailed: the store broke and takes no more commits until it is opened again.
	ErrFailed = errors.New("store failed")
	// ErrCorrupt: what is stored cannot be what was written.
	ErrCorrupt = errors.New("corrupt data")
	// ErrClosed: the store, generation or snapshot was closed.
	ErrClosed = errors.New("closed")
)
