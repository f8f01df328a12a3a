package esdbserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// reason is why a call fails, in EventStoreDB's terms.
type reason uint8

const (
	reasonUnknown reason = iota
	reasonInvalid
	reasonInvalidPosition
	reasonMissingProperty
	reasonWrongVersion
	reasonDeleted
	reasonDenied
	reasonUnauthenticated
	reasonTooLarge
	reasonTimeout
	reasonUnavailable
	reasonFull
	reasonUnimplemented
	reasonCancelled
	// reasonTransport: gRPC says so itself, such as of a message that is larger
	// than any may be.
	reasonTransport
)

// replyError is a failure as clients are told it. The official clients make
// their typed errors of the trailer `exception` and its companions.
type replyError struct {
	reason   reason
	message  string
	stream   string // outside name
	expected expectation
	actual   eventstore.Revision
	limit    int
	code     codes.Code // of reasonTransport
	cause    error
}

func (e *replyError) Error() string { return e.message }
func (e *replyError) Unwrap() error { return e.cause }

func invalidArgument(format string, args ...any) error {
	return &replyError{reason: reasonInvalid, message: fmt.Sprintf(format, args...)}
}

func missingProperty(name string) error {
	return &replyError{
		reason:  reasonMissingProperty,
		message: fmt.Sprintf("proposed message without the metadata %q; it needs type and content-type", name),
	}
}

func wrongVersion(operation, stream string, expected expectation, actual eventstore.Revision) error {
	return &replyError{
		reason: reasonWrongVersion,
		message: fmt.Sprintf("%s: wrong expected version of stream %q: expected %s, is at %s",
			operation, stream, expected, actual),
		stream: stream, expected: expected, actual: actual,
	}
}

func streamDeleted(stream string) error {
	return &replyError{
		reason:  reasonDeleted,
		message: fmt.Sprintf("stream %q is deleted for good (tombstone)", stream), stream: stream,
	}
}

func accessDenied(format string, args ...any) error {
	return &replyError{reason: reasonDenied, message: "access denied: " + fmt.Sprintf(format, args...)}
}

func appendTooLarge(limit int) error {
	return &replyError{
		reason:  reasonTooLarge,
		message: fmt.Sprintf("append is larger than %d bytes: split it", limit), limit: limit,
	}
}

func stopping() error {
	return &replyError{reason: reasonUnavailable, message: "the server is stopping: connect again and resume"}
}

// classify makes a replyError of what the store, gRPC or this package returned.
func classify(err error) *replyError {
	var reply *replyError
	if errors.As(err, &reply) {
		return reply
	}
	e := &replyError{cause: err, message: err.Error()}
	switch {
	case errors.Is(err, eventstore.ErrInvalid):
		e.reason = reasonInvalid
	case errors.Is(err, eventstore.ErrTooLarge):
		e.reason, e.limit = reasonTooLarge, eventstore.MaxRecordBytes
	case errors.Is(err, eventstore.ErrFull):
		e.reason, e.message = reasonFull, "the event store is full: make room on its disk"
	case errors.Is(err, eventstore.ErrAhead):
		e.reason = reasonInvalidPosition
	case errors.Is(err, eventstore.ErrClosed):
		e.reason, e.message = reasonUnavailable, "the event store is closed"
	case errors.Is(err, eventstore.ErrUnavailable):
		e.reason, e.message = reasonUnavailable, "the event store is unavailable: repeat the call, an append with the same event ids"
	case errors.Is(err, context.DeadlineExceeded):
		e.reason, e.message = reasonTimeout, "deadline exceeded: an append may or may not have happened, repeat it with the same event ids"
	case errors.Is(err, context.Canceled):
		e.reason, e.message = reasonCancelled, "cancelled"
	default:
		e.message = "internal error; the server's log says more"
		if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown && s.Code() != codes.OK {
			e.reason, e.code, e.message = reasonTransport, s.Code(), s.Message()
		}
	}
	return e
}

