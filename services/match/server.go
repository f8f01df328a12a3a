package match

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Server answers the methods of the CustomerService that are about matching.
// It is no gRPC service of its own: whoever serves the CustomerService hands
// the calls on. Make it with NewServer and Close it before the engine. All
// methods may be called concurrently.
type Server struct {
	deps    Deps
	reads   consistency.Reads[*Reader]
	models  *models
	metrics *metrics
	// slots bounds the jobs that run at once.
	slots chan struct{}

	mu     sync.Mutex
	closed bool
	jobs   map[string]*job      // running or failed unasked, by tenant
	lists  map[string]*pairList // of the last search, by tenant
	wg     sync.WaitGroup
}

// Engine is the engine of this projection.
type Engine = projection.Engine[*customerv1.MatchRecord]

// Reader is the engine's reader.
type Reader = projection.Reader[*customerv1.MatchRecord]

// Deps are what the server stands on. It closes none of them.
type Deps struct {
	// Log that models are appended to, and that consistency tokens are of.
	Log Log
	// Origins knows the logs that Log was copied from: tokens of those are as
	// good. Nil where there are none.
	Origins token.Origins
	// Codec of the log's events.
	Codec Encoder
	// Engine that folds Definition.
	Engine *Engine
	// Recorder carries out commands about who is who. Nil: calls that need it
	// are refused.
	Recorder Recorder
	// NewID gives the ids of models' events and of commands without one of the
	// caller's. Defaults to uuid.NewV7.
	NewID func() (uuid.UUID, error)
	// Now defaults to time.Now.
	Now func() time.Time
	// Stopping is closed when the server begins to stop: jobs and the calls
	// that follow them end then. Nil for never.
	Stopping <-chan struct{}
	// Logger defaults to none.
	Logger *slog.Logger
	// Metrics is where the server registers its own. Defaults to none.
	Metrics prometheus.Registerer
	// Jobs is how many tenants' jobs run at once; others wait. Defaults to 1.
	Jobs int
	// MemoryBytes bounds what a search keeps of the records; where they need
	// more, they are read several times. Defaults to 512 MiB. Fitting takes up
	// to 180 MiB more.
	MemoryBytes int64
	// Workers is how many goroutines a job compares with. Defaults to half of
	// GOMAXPROCS, at least 1: what is asked meanwhile goes on.
	Workers int
	// ProgressInterval is how often a call hears how far its job is. Defaults
	// to half a second.
	ProgressInterval time.Duration
}

// Log is the part of the event store that is needed here.
type Log interface {
	consistency.Log
	Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error)
	StreamHead(ctx context.Context, stream string) (eventstore.Revision, error)
}

// Encoder makes records of events. *event.Codec is one.
type Encoder interface {
	Encode(ev *eventv1.Event) (eventstore.NewRecord, error)
}

// Recorder carries out commands about who is who. *bus.Publisher is one: what
// people and models decide goes to the recorder the way interactions do.
type Recorder interface {
	// PublishAndWait publishes and waits for what became of it.
	PublishAndWait(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error)
}

const (
	defaultProgress = 500 * time.Millisecond
	defaultMemory   = 512 << 20
)

// NewServer checks the dependencies.
func NewServer(deps Deps) (*Server, error) {
	if deps.Log == nil || deps.Codec == nil || deps.Engine == nil {
		return nil, errors.New("match server: Log, Codec and Engine are required")
	}
	if deps.NewID == nil {
		deps.NewID = uuid.NewV7
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Jobs <= 0 {
		deps.Jobs = 1
	}
	if deps.MemoryBytes <= 0 {
		deps.MemoryBytes = defaultMemory
	}
	if deps.Workers <= 0 {
		deps.Workers = defaultWorkers()
	}
	if deps.ProgressInterval <= 0 {
		deps.ProgressInterval = defaultProgress
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, err
	}
	return &Server{
		deps: deps, metrics: m, models: &models{known: map[string]*fitted{}},
		reads: consistency.Reads[*Reader]{
			Waiter: consistency.Waiter{Log: deps.Log, Origins: deps.Origins, Model: deps.Engine}, Current: deps.Engine.Reader,
		},
		slots: make(chan struct{}, deps.Jobs),
		jobs:  map[string]*job{}, lists: map[string]*pairList{},
	}, nil
}

// Close ends all jobs and waits for them. Calls that come later are refused. A
// second call does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for _, j := range s.jobs {
		j.cancel()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// calling is on whose behalf a call is made that needs a scope.
func calling(ctx context.Context, scope tenant.Scopes) (tenant.Identity, error) {
	who, ok := tenant.From(ctx)
	switch {
	case !ok:
		return tenant.Identity{}, rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "the call names no tenant")
	case !who.Scopes.Has(scope):
		return tenant.Identity{}, rpcerr.New(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED,
			"the credential may not do this: it needs the scope "+scope.String())
	}
	return who, nil
}

// failed is the error as it may leave the server.
func failed(err error) error {
	switch {
	case errors.Is(err, view.ErrInvalidCursor):
		// Nobody's page token has a cursor of the read model here.
		return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE,
			"the generation of the read model that the call began with was dropped meanwhile: ask again", rpcerr.WithCause(err), rpcerr.WithRetryAfter(time.Second))
	case errors.Is(err, view.ErrClosed):
		return errStopping()
	default:
		return rpcerr.FromError(err)
	}
}

func errStopping() error {
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_STOPPING, "the server is stopping", rpcerr.WithRetryAfter(time.Second))
}

// errNoModel is for what cannot be done without a model that this version uses.
func errNoModel(f *fitted) error {
	if f == nil {
		return rpcerr.New(codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL, "no model was fitted yet: FitMatchModel does")
	}
	return rpcerr.New(codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL,
		"the model that there is cannot be used by this version: FitMatchModel makes a new one", rpcerr.WithCause(f.why))
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

// usable is the tenant's model, or why there is none.
func (r *read) usable(ctx context.Context) (*fitted, error) {
	f, err := r.model(ctx)
	if err != nil {
		return nil, failed(err)
	}
	if f == nil || f.model == nil {
		return nil, errNoModel(f)
	}
	return f, nil
}
