package recorder

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testSecret = []byte("0123456789abcdef")
	testStart  = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
)

// validator is shared: it is expensive to make.
var validator = sync.OnceValues(func() (*event.Validator, error) {
	return event.NewValidator(&interactionv1.QuarantinedBody{}, &interactionv1.Interaction{})
})

func openLog(t testing.TB) *embedded.Store {
	t.Helper()
	s, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1 << 20, MemTableBytes: 4 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// fakeBus keeps replies; messages are handed to the recorder by the test.
type fakeBus struct {
	mu      sync.Mutex
	replies map[string]*interactionv1.IngressReply
}

func (b *fakeBus) Consume(ctx context.Context, _ bus.ConsumeOptions, _ bus.Handler) error {
	<-ctx.Done()
	return nil
}

func (b *fakeBus) Reply(to string, reply *interactionv1.IngressReply) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.replies == nil {
		b.replies = map[string]*interactionv1.IngressReply{}
	}
	b.replies[to] = reply
	return nil
}

func (b *fakeBus) Healthy() error { return nil }

// rig is a recorder whose index is open and whose messages come by hand.
type rig struct {
	*Recorder
	t     testing.TB
	store eventstore.Store
	bus   *fakeBus
	dir   string
	sent  int
}

func newResolver(t testing.TB) *identity.Resolver {
	t.Helper()
	r, err := identity.NewResolver(identity.DefaultRules(), testSecret)
	require.NoError(t, err)
	return r
}

func newRig(t testing.TB, store eventstore.Store) *rig {
	t.Helper()
	g := &rig{t: t, store: store, bus: &fakeBus{}, dir: t.TempDir()}
	g.Recorder = newRecorder(t, store, g.bus, g.dir)
	g.open()
	t.Cleanup(func() { require.NoError(t, g.index.close()) })
	return g
}

