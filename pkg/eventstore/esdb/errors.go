package esdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Errors beside those of eventstore.
var (
	// ErrDenied: the cluster refuses the user, the password, or what the user
	// may not do. Trying again does not help.
	ErrDenied = errors.New("access denied by the event store")
	// ErrUnfit: what answers cannot hold this log: too old, or another log.
	ErrUnfit = errors.New("unfit event store")
)

// verdict says what a failed call means for the connection and for trying again.
type verdict uint8

const (
	// final: trying again would fail in the same way.
	final verdict = iota
	// again: the node had no time for it, or gave up. Whether an append
	// happened is open.
	again
	// away: the node cannot be reached, or does not serve; the next try is
	// over another connection. Whether an append happened is open.
	away
	// moved: the node is not the leader. Nothing happened.
	moved
)

// callError is a failed call as judged by judge.
type callError struct {
	verdict verdict
	leader  string // host:port, where moved
	err     error
}

func (e *callError) Error() string { return e.err.Error() }

func (e *callError) Unwrap() error { return e.err }

// What trailers say beside a status.
const (
	trailerException  = "exception"
	trailerLeaderHost = "leader-endpoint-host"
	trailerLeaderPort = "leader-endpoint-port"
)

// judge classifies what a call ended with; nil stays nil.
func judge(err error, trailer metadata.MD) *callError {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return &callError{verdict: away, err: unavailable(errors.New("the answer ended early"))}
	}
	s, ok := status.FromError(err)
	if !ok {
		return &callError{verdict: final, err: err}
	}
	said := errors.New(s.Code().String() + ": " + s.Message())
	switch first(trailer, trailerException) {
	case "not-leader":
		e := &callError{verdict: moved, err: unavailable(errors.New("the node is not the leader"))}
		host, port := first(trailer, trailerLeaderHost), first(trailer, trailerLeaderPort)
		if _, err := strconv.ParseUint(port, 10, 16); err == nil && host != "" {
			e.leader = net.JoinHostPort(host, port)
		}
		return e
	case "stream-deleted":
		return &callError{err: fmt.Errorf("the stream was deleted in the event store, which a log does not survive: %w: %w", eventstore.ErrCorrupt, said)}
	case "maximum-append-size-exceeded":
		return &callError{err: fmt.Errorf("the event store takes less in one append: %w: %w", eventstore.ErrTooLarge, said)}
	}
	return judgeCode(s.Code(), said)
}

func judgeCode(code codes.Code, said error) *callError {
	switch code {
	case codes.Unavailable, codes.Canceled, codes.Internal, codes.Unknown, codes.DataLoss:
		return &callError{verdict: away, err: unavailable(said)}
	case codes.Aborted, codes.DeadlineExceeded:
		return &callError{verdict: again, err: unavailable(said)}
	case codes.ResourceExhausted:
		return &callError{err: fmt.Errorf("%w: %w", eventstore.ErrFull, said)}
	case codes.Unauthenticated:
		return &callError{err: fmt.Errorf("user and password of the connection string are missing or wrong: %w: %w", ErrDenied, said)}
	case codes.PermissionDenied:
		return &callError{err: fmt.Errorf("the user of the connection string needs the right: %w: %w", ErrDenied, said)}
	case codes.InvalidArgument:
		return &callError{err: fmt.Errorf("%w: %w", eventstore.ErrInvalid, said)}
	case codes.OutOfRange:
		return &callError{err: fmt.Errorf("%w: %w", eventstore.ErrAhead, said)}
	case codes.Unimplemented:
		return &callError{err: fmt.Errorf("%w: %w", ErrUnfit, said)}
	default:
		return &callError{err: said}
	}
}

func unavailable(cause error) error {
	return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, cause)
}

// mayRetry says that trying again can help.
func mayRetry(err error) bool {
	var call *callError
	return errors.As(err, &call) && call.verdict != final
}

// errNoConnection: there was none to make the call over.
var errNoConnection = errors.New("no connection")

// errPatience is the cause of a context that ended with a call's patience.
var errPatience = errors.New("patience is at its end")

// ended is why a context ended, as the contract has it: the caller's own error,
// ErrClosed, or ErrUnavailable with the last thing that went wrong.
func ended(caller, op context.Context, last error) error {
	if err := caller.Err(); err != nil {
		if errors.Is(last, errNoConnection) {
			return fmt.Errorf("%w; %w", err, last)
		}
		return err
	}
	cause := context.Cause(op)
	switch {
	case errors.Is(cause, eventstore.ErrClosed):
		return eventstore.ErrClosed
	case errors.Is(last, eventstore.ErrUnavailable):
		return last
	default:
		return unavailable(cause)
	}
}

func first(md metadata.MD, key string) string {
	if values := md.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}
