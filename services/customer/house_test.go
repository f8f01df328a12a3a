package customer_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/parleyhq/parley/pkg/rawproto"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
	"github.com/parleyhq/parley/services/customer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

var (
	secret  = []byte("a secret of the tests, 32 bytes.")
	opening = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
)

// house is a log with the customer service over it on a real connection. What
// it records goes through the identity rules as it does in the recorder.
type house struct {
	t        testing.TB
	log      eventstore.Store
	codec    *event.Codec
	resolver *identity.Resolver
	engine   *customer.Engine
	server   *customer.Server
	stopping chan struct{}
	address  string
	client   customerv1.CustomerServiceClient

	mu     sync.Mutex
	memory *identity.Memory
	graph  *identity.Graph
	number int
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return houseOf(t, customer.Definition())
}

// houseOf is a house with another read model than the usual one.
func houseOf(t testing.TB, model projection.Customers[*customerv1.Customer]) *house {
	t.Helper()
	return houseWith(t, setting{model: model, views: projectiontest.NewViews(t)})
}

// setting is what can be another in a house than it usually is.
type setting struct {
	model    projection.Customers[*customerv1.Customer]
	views    view.Store
	options  projection.Options
	matching customer.Matching
}

func houseWith(t testing.TB, set setting) *house {
	t.Helper()
	h := &house{t: t, codec: event.NewCodec(), stopping: make(chan struct{}), memory: identity.NewMemory()}
	var err error
	h.resolver, err = identity.NewResolver(identity.DefaultRules(), secret)
	require.NoError(t, err)
	h.graph = identity.NewGraph(h.resolver.Rules, h.memory)
	forServer, err := identity.NewResolver(identity.DefaultRules(), secret)
	require.NoError(t, err)
	h.log = projectiontest.NewLog(t)
	h.engine, err = projection.New(t.Context(), set.model, projection.Deps{
		Log: h.log, Codec: h.codec, Views: set.views, Audit: projectiontest.NewAudit(h.log), Options: set.options,
	})
	require.NoError(t, err)
	h.run()
	h.server, err = customer.NewServer(customer.Deps{
		Log: h.log, Engine: h.engine, Resolver: forServer, Stopping: h.stopping, PollInterval: time.Hour, Recorder: h, Matching: set.matching,
	})
	require.NoError(t, err)
	h.serve()
	return h
}

// run runs the engine until the test ends.
func (h *house) run() {
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.engine.Run(ctx) }()
	require.Eventually(h.t, func() bool { return h.engine.Status().State == projection.Live }, patience, time.Millisecond)
	h.t.Cleanup(func() {
		stop()
		require.NoError(h.t, <-ran)
		require.NoError(h.t, h.engine.Close())
	})
}

// serve takes the tenant from the call's metadata, as the real server does
// from its credential.
func (h *house) serve() {
	who := func(ctx context.Context) context.Context {
		if name := metadata.ValueFromIncomingContext(ctx, "tenant"); len(name) > 0 {
			return tenant.NewContext(ctx, tenant.Identity{Tenant: name[0], Scopes: tenant.All})
		}
		return ctx
	}
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(rawproto.Codec()),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(who(ctx), req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &inContext{ServerStream: stream, ctx: who(stream.Context())})
		}))
	h.server.Register(s)
	h.address = listen(h.t, s)
	h.client = customerv1.NewCustomerServiceClient(dial(h.t, h.address))
}

func listen(t testing.TB, s *grpc.Server) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-done)
	})
	return listener.Addr().String()
}

func dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

type inContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *inContext) Context() context.Context { return s.ctx }

// call is a context for a call by the tenant.
func (h *house) call(name string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "tenant", name)
}

// said is what a source says.
type said struct {
	tenant    string // defaults to acme
	channel   string // defaults to web
	direction eventv1.Direction
	// at is seconds after opening; when overrides it.
	at       int
	when     time.Time
	sequence uint64
	ids      []string // kind, value, kind, value, …
	// assurance of all of them.
	assurance eventv1.IdentifierAssurance
	payload   *eventv1.Payload
}

func (h *house) event(s said) *eventv1.Event {
	if s.tenant == "" {
		s.tenant = "acme"
	}
	if s.channel == "" {
		s.channel = "web"
	}
	if s.direction == eventv1.Direction_DIRECTION_UNSPECIFIED {
		s.direction = eventv1.Direction_DIRECTION_INBOUND
	}
	if s.payload == nil {
		s.payload = page("/")
	}
	h.number++
	ev := &eventv1.Event{
		Id: event.DeterministicID(s.tenant, "test", strconv.Itoa(h.number)).String(), Tenant: s.tenant, Source: "web/dev",
		SourceId: strconv.Itoa(h.number), SourceSequence: s.sequence, Channel: s.channel, Direction: s.direction,
		Conversation: "c1", Payload: s.payload,
	}
	event.Stamp(ev)
	if s.when.IsZero() {
		s.when = opening.Add(time.Duration(s.at) * time.Second)
	}
	event.SetOccurred(ev, s.when, opening.Add(time.Hour), false)
	for i := 0; i+1 < len(s.ids); i += 2 {
		ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{Kind: s.ids[i], Value: s.ids[i+1], Assurance: s.assurance})
	}
	return ev
}

// record records what was said, with the decisions that it causes before it, and
// answers with a consistency token.
func (h *house) record(s said) string {
	h.t.Helper()
	_, tok := h.recordEvent(s)
	return tok
}