func newRecorder(t testing.TB, store eventstore.Store, b Bus, dir string) *Recorder {
	t.Helper()
	v, err := validator()
	require.NoError(t, err)
	r, err := New(Deps{
		Log: store, Bus: b, Codec: event.NewCodec(), Validator: v, Resolver: newResolver(t), IndexDir: dir,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return r
}

func (g *rig) open() {
	g.t.Helper()
	x, err := openIndex(g.t.Context(), g.options(g.dir), g.store)
	require.NoError(g.t, err)
	g.index = x
	require.NoError(g.t, g.catcher.catchUp(g.t.Context(), x))
}

func (g *rig) options(dir string) indexOptions {
	o := g.indexOptions()
	o.dir = dir
	return o
}

// reopen is a restart, keeping the index or with it dropped.
func (g *rig) reopen(drop bool) {
	g.t.Helper()
	require.NoError(g.t, g.index.close())
	if drop {
		g.dir = g.t.TempDir()
	}
	g.open()
}

// message makes a bus message of events.
func (g *rig) message(tenant string, events ...*eventv1.Event) bus.Message {
	g.t.Helper()
	return g.batchMessage(tenant, &interactionv1.IngressBatch{Events: events})
}

func (g *rig) batchMessage(tenant string, batch *interactionv1.IngressBatch) bus.Message {
	g.t.Helper()
	data, err := proto.Marshal(batch)
	require.NoError(g.t, err)
	return g.rawMessage(tenant, data)
}

func (g *rig) rawMessage(tenant string, data []byte) bus.Message {
	g.sent++
	return bus.Message{
		Subject: "ingress." + tenant + ".web", Tenant: tenant, Channel: "web", Data: data, Sequence: uint64(g.sent), Published: testStart,
		Header:  nats.Header{bus.HeaderType: {bus.TypeIngressBatch}, bus.HeaderSpecVersion: {"1.0"}},
		ReplyTo: fmt.Sprintf("reply.%d", g.sent),
	}
}

// record hands messages over and gives the replies.
func (g *rig) record(messages ...bus.Message) []*interactionv1.IngressReply {
	g.t.Helper()
	require.NoError(g.t, g.handle(g.t.Context(), messages))
	var replies []*interactionv1.IngressReply
	for _, m := range messages {
		r := g.bus.replies[m.ReplyTo]
		require.NotNil(g.t, r, "every message is answered")
		replies = append(replies, r)
	}
	return replies
}

func (g *rig) recordEvents(events ...*eventv1.Event) *interactionv1.IngressReply {
	g.t.Helper()
	return g.record(g.message("acme", events...))[0]
}

// log reads the whole log: one line a record, as stream and what it is.
func (g *rig) lines() []string {
	g.t.Helper()
	var lines []string
	for rec, err := range g.store.ReadAll(g.t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(g.t, err)
		lines = append(lines, rec.Stream+" "+rec.Type)
	}
	return lines
}

func (g *rig) records() []*eventstore.Record {
	g.t.Helper()
	var all []*eventstore.Record
	for rec, err := range g.store.ReadAll(g.t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(g.t, err)
		all = append(all, rec)
	}
	return all
}

// stored decodes the recorded interactions (not the identity events).
func (g *rig) stored() []*eventv1.RecordedEvent {
	g.t.Helper()
	var all []*eventv1.RecordedEvent
	for _, rec := range g.records() {
		if !event.IsEvent(rec) || identity.IsIdentityType(rec.Type) {
			continue
		}
		ev, err := g.deps.Codec.Decode(rec)
		require.NoError(g.t, err)
		all = append(all, ev)
	}
	return all
}

func (g *rig) quarantined() []*interactionv1.QuarantinedBody {
	g.t.Helper()
	var all []*interactionv1.QuarantinedBody
	for _, rec := range g.records() {
		if rec.Type != event.TypeQuarantine {
			continue
		}
		b := &interactionv1.QuarantinedBody{}
		require.NoError(g.t, proto.Unmarshal(rec.Data, b))
		require.Equal(g.t, rec.ID.String(), b.GetId())
		require.Equal(g.t, event.QuarantineStream(b.GetTenant()), rec.Stream)
		v, err := validator()
		require.NoError(g.t, err)
		require.Empty(g.t, v.Check(b))
		all = append(all, b)
	}
	return all
}

// contents is everything in the index, by key; the checkpoint among it.
func (x *index) contents(t testing.TB) map[string]string {
	t.Helper()
	require.NoError(t, x.table.settle())
	it, err := x.table.db.NewIter(nil)
	require.NoError(t, err)
	all := map[string]string{}
	for it.First(); it.Valid(); it.Next() {
		all[string(it.Key())] = string(it.Value())
	}
	require.NoError(t, it.Error())
	require.NoError(t, it.Close())
	return all
}

// requireIndexIsLog compares the index with one made anew from the log.
func (g *rig) requireIndexIsLog() {
	g.t.Helper()
	other, err := openIndex(g.t.Context(), g.options(g.t.TempDir()), g.store)
	require.NoError(g.t, err)
	defer func() { require.NoError(g.t, other.close()) }()
	require.NoError(g.t, g.catcher.catchUp(g.t.Context(), other))
	want, got := other.contents(g.t), g.index.contents(g.t)
	for k, v := range want {
		require.Equal(g.t, v, got[k], "key %q", k)
	}
	require.Len(g.t, got, len(want))
}

// page is a page view of `kind=value …`.
func page(name, identifiers string) *eventv1.Event {
	ev := &eventv1.Event{
		Id:            event.DeterministicID("acme", "web/test", name).String(),
		Tenant:        "acme",
		Source:        "web/test",
		SourceId:      name,
		ContentDigest: event.ContentDigest([]byte(name)),
		OccurredTime:  timestamppb.New(testStart),
		ReceivedTime:  timestamppb.New(testStart.Add(time.Second)),
		TimeQuality:   eventv1.TimeQuality_TIME_QUALITY_AS_SAID,
		Channel:       "web",
		Direction:     eventv1.Direction_DIRECTION_INBOUND,
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{
			Path: "/pricing", Url: "https://shop.example/pricing", Title: "Tea", IpAddress: "192.0.2.7",
		}}},
	}
	for field := range strings.FieldsSeq(identifiers) {
		kind, value, _ := strings.Cut(field, "=")
		ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{Kind: kind, Value: value})
	}
	event.Stamp(ev)
	return ev
}

// after makes an event occur later.
func after(d time.Duration, ev *eventv1.Event) *eventv1.Event {
	ev.OccurredTime = timestamppb.New(ev.GetOccurredTime().AsTime().Add(d))
	return ev
}

func profileOf(tenant, name string) string {
	kind, value, _ := strings.Cut(name, "=")
	return identity.ProfileID(testSecret, tenant, kind, value)
}

// forTenant is the same event as another tenant's.
func forTenant(ev *eventv1.Event, tenant string) *eventv1.Event {
	c := proto.CloneOf(ev)
	c.Tenant = tenant
	return c
}

// sessions makes the traffic of n events: visits of eight pages that begin
// anonymously and identify at the third, dozens of them at once, in an order
// that depends on the arguments only.
func sessions(n, customers int) []*eventv1.Event {
	const perSession, atOnce = 8, 64
	events := make([]*eventv1.Event, 0, n)
	type visit struct{ customer, number, done int }
	next := 0
	begin := func() visit {
		next++
		return visit{customer: (next - 1) % customers, number: next - 1}
	}
	visits := make([]visit, atOnce)
	for i := range visits {
		visits[i] = begin()
	}
	for i := range n {
		v := &visits[(i*37+i/64)%atOnce]
		ids := fmt.Sprintf("anonymous_id=device-%d", v.customer)
		if v.done >= 2 {
			ids += fmt.Sprintf(" user_id=user-%d email=person%d@customers.example", v.customer, v.customer)
		}
		ev := page(fmt.Sprintf("%d-%d", v.number, v.done), ids)
		ev.OccurredTime = timestamppb.New(testStart.Add(time.Duration(i) * 10 * time.Millisecond))
		events = append(events, ev)
		if v.done++; v.done == perSession {
			*v = begin()
		}
	}
	return events
}
