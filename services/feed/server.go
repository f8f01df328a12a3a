package feed

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
)

// Server is the EventService. Make it with NewServer.
type Server struct {
	feedv1.UnimplementedEventServiceServer

	deps   Deps
	waiter consistency.Waiter
}

// Deps are what the server stands on. It closes none of them.
type Deps struct {
	Log eventstore.Store
	// Origins knows the logs that Log was copied from: resume and consistency
	// tokens of those are as good. Nil where there are none.
	Origins token.Origins
	Codec   Decoder
	// Index finds events by id.
	Index *Index
	// Heartbeat is how long a subscription may be silent. Defaults to 5
	// seconds; at most 10 are promised to subscribers.
	Heartbeat time.Duration
	// Stopping is closed when the server begins to stop: subscriptions end
	// then, telling their subscribers to resume elsewhere. Nil for never.
	Stopping <-chan struct{}
	// Now is the server's clock. Defaults to time.Now.
	Now func() time.Time
}

// Decoder gives back the events that records hold.
type Decoder interface {
	// DecodeInto decodes a record into a message that may have been used before.
	DecodeInto(rec *eventstore.Record, out *eventv1.RecordedEvent) error
}

const (
	defaultHeartbeat = 5 * time.Second
	longestHeartbeat = 10 * time.Second
)

// NewServer checks the dependencies.
func NewServer(deps Deps) (*Server, error) {
	if deps.Log == nil || deps.Codec == nil || deps.Index == nil {
		return nil, errors.New("feed server: Log, Codec and Index are required")
	}
	if deps.Heartbeat > longestHeartbeat {
		return nil, fmt.Errorf("feed server: a heartbeat every %s, subscribers are promised one every %s", deps.Heartbeat, longestHeartbeat)
	}
	if deps.Heartbeat <= 0 {
		deps.Heartbeat = defaultHeartbeat
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Server{deps: deps, waiter: consistency.Waiter{Log: deps.Log, Origins: deps.Origins, Model: deps.Index}}, nil
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { feedv1.RegisterEventServiceServer(r, s) }

// The errors that both calls give.
func errNoTenant() error {
	return rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "the call names no tenant")
}

func errStopping() error {
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_STOPPING,
		"the server is stopping; resume with the last token", rpcerr.WithRetryAfter(resumeAfter))
}

const resumeAfter = time.Second

// streamPrefix is what all streams of a tenant begin with.
func streamPrefix(id tenant.Identity) string { return id.Tenant + "." }
