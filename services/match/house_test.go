package match_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/match"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

var (
	secret  = []byte("a secret of the tests, 32 bytes.")
	opening = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
)

// house is a log with the matching over it on a real connection. What it
// records goes through the identity rules as it does in the recorder.
type house struct {
	t        testing.TB
	log      eventstore.Store
	codec    *event.Codec
	resolver *identity.Resolver
	engine   *match.Engine
	server   *match.Server
	stopping chan struct{}
	client   customerv1.CustomerServiceClient

	mu       sync.Mutex
	memory   *identity.Memory
	graph    *identity.Graph
	number   int
	commands map[string]*interactionv1.IngressReply // carried out, by id
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return houseOf(t, match.Definition(), projectiontest.NewViews(t))
}

// houseOf is a house with another read model than the usual one.
func houseOf(t testing.TB, model projection.Customers[*customerv1.MatchRecord], views view.Store) *house {
	t.Helper()
	h := &house{
		t: t, codec: event.NewCodec(), memory: identity.NewMemory(), log: projectiontest.NewLog(t), commands: map[string]*interactionv1.IngressReply{},
	}
	var err error
	h.resolver, err = identity.NewResolver(identity.DefaultRules(), secret)
	require.NoError(t, err)
	h.graph = identity.NewGraph(h.resolver.Rules, h.memory)
	h.engine, _ = projectiontest.Start(t, model, h.log, views, projection.Options{RetryDelay: time.Millisecond})
	h.start(match.Deps{})
	return h
}

// project runs the projection over the log anew until the test ends.
func (h *house) project() *match.Engine {
	h.t.Helper()
	e, _ := projectiontest.Start(h.t, match.Definition(), h.log, projectiontest.NewViews(h.t), projection.Options{})
	return e
}

// start makes a server of its own, as a process does that starts again, and
// serves it. What deps leave out is the house's.
func (h *house) start(deps match.Deps) {
	h.t.Helper()
	if h.server != nil {
		h.server.Close()
	}
	h.stopping = make(chan struct{})
	if deps.Log == nil {
		deps.Log = h.log
	}
	if deps.Recorder == nil {
		deps.Recorder = h
	}
	deps.Codec, deps.Engine, deps.Stopping, deps.ProgressInterval = h.codec, h.engine, h.stopping, time.Millisecond
	s, err := match.NewServer(deps)
	require.NoError(h.t, err)
	h.server = s
	h.t.Cleanup(s.Close)
	h.client = customerv1.NewCustomerServiceClient(h.serve(s))
}

// service is the CustomerService as far as it is about matching.
type service struct {
	customerv1.UnimplementedCustomerServiceServer
	*match.Server
}

func (s service) ListMergeCandidates(ctx context.Context, req *customerv1.ListMergeCandidatesRequest) (*customerv1.ListMergeCandidatesResponse, error) {
	return s.Server.ListMergeCandidates(ctx, req)
}

func (s service) FitMatchModel(req *customerv1.FitMatchModelRequest, stream grpc.ServerStreamingServer[customerv1.FitMatchModelResponse]) error {
	return s.Server.FitMatchModel(req, stream)
}

// serve takes the tenant and the scopes from the call's metadata, as the real
// server does from its credential.
func (h *house) serve(s *match.Server) *grpc.ClientConn {
	h.t.Helper()
	who := func(ctx context.Context) context.Context {
		name := metadata.ValueFromIncomingContext(ctx, "tenant")
		if len(name) == 0 {
			return ctx
		}
		scopes := tenant.All
		if given := metadata.ValueFromIncomingContext(ctx, "scopes"); len(given) > 0 {
			scopes, _ = tenant.ParseScopes(given)
		}
		return tenant.NewContext(ctx, tenant.Identity{Tenant: name[0], Source: "console", Scopes: scopes})
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(who(ctx), req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &inContext{ServerStream: stream, ctx: who(stream.Context())})
		}))
	customerv1.RegisterCustomerServiceServer(server, service{Server: s})
	listener, err := (&net.ListenConfig{}).Listen(h.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(h.t, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(h.t, err)
	h.t.Cleanup(func() {
		require.NoError(h.t, conn.Close())
		server.Stop()
		require.NoError(h.t, <-done)
	})
	return conn
}

type inContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *inContext) Context() context.Context { return s.ctx }

