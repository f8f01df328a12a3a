package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// Server is the ProjectionService. Make it with NewServer. All methods may be
// called concurrently.
type Server struct {
	opsv1.UnimplementedProjectionServiceServer

	deps   Deps
	byName map[string]*operated
}

// Deps are what the server stands on. It closes none of them.
type Deps struct {
	// Projections of this process, in any order; they are listed by name.
	Projections []Projection
	// LogID is that of the log, for consistency tokens.
	LogID uuid.UUID
	// NewID names scans that several rebuilds share. Defaults to uuid.NewV7.
	NewID func() (uuid.UUID, error)
	// Now defaults to time.Now.
	Now func() time.Time
	// Stopping is closed when the server begins to stop: streams end then, and
	// the work that they follow. Nil for never.
	Stopping <-chan struct{}
	// Logger defaults to none.
	Logger *slog.Logger
	// ProgressInterval is how often a call hears how far its work is. Defaults
	// to half a second.
	ProgressInterval time.Duration
}

// Projection is a projection as the server offers it.
type Projection struct {
	projection.Operations
	// Show is a document of it as operators see it: JSON without what is
	// personal. Defaults to Show.
	Show func(document proto.Message) (string, error)
	// Messages are what its collections hold, by their names: any message of the
	// type. By their marks the values in differences are shown or withheld; those of
	// a collection that is missing here are all withheld.
	Messages map[string]proto.Message
}

// operated is a Projection with all defaults.
type operated struct {
	projection.Operations
	show     func(document proto.Message) (string, error)
	messages map[string]proto.Message
}

const defaultProgress = 500 * time.Millisecond

// NewServer checks the dependencies.
func NewServer(deps Deps) (*Server, error) {
	if deps.LogID == uuid.Nil {
		return nil, errors.New("ops server: LogID is required")
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
	if deps.ProgressInterval <= 0 {
		deps.ProgressInterval = defaultProgress
	}
	s := &Server{deps: deps, byName: map[string]*operated{}}
	for _, p := range deps.Projections {
		if p.Operations == nil {
			return nil, errors.New("ops server: a projection without Operations")
		}
		if s.byName[p.Name()] != nil {
			return nil, fmt.Errorf("ops server: two projections are named %s", p.Name())
		}
		o := &operated{Operations: p.Operations, show: p.Show, messages: p.Messages}
		if o.show == nil {
			o.show = Show
		}
		s.byName[p.Name()] = o
	}
	return s, nil
}

// Register adds the service to a gRPC server. Its registrar has to want the
// scope tenant.Ops.
func (s *Server) Register(r grpc.ServiceRegistrar) { opsv1.RegisterProjectionServiceServer(r, s) }

// calling is on whose behalf a call is made. The gRPC server has checked the
// scope already; that a registration with another one would open this service
// to every reader is why it is looked at again.
func calling(ctx context.Context) (tenant.Identity, error) {
	who, ok := tenant.From(ctx)
	switch {
	case !ok:
		return tenant.Identity{}, rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "the call carries no credential")
	case !who.Scopes.Has(tenant.Ops):
		return tenant.Identity{}, rpcerr.New(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED,
			"the credential may not do this: it needs the scope "+tenant.Ops.String())
	}
	return who, nil
}

// begin is what every call about one projection does first that only looks.
func (s *Server) begin(ctx context.Context, name string) (*operated, error) {
	if _, err := calling(ctx); err != nil {
		return nil, err
	}
	return s.projection(name)
}

// projection finds one by its name.
func (s *Server) projection(name string) (*operated, error) {
	if p := s.byName[name]; p != nil {
		return p, nil
	}
	there := "this process has none"
	if len(s.byName) > 0 {
		names := make([]string, 0, len(s.byName))
		for _, p := range s.all() {
			names = append(names, p.Name())
		}
		there = "there are " + strings.Join(names, ", ")
	}
	return nil, rpcerr.New(codes.NotFound, errorv1.Reason_REASON_PROJECTION_NOT_FOUND, fmt.Sprintf("no projection is named %q: %s", name, there))
}

// all are the projections by name.
func (s *Server) all() []*operated {
	all := make([]*operated, 0, len(s.byName))
	for _, p := range s.byName {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *operated) int { return cmp.Compare(a.Name(), b.Name()) })
	return all
}

// reports says how some projections do, in their order.
func reports(ctx context.Context, some []*operated) ([]*opsv1.Projection, error) {
	out := make([]*opsv1.Projection, len(some))
	for i, p := range some {
		var err error
		if out[i], err = report(ctx, p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func report(ctx context.Context, p *operated) (*opsv1.Projection, error) {
	r, err := p.Report(ctx)
	if err != nil {
		return nil, rpcerr.FromError(fmt.Errorf("report of %s: %w", p.Name(), err))
	}
	return r, nil
}

func errStopping() error {
	return rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_STOPPING, "the server is stopping", rpcerr.WithRetryAfter(time.Second))
}
