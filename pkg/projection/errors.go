package projection

import (
	"errors"
	"fmt"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// ErrBehind is what a *BehindError is.
var ErrBehind = errors.New("read model is behind")

// ErrOtherLog says that a generation was filled from another log than the one
// at hand.
var ErrOtherLog = errors.New("the read model was filled from another log")

// ErrRunning says that Run was called while it runs.
var ErrRunning = errors.New("projection is already running")

// BehindError says that the views did not get to a position in time.
type BehindError struct {
	Projection string
	// Want is what was waited for, At where the views are.
	Want, At eventstore.Position
	// Err is what the projection is failing with, if it is.
	Err error
}

func (e *BehindError) Error() string {
	msg := fmt.Sprintf("%s: %s at position %d, %d before %d", e.Projection, ErrBehind, e.At, e.Want-e.At, e.Want)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is says that it is ErrBehind.
func (e *BehindError) Is(target error) bool { return target == ErrBehind }

func (e *BehindError) Unwrap() error { return e.Err }

// errNotRunning says that a generation is not folded by this process.
var errNotRunning = errors.New("it is not folded at the moment")

// FoldError says which event could not be folded.
type FoldError struct {
	Projection string
	Stream     string
	Position   eventstore.Position
	EventID    string
	Type       string
	// Err of the fold or the decoder; of a panic, with its stack.
	Err error
}

func (e *FoldError) Error() string {
	return fmt.Sprintf("%s cannot fold the event at position %d (event %s, %s, stream %s): %v",
		e.Projection, e.Position, e.EventID, e.Type, e.Stream, e.Err)
}

func (e *FoldError) Unwrap() error { return e.Err }

// ErrDeadLetter is what a *DeadLetterError is.
var ErrDeadLetter = errors.New("an event of the customer is a dead letter")

// DeadLetterError says that what was asked for does not contain an event,
// since that, or one before it of the same customer, could not be folded.
type DeadLetterError struct {
	Projection string
	// Position of the event that is not contained.
	Position eventstore.Position
}

func (e *DeadLetterError) Error() string {
	return fmt.Sprintf("%s: %s: that at position %d waits to be folded", e.Projection, ErrDeadLetter, e.Position)
}

// Is says that it is ErrDeadLetter.
func (e *DeadLetterError) Is(target error) bool { return target == ErrDeadLetter }
