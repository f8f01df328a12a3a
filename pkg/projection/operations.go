package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// Operations is what operators do with a projection. All methods may be called
// concurrently, in any process that has the projection open; the active one,
// which folds, carries out what was asked for, and a call returns once that is
// done, or with ctx's error, when it may still be done later.
//
// A view.Namespace of generation 0 means the one that serves; where a method
// is about another one, the candidate. Errors are ErrUnknownGeneration,
// ErrRebuildRunning, *NotCaughtUpError, ErrAlreadyServing,
// ErrNothingToRollBack, ErrFrozen, ErrUnknownDeadLetter, *AlreadyFoldedError
// and *NotActiveError, besides those of the stores.
type Operations interface {
	// Name is the projection's.
	Name() string
	// Report says how the projection and its generations do.
	Report(ctx context.Context) (*opsv1.Projection, error)
	// Rebuild asks for a new generation of this binary's version, filled from
	// the log beside the one that serves.
	Rebuild(ctx context.Context, by By, opts RebuildOptions) (view.Namespace, error)
	// SwitchOver makes a generation serve that has caught up; the one that
	// served folds on. It returns once this process's reads see the new one.
	SwitchOver(ctx context.Context, by By, ns view.Namespace) error
	// Rollback makes the generation serve that did before.
	Rollback(ctx context.Context, by By) error
	// Drop removes a generation that does not serve. It returns once it is gone.
	Drop(ctx context.Context, by By, ns view.Namespace) error
	// Pause stops all folding. Reads go on; WaitFor fails with why, at ctx's deadline.
	Pause(ctx context.Context, by By) error
	// Resume lets folding go on, and halted generations try again.
	Resume(ctx context.Context, by By) error
	// DeadLetters lists a generation's dead letters by position.
	DeadLetters(ctx context.Context, ns view.Namespace, q DeadLetterQuery) (DeadLetterPage, error)
	// DeadLetter returns one with its event and the documents that wait for it.
	DeadLetter(ctx context.Context, ns view.Namespace, position eventstore.Position) (DeadLetterDetail, error)
	// Retry folds dead letters once more, and what waits behind them where
	// that succeeds. No positions are all.
	Retry(ctx context.Context, by By, ns view.Namespace, positions ...eventstore.Position) (RetryResult, error)
	// Skip leaves an event out of the projection for ever. By's reason is
	// required. It returns once the generation has come to the event that says so.
	Skip(ctx context.Context, by By, ns view.Namespace, position eventstore.Position) (Skipped, error)
	// Compare compares two generations as of one position. It holds the
	// candidate back for moments, never the one that serves.
	Compare(ctx context.Context, one, other view.Namespace, opts CompareOptions) (*opsv1.Difference, error)
	// Verify computes the serving generation anew in a scratch one and compares.
	Verify(ctx context.Context, by By, opts VerifyOptions) (*opsv1.Difference, error)
}

// By says who asks for an operation, and why.
type By struct {
	Actor *eventv1.Actor
	// Reason is at most 512 bytes; empty for none.
	Reason string
}

// Auditor keeps what operators do. Each operation is told before it is carried out.
type Auditor interface {
	// Audit appends an event and returns where it stands and its id.
	Audit(ctx context.Context, actor *eventv1.Actor, payload *eventv1.Payload) (eventstore.Position, string, error)
}

// RebuildOptions say how a generation is filled.
type RebuildOptions struct {
	// SwitchWhenReady switches by itself once it has caught up.
	SwitchWhenReady bool
	// MaxEventsPerSecond bounds the filling; 0: as fast as the process's other work allows.
	MaxEventsPerSecond uint32
	// Scan names a scan of the log that several rebuilds share; empty for none.
	Scan string
}

// CompareOptions say how to compare.
type CompareOptions struct {
	// MaxDocuments is how many differing documents of a collection are shown.
	MaxDocuments int
	// Progress is told how far it is, now and then, by one goroutine. Optional.
	Progress func(*opsv1.Progress)
}