// call is a context for a call by the tenant.
func (h *house) call(name string, scopes ...string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	pairs := []string{"tenant", name}
	for _, s := range scopes {
		pairs = append(pairs, "scopes", s)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

func withTenant(ctx context.Context, name string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "tenant", name)
}

// identify records traits of somebody with these identifiers (kind, value, …)
// and answers with a consistency token.
func (h *house) identify(ids []string, traits map[string]any) string {
	h.t.Helper()
	p := &eventv1.TraitsUpdated{}
	for name, value := range traits {
		encoded, err := json.Marshal(value)
		require.NoError(h.t, err)
		p.Traits = append(p.Traits, &eventv1.Trait{Name: name, ValueJson: string(encoded)})
	}
	return h.record(ids, &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: p}})
}

func (h *house) record(ids []string, payload *eventv1.Payload) string {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number++
	ev := &eventv1.Event{
		Id: event.DeterministicID("acme", "test", strconv.Itoa(h.number)).String(), Tenant: "acme", Source: "web/dev", Channel: "web",
		Direction: eventv1.Direction_DIRECTION_INBOUND, Conversation: "c1", Payload: payload,
	}
	event.Stamp(ev)
	event.SetOccurred(ev, opening.Add(time.Duration(h.number)*time.Second), opening.Add(24*time.Hour), false)
	for i := 0; i+1 < len(ids); i += 2 {
		ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{Kind: ids[i], Value: ids[i+1]})
	}
	h.resolver.Stamp(ev)
	head, err := h.log.Head(context.Background())
	require.NoError(h.t, err)
	cause := uuid.MustParse(ev.GetId())
	decisions, err := h.graph.Decide(ev, uint64(head)+1, func(purpose string) string { return event.DerivedID(cause, purpose).String() })
	require.NoError(h.t, err)
	require.NoError(h.t, h.graph.Flush(h.memory))
	h.appendDecisions(ev, decisions)
	position := h.append(event.InteractionStream("acme", ev.GetChannel(), ev.GetConversation()), ev)
	return token.NewConsistency(h.log.LogID(), position).String()
}

func (h *house) appendDecisions(cause *eventv1.Event, decisions []identity.Decision) (last eventstore.Position) {
	h.t.Helper()
	for _, d := range decisions {
		last = h.append(event.IdentityStream(cause.GetTenant()), &eventv1.Event{
			Id: d.ID, Tenant: cause.GetTenant(), Source: "recorder", Channel: "identity", ProfileId: d.ProfileID,
			OccurredTime: cause.GetOccurredTime(), ReceivedTime: cause.GetReceivedTime(), TimeQuality: cause.GetTimeQuality(),
			CausationId: cause.GetId(), Identifiers: d.Identifiers, Payload: d.Payload, Actor: cause.GetActor(),
		})
	}
	return last
}

func (h *house) append(stream string, ev *eventv1.Event) eventstore.Position {
	h.t.Helper()
	event.Stamp(ev)
	record, err := h.codec.Encode(ev)
	require.NoError(h.t, err)
	at, err := h.log.Append(context.Background(), stream, eventstore.Any, record)
	require.NoError(h.t, err)
	return at.Position
}

