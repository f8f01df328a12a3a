package ops_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/view"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

var (
	logID     = uuid.MustParse("0190b3a0-7c3e-7000-8000-00000000000a")
	validator = sync.OnceValues(func() (*event.Validator, error) { return event.NewValidator() })
)

// house is the service on a real server and connection, over projections whose
// answers the test chooses.
type house struct {
	t              *testing.T
	customer, feed *fake
	stopping       chan struct{}
	server         *server.GRPC
	conn           *grpc.ClientConn
	client         opsv1.ProjectionServiceClient
	log            *lines
	numberOfScans  int
	scope          tenant.Scopes // that the service is registered with
	withoutKeys    bool
	messages       map[string]proto.Message
	progress       time.Duration
}

func newHouse(t *testing.T, change ...func(*house)) *house {
	t.Helper()
	h := &house{
		t: t, stopping: make(chan struct{}), log: &lines{}, scope: tenant.Ops, progress: time.Millisecond,
		customer: newFake("customer", serving(2, 1)), feed: newFake("feed", serving(1, 1)),
	}
	for _, c := range change {
		c(h)
	}
	logger := slog.New(slog.NewTextHandler(h.log, nil))
	service, err := ops.NewServer(ops.Deps{
		// Not in the order in which they are listed.
		Projections: []ops.Projection{{Operations: h.feed}, {Operations: h.customer, Messages: h.messages}},
		LogID:       logID, Stopping: h.stopping, Logger: logger, ProgressInterval: h.progress,
		NewID: func() (uuid.UUID, error) {
			h.numberOfScans++
			return uuid.UUID{15: byte(h.numberOfScans)}, nil
		},
	})
	require.NoError(t, err)
	h.serve(service, logger)
	return h
}

// serve serves as the binary does: credentials, scopes, bounds and errors are
// the real ones.
func (h *house) serve(service *ops.Server, logger *slog.Logger) {
	h.t.Helper()
	check, err := validator()
	require.NoError(h.t, err)
	keys := &credential.Keys{}
	if !h.withoutKeys {
		keys, err = credential.NewKeys([]credential.Key{
			{Name: "ada-laptop", Hash: credential.Hash("ops"), Tenant: "acme", Scopes: []string{"ops"}},
			{Name: "reader", Hash: credential.Hash("read"), Tenant: "acme", Scopes: []string{"read"}},
			{Name: "writer", Hash: credential.Hash("record"), Tenant: "acme", Scopes: []string{"record"}},
			{Name: "both", Hash: credential.Hash("read,record"), Tenant: "acme", Scopes: []string{"read", "record"}},
		})
		require.NoError(h.t, err)
	}
	h.server, err = server.NewGRPC(server.GRPCConfig{
		Logger: logger, Registry: prometheus.NewRegistry(), Keys: keys,
		Anonymous: tenant.Identity{Tenant: "default", Source: "grpc", Scopes: tenant.All},
		Check: func(m proto.Message) []rpcerr.Violation {
			var out []rpcerr.Violation
			for _, v := range check.Check(m) {
				out = append(out, rpcerr.Violation(v))
			}
			return out
		},
	})
	require.NoError(h.t, err)
	service.Register(h.server.Registrar(h.scope))
	listener, err := (&net.ListenConfig{}).Listen(h.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(h.t, err)
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(listener) }()
	h.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(h.t, err)
	h.client = opsv1.NewProjectionServiceClient(h.conn)
	h.t.Cleanup(func() {
		require.NoError(h.t, h.conn.Close())
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		h.server.Stop(ctx)
		require.NoError(h.t, ctx.Err(), "a call did not end")
		require.NoError(h.t, <-done)
	})
}

