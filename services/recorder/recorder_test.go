package recorder

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

const (
	recorded       = interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED
	duplicate      = interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE
	inQuarantine   = interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED
	identityStream = "acme.identity"
)

func outcomes(r *interactionv1.IngressReply) []interactionv1.RecordOutcome {
	var all []interactionv1.RecordOutcome
	for _, x := range r.GetResults() {
		all = append(all, x.GetOutcome())
	}
	return all
}

func TestDecisionsStandBeforeTheirCause(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	reply := g.recordEvents(
		page("1", "anonymous_id=a"),
		page("2", "anonymous_id=a user_id=7 email=Ada@Example.com"),
		after(time.Second, page("3", "anonymous_id=a user_id=7")),
	)
	visitor := "acme.web-" + profileOf("acme", "anonymous_id=a")
	require.Equal(t, []string{
		visitor + " parley.page.viewed",
		identityStream + " parley.link.asserted",
		identityStream + " parley.customers.merged",
		identityStream + " parley.link.asserted",
		identityStream + " parley.customers.merged",
		visitor + " parley.page.viewed",
		visitor + " parley.page.viewed",
	}, g.lines())
	require.Equal(t, []interactionv1.RecordOutcome{recorded, recorded, recorded}, outcomes(reply))
	require.Equal(t, g.store.LogID().String(), reply.GetLogId())
	require.EqualValues(t, 7, reply.GetPosition())

	all := g.stored()
	for i, r := range reply.GetResults() {
		require.Equal(t, all[i].GetPosition(), r.GetPosition())
		require.Equal(t, all[i].GetStream(), r.GetStream())
		require.Equal(t, all[i].GetEvent().GetId(), r.GetEventId())
	}
	require.Equal(t, profileOf("acme", "user_id=7"), all[1].GetEvent().GetProfileId())
	require.Equal(t, profileOf("acme", "anonymous_id=a"), all[1].GetEvent().GetConversation())
	require.Equal(t, "ada@example.com", all[1].GetEvent().GetIdentifiers()[2].GetValue())

	v, err := validator()
	require.NoError(t, err)
	for _, rec := range g.records() {
		ev, err := g.deps.Codec.Decode(rec)
		require.NoError(t, err)
		require.Empty(t, v.Check(ev.GetEvent()), "what is stored keeps its own bounds")
	}
	link, err := g.deps.Codec.Decode(g.records()[1])
	require.NoError(t, err)
	require.Equal(t, all[1].GetEvent().GetId(), link.GetEvent().GetCausationId())
	require.Equal(t, all[1].GetEvent().GetId(), link.GetEvent().GetPayload().GetLinkAsserted().GetEvidenceEventId())
	require.Equal(t, profileOf("acme", "user_id=7"), link.GetEvent().GetProfileId())
	merge, err := g.deps.Codec.Decode(g.records()[2])
	require.NoError(t, err)
	require.Equal(t, profileOf("acme", "anonymous_id=a"), merge.GetEvent().GetPayload().GetCustomersMerged().GetCustomerId(), "the oldest profile names the customer")
	g.requireIndexIsLog()
}

func TestExactlyOnceUnderRedelivery(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	m := g.message("acme", page("1", "user_id=7 anonymous_id=a"), page("2", "user_id=7"), page("1", "user_id=7 anonymous_id=a"))
	first := g.record(m)[0]
	require.Equal(t, []interactionv1.RecordOutcome{recorded, recorded, duplicate}, outcomes(first))
	require.Equal(t, first.GetResults()[0].GetPosition(), first.GetResults()[2].GetPosition())
	require.Equal(t, first.GetResults()[0].GetStream(), first.GetResults()[2].GetStream())
	lines := g.lines()
	for range 3 {
		again := g.record(m)[0]
		require.Equal(t, []interactionv1.RecordOutcome{duplicate, duplicate, duplicate}, outcomes(again))
		for i, r := range again.GetResults() {
			require.Equal(t, first.GetResults()[i].GetPosition(), r.GetPosition())
			require.Equal(t, first.GetResults()[i].GetStream(), r.GetStream(), "a duplicate's stream is that of the first time")
		}
		require.GreaterOrEqual(t, again.GetPosition(), first.GetPosition())
		g.reopen(false)
		require.Equal(t, lines, g.lines())
	}
	g.requireIndexIsLog()
}

