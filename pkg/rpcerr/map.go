package rpcerr

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// rule says what a sentinel error means to a caller.
type rule struct {
	is      error
	code    codes.Code
	reason  errorv1.Reason
	message string
	retry   time.Duration
}

// How long a caller is advised to wait: what is away may be back at once, what
// is full needs somebody to make room.
const (
	retrySoon  = time.Second
	retryLater = 5 * time.Second
)

// rules in the order in which they are tried.
var rules = []rule{
	{is: eventstore.ErrFull, code: codes.ResourceExhausted, reason: errorv1.Reason_REASON_STORE_FULL, message: "the event store's disk is full", retry: retryLater},
	{is: eventstore.ErrUnavailable, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE, message: "the event store cannot be reached", retry: retrySoon},
	{is: eventstore.ErrClosed, code: codes.Unavailable, reason: errorv1.Reason_REASON_STOPPING, message: "the server is stopping", retry: retrySoon},
	{is: eventstore.ErrTooLarge, code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_FIELD, message: "too large for the event store"},
	{is: eventstore.ErrAhead, code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN, message: "the token is ahead of this log: it belongs to another one"},
	{is: bus.ErrFull, code: codes.ResourceExhausted, reason: errorv1.Reason_REASON_INGRESS_FULL, message: "the ingress stream is full", retry: retryLater},
	{is: bus.ErrTooLarge, code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_FIELD, message: "one interaction is too large for the bus"},
	{is: bus.ErrUnavailable, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE, message: "NATS cannot be reached", retry: retrySoon},
	{is: view.ErrInvalidCursor, code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN, message: "the page token is not of this request"},
	{is: view.ErrFull, code: codes.ResourceExhausted, reason: errorv1.Reason_REASON_STORE_FULL, message: "the view store's disk is full", retry: retryLater},
	{is: view.ErrUnavailable, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE, message: "the view store cannot be reached", retry: retrySoon},
	{is: view.ErrServer, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE, message: "the view store's server cannot be used; the log says what it lacks", retry: retryLater},
	{is: view.ErrFailed, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE, message: "the view store has failed", retry: retryLater},
	{is: view.ErrClosed, code: codes.Unavailable, reason: errorv1.Reason_REASON_STOPPING, message: "the server is stopping", retry: retrySoon},
	{is: view.ErrDropped, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE, message: "what was read from was dropped meanwhile: ask again", retry: retrySoon},
	{is: view.ErrFenced, code: codes.Unavailable, reason: errorv1.Reason_REASON_NOT_ACTIVE, message: "another process has just taken the projection over: ask again", retry: retrySoon},
	{is: view.ErrConflict, code: codes.Aborted, reason: errorv1.Reason_REASON_CHANGED_SINCE, message: "somebody else changed it meanwhile: look again, then repeat what is still wanted"},
	{is: projection.ErrUnknownGeneration, code: codes.NotFound, reason: errorv1.Reason_REASON_GENERATION_NOT_FOUND, message: "the projection has no such generation: `parley projections get` shows those it has, `parley projections rebuild` makes one"},
	{is: projection.ErrUnknownDeadLetter, code: codes.NotFound, reason: errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND, message: "the generation has no dead letter at that position: `parley projections deadletters` lists those it has"},
	{is: projection.ErrRebuildRunning, code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_REBUILD_RUNNING, message: "another generation is being filled already, or waits to be switched to: `parley projections get` shows it; let it end, switch to it, or drop it first"},
	{is: projection.ErrAlreadyServing, code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_ALREADY_SERVING, message: "the generation serves: there is nothing to switch, and it can be dropped only once another one serves"},
	{is: projection.ErrNothingToRollBack, code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_NOTHING_TO_ROLL_BACK, message: "no generation served before, or it was dropped: `parley projections rebuild` makes another one to switch to"},
	{is: projection.ErrFrozen, code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_GENERATION_FROZEN, message: "this binary has no fold for the generation's version, so that it stays as it is: run a binary that has, or rebuild with this one"},
	{is: projection.ErrNotOperable, code: codes.FailedPrecondition, reason: errorv1.Reason_REASON_NOT_OPERABLE, message: "the projection is one index of the log, without generations: there is nothing to operate"},
	{is: projection.ErrPaused, code: codes.Unavailable, reason: errorv1.Reason_REASON_NOT_ACTIVE, message: "the projection is paused: `parley projections resume` lets it go on"},
	{is: token.ErrInvalid, code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN, message: "the token was not made by this service, or was changed"},
	{is: token.ErrMismatch, code: codes.InvalidArgument, reason: errorv1.Reason_REASON_INVALID_TOKEN, message: "the page token belongs to another request: repeat the one that gave it"},
	{is: view.ErrCorrupt, code: codes.DataLoss, reason: errorv1.Reason_REASON_INTERNAL, message: "stored data is corrupt; the server's log names the place"},
	{is: eventstore.ErrCorrupt, code: codes.DataLoss, reason: errorv1.Reason_REASON_INTERNAL, message: "stored data is corrupt; the server's log names the place"},
}

