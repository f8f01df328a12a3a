package logcopy

import (
	"errors"
	"fmt"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// ErrSameLog says that source and target are the same log.
var ErrSameLog = errors.New("source and target are the same log")

// ErrUnfinished says that a copy was ended before it was done. It wraps the
// context's error. The same copy started again goes on.
var ErrUnfinished = errors.New("the copy was ended before it was done")

// ForeignError says that the target holds what is not of the source.
type ForeignError struct {
	// Position in the target where it begins; 0 where it is about the whole.
	Position eventstore.Position
	Reason   string
	cause    error
}

func (e *ForeignError) Error() string {
	at := ""
	if e.Position > 0 {
		at = fmt.Sprintf(" at position %d", e.Position)
	}
	return fmt.Sprintf("the target%s holds what is not of the source: %s; copy into an empty event store, or into one that was begun from this source and is not in use yet", at, e.Reason)
}

func (e *ForeignError) Unwrap() error { return e.cause }