func TestContentDiffers(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"))

	other := page("1", "user_id=7")
	other.ContentDigest = event.ContentDigest([]byte("changed"))
	reply := g.recordEvents(other, page("2", "user_id=7"))
	require.Equal(t, []interactionv1.RecordOutcome{inQuarantine, recorded}, outcomes(reply))
	require.True(t, strings.HasPrefix(reply.GetResults()[0].GetReason(), codeContentDiffers+":"))
	bodies := g.quarantined()
	require.Len(t, bodies, 1)
	require.Equal(t, codeContentDiffers, bodies[0].GetCode())
	kept := &eventv1.Event{}
	require.NoError(t, proto.Unmarshal(bodies[0].GetBody(), kept))
	require.Empty(t, kept.GetProfileId(), "as it came")

	// Again, also taken anew by its gateway: it is there once. And without a digest nothing can differ.
	g.recordEvents(other)
	other.ReceivedTime = timestamppb.New(testStart.Add(time.Hour))
	g.recordEvents(other)
	bare := page("1", "user_id=7")
	bare.ContentDigest = nil
	require.Equal(t, []interactionv1.RecordOutcome{duplicate}, outcomes(g.recordEvents(bare)))
	require.Len(t, g.quarantined(), 1)
	g.requireIndexIsLog()
}

func TestTenantsAreWalls(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	// The same event id, and the same person, with two tenants.
	ev := page("1", "user_id=7 anonymous_id=a")
	replies := g.record(g.message("acme", ev), g.message("other", forTenant(ev, "other")))
	require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(replies[0]))
	require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(replies[1]))
	all := g.stored()
	require.Len(t, all, 2)
	require.NotEqual(t, all[0].GetEvent().GetProfileId(), all[1].GetEvent().GetProfileId())
	require.True(t, strings.HasPrefix(all[1].GetStream(), "other.web-"))
	require.Contains(t, g.lines(), "other.identity parley.link.asserted")

	// An event of one tenant on the subject of another reaches neither's log.
	reply := g.record(g.message("other", page("2", "user_id=7")))[0]
	require.Equal(t, []interactionv1.RecordOutcome{inQuarantine}, outcomes(reply))
	bodies := g.quarantined()
	require.Len(t, bodies, 1)
	require.Equal(t, "other", bodies[0].GetTenant())
	require.Equal(t, codeTenantMismatch, bodies[0].GetCode())
	g.requireIndexIsLog()
}

func TestPoisonGoesToQuarantineAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	change := func(name string, f func(*eventv1.Event)) *eventv1.Event {
		ev := page(name, "user_id=7")
		f(ev)
		return ev
	}
	reply := g.recordEvents(
		page("good 1", "user_id=7"),
		change("no id", func(ev *eventv1.Event) { ev.Id = "nonsense" }),
		change("nil id", func(ev *eventv1.Event) { ev.Id = uuid.Nil.String() }),
		change("no payload", func(ev *eventv1.Event) { ev.Payload = nil }),
		change("other type", func(ev *eventv1.Event) { ev.Type = "parley.tracked" }),
		change("channel", func(ev *eventv1.Event) { ev.Channel = "Web" }),
		change("reserved channel", func(ev *eventv1.Event) { ev.Channel = "ticket" }),
		change("identity", func(ev *eventv1.Event) {
			ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{CustomerId: "a", AbsorbedCustomerId: "b"}}}
			event.Stamp(ev)
		}),
		change("newer", func(ev *eventv1.Event) { ev.SchemaVersion = 99 }),
		change("too many", func(ev *eventv1.Event) {
			for i := range 65 {
				ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{Kind: "user_id", Value: fmt.Sprint(i)})
			}
		}),
		change("kind", func(ev *eventv1.Event) { ev.Identifiers[0].Kind = "User Id" }),
		change("sealed", func(ev *eventv1.Event) { ev.Sealed = []byte("x") }),
		change("key", func(ev *eventv1.Event) { ev.PayloadKey = "k" }),
		page("good 2", "user_id=7"),
	)
	got := outcomes(reply)
	require.Len(t, got, 14)
	for i, o := range got {
		if i == 0 || i == len(got)-1 {
			require.Equal(t, recorded, o)
		} else {
			require.Equal(t, inQuarantine, o, "event %d", i)
			require.NotEmpty(t, reply.GetResults()[i].GetReason())
		}
	}
	codes := map[string]int{}
	for _, b := range g.quarantined() {
		codes[b.GetCode()]++
		require.Equal(t, "web/test", b.GetSource())
		require.Equal(t, testStart, b.GetReceivedTime().AsTime())
		require.NoError(t, proto.Unmarshal(b.GetBody(), &eventv1.Event{}), "it can be mended and sent again")
		require.EqualValues(t, len(b.GetBody()), b.GetBodySize())
	}
	require.Equal(t, map[string]int{codeInvalidEvent: 7, codeReserved: 2, codeNewerSchema: 1, codeInconsistent: 2}, codes)
	require.Len(t, g.stored(), 2)
	require.NotContains(t, g.lines(), identityStream+" parley.customers.merged")
	g.requireIndexIsLog()
}

func TestMessagesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	good, err := proto.Marshal(page("1", "user_id=7"))
	require.NoError(t, err)
	// One good event, one that is none, one more good one, then garbage.
	other, err := proto.Marshal(page("2", "user_id=7"))
	require.NoError(t, err)
	data := append([]byte{0x0a, byte(len(good)), byte(len(good) >> 7)}, good...)
	data[1] |= 0x80
	data = append(data, 0x0a, 0x03, 0xff, 0xff, 0xff)
	tail := append([]byte{0x0a, byte(len(other)) | 0x80, byte(len(other) >> 7)}, other...)
	data = append(append(data, tail...), 0xff, 0xff)
	reply := g.record(g.rawMessage("acme", data))[0]
	require.Equal(t, []interactionv1.RecordOutcome{recorded, inQuarantine, recorded, inQuarantine}, outcomes(reply))

	noTenant := g.rawMessage("", []byte("x"))
	noTenant.Tenant, noTenant.Subject = "", "ingress.Bad Tenant.x.y"
	notCloud := g.rawMessage("acme", []byte("plain"))
	notCloud.Header = nats.Header{"x": {"y"}}
	g.record(noTenant, notCloud)
	var got []string
	for _, b := range g.quarantined() {
		got = append(got, b.GetTenant()+" "+b.GetCode())
	}
	require.Equal(t, []string{"acme undecodable", "acme undecodable", "quarantine undecodable", "acme not_cloudevent"}, got)
	require.Len(t, g.stored(), 2)
	g.requireIndexIsLog()
}

func TestCloudEvents(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	m := g.rawMessage("acme", []byte(`{"userId":"7","email":"ada@example.com","plan":"gold"}`))
	m.Header = nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"4711"}, "ce-source": {"/crm"}, "ce-type": {"com.example.upgraded"},
		"content-type": {"application/json"},
	}
	require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(g.record(m)[0]))
	require.Equal(t, []interactionv1.RecordOutcome{duplicate}, outcomes(g.record(m)[0]))
	ev := g.stored()[0].GetEvent()
	require.Equal(t, "parley.tracked", ev.GetType())
	require.Equal(t, "com.example.upgraded", ev.GetPayload().GetTracked().GetName())
	require.Equal(t, profileOf("acme", "user_id=7"), ev.GetProfileId())
	require.Contains(t, g.lines(), identityStream+" parley.link.asserted")
}

