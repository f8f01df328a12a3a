package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The errors that failures are classified into. They are wrapped with what was
// being done; test with errors.Is. Where the caller's own context ended, the
// error is the context's and none of these.
var (
	// ErrFull: the ingress stream holds as much as it may. Retry later.
	ErrFull = errors.New("ingress stream is full")
	// ErrUnavailable: NATS or JetStream did not answer, or the bus is closed.
	// What was published may or may not have been taken. Retry.
	ErrUnavailable = errors.New("bus unavailable")
	// ErrTooLarge: one event does not fit into one message.
	ErrTooLarge = errors.New("too large for the bus")
	// ErrInvalid: a tenant, channel, reply subject or setting is malformed.
	ErrInvalid = errors.New("invalid")
	// ErrAddressInUse: something else listens where the embedded server should.
	// The message names the address.
	ErrAddressInUse = errors.New("address in use")
	// ErrInUse: the data directory belongs to a server that is running.
	ErrInUse = errors.New("data directory in use")
	// ErrIncompatible: a stream of our name, or on our subjects, is there and
	// cannot be made ours. The message names what differs.
	ErrIncompatible = errors.New("incompatible stream")
	// ErrTakenOver: another process has begun to consume.
	ErrTakenOver = errors.New("consumption was taken over")
)

// JetStream's error codes that the client library has no names for. The server
// lists them in its errors.json.
const (
	codeResourcesExceeded     jetstream.ErrorCode = 10002 // the account's limits
	codeNoPeers               jetstream.ErrorCode = 10005 // servers are away, or there are too few
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeNoMemory              jetstream.ErrorCode = 10028
	codeStorageExceeded       jetstream.ErrorCode = 10047
	codeSubjectsOverlap       jetstream.ErrorCode = 10065
	codeReplicasNotSupported  jetstream.ErrorCode = 10074
	codeStoreFailed           jetstream.ErrorCode = 10077 // carries the store's error as text
)

// classify gives an error of the client library its meaning. ctx is the
// caller's.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch api.ErrorCode {
		case codeResourcesExceeded, codeInsufficientResources, codeNoMemory, codeStorageExceeded:
			return fmt.Errorf("%w: %s", ErrFull, api.Description)
		case codeStoreFailed:
			// The server hands the store's error on as text only.
			if strings.Contains(api.Description, "maximum bytes exceeded") || strings.Contains(api.Description, "maximum messages") {
				return fmt.Errorf("%w: %s", ErrFull, api.Description)
			}
		case jetstream.JSErrCodeStreamMessageExceedsMaximum:
			return fmt.Errorf("%w: %s", ErrTooLarge, api.Description)
		default:
		}
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// errClosed is what calls on a closed bus, or cut short by Close, answer.
var errClosed = fmt.Errorf("%w: the bus is closed", ErrUnavailable)