// FromError is the error as it may leave a server. An *Error and a gRPC status
// stay as they are, errors of the packages below get their meaning, the
// context's errors theirs; everything else is INTERNAL and keeps err as its
// cause. Nil stays nil.
func FromError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e := fromProjection(err); e != nil {
		return e
	}
	for i := range rules {
		r := &rules[i]
		if errors.Is(err, r.is) {
			return New(r.code, r.reason, r.message, WithCause(err), WithRetryAfter(r.retry))
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, errorv1.Reason_REASON_UNSPECIFIED, "the call was cancelled", WithCause(err))
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, errorv1.Reason_REASON_UNSPECIFIED, "the call's deadline has passed", WithCause(err))
	}
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok && s.GRPCStatus().Code() != codes.Unknown {
		return s
	}
	return New(codes.Internal, errorv1.Reason_REASON_INTERNAL, "internal error; the server's log has the rest", WithCause(err))
}

// fromProjection gives the errors of a projection that carry more than their
// name; nil for all others.
func fromProjection(err error) error {
	if e, ok := errors.AsType[*projection.NotCaughtUpError](err); ok {
		var lag uint64
		if e.At < e.Want {
			lag = uint64(e.Want - e.At)
		}
		return New(codes.FailedPrecondition, errorv1.Reason_REASON_NOT_CAUGHT_UP,
			fmt.Sprintf("generation %s is %d events behind the one that serves: wait, `parley projections watch` shows how long", e.Generation, lag),
			WithCause(err), WithRetryAfter(retryLater),
			WithMetadata("generation", e.Generation.String()), WithMetadata("position", position(e.At)),
			WithMetadata("lag_events", strconv.FormatUint(lag, 10)))
	}
	if e, ok := errors.AsType[*projection.AlreadyFoldedError](err); ok {
		return New(codes.FailedPrecondition, errorv1.Reason_REASON_ALREADY_FOLDED,
			fmt.Sprintf("generation %s has folded the event at position %d: switch to that generation, or drop it and skip then", e.Generation, e.Position),
			WithCause(err), WithMetadata("generation", e.Generation.String()), WithMetadata("position", position(e.Position)))
	}
	if e, ok := errors.AsType[*projection.NotActiveError](err); ok {
		return notActive(e, err)
	}
	return fromFolding(err)
}

// fromFolding gives what keeps a read model from what it is asked for; nil for
// all others. Which event another tenant's read model halted at is told to nobody.
func fromFolding(err error) error {
	if errors.Is(err, projection.ErrDeadLetter) {
		return New(codes.Unavailable, errorv1.Reason_REASON_DEAD_LETTER,
			"an event of this customer could not be folded and is a dead letter; operators mend it, then ask again",
			WithCause(err))
	}
	_, folding := errors.AsType[*projection.FoldError](err)
	if _, tooMany := errors.AsType[*projection.TooManyDeadLettersError](err); tooMany || folding {
		return New(codes.Unavailable, errorv1.Reason_REASON_DEAD_LETTER,
			"the projection has halted at events that it cannot fold: `parley projections deadletters` lists them, `parley projections resume` tries again",
			WithCause(err))
	}
	if e, ok := errors.AsType[*projection.BehindError](err); ok {
		var lag uint64
		if e.At < e.Want {
			lag = uint64(e.Want - e.At)
		}
		return New(codes.Unavailable, errorv1.Reason_REASON_BEHIND, fmt.Sprintf("the read model is %d events behind what was waited for", lag),
			WithCause(err), WithRetryAfter(retrySoon), WithMetadata("lag_events", strconv.FormatUint(lag, 10)))
	}
	return nil
}

// notActive is for calls that another process would have to carry out.
func notActive(e *projection.NotActiveError, err error) error {
	opts := []Option{WithCause(err), WithRetryAfter(retrySoon), WithMetadata("projection", e.Projection)}
	if !e.Since.IsZero() {
		opts = append(opts, WithMetadata("last_heard_time", e.Since.UTC().Format(time.RFC3339Nano)))
	}
	message := fmt.Sprintf("no process folds %s at the moment: try again once one does, `parley projections get` shows which", e.Projection)
	if e.Active != "" {
		message = fmt.Sprintf("%s is folded by another process, %s, and not by this one: ask that one", e.Projection, e.Active)
		opts = append(opts, WithMetadata("active_process", e.Active))
	}
	return New(codes.Unavailable, errorv1.Reason_REASON_NOT_ACTIVE, message, opts...)
}

func position(p eventstore.Position) string { return strconv.FormatUint(uint64(p), 10) }