func TestQuarantinedByGateways(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	body := &interactionv1.QuarantinedBody{
		Id: uuid.NewString(), Tenant: "acme", Source: "web/test", Code: "invalid_json", Reason: "unexpected end", MediaType: "application/json",
		Body: []byte("{"), BodySize: 1, ReceivedTime: timestamppb.New(testStart),
	}
	bad := proto.CloneOf(body)
	bad.Id = "no uuid"
	foreign := proto.CloneOf(body)
	foreign.Tenant = "other"
	m := g.batchMessage("acme", &interactionv1.IngressBatch{
		Events: []*eventv1.Event{page("1", "user_id=7")}, Quarantined: []*interactionv1.QuarantinedBody{body, bad, foreign},
	})
	reply := g.record(m)[0]
	require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(reply), "results are of events")
	g.record(m)
	var codes []string
	for _, b := range g.quarantined() {
		require.Equal(t, "acme", b.GetTenant())
		codes = append(codes, b.GetCode())
	}
	require.Equal(t, []string{"invalid_json", codeInvalidBody, codeTenantMismatch}, codes, "once each")
	g.requireIndexIsLog()
}

func TestDroppedIdentifiersKeepTheEvent(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	ev := page("1", "user_id=undefined email=nonsense phone=anonymous anonymous_id=a")
	ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{Kind: "email"})
	require.Equal(t, []interactionv1.RecordOutcome{recorded}, outcomes(g.recordEvents(ev)))
	got := g.stored()[0].GetEvent()
	require.Len(t, got.GetIdentifiers(), 1)
	require.Equal(t, profileOf("acme", "anonymous_id=a"), got.GetProfileId())
	require.Len(t, g.lines(), 1, "nothing is linked")
}

func TestTimesAreKeptAndMarked(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	received := testStart.Add(time.Second)
	year := func(y int) time.Time { return time.Date(y, 6, 1, 0, 0, 0, 0, time.UTC) }
	at := func(name string, occurred time.Time, q eventv1.TimeQuality) *eventv1.Event {
		ev := page(name, "user_id=7")
		ev.OccurredTime, ev.TimeQuality = timestamppb.New(occurred), q
		return ev
	}
	const (
		asSaid      = eventv1.TimeQuality_TIME_QUALITY_AS_SAID
		corrected   = eventv1.TimeQuality_TIME_QUALITY_CORRECTED
		implausible = eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE
	)
	none := page("none", "user_id=7")
	none.OccurredTime, none.ReceivedTime, none.TimeQuality = nil, nil, eventv1.TimeQuality_TIME_QUALITY_UNSPECIFIED
	broken := page("broken", "user_id=7")
	broken.OccurredTime = &timestamppb.Timestamp{Seconds: 1 << 60}
	reply := g.recordEvents(
		at("1", year(1), implausible), at("9999", year(9999), implausible), at("corrected", testStart, corrected),
		at("said", year(2025), asSaid), at("unmarked", year(9999), asSaid), none, broken,
	)
	for _, o := range outcomes(reply) {
		require.Equal(t, recorded, o)
	}
	all := g.stored()
	check := func(i int, occurred time.Time, q eventv1.TimeQuality, orders time.Time) {
		ev := all[i].GetEvent()
		require.Equal(t, occurred, ev.GetOccurredTime().AsTime(), ev.GetSourceId())
		require.Equal(t, q, ev.GetTimeQuality(), ev.GetSourceId())
		require.Equal(t, orders, event.Time(ev), ev.GetSourceId())
	}
	check(0, year(1), implausible, received)
	check(1, year(9999), implausible, received)
	check(2, testStart, corrected, testStart)
	check(3, year(2025), asSaid, year(2025))
	check(4, year(9999), implausible, received)
	check(5, testStart, eventv1.TimeQuality_TIME_QUALITY_RECEIVED, testStart)
	require.True(t, all[6].GetEvent().GetOccurredTime().IsValid())
	require.Equal(t, implausible, all[6].GetEvent().GetTimeQuality())
}