// call is a context for a call with an API key; empty for none.
func (h *house) call(key string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	if key == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func (h *house) ops() context.Context { return h.call("ops") }

// methods are all of the service, as the contract has them.
func methods() map[string]protoreflect.MethodDescriptor {
	list := opsv1.File_parley_ops_v1_projection_service_proto.Services().ByName("ProjectionService").Methods()
	all := map[string]protoreflect.MethodDescriptor{}
	for i := range list.Len() {
		all[string(list.Get(i).Name())] = list.Get(i)
	}
	return all
}

// invoke calls a method by its name; of a stream it takes the first answer.
func (h *house) invoke(ctx context.Context, method string, req proto.Message) error {
	h.t.Helper()
	md := methods()[method]
	require.NotNil(h.t, md, method)
	name := "/" + string(md.Parent().FullName()) + "/" + method
	answer, err := protoregistry.GlobalTypes.FindMessageByName(md.Output().FullName())
	require.NoError(h.t, err)
	if !md.IsStreamingServer() {
		return h.conn.Invoke(ctx, name, req, answer.New().Interface())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := h.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name)
	require.NoError(h.t, err)
	require.NoError(h.t, stream.SendMsg(req))
	require.NoError(h.t, stream.CloseSend())
	return stream.RecvMsg(answer.New().Interface())
}

// all receives to the end of a stream.
func all[M any](stream grpc.ServerStreamingClient[M]) (list []*M, err error) {
	for {
		one, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, one)
	}
}

// requests are one for each method, right but for what the test is about; name
// is of the projection.
func requests(name string) map[string]proto.Message {
	g := &opsv1.GenerationName{Projection: name, Version: 2, Generation: 1}
	return map[string]proto.Message{
		"ListProjections":    &opsv1.ListProjectionsRequest{},
		"GetProjection":      &opsv1.GetProjectionRequest{Projection: name},
		"WatchProjections":   &opsv1.WatchProjectionsRequest{Projections: []string{name}},
		"RebuildProjections": &opsv1.RebuildProjectionsRequest{Projections: []string{name}},
		"CompareGenerations": &opsv1.CompareGenerationsRequest{Generation: g},
		"SwitchOver":         &opsv1.SwitchOverRequest{Generation: g},
		"Rollback":           &opsv1.RollbackRequest{Projection: name},
		"DropGeneration":     &opsv1.DropGenerationRequest{Generation: g},
		"PauseProjection":    &opsv1.PauseProjectionRequest{Projection: name},
		"ResumeProjection":   &opsv1.ResumeProjectionRequest{Projection: name},
		"VerifyProjection":   &opsv1.VerifyProjectionRequest{Projection: name},
		"ListDeadLetters":    &opsv1.ListDeadLettersRequest{Generation: g},
		"GetDeadLetter":      &opsv1.GetDeadLetterRequest{Generation: g, Position: 7},
		"RetryDeadLetters":   &opsv1.RetryDeadLettersRequest{Generation: g},
		"SkipDeadLetter":     &opsv1.SkipDeadLetterRequest{Generation: g, Position: 7, Reason: "empty body"},
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// fake is a projection that notes what it is asked to do, and does what the
// test says.
type fake struct {
	name string

	mu    sync.Mutex
	calls []string

	// now is what Report says; reportErr instead.
	now       *opsv1.Projection
	reportErr error
	// err fails every operation but Report.
	err error
	// audit is told of a pause, as a projection does.
	audit projection.Auditor
	// compare is Compare and Verify; without it they find no difference.
	compare func(ctx context.Context, opts projection.CompareOptions) (*opsv1.Difference, error)
	// wait is what an operation waits for before it ends.
	wait    <-chan struct{}
	letters func(ns view.Namespace, q projection.DeadLetterQuery) (projection.DeadLetterPage, error)
	detail  projection.DeadLetterDetail
	retried projection.RetryResult
	skipped projection.Skipped
}

func newFake(name string, generations ...*opsv1.Generation) *fake {
	return &fake{name: name, now: &opsv1.Projection{Name: name, Version: 2, Head: 100, Generations: generations}}
}

func generation(version, number uint32, role opsv1.GenerationRole, state opsv1.GenerationState) *opsv1.Generation {
	return &opsv1.Generation{Version: version, Generation: number, Role: role, State: state, Position: 100}
}

func serving(version, number uint32) *opsv1.Generation {
	return generation(version, number, opsv1.GenerationRole_GENERATION_ROLE_SERVING, opsv1.GenerationState_GENERATION_STATE_LIVE)
}

func candidate(version, number uint32, state opsv1.GenerationState) *opsv1.Generation {
	return generation(version, number, opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE, state)
}

// asked is what the fake was asked to do so far.
func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fake) note(ctx context.Context, format string, args ...any) error {
	f.mu.Lock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	wait, err := f.wait, f.err
	f.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("wait until it is done: %w", ctx.Err())
		}
	}
	return err
}