// VerifyOptions say how to verify.
type VerifyOptions struct {
	CompareOptions
	// Sample is the share of the customers to look at, over 0 to 1; 0 stands for 1.
	Sample float64
	// MaxEventsPerSecond as in RebuildOptions.
	MaxEventsPerSecond uint32
}

// DeadLetterQuery chooses dead letters.
type DeadLetterQuery struct {
	// Tenant whose events; empty for all.
	Tenant string
	// CustomerID, with a tenant: only what holds up the customer with this id,
	// or that of any of his profiles.
	CustomerID string
	// States to list; none for the failed ones.
	States []opsv1.DeadLetterState
	// Limit is 1 to view.MaxLimit.
	Limit int
	// Cursor is DeadLetterPage.Next of the page before.
	Cursor []byte
}

// DeadLetterPage is a part of an answer.
type DeadLetterPage struct {
	DeadLetters []*opsv1.DeadLetter
	// Next continues behind this page; nil at the end.
	Next []byte
}

// DeadLetterDetail is a dead letter with what belongs to it.
type DeadLetterDetail struct {
	DeadLetter *opsv1.DeadLetter
	// Record as it stands in the log.
	Record *eventstore.Record
	// Event is the record decoded; nil where that fails.
	Event *eventv1.RecordedEvent
	// Documents of the customers who wait because of it, as they are without it.
	Documents []proto.Message
}

// RetryResult is what became of a retry.
type RetryResult struct {
	// Folded counts events, those that had waited among them.
	Folded uint64
	// Failed and Waiting are what is left in the generation.
	Failed, Waiting uint64
}

// Skipped is what became of a skip.
type Skipped struct {
	// Position and EventID of the event that says so.
	Position eventstore.Position
	EventID  string
	// Failed dead letters that are left in the generation.
	Failed uint64
}

// The errors of operations.
var (
	// ErrUnknownGeneration: the projection has no such generation.
	ErrUnknownGeneration = errors.New("unknown generation")
	// ErrRebuildRunning: a generation is being filled already.
	ErrRebuildRunning = errors.New("a generation is being filled already")
	// ErrAlreadyServing: the generation serves.
	ErrAlreadyServing = errors.New("the generation serves")
	// ErrNothingToRollBack: no generation served before, or it was dropped.
	ErrNothingToRollBack = errors.New("nothing to roll back to")
	// ErrFrozen: the generation's version has no fold in this binary.
	ErrFrozen = errors.New("the generation's version is not in this binary")
	// ErrUnknownDeadLetter: the generation has no such dead letter.
	ErrUnknownDeadLetter = errors.New("unknown dead letter")
	// ErrPaused: an operator has paused the projection.
	ErrPaused = errors.New("paused")
)

// NotCaughtUpError says that a generation is too far behind to serve.
type NotCaughtUpError struct {
	Generation view.Namespace
	// At is its position, Want that which it would need.
	At, Want eventstore.Position
}

func (e *NotCaughtUpError) Error() string {
	return fmt.Sprintf("generation %s has not caught up: it is at position %d, %d before the one that serves",
		e.Generation, e.At, e.Want-e.At)
}

// AlreadyFoldedError says that an event cannot be skipped any more.
type AlreadyFoldedError struct {
	Generation view.Namespace
	Position   eventstore.Position
}

func (e *AlreadyFoldedError) Error() string {
	return fmt.Sprintf("generation %s has folded the event at position %d: switch to that generation, or drop it first",
		e.Generation, e.Position)
}

// NotActiveError says that this process cannot do it, since another one folds.
type NotActiveError struct {
	Projection string
	// Active is how the process that folds names itself; empty where none does.
	Active string
	// Since is when that one was last heard of.
	Since time.Time
}

func (e *NotActiveError) Error() string {
	if e.Active == "" {
		return fmt.Sprintf("no process folds %s at the moment", e.Projection)
	}
	return fmt.Sprintf("%s is folded by another process, %s: ask that one", e.Projection, e.Active)
}
