package customer

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rawproto"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// WatchCustomer sends the customer as he is, then again whenever what the mask
// keeps of him has changed. It follows him through merges and splits: the id
// asked for stays, who it belongs to may change.
func (s *Server) WatchCustomer(req *customerv1.WatchCustomerRequest, stream grpc.ServerStreamingServer[customerv1.WatchCustomerResponse]) error {
	keep, err := parseMask(req.GetReadMask())
	if err != nil {
		return err
	}
	if err := checkID("customer_id", req.GetCustomerId()); err != nil {
		return err
	}
	r, err := s.begin(stream.Context(), req.GetConsistencyToken())
	if err != nil {
		return err
	}
	w := &watching{
		server: s, stream: stream, keep: keep, asked: r.Position,
		key:   view.Key{Tenant: r.Tenant, ID: req.GetCustomerId()},
		watch: s.deps.Engine.Watch(),
	}
	defer w.watch.Close()
	poll := time.NewTicker(s.deps.PollInterval)
	defer poll.Stop()
	for {
		if err := w.send(stream.Context()); err != nil {
			return failed(err)
		}
		select {
		case <-w.watch.C():
		case <-poll.C:
		case <-s.deps.Stopping:
			return errStopping()
		case <-stream.Context().Done():
			return rpcerr.FromError(fmt.Errorf("watch: %w", stream.Context().Err()))
		}
	}
}

// watching is one call.
type watching struct {
	server *Server
	stream grpc.ServerStream
	keep   mask
	// key asked for, and the position up to which everything must be in each
	// of the states.
	key   view.Key
	asked eventstore.Position
	watch *projection.Watch

	// customer is who is being watched.
	customer string
	// last was sent.
	last []byte
	sent bool
}

// send sends the customer's state where it is another than the one before.
func (w *watching) send(ctx context.Context) error {
	position, found, err := w.read(ctx)
	if err != nil {
		return err
	}
	data, err := w.keep.encoded(found.Data)
	if err != nil {
		return err
	}
	if w.sent && bytes.Equal(data, w.last) {
		return nil
	}
	answer := new(rawproto.Message).Nested(customerField, data)
	if err := answer.Append(&customerv1.WatchCustomerResponse{
		ConsistencyToken: token.NewConsistency(w.server.deps.Log.LogID(), position).String(),
	}); err != nil {
		return err
	}
	if err := w.stream.SendMsg(answer); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	w.last, w.sent = data, true
	return nil
}

// read reads who the id belongs to, having watched him before: what changes
// while it is read wakes the watch again. Each state is of the generation that
// serves by then. The position is that from before, taken of the engine: it has
// no generation serve that is behind what it said, so that no state is older
// than the one before.
func (w *watching) read(ctx context.Context) (eventstore.Position, projection.Found, error) {
	for {
		position := w.server.deps.Engine.Position()
		r := w.server.reads.At(w.key.Tenant, w.asked)
		if err := r.About(ctx, w.key.ID); err != nil {
			return 0, projection.Found{}, err
		}
		found, err := r.Reader.Get(ctx, w.key.Tenant, w.key.ID)
		if err != nil || found.CustomerID == w.customer {
			return position, found, err
		}
		w.customer = found.CustomerID
		w.watch.Set(view.Key{Tenant: w.key.Tenant, ID: found.CustomerID}, w.key)
	}
}
