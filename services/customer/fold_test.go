package customer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

var profiles = []string{"p1", "p2", "p3"}

// foldAll is the finished document of events in the order given. With r it is
// finished, stored and loaded in between, as the engine may do.
func foldAll(t testing.TB, events []*eventv1.RecordedEvent, r *rand.Rand) *customerv1.Customer {
	t.Helper()
	every := 5 + len(events)/20
	doc := &customerv1.Customer{}
	for _, ev := range events {
		require.NoError(t, fold(doc, ev))
		if r != nil && r.IntN(every) == 0 {
			require.NoError(t, finish(doc, "p1", profiles))
		}
		if r != nil && r.IntN(every) == 0 {
			doc = stored(t, doc)
		}
	}
	return doc
}

func stored(t testing.TB, doc *customerv1.Customer) *customerv1.Customer {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(doc)
	require.NoError(t, err)
	loaded := &customerv1.Customer{}
	require.NoError(t, proto.Unmarshal(data, loaded))
	return loaded
}

// partitioned is the finished document of the same events, split at random into
// parts, each folded in an order of its own, and combined in any order.
func partitioned(t testing.TB, events []*eventv1.RecordedEvent, r *rand.Rand) *customerv1.Customer {
	t.Helper()
	parts := make([][]*eventv1.RecordedEvent, 1+r.IntN(5))
	for _, i := range r.Perm(len(events)) {
		p := r.IntN(len(parts))
		parts[p] = append(parts[p], events[i])
	}
	docs := make([]*customerv1.Customer, len(parts))
	for i, part := range parts {
		docs[i] = foldAll(t, part, r)
	}
	for len(docs) > 1 {
		i := r.IntN(len(docs) - 1)
		into, from := docs[i], docs[i+1]
		if r.IntN(3) == 0 {
			require.NoError(t, finish(from, "x", nil))
		}
		before := proto.Clone(from)
		require.NoError(t, combine(into, from))
		requireSame(t, before, from, "combine changed what it took from")
		if r.IntN(2) == 0 {
			// What is done to one of the two afterwards must not reach the other.
			require.NoError(t, fold(from, events[0]))
			require.NoError(t, finish(from, "x", nil))
		}
		docs = append(docs[:i+1], docs[i+2:]...)
	}
	return docs[0]
}

func requireSame(t testing.TB, want, got proto.Message, what string) {
	t.Helper()
	if !proto.Equal(want, got) {
		require.Fail(t, what, cmp.Diff(want, got, protocmp.Transform()))
	}
}

func requireLaw(t testing.TB, events []*eventv1.RecordedEvent, r *rand.Rand) *customerv1.Customer {
	t.Helper()
	whole := foldAll(t, events, nil)
	require.NoError(t, finish(whole, "p1", profiles))
	combined := partitioned(t, events, r)
	require.NoError(t, finish(combined, "p1", profiles))
	requireSame(t, whole, combined, "the parts combined are not the whole")
	again := stored(t, whole)
	require.NoError(t, finish(again, "p1", profiles))
	requireSame(t, whole, again, "finishing twice is not finishing once")
	return whole
}

func TestFoldCombines(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		g := &generator{r: r}
		events := make([]*eventv1.RecordedEvent, 1+r.IntN(80))
		for i := range events {
			events[i] = g.event()
			seen[events[i].GetEvent().GetType()] = true
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			requireLaw(t, events, r)
		})
	}
	for _, typ := range catalogue {
		require.True(t, seen[typ], "no %s among the events", typ)
	}
}

// TestEngineLaws proves what the engine relies on, and that it computes the same
// in whatever portions, with merges and splits among the events.
func TestEngineLaws(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(17, 19))
	g := &generator{r: r}
	recorded := make([]*eventv1.RecordedEvent, 400)
	events := make([]*eventv1.Event, len(recorded))
	for i := range recorded {
		recorded[i] = g.event()
		events[i] = recorded[i].GetEvent()
	}
	projectiontest.Laws(t, Definition(), recorded[:60], 20)
	projectiontest.Agree(t, Definition(), regrouped(events))
}

// regrouped takes out the merges and splits that were made up, which contradict
// each other, and puts in some that follow from another.
func regrouped(events []*eventv1.Event) []*eventv1.Event {
	events = slices.DeleteFunc(events, func(ev *eventv1.Event) bool {
		return ev.GetPayload().GetCustomersMerged() != nil || ev.GetPayload().GetCustomersSplit() != nil
	})
	// By the time of the first one all profiles have been seen: the order of p1, p2, p3 is made by hand.
	for i, profile := range profiles {
		events[i].ProfileId = profile
	}
	merged := func(into, absorbed string, absorbedProfiles ...string) *eventv1.Payload {
		return &eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
			CustomerId: into, AbsorbedCustomerId: absorbed, AbsorbedProfileIds: absorbedProfiles,
		}}}
	}
	split := func(from, to string, moved ...string) *eventv1.Payload {
		return &eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
			CustomerId: from, NewCustomerId: to, MovedProfileIds: moved,
		}}}
	}
	decided := []*eventv1.Payload{
		merged("p2", "p3", "p3"), merged("p1", "p2", "p2", "p3"), split("p1", "p3", "p3"),
		merged("p1", "p3", "p3"), split("p1", "p2", "p2", "p3"),
	}
	every := len(events) / (len(decided) + 1)
	for i, payload := range decided {
		ev := events[(i+1)*every]
		ev.Payload, ev.Channel, ev.Identifiers = payload, "identity", nil
		event.Stamp(ev)
	}
	return events
}

