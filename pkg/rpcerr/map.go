package rpcerr

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
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
	{is: view.ErrFailed, code: codes.Unavailable, reason: errorv1.Reason_REASON_BACKEND_UNAVAILABLE, message: "the view store has failed", retry: retryLater},
	{is: view.ErrClosed, code: codes.Unavailable, reason: errorv1.Reason_REASON_STOPPING, message: "the server is stopping", retry: retrySoon},
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
