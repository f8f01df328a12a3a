package takeovertest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/rpc"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// remoteStore is the test's event store as a recorder's process sees it: every
// call goes over the wire, and errors keep their type. What a recorder does
// not ask for is ErrUnsupported.
type remoteStore struct {
	child  string
	client *rpc.Client
	logID  uuid.UUID
	caps   eventstore.Capabilities
}

var _ eventstore.Store = (*remoteStore)(nil)

// dial connects the child's store. Without batches it has the capabilities of
// an EventStoreDB cluster.
func dial(address, child string, batches bool) (*remoteStore, error) {
	client, err := rpc.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("reach the store: %w", err)
	}
	s := &remoteStore{child: child, client: client}
	reply := &Reply{}
	if err := s.call(context.Background(), "Wire.Hello", &Ask{Child: child}, reply); err != nil {
		return nil, err
	}
	s.logID, s.caps = reply.LogID, reply.Capabilities
	if !batches {
		no := eventstore.Capability{Reason: "left out, as at an EventStoreDB"}
		s.caps = eventstore.Capabilities{BatchAppend: no, DensePositions: no}
	}
	return s, nil
}

// Ask is what every call carries; each uses some of it.
type Ask struct {
	Child      string
	Appends    []eventstore.StreamAppend
	ReadAll    eventstore.ReadAllOptions
	Stream     string
	ReadStream eventstore.ReadStreamOptions
	Status     Status
}

// Reply is what every call is answered with.
type Reply struct {
	Fault        *Fault
	LogID        uuid.UUID
	Capabilities eventstore.Capabilities
	Appended     []eventstore.Appended
	Records      []eventstore.Record
	Head         eventstore.Position
	Revision     eventstore.Revision
}

// Status is what a recorder says of itself.
type Status struct {
	Active    bool
	Position  eventstore.Position
	Conflicts int
	Failures  int
}

// Fault is an error of the store.
type Fault struct {
	Text     string
	Kind     int // of kinds; -1 for none of them
	Conflict *eventstore.RevisionConflictError
}

var kinds = []error{
	eventstore.ErrStreamNotFound, eventstore.ErrInvalid, eventstore.ErrTooLarge, eventstore.ErrFull, eventstore.ErrClosed,
	eventstore.ErrUnavailable, eventstore.ErrUnsupported, eventstore.ErrAhead, eventstore.ErrCorrupt, eventstore.ErrInUse,
	eventstore.ErrNewerFormat,
}

func faultOf(err error) *Fault {
	if err == nil {
		return nil
	}
	f := &Fault{Text: err.Error(), Kind: -1}
	for i, kind := range kinds {
		if errors.Is(err, kind) {
			f.Kind = i
		}
	}
	if conflict, ok := errors.AsType[*eventstore.RevisionConflictError](err); ok {
		f.Conflict = conflict
	}
	return f
}

func (f *Fault) err() error {
	switch {
	case f == nil:
		return nil
	case f.Conflict != nil:
		return &remoteError{f.Text, f.Conflict}
	case f.Kind >= 0 && f.Kind < len(kinds):
		return &remoteError{f.Text, kinds[f.Kind]}
	default:
		return &remoteError{f.Text, nil}
	}
}

// remoteError reads as the error did at the store.
type remoteError struct {
	text  string
	cause error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.cause }

// call waits for the answer or for ctx. A connection that broke is a store
// that cannot be reached.
func (s *remoteStore) call(ctx context.Context, method string, ask *Ask, reply *Reply) error {
	ask.Child = s.child
	pending := s.client.Go(method, ask, reply, make(chan *rpc.Call, 1))
	select {
	case <-pending.Done:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
	if pending.Error != nil {
		return fmt.Errorf("%s: %w: %w", method, eventstore.ErrUnavailable, pending.Error)
	}
	return reply.Fault.err()
}

func (s *remoteStore) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	appended, err := s.append(ctx, []eventstore.StreamAppend{{Stream: stream, Expected: expected, Records: records}})
	if err != nil {
		return eventstore.Appended{}, err
	}
	return appended[0], nil
}

func (s *remoteStore) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	if !s.caps.BatchAppend.Supported {
		return nil, fmt.Errorf("append a batch: %w", eventstore.ErrUnsupported)
	}
	return s.append(ctx, appends)
}

func (s *remoteStore) append(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	reply := &Reply{}
	if err := s.call(ctx, "Wire.Append", &Ask{Appends: appends}, reply); err != nil {
		return nil, err
	}
	return reply.Appended, nil
}

func (s *remoteStore) Head(ctx context.Context) (eventstore.Position, error) {
	reply := &Reply{}
	err := s.call(ctx, "Wire.Head", &Ask{}, reply)
	return reply.Head, err
}

func (s *remoteStore) StreamHead(ctx context.Context, stream string) (eventstore.Revision, error) {
	reply := &Reply{}
	err := s.call(ctx, "Wire.StreamHead", &Ask{Stream: stream}, reply)
	return reply.Revision, err
}

// pageRecords go into one answer of a read.
const pageRecords = 500

// ReadAll reads page by page, up to what was the head at the first of them.
func (s *remoteStore) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		var head eventstore.Position
		for left := opts.Limit; ; {
			page := opts
			page.Limit = pageRecords
			if opts.Limit > 0 {
				page.Limit = min(left, pageRecords)
			}
			reply := &Reply{}
			if err := s.call(ctx, "Wire.ReadAll", &Ask{ReadAll: page}, reply); err != nil {
				yield(nil, err)
				return
			}
			if head == 0 {
				head = reply.Head
			}
			for i := range reply.Records {
				rec := &reply.Records[i]
				if rec.Position > head || !yield(rec, nil) {
					return
				}
				opts.From = rec.Position
			}
			left -= len(reply.Records)
			if len(reply.Records) < page.Limit || opts.Limit > 0 && left == 0 {
				return
			}
		}
	}
}

// ReadStream reads at most a page, and says where that would not be all.
func (s *remoteStore) ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		if opts.Limit <= 0 || opts.Limit > pageRecords {
			yield(nil, fmt.Errorf("read more than %d records of a stream over the wire: %w", pageRecords, eventstore.ErrUnsupported))
			return
		}
		reply := &Reply{}
		if err := s.call(ctx, "Wire.ReadStream", &Ask{Stream: stream, ReadStream: opts}, reply); err != nil {
			yield(nil, err)
			return
		}
		for i := range reply.Records {
			if !yield(&reply.Records[i], nil) {
				return
			}
		}
	}
}

func (s *remoteStore) Subscribe(context.Context, eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	return nil, fmt.Errorf("subscribe over the wire: %w", eventstore.ErrUnsupported)
}

func (s *remoteStore) LogID() uuid.UUID { return s.logID }

func (s *remoteStore) Capabilities() eventstore.Capabilities { return s.caps }

func (s *remoteStore) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, rpc.ErrShutdown) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("leave the store: %w", err)
	}
	return nil
}

// report says how the recorder is.
func (s *remoteStore) report(ctx context.Context, status Status) error {
	return s.call(ctx, "Wire.Report", &Ask{Status: status}, &Reply{})
}