func (h *house) recordEvent(s said) (*eventv1.Event, string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	ctx := context.Background()
	ev := h.event(s)
	require.Empty(h.t, h.resolver.Stamp(ev))
	head, err := h.log.Head(ctx)
	require.NoError(h.t, err)
	cause := uuid.MustParse(ev.GetId())
	decisions, err := h.graph.Decide(ev, uint64(head)+1, func(purpose string) string { return event.DerivedID(cause, purpose).String() })
	require.NoError(h.t, err)
	require.NoError(h.t, h.graph.Flush(h.memory))
	h.appendDecisions(ev, decisions)
	position := h.append(event.InteractionStream(ev.GetTenant(), ev.GetChannel(), ev.GetConversation()), ev)
	return ev, h.token(position)
}

// token is the consistency token of a position.
func (h *house) token(position eventstore.Position) string {
	return token.NewConsistency(h.log.LogID(), position).String()
}

func (h *house) appendDecisions(cause *eventv1.Event, decisions []identity.Decision) (last eventstore.Position) {
	h.t.Helper()
	for _, d := range decisions {
		decided := &eventv1.Event{
			Id: d.ID, Tenant: cause.GetTenant(), Source: "parley/recorder", Channel: "identity", ProfileId: d.ProfileID,
			OccurredTime: cause.GetOccurredTime(), ReceivedTime: cause.GetReceivedTime(), TimeQuality: cause.GetTimeQuality(),
			CausationId: cause.GetId(), Identifiers: d.Identifiers, Payload: d.Payload, Actor: cause.GetActor(),
		}
		last = h.append(event.IdentityStream(cause.GetTenant()), decided)
	}
	return last
}

// PublishAndWait carries commands out as the recorder does.
func (h *house) PublishAndWait(ctx context.Context, tenantName, _ string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	cmd := batch.GetCommand()
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
	case *interactionv1.IdentityCommand_KeepApart_:
		out, err = h.graph.KeepApart(c, k.KeepApart.GetCustomerId(), k.KeepApart.GetOtherCustomerId())
	case *interactionv1.IdentityCommand_ChangeRules:
		out, err = h.graph.ChangeRules(c, k.ChangeRules.GetRules(), nil, nil)
	}
	result := &interactionv1.IdentityResult{CustomerId: out.Customer, OtherCustomerId: out.Other, EventId: out.EventID}
	if no, ok := errors.AsType[*identity.RefusedError](err); ok {
		result.Reason = no.Reason
		result.Refusal = map[identity.Refusal]interactionv1.IdentityRefusal{
			identity.RefusedUnknown:        interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER,
			identity.RefusedSame:           interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER,
			identity.RefusedNotAProfile:    interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOT_A_PROFILE,
			identity.RefusedNothingToSplit: interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOTHING_TO_SPLIT,
			identity.RefusedTooLarge:       interactionv1.IdentityRefusal_IDENTITY_REFUSAL_TOO_LARGE,
		}[no.Refusal]
	} else if err != nil {
		return nil, err
	}
	require.NoError(h.t, h.graph.Flush(h.memory))
	last := h.appendDecisions(cause, out.Decisions)
	return &interactionv1.IngressReply{LogId: h.log.LogID().String(), Position: uint64(last), Command: result}, nil
}

// split takes profiles out of a customer, as an operator does.
func (h *house) split(customerID, newCustomerID string) string {
	h.t.Helper()
	ev := &eventv1.Event{
		Id: uuid.NewString(), Tenant: "acme", Source: "parley/ops", Channel: "identity", ProfileId: newCustomerID,
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
			CustomerId: customerID, NewCustomerId: newCustomerID, MovedProfileIds: []string{newCustomerID},
		}}},
	}
	event.SetOccurred(ev, opening, opening, false)
	return token.NewConsistency(h.log.LogID(), h.append(event.IdentityStream("acme"), ev)).String()
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

func (h *house) profile(kind, value string) string {
	h.t.Helper()
	found, err := h.resolver.Lookup("acme", kind, value)
	require.NoError(h.t, err)
	return found.ProfileID
}

// get is the customer who has the identifier, as of the token.
func (h *house) get(kind, value, tok string) *customerv1.Customer {
	h.t.Helper()
	answer, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{
		CustomerId: h.profile(kind, value), ConsistencyToken: tok,
	})
	require.NoError(h.t, err)
	return answer.GetCustomer()
}

func page(path string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: path}}}
}

func traits(namesAndValues ...string) *eventv1.Payload {
	p := &eventv1.TraitsUpdated{Provenance: eventv1.TraitProvenance_TRAIT_PROVENANCE_STATED}
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		p.Traits = append(p.Traits, &eventv1.Trait{Name: namesAndValues[i], ValueJson: namesAndValues[i+1]})
	}
	return &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: p}}
}

func order(id string, total *typev1.Money) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{OrderId: id, Total: total}}}
}

func refund(id string, amount *typev1.Money) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_OrderRefunded{OrderRefunded: &eventv1.OrderRefunded{OrderId: id, Amount: amount}}}
}

func eur(units int64, cents int32) *typev1.Money {
	return &typev1.Money{CurrencyCode: "EUR", Units: units, Nanos: cents * 10_000_000}
}

func summaries(list []*customerv1.InteractionSummary) []string {
	lines := make([]string, len(list))
	for i, s := range list {
		lines[i] = fmt.Sprintf("%s %s", s.GetTime().AsTime().Format("15:04:05"), s.GetSummary())
	}
	return lines
}
