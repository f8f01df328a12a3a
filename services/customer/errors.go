package customer

import "errors"

var (
	// errNotOurs says that a stored document is not in a form that this version
	// writes.
	errNotOurs = errors.New("not as this version stores it")
	// errSpoiled says that a document could not be combined or finished.
	errSpoiled = errors.New("could not be computed")
)
