package consistency

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Read is what one call reads by. It belongs to the call: take another one for
// the next, and for each picture of a call that sends several. Its methods may
// be called concurrently.
type Read[R Reader] struct {
	// Tenant on whose behalf it is.
	Tenant string
	// Position up to which everything must be in what is read; 0 where the call
	// asked for nothing, and is content with what there is.
	Position eventstore.Position
	// Reader of the generation that served when the wait was over. All that the
	// call reads, it reads by this one, so that nothing is of two generations.
	Reader R
}

// Reader is the part of a projection's reader that knows what could not be
// folded. *projection.Reader is one.
type Reader interface {
	// Folded fails with *projection.DeadLetterError where an event up to
	// position waits to be folded, of the customer that an id leads to; for an
	// empty id, one that is nobody's.
	Folded(ctx context.Context, tenant, id string, position eventstore.Position) error
	// FoldedAt fails with it where the event at position does.
	FoldedAt(ctx context.Context, position eventstore.Position) error
}

// About says that the call is about the customers with these ids. It fails with
// DEAD_LETTER where an event of one of them, up to Position, waits to be
// folded; its metadata has the id, `customer_id`. Say so before reading: an
// event that is folded in between is then in what is read.
func (r *Read[R]) About(ctx context.Context, ids ...string) error {
	if r.Position == 0 {
		return nil
	}
	for _, id := range ids {
		if err := r.Reader.Folded(ctx, r.Tenant, id, r.Position); err != nil {
			return parked(err, "an event of this customer waits to be folded; operators see which", rpcerr.WithMetadata("customer_id", id))
		}
	}
	return nil
}

// AboutAll says that the call is about nobody in particular, as a search is. It
// fails with DEAD_LETTER where the write that gave the token waits to be
// folded, so that whoever wrote something sees it, or is told, and where one does
// that is the tenant's and nobody's, such as his rules; what others wrote
// does not keep him from an answer. Say so before reading.
func (r *Read[R]) AboutAll(ctx context.Context) error {
	if r.Position == 0 {
		return nil
	}
	if err := r.Reader.FoldedAt(ctx, r.Position); err != nil {
		return parked(err, "the event that gave the consistency token waits to be folded; operators see which")
	}
	if err := r.Reader.Folded(ctx, r.Tenant, "", r.Position); err != nil {
		return parked(err, "an event that concerns all customers waits to be folded; operators see which")
	}
	return nil
}

// parked is the one place that says what a dead letter means to a caller.
// Neither the event nor the projection is named: they are the operators'.
func parked(err error, message string, opts ...rpcerr.Option) error {
	if !errors.Is(err, projection.ErrDeadLetter) {
		return rpcerr.FromError(err)
	}
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_DEAD_LETTER, message, append(opts, rpcerr.WithCause(err))...)
}

// Reads begins the reads of one projection. Both fields are required. All
// methods may be called concurrently.
type Reads[R Reader] struct {
	// Waiter waits for the projection.
	Waiter Waiter
	// Current gives a reader of the generation that serves at the moment: the
	// method Reader of a projection.Engine.
	Current func() R
}

// Begin begins a read that contains the write that gave the token, having waited
// for it; at once for an empty one. Say then whom it is about.
func (r *Reads[R]) Begin(ctx context.Context, tenant, consistencyToken string) (Read[R], error) {
	position, err := r.Waiter.Wait(ctx, consistencyToken)
	if err != nil {
		return Read[R]{}, err
	}
	return r.At(tenant, position), nil
}

// BeginAtHead begins a read that contains all that the log has now. Say then
// whom it is about.
func (r *Reads[R]) BeginAtHead(ctx context.Context, tenant string) (Read[R], error) {
	position, err := r.Waiter.WaitHead(ctx)
	if err != nil {
		return Read[R]{}, err
	}
	return r.At(tenant, position), nil
}

// At is a read of what serves now that has to contain everything up to a
// position that the projection was waited for already.
func (r *Reads[R]) At(tenant string, position eventstore.Position) Read[R] {
	return Read[R]{Tenant: tenant, Position: position, Reader: r.Current()}
}
