package feed_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
	"github.com/parleyhq/parley/services/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// house is an event store with the feed over it on a real connection.
type house struct {
	t        *testing.T
	log      eventstore.Store
	views    view.Store
	codec    *event.Codec
	index    *feed.Index
	stopping chan struct{}
	client   feedv1.EventServiceClient
	number   atomic.Uint64
	// fenced says that the index is going to lose its place as a writer.
	fenced bool
}

func newHouse(t *testing.T, heartbeat time.Duration) *house {
	t.Helper()
	h := &house{t: t, codec: event.NewCodec(), stopping: make(chan struct{})}
	h.log, h.views = projectiontest.NewLog(t), projectiontest.NewViews(t)
	var err error
	h.index, err = feed.OpenIndex(t.Context(), feed.IndexDeps{Log: h.log, Views: h.views})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.index.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; h.fenced {
			require.ErrorIs(t, err, view.ErrFenced)
		} else {
			require.NoError(t, err)
		}
		require.NoError(t, h.index.Close())
	})
	require.Eventually(t, func() bool { return h.index.Status().State == projection.Live }, patience, time.Millisecond)
	server, err := feed.NewServer(feed.Deps{
		Log: h.log, Codec: h.codec, Index: h.index, Heartbeat: heartbeat, Stopping: h.stopping,
	})
	require.NoError(t, err)
	h.client = serve(t, server)
	return h
}

// serve takes the tenant from the call's metadata, as the real server does
// from its credential.
func serve(t *testing.T, server *feed.Server) feedv1.EventServiceClient {
	t.Helper()
	who := func(ctx context.Context) context.Context {
		if name := metadata.ValueFromIncomingContext(ctx, "tenant"); len(name) > 0 {
			return tenant.NewContext(ctx, tenant.Identity{Tenant: name[0], Scopes: tenant.All})
		}
		return ctx
	}
	s := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(who(ctx), req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return next(srv, &inContext{ServerStream: stream, ctx: who(stream.Context())})
		}))
	server.Register(s)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		s.Stop()
		require.NoError(t, <-done)
	})
	return feedv1.NewEventServiceClient(conn)
}

type inContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *inContext) Context() context.Context { return s.ctx }

func as(ctx context.Context, name string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "tenant", name)
}

// append appends one event and returns it with its position.
func (h *house) append(tenantName, channel, conversation string, payload *eventv1.Payload) (*eventv1.Event, eventstore.Position) {
	n := h.number.Add(1)
	ev := &eventv1.Event{
		Id: event.DeterministicID(tenantName, "test", strconv.FormatUint(n, 10)).String(), Tenant: tenantName, Source: "test",
		SourceId: strconv.FormatUint(n, 10), Channel: channel, Conversation: conversation, Payload: payload,
		Identifiers: []*eventv1.Identifier{{Kind: "email", Value: "ada@example.com"}},
	}
	event.Stamp(ev)
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	event.SetOccurred(ev, now, now, false)
	record, err := h.codec.Encode(ev)
	require.NoError(h.t, err)
	at, err := h.log.Append(context.Background(), event.InteractionStream(tenantName, channel, conversation), eventstore.Any, record)
	require.NoError(h.t, err)
	return ev, at.Position
}

func page(path string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: path, Url: "https://example.com" + path}}}
}

func tracked(name string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_Tracked{Tracked: &eventv1.Tracked{Name: name}}}
}

func fromStart() *feedv1.SubscribeRequest {
	return &feedv1.SubscribeRequest{From: &feedv1.SubscribeRequest_Start{Start: &feedv1.FromStart{}}}
}

func fromNow() *feedv1.SubscribeRequest {
	return &feedv1.SubscribeRequest{From: &feedv1.SubscribeRequest_Now{Now: &feedv1.FromNow{}}}
}

func resume(t string) *feedv1.SubscribeRequest {
	return &feedv1.SubscribeRequest{From: &feedv1.SubscribeRequest_ResumeToken{ResumeToken: t}}
}

// untilCaughtUp reads the events there are.
func (h *house) untilCaughtUp(req *feedv1.SubscribeRequest, tenantName string) []*eventv1.RecordedEvent {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(as(h.t.Context(), tenantName), patience)
	defer cancel()
	stream, err := h.client.Subscribe(ctx, req)
	require.NoError(h.t, err)
	var got []*eventv1.RecordedEvent
	for {
		item, err := stream.Recv()
		require.NoError(h.t, err)
		requireToken(h.t, h.log, item)
		if item.GetHeartbeat().GetCaughtUp() {
			return got
		}
		if ev := item.GetEvent(); ev != nil {
			got = append(got, ev)
		}
	}
}