var codeOf = map[reason]codes.Code{
	reasonUnknown:         codes.Internal,
	reasonInvalid:         codes.InvalidArgument,
	reasonInvalidPosition: codes.InvalidArgument,
	reasonMissingProperty: codes.InvalidArgument,
	reasonWrongVersion:    codes.FailedPrecondition,
	reasonDeleted:         codes.FailedPrecondition,
	reasonDenied:          codes.PermissionDenied,
	reasonUnauthenticated: codes.Unauthenticated,
	reasonTooLarge:        codes.InvalidArgument,
	reasonTimeout:         codes.DeadlineExceeded,
	reasonUnavailable:     codes.Unavailable,
	reasonFull:            codes.ResourceExhausted,
	reasonUnimplemented:   codes.Unimplemented,
	reasonCancelled:       codes.Canceled,
}

// trailer is what the official clients look at beside the code.
func (e *replyError) trailer() metadata.MD {
	switch e.reason {
	case reasonWrongVersion:
		actual := ""
		if e.actual >= 0 {
			actual = strconv.FormatInt(int64(e.actual), 10)
		}
		return metadata.Pairs("exception", "wrong-expected-version", "stream-name", headerValue(e.stream),
			"expected-version", strconv.FormatInt(e.expected.number(), 10), "actual-version", actual)
	case reasonDeleted:
		return metadata.Pairs("exception", "stream-deleted", "stream-name", headerValue(e.stream))
	case reasonDenied:
		return metadata.Pairs("exception", "access-denied")
	case reasonUnauthenticated:
		return metadata.Pairs("exception", "not-authenticated")
	case reasonTooLarge:
		return metadata.Pairs("exception", "maximum-append-size-exceeded", "maximum-append-size", strconv.Itoa(e.limit))
	case reasonMissingProperty:
		return metadata.Pairs("exception", "missing-required-metadata-property",
			"required-metadata-properties", keyType+","+keyContentType)
	case reasonInvalidPosition:
		return metadata.Pairs("exception", "invalid-position")
	default:
		return nil
	}
}

// headerValue makes a stream's name fit for a header, which takes printable
// ASCII only: other names are percent-encoded.
func headerValue(name string) string {
	for i := range len(name) {
		if name[i] < 0x20 || name[i] > 0x7e {
			return url.PathEscape(name)
		}
	}
	return name
}

// answer turns a handler's error into the status that leaves, and sets its
// trailers.
func (s *Server) answer(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	e := classify(err)
	if e.reason == reasonUnknown {
		s.log.Error("eventstore protocol: call failed", "error", err)
	} else if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.Debug("eventstore protocol: call refused", "error", err)
	}
	if md := e.trailer(); md != nil {
		// Fails only where the call has ended, and nobody listens.
		_ = grpc.SetTrailer(ctx, md)
	}
	return status.Error(e.grpcCode(), e.message)
}

func (e *replyError) grpcCode() codes.Code {
	if e.reason == reasonTransport {
		return e.code
	}
	return codeOf[e.reason]
}

// status is the failure as a batch append is answered with it.
func (e *replyError) status() *rpcstatus.Status {
	out := &rpcstatus.Status{Code: int32(e.grpcCode()), Message: e.message}
	var detail proto.Message
	switch e.reason {
	case reasonWrongVersion:
		detail = e.versionDetail()
	case reasonDeleted:
		detail = &shared.StreamDeleted{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(e.stream)}}
	case reasonDenied, reasonUnauthenticated:
		detail = &shared.AccessDenied{}
	case reasonTooLarge:
		detail = &shared.MaximumAppendSizeExceeded{MaxAppendSize: uint32(e.limit)}
	case reasonTimeout:
		detail = &shared.Timeout{}
	case reasonInvalid, reasonMissingProperty, reasonFull, reasonUnavailable:
		detail = &shared.BadRequest{Message: e.message}
	default:
		detail = &shared.Unknown{}
	}
	packed, err := anypb.New(detail)
	if err != nil {
		// Cannot be: none of these messages has a field that fails to encode.
		return out
	}
	out.Details = []*anypb.Any{packed}
	return out
}

func (e *replyError) versionDetail() *shared.WrongExpectedVersion {
	out := &shared.WrongExpectedVersion{}
	if e.actual >= 0 {
		out.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(e.actual)}
	} else {
		out.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	}
	e.expected.setDetail(out)
	return out
}