// TestFoldCombinesBeyondEveryLimit does the same where every list is over its
// limit, and sums are over what 64 bits hold.
func TestFoldCombinesBeyondEveryLimit(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	g := &generator{r: r}
	var events []*eventv1.RecordedEvent
	for i := range 3 * maxIdentifiers {
		ev := g.event()
		ev.Event.Channel = fmt.Sprintf("c%d", i%(2*maxChannels))
		ev.Event.Identifiers = []*eventv1.Identifier{
			{Kind: "anonymous_id", Value: fmt.Sprint("a", r.IntN(maxIdentifiers+200))},
			{Kind: "email", Value: fmt.Sprint("e", i%7)},
		}
		events = append(events, ev)
	}
	for i := range 3 * maxTraits {
		name := fmt.Sprint("t", r.IntN(maxTraits+100))
		if i%10 == 0 {
			name = []string{"name", "firstName", "surname", "company", "zzz"}[r.IntN(5)]
		}
		events = append(events, g.of(&eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
			Traits: []*eventv1.Trait{{Name: name, ValueJson: []string{`"x"`, "null", "1"}[r.IntN(3)]}},
		}}}))
	}
	for i := range 2 * maxLinks {
		link := &eventv1.Payload{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{ProfileId: "a", OtherProfileId: fmt.Sprint(i)}}}
		if i%2 == 0 {
			link = &eventv1.Payload{Kind: &eventv1.Payload_LinkRefused{LinkRefused: &eventv1.LinkRefused{ProfileId: "a", OtherProfileId: fmt.Sprint(i), Refusal: 1}}}
		}
		events = append(events, g.of(link))
	}
	for i := range 3 * maxConsents {
		events = append(events,
			g.of(&eventv1.Payload{Kind: &eventv1.Payload_ConsentGranted{ConsentGranted: &eventv1.ConsentGranted{
				Purpose: fmt.Sprint(i % (2 * maxConsents)), ConsentChannel: "email",
			}}}),
			g.of(&eventv1.Payload{Kind: &eventv1.Payload_AffiliationAsserted{AffiliationAsserted: &eventv1.AffiliationAsserted{
				OrganisationId: fmt.Sprint(i % maxAffiliations), Name: g.text(), Role: g.text(),
			}}}))
	}
	for i := range 3 * maxOrdersKept {
		id := fmt.Sprint("o", r.IntN(maxOrdersKept+50))
		amount := g.money()
		amount.Units = 900_000_000_000_000 * int64(1-i%3)
		amount.Nanos = 0
		if i%2 == 0 {
			events = append(events, g.of(&eventv1.Payload{Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{OrderId: id, Total: amount}}}))
			continue
		}
		if i%3 == 0 {
			amount = nil
		}
		events = append(events, g.of(&eventv1.Payload{Kind: &eventv1.Payload_OrderRefunded{OrderRefunded: &eventv1.OrderRefunded{OrderId: id, Amount: amount}}}))
	}
	doc := requireLaw(t, events, r)
	require.Len(t, doc.GetIdentifiers(), maxIdentifiers)
	require.Len(t, doc.GetChannels(), maxChannels)
	require.Len(t, doc.GetRecentInteractions(), maxRecent)
	require.Len(t, doc.GetLinks(), maxLinks)
	require.Len(t, doc.GetConsents(), maxConsents)
	require.LessOrEqual(t, len(doc.GetTraits()), maxTraits)
	require.Less(t, proto.Size(doc), 1<<20)
}

func BenchmarkFold(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	g := &generator{r: r}
	const session = 8
	events := make([]*eventv1.RecordedEvent, 1<<12)
	for i := range events {
		events[i] = g.workload(i, session)
	}
	b.ReportAllocs()
	doc := &customerv1.Customer{}
	i := 0
	for b.Loop() {
		if i%(4*session) == 0 {
			doc = &customerv1.Customer{}
		}
		if err := fold(doc, events[i%len(events)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkFoldAndFinish is what a document costs that is written after every
// event.
func BenchmarkFoldAndFinish(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	g := &generator{r: r}
	const session = 8
	events := make([]*eventv1.RecordedEvent, 1<<12)
	for i := range events {
		events[i] = g.workload(i, session)
	}
	b.ReportAllocs()
	doc := &customerv1.Customer{}
	i := 0
	for b.Loop() {
		if i%(4*session) == 0 {
			doc = &customerv1.Customer{}
		}
		if err := fold(doc, events[i%len(events)]); err != nil {
			b.Fatal(err)
		}
		if err := finish(doc, "p1", profiles[:1]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