func requireToken(t *testing.T, log eventstore.Store, item *feedv1.SubscribeResponse) {
	t.Helper()
	parsed, err := token.Parse(token.Resume, item.GetResumeToken())
	require.NoError(t, err)
	require.Equal(t, log.LogID(), parsed.LogID)
	want := item.GetEvent().GetPosition() + item.GetHeartbeat().GetPosition()
	require.Equal(t, want, uint64(parsed.Position))
}

func ids(events []*eventv1.RecordedEvent) []string {
	list := make([]string, len(events))
	for i, ev := range events {
		list[i] = ev.GetEvent().GetId()
	}
	return list
}

func TestSubscribeHandsOutWholeEvents(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	want, position := h.append("acme", "web", "s1", page("/pricing"))
	got := h.untilCaughtUp(fromStart(), "acme")
	require.Len(t, got, 1)
	require.True(t, proto.Equal(want, got[0].GetEvent()), "got %v", got[0])
	require.Equal(t, "acme.web-s1", got[0].GetStream())
	require.Equal(t, uint64(position), got[0].GetPosition())
	require.NotNil(t, got[0].GetRecordedTime())
}

func TestSubscribeFilters(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	view1, _ := h.append("acme", "web", "s1", page("/1"))
	track, _ := h.append("acme", "web", "s2", tracked("Checkout Started"))
	phone, _ := h.append("acme", "phone", "c1", &eventv1.Payload{Kind: &eventv1.Payload_CallRinging{CallRinging: &eventv1.CallRinging{}}})
	ended, _ := h.append("acme", "phone", "c1", &eventv1.Payload{Kind: &eventv1.Payload_CallEnded{CallEnded: &eventv1.CallEnded{}}})
	other, _ := h.append("acme2", "web", "s1", page("/1"))
	for _, tc := range []struct {
		name     string
		tenant   string
		types    []string
		prefixes []string
		want     []*eventv1.Event
	}{
		{name: "everything of the tenant", tenant: "acme", want: []*eventv1.Event{view1, track, phone, ended}},
		{name: "another tenant", tenant: "acme2", want: []*eventv1.Event{other}},
		{name: "nobody's", tenant: "acm"},
		{name: "exact types", tenant: "acme", types: []string{"parley.page.viewed", "parley.call.ended"}, want: []*eventv1.Event{view1, ended}},
		{name: "a pattern", tenant: "acme", types: []string{"parley.call.*"}, want: []*eventv1.Event{phone, ended}},
		{name: "a pattern and a type", tenant: "acme", types: []string{"parley.call.r*", "parley.tracked"}, want: []*eventv1.Event{track, phone}},
		{name: "all types", tenant: "acme", types: []string{"*"}, want: []*eventv1.Event{view1, track, phone, ended}},
		{name: "a prefix", tenant: "acme", prefixes: []string{"web-"}, want: []*eventv1.Event{view1, track}},
		{name: "a stream", tenant: "acme", prefixes: []string{"web-s2", "phone-"}, want: []*eventv1.Event{track, phone, ended}},
		{name: "both", tenant: "acme", types: []string{"parley.*"}, prefixes: []string{"phone-"}, want: []*eventv1.Event{phone, ended}},
		{name: "another tenant's name as a prefix", tenant: "acme", prefixes: []string{"acme2."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			req := fromStart()
			req.Types, req.StreamPrefixes = tc.types, tc.prefixes
			want := []string{}
			for _, ev := range tc.want {
				want = append(want, ev.GetId())
			}
			require.Equal(t, want, ids(h.untilCaughtUp(req, tc.tenant)))
		})
	}
}

func TestSubscribeFromNow(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	h.append("acme", "web", "s1", page("/before"))
	ctx, cancel := context.WithTimeout(as(t.Context(), "acme"), patience)
	defer cancel()
	stream, err := h.client.Subscribe(ctx, fromNow())
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.True(t, first.GetHeartbeat().GetCaughtUp(), "got %v", first)
	after, _ := h.append("acme", "web", "s1", page("/after"))
	second, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, after.GetId(), second.GetEvent().GetEvent().GetId())
}

func TestQuarantineIsNeverHandedOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	_, err := h.log.Append(t.Context(), event.QuarantineStream("acme"), eventstore.NoStream, eventstore.NewRecord{
		ID: uuid.New(), Type: event.TypeQuarantine, ContentType: eventstore.ContentProtobuf, Data: []byte("raw"),
	})
	require.NoError(t, err)
	want, _ := h.append("acme", "web", "s1", page("/"))
	require.Equal(t, []string{want.GetId()}, ids(h.untilCaughtUp(fromStart(), "acme")))
	req := fromStart()
	req.Types, req.StreamPrefixes = []string{event.TypeQuarantine}, []string{"quarantine"}
	require.Empty(t, h.untilCaughtUp(req, "acme"))
}

func TestHeartbeatsWhileOthersAreBusy(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 20*time.Millisecond)
	ctx, cancel := context.WithTimeout(as(t.Context(), "acme"), patience)
	defer cancel()
	stream, err := h.client.Subscribe(ctx, fromStart())
	require.NoError(t, err)
	var head eventstore.Position
	for range 5 {
		_, head = h.append("other", "web", "s1", page("/"))
	}
	var last *feedv1.SubscribeResponse
	for last.GetHeartbeat().GetPosition() < uint64(head) {
		last, err = stream.Recv()
		require.NoError(t, err)
		require.NotNil(t, last.GetHeartbeat(), "got %v", last)
		require.NotNil(t, last.GetHeartbeat().GetTime())
	}
	// The heartbeat's token resumes behind what was looked at.
	want, _ := h.append("acme", "web", "s1", page("/"))
	require.Equal(t, []string{want.GetId()}, ids(h.untilCaughtUp(resume(last.GetResumeToken()), "acme")))
}

func TestSubscribeRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	h.append("acme", "web", "s1", page("/"))
	stars := fromStart()
	stars.Types = []string{"parley.*", "par*ley.*"}
	for _, tc := range []struct {
		name   string
		req    *feedv1.SubscribeRequest
		tenant string
		code   codes.Code
		reason errorv1.Reason
	}{
		{"no beginning", &feedv1.SubscribeRequest{}, "acme", codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD},
		{"a star within", stars, "acme", codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD},
		{"garbage", resume("garbage"), "acme", codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN},
		{
			"a consistency token", resume(token.NewConsistency(h.log.LogID(), 1).String()), "acme",
			codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
		},
		{
			"another log's token", resume(token.NewResume(uuid.New(), 1).String()), "acme",
			codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
		},
		{
			"a token ahead of the log", resume(token.NewResume(h.log.LogID(), 99).String()), "acme",
			codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN,
		},
		{"no tenant", fromStart(), "", codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if tc.tenant != "" {
				ctx = as(ctx, tc.tenant)
			}
			stream, err := h.client.Subscribe(ctx, tc.req)
			require.NoError(t, err)
			_, err = stream.Recv()
			require.Equal(t, tc.code, rpcerr.CodeOf(err), "%v", err)
			require.Equal(t, tc.reason, rpcerr.ReasonOf(err), "%v", err)
		})
	}
}

// moved has a log that was copied; a position there is one less than here.
type moved struct{ log uuid.UUID }

func (m moved) Resolve(_ context.Context, log uuid.UUID, position eventstore.Position) (eventstore.Position, error) {
	if log != m.log {
		return 0, &posmap.UnknownLogError{LogID: log}
	}
	return position + 1, nil
}

// TestTokensOfALogThatWasMoved go on where they would have, and are waited for.
func TestTokensOfALogThatWasMoved(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	var sent []*eventv1.Event
	var last eventstore.Position
	for range 4 {
		ev, position := h.append("acme", "web", "s1", page("/"))
		sent, last = append(sent, ev), position
	}
	before := moved{uuid.New()}
	server, err := feed.NewServer(feed.Deps{Log: h.log, Origins: before, Codec: h.codec, Index: h.index})
	require.NoError(t, err)
	h.client = serve(t, server)
	require.Equal(t, []string{sent[2].GetId(), sent[3].GetId()}, ids(h.untilCaughtUp(resume(token.NewResume(before.log, last-3).String()), "acme")))
	got, err := h.client.Get(as(t.Context(), "acme"), &feedv1.GetRequest{
		EventId: sent[3].GetId(), ConsistencyToken: token.NewConsistency(before.log, last-1).String(),
	})
	require.NoError(t, err)
	require.Equal(t, sent[3].GetId(), got.GetEvent().GetEvent().GetId())
	stream, err := h.client.Subscribe(as(t.Context(), "acme"), resume(token.NewResume(uuid.New(), 1).String()))
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, errorv1.Reason_REASON_INVALID_TOKEN, rpcerr.ReasonOf(err), "%v", err)
}

