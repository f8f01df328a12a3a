package projection

import (
	"fmt"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// Status is how a projection does.
type Status struct {
	Name      string
	Namespace view.Namespace
	State     State
	// Position up to which the views contain everything.
	Position eventstore.Position
	// Head is the log's last position as far as known.
	Head eventstore.Position
	// Behind is how far Position is behind the log in time: 0 when caught up, else about the age of
	// the oldest event that the views do not contain.
	Behind time.Duration
	// EventsPerSecond folded of late.
	EventsPerSecond float64
	// Err is why it is not running, or what it is retrying.
	Err error
	// Serving says that it answers reads.
	Serving bool
	// DeadLetters could not be folded, Waiting events wait behind those.
	DeadLetters, Waiting int
	// OldestDeadLetter is when the first of them was recorded in the log.
	OldestDeadLetter time.Time
	// Diverged says that an event was skipped that it had folded already: it
	// differs from what a rebuild gives.
	Diverged bool
}

// TimeLeft is how long it takes to catch up at the present rate; 0 where it
// has, or where there is no rate.
func (s Status) TimeLeft() time.Duration {
	if s.Head <= s.Position || s.EventsPerSecond <= 0 {
		return 0
	}
	const longest = float64(1000 * time.Hour)
	return time.Duration(min(float64(s.Head-s.Position)/s.EventsPerSecond*float64(time.Second), longest))
}

// Fraction is the part of the log that the views contain, 0 to 1.
func (s Status) Fraction() float64 {
	if s.Head == 0 {
		return 1
	}
	return min(float64(s.Position)/float64(s.Head), 1)
}

// State of a projection.
type State uint8

// The states of a projection.
const (
	// Stopped: Run was not called or has returned nil.
	Stopped State = iota
	// CatchingUp: behind the log.
	CatchingUp
	// Live: at the log's head.
	Live
	// Retrying: waiting for a failure to pass.
	Retrying
	// Halted: will not go on by itself.
	Halted
	// Paused by an operator.
	Paused
	// Frozen: the version's fold is not in this binary.
	Frozen
)

// String names the state.
func (s State) String() string {
	switch s {
	case Stopped:
		return "stopped"
	case CatchingUp:
		return "catching up"
	case Live:
		return "live"
	case Retrying:
		return "retrying"
	case Halted:
		return "halted"
	case Paused:
		return "paused"
	case Frozen:
		return "frozen"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}