// who is a By in words.
func who(by projection.By) string {
	kind := strings.ToLower(strings.TrimPrefix(by.Actor.GetKind().String(), "ACTOR_KIND_"))
	return fmt.Sprintf("%s %s %q", kind, by.Actor.GetId(), by.Reason)
}

func (f *fake) Name() string { return f.name }

func (f *fake) Report(context.Context) (*opsv1.Projection, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reportErr != nil {
		return nil, f.reportErr
	}
	return proto.CloneOf(f.now), nil
}

func (f *fake) Rebuild(ctx context.Context, by projection.By, opts projection.RebuildOptions) (view.Namespace, error) {
	err := f.note(ctx, "rebuild by %s %+v", who(by), opts)
	return view.Namespace{Projection: f.name, Version: 2, Generation: 5}, err
}

func (f *fake) SwitchOver(ctx context.Context, by projection.By, ns view.Namespace) error {
	return f.note(ctx, "switch to %s by %s", ns, who(by))
}

func (f *fake) Rollback(ctx context.Context, by projection.By) error {
	return f.note(ctx, "rollback by %s", who(by))
}

func (f *fake) Drop(ctx context.Context, by projection.By, ns view.Namespace) error {
	return f.note(ctx, "drop %s by %s", ns, who(by))
}

func (f *fake) Pause(ctx context.Context, by projection.By) error {
	if f.audit != nil {
		payload := &eventv1.Payload{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
			Projection: f.name, Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_PAUSE, Reason: by.Reason,
		}}}
		if _, _, err := f.audit.Audit(ctx, by.Actor, payload); err != nil {
			return err
		}
	}
	return f.note(ctx, "pause by %s", who(by))
}

func (f *fake) Resume(ctx context.Context, by projection.By) error {
	return f.note(ctx, "resume by %s", who(by))
}

func (f *fake) DeadLetters(ctx context.Context, ns view.Namespace, q projection.DeadLetterQuery) (projection.DeadLetterPage, error) {
	if err := f.note(ctx, "list %s %q %q %v %d %q", ns, q.Tenant, q.CustomerID, q.States, q.Limit, q.Cursor); err != nil || f.letters == nil {
		return projection.DeadLetterPage{}, err
	}
	return f.letters(ns, q)
}

func (f *fake) DeadLetter(ctx context.Context, ns view.Namespace, position eventstore.Position) (projection.DeadLetterDetail, error) {
	return f.detail, f.note(ctx, "show %s %d", ns, position)
}

func (f *fake) Retry(ctx context.Context, by projection.By, ns view.Namespace, positions ...eventstore.Position) (projection.RetryResult, error) {
	return f.retried, f.note(ctx, "retry %s %v by %s", ns, positions, who(by))
}

func (f *fake) Skip(ctx context.Context, by projection.By, ns view.Namespace, position eventstore.Position) (projection.Skipped, error) {
	return f.skipped, f.note(ctx, "skip %s %d by %s", ns, position, who(by))
}

func (f *fake) Compare(ctx context.Context, one, other view.Namespace, opts projection.CompareOptions) (*opsv1.Difference, error) {
	if err := f.note(ctx, "compare %s with %s, %d documents", one, other, opts.MaxDocuments); err != nil {
		return nil, err
	}
	return f.compared(ctx, opts)
}

func (f *fake) Verify(ctx context.Context, by projection.By, opts projection.VerifyOptions) (*opsv1.Difference, error) {
	if err := f.note(ctx, "verify %g, %d documents, %d a second, by %s", opts.Sample, opts.MaxDocuments, opts.MaxEventsPerSecond, who(by)); err != nil {
		return nil, err
	}
	return f.compared(ctx, opts.CompareOptions)
}

func (f *fake) compared(ctx context.Context, opts projection.CompareOptions) (*opsv1.Difference, error) {
	if f.compare == nil {
		return &opsv1.Difference{Equal: true, Position: 100}, nil
	}
	return f.compare(ctx, opts)
}