// PublishAndWait carries commands out as the recorder does.
func (h *house) PublishAndWait(ctx context.Context, tenantName, _ string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	cmd := batch.GetCommand()
	if done := h.commands[cmd.GetId()]; done != nil {
		return done, nil
	}
	head, err := h.log.Head(ctx)
	if err != nil {
		return nil, err
	}
	id := uuid.MustParse(cmd.GetId())
	cause := &eventv1.Event{
		Id: cmd.GetId(), Tenant: tenantName, OccurredTime: cmd.GetTime(), ReceivedTime: cmd.GetTime(),
		TimeQuality: eventv1.TimeQuality_TIME_QUALITY_AS_SAID, Actor: cmd.GetActor(),
	}
	c := identity.Command{
		Tenant: tenantName, At: cause, Reason: cmd.GetReason(), Position: uint64(head) + 1,
		Derive: func(purpose string) string { return event.DerivedID(id, purpose).String() },
	}
	var out identity.Outcome
	switch k := cmd.GetKind().(type) {
	case *interactionv1.IdentityCommand_Merge:
		out, err = h.graph.Merge(c, k.Merge.GetCustomerId(), k.Merge.GetOtherCustomerId())
	case *interactionv1.IdentityCommand_Split:
		out, err = h.graph.Split(c, k.Split.GetCustomerId(), k.Split.GetProfileIds())
	case *interactionv1.IdentityCommand_Link:
		out, err = h.graph.Link(c, k.Link.GetProfileId(), k.Link.GetOtherProfileId(), k.Link.GetProbability())
	case *interactionv1.IdentityCommand_KeepApart_:
		out, err = h.graph.KeepApart(c, k.KeepApart.GetCustomerId(), k.KeepApart.GetOtherCustomerId())
	case *interactionv1.IdentityCommand_ChangeRules:
		require.NoError(h.t, h.resolver.SetRules(tenantName, identity.RulesFromProto(k.ChangeRules.GetRules())))
		out, err = h.graph.ChangeRules(c, k.ChangeRules.GetRules(), nil, nil)
	}
	result := &interactionv1.IdentityResult{CustomerId: out.Customer, OtherCustomerId: out.Other, EventId: out.EventID}
	if no, ok := errors.AsType[*identity.RefusedError](err); ok {
		result.Reason = no.Reason
		result.Refusal = map[identity.Refusal]interactionv1.IdentityRefusal{
			identity.RefusedUnknown: interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER,
			identity.RefusedSame:    interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER,
			identity.RefusedByRules: interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES,
		}[no.Refusal]
	} else if err != nil {
		return nil, err
	}
	require.NoError(h.t, h.graph.Flush(h.memory))
	last := h.appendDecisions(cause, out.Decisions)
	reply := &interactionv1.IngressReply{LogId: h.log.LogID().String(), Position: uint64(max(last, head)), Command: result}
	h.commands[cmd.GetId()] = reply
	return reply, nil
}

// command has a person's command carried out and gives what it came to, with a
// token that has it in.
func (h *house) command(cmd *interactionv1.IdentityCommand) (*interactionv1.IdentityResult, string) {
	h.t.Helper()
	cmd.Id = uuid.NewString()
	cmd.Time = ts(opening.Add(48 * time.Hour))
	reply, err := h.PublishAndWait(h.t.Context(), "acme", "identity", &interactionv1.IngressBatch{Command: cmd})
	require.NoError(h.t, err)
	return reply.GetCommand(), token.NewConsistency(h.log.LogID(), eventstore.Position(reply.GetPosition())).String()
}

func (h *house) profile(kind, value string) string {
	h.t.Helper()
	found, err := h.resolver.Lookup("acme", kind, value)
	require.NoError(h.t, err)
	return found.ProfileID
}

// customer is who has the identifier, by the recorder's graph.
func (h *house) customer(kind, value string) string {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	id, err := h.graph.CustomerOf("acme", h.profile(kind, value))
	require.NoError(h.t, err)
	return id
}

// fit has a model fitted and gives what was told of it, the last one at last.
func (h *house) fit(req *customerv1.FitMatchModelRequest) []*customerv1.FitMatchModelResponse {
	h.t.Helper()
	told, err := h.tryFit(h.call("acme"), req)
	require.NoError(h.t, err)
	return told
}

func (h *house) tryFit(ctx context.Context, req *customerv1.FitMatchModelRequest) ([]*customerv1.FitMatchModelResponse, error) {
	stream, err := h.client.FitMatchModel(ctx, req)
	if err != nil {
		return nil, err
	}
	var told []*customerv1.FitMatchModelResponse
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return told, nil
		}
		if err != nil {
			return told, err
		}
		told = append(told, p)
	}
}

// list reads all pages.
func (h *house) list(req *customerv1.ListMergeCandidatesRequest) []*customerv1.MergeCandidate {
	h.t.Helper()
	var all []*customerv1.MergeCandidate
	for {
		answer, err := h.client.ListMergeCandidates(h.call("acme"), req)
		require.NoError(h.t, err)
		all = append(all, answer.GetCandidates()...)
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

// models are those of the tenant's matching stream.
func (h *house) models() []*eventv1.RecordedEvent {
	h.t.Helper()
	var all []*eventv1.RecordedEvent
	for rec, err := range h.log.ReadStream(h.t.Context(), match.Stream("acme"), eventstore.ReadStreamOptions{}) {
		require.NoError(h.t, err)
		ev, err := h.codec.Decode(rec)
		require.NoError(h.t, err)
		all = append(all, ev)
	}
	return all
}