func TestStoppingTellsSubscribers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	stream, err := h.client.Subscribe(as(t.Context(), "acme"), fromNow())
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	close(h.stopping)
	for err == nil {
		_, err = stream.Recv()
	}
	require.Equal(t, codes.Unavailable, rpcerr.CodeOf(err), "%v", err)
	require.Equal(t, errorv1.Reason_REASON_STOPPING, rpcerr.ReasonOf(err), "%v", err)
}

func TestGet(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	want, position := h.append("acme", "web", "s1", page("/pricing"))
	tok := token.NewConsistency(h.log.LogID(), position).String()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := h.client.Get(as(ctx, "acme"), &feedv1.GetRequest{EventId: want.GetId(), ConsistencyToken: tok})
	require.NoError(t, err)
	require.True(t, proto.Equal(want, got.GetEvent().GetEvent()), "got %v", got)
	require.Equal(t, uint64(position), got.GetEvent().GetPosition())

	_, err = h.client.Get(as(ctx, "other"), &feedv1.GetRequest{EventId: want.GetId(), ConsistencyToken: tok})
	require.Equal(t, errorv1.Reason_REASON_EVENT_NOT_FOUND, rpcerr.ReasonOf(err), "%v", err)
	_, err = h.client.Get(as(ctx, "acme"), &feedv1.GetRequest{EventId: uuid.NewString(), ConsistencyToken: tok})
	require.Equal(t, codes.NotFound, rpcerr.CodeOf(err), "%v", err)
	_, err = h.client.Get(as(ctx, "acme"), &feedv1.GetRequest{EventId: "4711"})
	require.Equal(t, errorv1.Reason_REASON_INVALID_FIELD, rpcerr.ReasonOf(err), "%v", err)
	_, err = h.client.Get(as(ctx, "acme"), &feedv1.GetRequest{EventId: want.GetId(), ConsistencyToken: "x"})
	require.Equal(t, errorv1.Reason_REASON_INVALID_TOKEN, rpcerr.ReasonOf(err), "%v", err)
	_, err = h.client.Get(ctx, &feedv1.GetRequest{EventId: want.GetId()})
	require.Equal(t, codes.Unauthenticated, rpcerr.CodeOf(err), "%v", err)
}

// TestIndexGoesOn fills an index in two processes' lives and takes it over from
// a writer that still believes to be one.
func TestIndexGoesOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	first, position := h.append("acme", "web", "s1", page("/1"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, h.index.WaitFor(ctx, position))
	require.ErrorIs(t, h.index.Run(ctx), projection.ErrRunning)

	second, err := feed.OpenIndex(ctx, feed.IndexDeps{Log: h.log, Views: h.views})
	require.NoError(t, err)
	require.Equal(t, position, second.Position())
	found, err := second.Find(ctx, "acme", uuid.MustParse(first.GetId()))
	require.NoError(t, err)
	require.Equal(t, position, found)
	_, err = second.Find(ctx, "acme", uuid.New())
	require.ErrorIs(t, err, feed.ErrUnknownEvent)

	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- second.Run(running) }()
	// The first one learns that it is no longer the writer when it next commits.
	h.fenced = true
	require.Eventually(t, func() bool { return second.Status().State == projection.Live }, patience, time.Millisecond)
	_, position = h.append("acme", "web", "s1", page("/2"))
	require.NoError(t, second.WaitFor(ctx, position))
	require.Eventually(t, func() bool { return h.index.Status().State == projection.Halted }, patience, time.Millisecond)
	require.ErrorIs(t, h.index.WaitFor(ctx, position+1), view.ErrFenced)
	require.Equal(t, projection.Live, second.Status().State)
	stop()
	require.NoError(t, <-ran)
	require.NoError(t, second.Close())

	short, cancelShort := context.WithTimeout(ctx, time.Millisecond)
	defer cancelShort()
	require.ErrorIs(t, second.WaitFor(short, position+1), projection.ErrBehind)
}

