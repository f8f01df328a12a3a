package consistency

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Waiter waits for one read model over one log.
type Waiter struct {
	// Log that tokens must be of.
	Log Log
	// Origins knows the logs that this one was copied from: tokens of those are
	// as good. Nil where there are none.
	Origins token.Origins
	// Model is what is waited for.
	Model Model
	// Longest is how long a call without a deadline waits. Defaults to 10 seconds.
	Longest time.Duration
}

// Log is the part of an event store that is needed here.
type Log interface {
	LogID() uuid.UUID
	Head(ctx context.Context) (eventstore.Position, error)
}

// Model is the part of a projection that is needed here.
type Model interface {
	WaitFor(ctx context.Context, position eventstore.Position) error
	Position() eventstore.Position
	Status() projection.Status
}

const longest = 10 * time.Second

// Wait returns once the model has come to the write that gave the token, with
// its position; at once, with 0, for an empty one. That the model has come there
// does not say that every event before could be folded: Read does.
func (w *Waiter) Wait(ctx context.Context, consistencyToken string) (eventstore.Position, error) {
	if consistencyToken == "" {
		return 0, nil
	}
	t, err := token.Parse(token.Consistency, consistencyToken)
	if err != nil {
		return 0, invalid("consistency_token was not made by this service", err)
	}
	position, err := t.In(ctx, w.Log.LogID(), w.Origins)
	if errors.Is(err, token.ErrOtherLog) {
		return 0, invalid("consistency_token belongs to another log", err)
	}
	if err != nil {
		return 0, rpcerr.FromError(err)
	}
	if w.Model.Position() >= position {
		return position, nil
	}
	head, err := w.Log.Head(ctx)
	if err != nil {
		return 0, rpcerr.FromError(fmt.Errorf("wait for position %d: %w", position, err))
	}
	if position > head {
		return 0, invalid("consistency_token is ahead of this log: it belongs to another one", nil)
	}
	return position, w.waitFor(ctx, position)
}

// WaitHead returns once the model has come to the end that the log has now, with
// its position.
func (w *Waiter) WaitHead(ctx context.Context) (eventstore.Position, error) {
	head, err := w.Log.Head(ctx)
	if err != nil {
		return 0, rpcerr.FromError(fmt.Errorf("wait for the log's head: %w", err))
	}
	return head, w.waitFor(ctx, head)
}

func (w *Waiter) waitFor(ctx context.Context, position eventstore.Position) error {
	ctx, cancel := context.WithTimeout(ctx, w.patience(ctx))
	defer cancel()
	if err := w.Model.WaitFor(ctx, position); err != nil {
		return w.failed(position, err)
	}
	return nil
}

// patience is how long to wait: until shortly before the call's deadline, for
// what comes at the deadline itself no longer reaches the client, which would be
// told only that it is over and not how far behind the read model is.
func (w *Waiter) patience(ctx context.Context) time.Duration {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		if w.Longest > 0 {
			return w.Longest
		}
		return longest
	}
	left := time.Until(deadline)
	return left - min(left/4, answerTime)
}

// answerTime is what is left of a call's time for the answer to travel.
const answerTime = 100 * time.Millisecond

// failed says why the model did not get to a position in time.
func (w *Waiter) failed(want eventstore.Position, err error) error {
	behind, isBehind := errors.AsType[*projection.BehindError](err)
	if isBehind && (errors.Is(behind.Err, view.ErrClosed) || errors.Is(behind.Err, eventstore.ErrClosed)) {
		// The server stops: elsewhere the answer may be had.
		err, isBehind = behind.Err, false
	}
	if !isBehind && !errors.Is(err, context.DeadlineExceeded) {
		return rpcerr.FromError(fmt.Errorf("wait for position %d: %w", want, err))
	}
	var lag uint64
	if at := w.Model.Position(); at < want {
		lag = uint64(want - at)
	}
	status := w.Model.Status()
	opts := []rpcerr.Option{
		rpcerr.WithCause(err),
		rpcerr.WithMetadata("lag_events", strconv.FormatUint(lag, 10)),
		rpcerr.WithMetadata("lag_seconds", strconv.FormatFloat(status.Behind.Seconds(), 'f', 3, 64)),
	}
	if _, ok := errors.AsType[*projection.TooManyDeadLettersError](err); ok {
		// Which events those are may be another tenant's business.
		return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_DEAD_LETTER,
			"the read model has halted: too many events cannot be folded; operators see which", opts...)
	}
	message := fmt.Sprintf("the read model is %d events behind the consistency token", lag)
	retry := retrySoon
	switch {
	case errors.Is(err, projection.ErrPaused) || status.State == projection.Paused:
		// Who has, and why, stays among the operators.
		message, retry = message+": an operator has paused it", retryLater
	case status.State == projection.Halted:
		message, retry = message+": it has halted; operators see why", retryLater
	}
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BEHIND, message, append(opts, rpcerr.WithRetryAfter(retry))...)
}

// How long a caller is advised to wait: a read model that is behind catches up,
// for one that is stopped somebody has to do something.
const (
	retrySoon  = 100 * time.Millisecond
	retryLater = 5 * time.Second
)

func invalid(message string, cause error) error {
	return rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, message, rpcerr.WithCause(cause))
}
