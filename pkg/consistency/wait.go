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
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Waiter waits for one read model over one log.
type Waiter struct {
	// Log that tokens must be of.
	Log Log
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

// Wait returns once the model contains the write that gave the token; at once
// for an empty one.
func (w *Waiter) Wait(ctx context.Context, consistencyToken string) error {
	if consistencyToken == "" {
		return nil
	}
	t, err := token.Parse(token.Consistency, consistencyToken)
	if err != nil {
		return invalid("consistency_token was not made by this service", err)
	}
	if t.LogID != w.Log.LogID() {
		return invalid("consistency_token belongs to another log", nil)
	}
	if w.Model.Position() >= t.Position {
		return nil
	}
	head, err := w.Log.Head(ctx)
	if err != nil {
		return rpcerr.FromError(fmt.Errorf("wait for position %d: %w", t.Position, err))
	}
	if t.Position > head {
		return invalid("consistency_token is ahead of this log: it belongs to another one", nil)
	}
	return w.waitFor(ctx, t.Position)
}

// WaitHead returns once the model contains all that the log has now.
func (w *Waiter) WaitHead(ctx context.Context) error {
	head, err := w.Log.Head(ctx)
	if err != nil {
		return rpcerr.FromError(fmt.Errorf("wait for the log's head: %w", err))
	}
	return w.waitFor(ctx, head)
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

func (w *Waiter) failed(want eventstore.Position, err error) error {
	if errors.Is(err, context.Canceled) {
		return rpcerr.FromError(err)
	}
	halted := &projection.FoldError{}
	if !errors.Is(err, projection.ErrBehind) && !errors.As(err, &halted) && !errors.Is(err, context.DeadlineExceeded) {
		return rpcerr.FromError(fmt.Errorf("wait for position %d: %w", want, err))
	}
	var lag uint64
	if at := w.Model.Position(); at < want {
		lag = uint64(want - at)
	}
	opts := []rpcerr.Option{
		rpcerr.WithCause(err),
		rpcerr.WithMetadata("lag_events", strconv.FormatUint(lag, 10)),
		rpcerr.WithMetadata("lag_seconds", strconv.FormatFloat(w.Model.Status().Behind.Seconds(), 'f', 3, 64)),
	}
	if errors.As(err, &halted) {
		// Which event it is may be another tenant's business.
		return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_DEAD_LETTER,
			"the read model has halted at an event that it cannot fold; operators see which", opts...)
	}
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BEHIND,
		fmt.Sprintf("the read model is %d events behind the consistency token", lag), append(opts, rpcerr.WithRetryAfter(retryAfter))...)
}

const retryAfter = 100 * time.Millisecond

func invalid(message string, cause error) error {
	return rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, message, rpcerr.WithCause(cause))
}