func TestIndexOfAnotherLog(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	_, position := h.append("acme", "web", "s1", page("/1"))
	require.NoError(t, h.index.WaitFor(t.Context(), position))
	other := projectiontest.NewLog(t)
	require.Eventually(t, func() bool {
		gen, err := h.views.Open(t.Context(), view.Namespace{Projection: "feed", Version: 1, Generation: 1}, view.Collection{Name: "positions"})
		require.NoError(t, err)
		defer func() { require.NoError(t, gen.Close()) }()
		checkpoint, err := gen.Checkpoint(t.Context())
		require.NoError(t, err)
		return checkpoint.Position == uint64(position)
	}, patience, time.Millisecond)
	_, err := feed.OpenIndex(t.Context(), feed.IndexDeps{Log: other, Views: h.views})
	require.ErrorIs(t, err, projection.ErrOtherLog)
}

// TestResumeIsGapless disconnects and resumes at random while others append,
// and gets exactly the tenant's log.
func TestResumeIsGapless(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 5*time.Millisecond)
	const writers, each = 4, 300
	var appending sync.WaitGroup
	for w := range writers {
		appending.Go(func() {
			name := []string{"acme", "other"}[w%2]
			for i := range each {
				h.append(name, "web", fmt.Sprint("s", w, "-", i%7), page(fmt.Sprint("/", i)))
			}
		})
	}
	r := rand.New(rand.NewPCG(3, 5))
	var got []string
	next, resumes := fromStart(), 0
	deadline := time.Now().Add(patience)
	for len(got) < writers/2*each {
		require.True(t, time.Now().Before(deadline), "got %d", len(got))
		ctx, cancel := context.WithTimeout(as(t.Context(), "acme"), patience)
		stream, err := h.client.Subscribe(ctx, next)
		require.NoError(t, err)
		for range 1 + r.IntN(60) {
			item, err := stream.Recv()
			require.NoError(t, err)
			if ev := item.GetEvent(); ev != nil {
				got = append(got, ev.GetEvent().GetId())
			}
			next = resume(item.GetResumeToken())
			if len(got) == writers/2*each {
				break
			}
		}
		cancel()
		for err == nil {
			_, err = stream.Recv()
		}
		require.NotErrorIs(t, err, io.EOF)
		resumes++
	}
	appending.Wait()
	var want []string
	for rec, err := range h.log.ReadAll(t.Context(), eventstore.ReadAllOptions{Filter: eventstore.Filter{StreamPrefixes: []string{"acme."}}}) {
		require.NoError(t, err)
		want = append(want, rec.ID.String())
	}
	require.Equal(t, want, got)
	require.Greater(t, resumes, 5)
}

// TestSlowSubscriberIsSlowedDown reads nothing while more is appended than all
// buffers between hold, and misses nothing.
func TestSlowSubscriberIsSlowedDown(t *testing.T) {
	t.Parallel()
	h := newHouse(t, time.Second)
	ctx, cancel := context.WithTimeout(as(t.Context(), "acme"), patience)
	defer cancel()
	stream, err := h.client.Subscribe(ctx, fromStart())
	require.NoError(t, err)
	large := make([]byte, 60_000)
	for i := range large {
		large[i] = 'x'
	}
	var want []string
	for i := range 100 {
		ev, _ := h.append("acme", "chat", "c1", &eventv1.Payload{Kind: &eventv1.Payload_ChatMessagePosted{
			ChatMessagePosted: &eventv1.ChatMessagePosted{MessageId: strconv.Itoa(i), Text: string(large)},
		}})
		want = append(want, ev.GetId())
	}
	var got []string
	for len(got) < len(want) {
		item, err := stream.Recv()
		require.NoError(t, err)
		if ev := item.GetEvent(); ev != nil {
			got = append(got, ev.GetEvent().GetId())
		}
	}
	require.Equal(t, want, got)
}

func TestNewServerChecks(t *testing.T) {
	t.Parallel()
	_, err := feed.NewServer(feed.Deps{})
	require.ErrorContains(t, err, "required")
	h := newHouse(t, time.Second)
	_, err = feed.NewServer(feed.Deps{Log: h.log, Codec: h.codec, Index: h.index, Heartbeat: time.Minute})
	require.ErrorContains(t, err, "heartbeat")
}