func TestNULIsReplaced(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	ev := page("1", "user_id=7")
	ev.GetPayload().GetPageViewed().Title = "a\x00b"
	g.recordEvents(ev, page("2", "user_id=7"))
	all := g.stored()
	require.Equal(t, "a\uFFFDb", all[0].GetEvent().GetPayload().GetPageViewed().GetTitle())
	require.True(t, all[0].GetEvent().GetNulReplaced())
	require.False(t, all[1].GetEvent().GetNulReplaced())
}

// counted sums a metric over its labels.
func (g *rig) counted(c prometheus.Collector) float64 {
	g.t.Helper()
	const most = 100
	found := make(chan prometheus.Metric, most)
	c.Collect(found)
	close(found)
	sum := 0.0
	for m := range found {
		var out dto.Metric
		require.NoError(g.t, m.Write(&out))
		sum += out.GetCounter().GetValue() + out.GetGauge().GetValue() + float64(out.GetHistogram().GetSampleCount())
	}
	return sum
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	bad := page("bad", "user_id=7")
	bad.Channel = "ticket"
	m := g.message("acme", page("1", "user_id=7 anonymous_id=a email=null"), page("2", "user_id=7"), bad)
	g.record(m)
	g.record(m)
	require.InDelta(t, 2, g.counted(g.metrics.events.WithLabelValues("recorded")), 0)
	require.InDelta(t, 2, g.counted(g.metrics.events.WithLabelValues("duplicate")), 0)
	require.InDelta(t, 2, g.counted(g.metrics.quarantined.WithLabelValues(codeReserved)), 0)
	require.InDelta(t, 2, g.counted(g.metrics.identity), 0)
	require.InDelta(t, 2, g.counted(g.metrics.identifiers.WithLabelValues("placeholder")), 0)
	require.InDelta(t, 5, g.counted(g.metrics.position), 0)
	require.Positive(t, g.counted(g.metrics.lag))
	require.InDelta(t, 1, g.counted(g.metrics.append), 0, "duplicates append nothing")
}

// FuzzMessages: whatever comes over the bus, every item is fit to be planned
// or has a reason not to be, and all of it ends in the log.
func FuzzMessages(f *testing.F) {
	good, err := proto.Marshal(&interactionv1.IngressBatch{
		Events:      []*eventv1.Event{page("1", "user_id=7 email=ada@example.com"), page("2", "phone=anonymous")},
		Quarantined: []*interactionv1.QuarantinedBody{{Id: uuid.NewString(), Code: "x"}},
	})
	require.NoError(f, err)
	f.Add("acme", "parley.ingress.batch", good)
	f.Add("acme", "parley.ingress.batch", good[:len(good)/2])
	f.Add("", "parley.ingress.batch", good)
	f.Add("quarantine", "parley.ingress.batch", []byte{})
	f.Add("acme", "com.example.x", []byte(`{"userId":"7","email":"\u0000"}`))
	f.Add("acme", "parley.page.viewed", []byte(`{"payload":{"pageViewed":{}},"channel":"web"}`))
	f.Fuzz(func(t *testing.T, tenant, ceType string, data []byte) {
		g := newRig(t, openLog(t))
		m := g.rawMessage(tenant, data)
		m.Header = nats.Header{
			bus.HeaderSpecVersion: {"1.0"}, bus.HeaderType: {ceType}, bus.HeaderID: {"1"}, bus.HeaderSource: {"/x"},
			bus.HeaderContentType: {"application/json"},
		}
		first := g.record(m)[0]
		for _, x := range first.GetResults() {
			require.Contains(t, []interactionv1.RecordOutcome{recorded, duplicate, inQuarantine}, x.GetOutcome())
		}
		head, err := g.store.Head(t.Context())
		require.NoError(t, err)
		require.Len(t, g.record(m)[0].GetResults(), len(first.GetResults()))
		again, err := g.store.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, head, again, "once")
		g.requireIndexIsLog()
	})
}
