package customer

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rawproto"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// Server is the CustomerService over the projection's documents. Make it with
// NewServer. Its methods may be called in process too; over gRPC, documents go
// out as they are stored, so the gRPC server needs rawproto's codec.
type Server struct {
	customerv1.UnimplementedCustomerServiceServer

	deps  Deps
	reads consistency.Reads[*Reader]
	desc  grpc.ServiceDesc

	rulesMu sync.Mutex
	rulesOf map[string]string // by tenant, the event that brought the resolver's rules
}

// Engine is the engine of this projection.
type Engine = projection.Engine[*customerv1.Customer]

// Reader is the engine's reader.
type Reader = projection.Reader[*customerv1.Customer]

// Deps are what the server stands on. It closes none of them.
type Deps struct {
	// Log that consistency tokens are of.
	Log consistency.Log
	// Origins knows the logs that Log was copied from: tokens of those are as
	// good. Nil where there are none.
	Origins token.Origins
	// Engine that folds Definition.
	Engine *Engine
	// Resolver has the secret and the common rules that the recorder has. It is the
	// server's own: tenants' rules come to it with the read model.
	Resolver *identity.Resolver
	// Recorder carries out what people decide about who is who. Nil: such calls
	// are refused.
	Recorder Recorder
	// Matching suggests who may be the same person. Nil: such calls are refused.
	Matching Matching
	// NewID gives the ids of commands without one of the caller's. Defaults to
	// uuid.NewV7.
	NewID func() (uuid.UUID, error)
	// Now defaults to time.Now.
	Now func() time.Time
	// Stopping is closed when the server begins to stop: watches end then. Nil
	// for never.
	Stopping <-chan struct{}
	// PollInterval is how often a watch looks without having been woken.
	// Defaults to 10 seconds.
	PollInterval time.Duration
}

const defaultPoll = 10 * time.Second

// NewServer checks the dependencies.
func NewServer(deps Deps) (*Server, error) {
	if deps.Log == nil || deps.Engine == nil || deps.Resolver == nil {
		return nil, errors.New("customer server: Log, Engine and Resolver are required")
	}
	if deps.NewID == nil {
		deps.NewID = uuid.NewV7
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.PollInterval <= 0 {
		deps.PollInterval = defaultPoll
	}
	desc, err := describe()
	if err != nil {
		return nil, fmt.Errorf("customer server: %w", err)
	}
	return &Server{
		deps: deps, desc: desc, rulesOf: map[string]string{},
		reads: consistency.Reads[*Reader]{
			Waiter: consistency.Waiter{Log: deps.Log, Origins: deps.Origins, Model: deps.Engine}, Current: deps.Engine.Reader,
		},
	}, nil
}

// Register adds the service to a gRPC server that has rawproto.Codec.
func (s *Server) Register(r grpc.ServiceRegistrar) { r.RegisterService(&s.desc, s) }

// describe is the service with the methods that answer with stored bytes.
func describe() (grpc.ServiceDesc, error) {
	desc := customerv1.CustomerService_ServiceDesc
	var err error
	if desc, err = rawproto.Describe(desc, "GetCustomer", newMessage[customerv1.GetCustomerRequest], (*Server).getCustomer); err != nil {
		return desc, err
	}
	if desc, err = rawproto.Describe(desc, "BatchGetCustomers", newMessage[customerv1.BatchGetCustomersRequest], (*Server).batchGetCustomers); err != nil {
		return desc, err
	}
	return rawproto.Describe(desc, "SearchCustomers", newMessage[customerv1.SearchCustomersRequest], (*Server).searchCustomers)
}

func newMessage[M any]() *M { return new(M) }

// failed is the error as it may leave the server.
func failed(err error) error {
	switch {
	case errors.Is(err, view.ErrNotFound):
		return rpcerr.New(codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, "no customer has this id", rpcerr.WithCause(err))
	case errors.Is(err, view.ErrInvalidCursor) && (errors.Is(err, view.ErrClosed) || errors.Is(err, view.ErrDropped)):
		return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE,
			"the generation of the read model that the call began with was dropped meanwhile: ask again", rpcerr.WithCause(err), rpcerr.WithRetryAfter(time.Second))
	case errors.Is(err, view.ErrInvalidCursor):
		return rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
			"page_token is of a generation of the read model that is no longer there: begin with the first page", rpcerr.WithCause(err))
	case errors.Is(err, view.ErrClosed):
		return errStopping()
	case errors.Is(err, errSpoiled), errors.Is(err, errNotOurs), errors.Is(err, view.ErrCorrupt):
		return rpcerr.New(codes.DataLoss, errorv1.Reason_REASON_INTERNAL, "stored data is corrupt; the server's log has the rest", rpcerr.WithCause(err))
	default:
		return rpcerr.FromError(err)
	}
}

func errStopping() error {
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_STOPPING, "the server is stopping", rpcerr.WithRetryAfter(time.Second))
}

func invalidPageToken(cause error) error {
	return rpcerr.New(codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
		"page_token was not given out for this request", rpcerr.WithCause(cause))
}

// checkID keeps from the store what no id can be.
func checkID(field, id string) error {
	if err := (view.Key{ID: id}).Validate(); err != nil {
		return rpcerr.InvalidField(field, "is no id")
	}
	return nil
}
