package blob

import "errors"

// The errors that every driver classifies its failures into. They are wrapped
// with what was being done; test with errors.Is. The errors of a context come
// through as they are, and so does what a content's reader fails with.
var (
	// ErrNotFound: there is no object of that name.
	ErrNotFound = errors.New("blob not found")
	// ErrInvalid: the caller's mistake (a malformed name, reference or tenant, a
	// content that is not as long as it was said to be, or changes under way).
	ErrInvalid = errors.New("invalid blob request")
	// ErrTooLarge: the content is over the vault's or the store's bound.
	ErrTooLarge = errors.New("blob too large")
	// ErrUnavailable: the store cannot do it now (disk full, server down,
	// timeout). What was to be written may or may not be there. Try again later.
	ErrUnavailable = errors.New("blob store unavailable")
	// ErrDenied: the store refuses our credentials or lets them do too little.
	ErrDenied = errors.New("access to blob store denied")
	// ErrCorrupt: the object cannot be what was written under this reference:
	// damaged, cut off, or of another key.
	ErrCorrupt = errors.New("corrupt blob")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("blob store closed")
)
