package identity

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// world records interactions as the recorder would: decisions first, then the
// interaction, into a log in memory.
type world struct {
	t        testing.TB
	resolver *Resolver
	state    *Memory
	graph    *Graph
	log      []*eventv1.Event
	names    map[string]string // profile id → what the test calls it
	clock    int               // second of the youngest interaction
}

func newWorld(t testing.TB, change func(*Rules)) *world {
	t.Helper()
	w := &world{t: t, resolver: newTestResolver(t, change), state: NewMemory(), names: map[string]string{}}
	w.graph = NewGraph(w.resolver.Rules, w.state)
	return w
}

const testTenant = "acme"

// spec reads "user_id=7 anonymous_id=a": the identifiers of one interaction.
func spec(text string) []*eventv1.Identifier {
	var ids []*eventv1.Identifier
	for field := range strings.FieldsSeq(text) {
		kind, value, _ := strings.Cut(field, "=")
		ids = append(ids, ident(kind, value))
	}
	return ids
}

// eventName is the id of an event by its number.
func eventName(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// record takes one interaction that occurs after all before it, and gives the
// decisions as text.
func (w *world) record(text string) string {
	w.t.Helper()
	w.clock++
	return w.recordAt(w.clock, text)
}

// recordAt takes one that occurred at a second of its own, which names it.
func (w *world) recordAt(second int, text string) string {
	w.t.Helper()
	ev := interaction(second, text)
	w.resolver.Stamp(ev)
	for _, id := range ev.GetIdentifiers() {
		w.names[id.GetProfileId()] = id.GetKind() + "=" + id.GetValue()
	}
	decisions, err := w.graph.Decide(ev, uint64(len(w.log)+1), func(purpose string) string { return ev.GetId() + "/" + purpose })
	require.NoError(w.t, err)
	said := w.append(ev, decisions)
	w.log = append(w.log, ev)
	return said
}

func interaction(second int, text string) *eventv1.Event {
	payload := &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{}}}
	if rest, ok := strings.CutPrefix(text, "alias "); ok {
		text = rest
		payload = &eventv1.Payload{Kind: &eventv1.Payload_IdentityStated{IdentityStated: &eventv1.IdentityStated{Statement: "alias"}}}
	}
	return &eventv1.Event{
		Id: eventName(second), Tenant: testTenant, Identifiers: spec(text), Payload: payload,
		OccurredTime: &timestamppb.Timestamp{Seconds: int64(second)},
	}
}

// append puts decisions into the log and says them.
func (w *world) append(cause *eventv1.Event, decisions []Decision) string {
	w.t.Helper()
	var said []string
	ids := map[string]bool{}
	for _, d := range decisions {
		require.False(w.t, ids[d.ID], "the id %s is used twice", d.ID)
		ids[d.ID] = true
		w.log = append(w.log, &eventv1.Event{
			Id: d.ID, Tenant: testTenant, Type: d.Type, ProfileId: d.ProfileID, Payload: d.Payload, Identifiers: d.Identifiers,
			OccurredTime: cause.GetOccurredTime(),
		})
		said = append(said, w.say(d.Payload))
	}
	return strings.Join(said, "; ")
}

// command gives what a command to the graph has.
func (w *world) command() Command {
	w.clock++
	ev := &eventv1.Event{Id: eventName(w.clock), OccurredTime: &timestamppb.Timestamp{Seconds: int64(w.clock)}}
	return Command{
		Tenant: testTenant, At: ev, Reason: "because", Position: uint64(len(w.log) + 1),
		Derive: func(purpose string) string { return ev.GetId() + "/" + purpose },
	}
}

func (w *world) merge(a, b string) (string, error) {
	w.t.Helper()
	c := w.command()
	out, err := w.graph.Merge(c, w.profileID(a), w.profileID(b))
	return w.append(c.At, out.Decisions), err
}

func (w *world) split(customer string, profiles ...string) (string, error) {
	w.t.Helper()
	c := w.command()
	ids := make([]string, len(profiles))
	for i, p := range profiles {
		ids[i] = w.profileID(p)
	}
	out, err := w.graph.Split(c, w.profileID(customer), ids)
	return w.append(c.At, out.Decisions), err
}

func (w *world) say(p *eventv1.Payload) string {
	switch p := p.GetKind().(type) {
	case *eventv1.Payload_LinkAsserted:
		return fmt.Sprintf("%s ~ %s", w.names[p.LinkAsserted.GetProfileId()], w.names[p.LinkAsserted.GetOtherProfileId()])
	case *eventv1.Payload_LinkRefused:
		return fmt.Sprintf("%s | %s %s", w.names[p.LinkRefused.GetProfileId()], w.names[p.LinkRefused.GetOtherProfileId()],
			strings.TrimPrefix(p.LinkRefused.GetRefusal().String(), "LINK_REFUSAL_"))
	case *eventv1.Payload_CustomersMerged:
		return fmt.Sprintf("%s < %s %d", w.names[p.CustomersMerged.GetCustomerId()], w.names[p.CustomersMerged.GetAbsorbedCustomerId()],
			len(p.CustomersMerged.GetAbsorbedProfileIds()))
	case *eventv1.Payload_CustomersSplit:
		return fmt.Sprintf("%s > %s %d", w.names[p.CustomersSplit.GetCustomerId()], w.names[p.CustomersSplit.GetNewCustomerId()],
			len(p.CustomersSplit.GetMovedProfileIds()))
	case *eventv1.Payload_IdentifierShared:
		if !p.IdentifierShared.GetShared() {
			return "not shared " + w.names[p.IdentifierShared.GetProfileId()]
		}
		return "shared " + w.names[p.IdentifierShared.GetProfileId()]
	default:
		return fmt.Sprintf("%T", p)
	}
}

func (w *world) flush() {
	w.t.Helper()
	require.NoError(w.t, w.graph.Flush(w.state))
	require.Zero(w.t, w.graph.Changed())
}

func (w *world) customer(name string) string {
	w.t.Helper()
	kind, value, _ := strings.Cut(name, "=")
	id, err := w.resolver.Lookup(testTenant, kind, value)
	require.NoError(w.t, err)
	c, err := w.graph.CustomerOf(testTenant, id.ProfileID)
	require.NoError(w.t, err)
	return w.names[c]
}

// customers gives the sets of profiles that are one customer each, as text.
func (w *world) customers() []string {
	w.t.Helper()
	sets := map[string][]string{}
	for id, name := range w.names {
		c, err := w.graph.CustomerOf(testTenant, id)
		require.NoError(w.t, err)
		sets[c] = append(sets[c], name)
	}
	var all []string
	for c, names := range sets {
		members, err := w.graph.Members(testTenant, c)
		require.NoError(w.t, err)
		require.Len(w.t, members, len(names), "the record agrees with the profiles")
		slices.Sort(names)
		all = append(all, strings.Join(names, " "))
	}
	slices.Sort(all)
	return all
}

// replay folds the log anew and gives the state.
func (w *world) replay(flushEvery int) *Memory {
	w.t.Helper()
	m := NewMemory()
	g := NewGraph(w.resolver.Rules, m)
	for i, ev := range w.log {
		position := uint64(i + 1)
		if IsIdentityType(ev.GetType()) {
			require.NoError(w.t, g.Apply(ev, position))
		} else {
			require.NoError(w.t, g.See(ev.GetTenant(), ev.GetProfileId(), ev.GetProfileKind(), position))
		}
		if i%flushEvery == 0 {
			require.NoError(w.t, g.Flush(m))
		}
	}
	require.NoError(w.t, g.Flush(m))
	return m
}

func (w *world) requireReplayAgrees() {
	w.t.Helper()
	w.flush()
	for _, every := range []int{1, 7, 1 << 30} {
		m := w.replay(every)
		require.Empty(w.t, cmp.Diff(w.state.profiles, m.profiles, cmp.AllowUnexported(key{})), "flushed every %d", every)
		require.Empty(w.t, cmp.Diff(w.state.customers, m.customers, cmp.AllowUnexported(key{})), "flushed every %d", every)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	type step struct{ given, then string }
	for _, c := range []struct {
		name      string
		rules     func(*Rules)
		steps     []step
		customers []string
	}{
		{
			name: "a visitor who identifies keeps his history and his name",
			steps: []step{
				{"anonymous_id=a", ""},
				{"user_id=7 anonymous_id=a", "user_id=7 ~ anonymous_id=a; anonymous_id=a < user_id=7 1"},
				{"user_id=7 anonymous_id=a", ""},
			},
			customers: []string{"anonymous_id=a user_id=7"},
		},
		{
			name: "three identifiers at once",
			steps: []step{
				{
					"anonymous_id=a email=ada@b.example user_id=7",
					"user_id=7 ~ anonymous_id=a; user_id=7 < anonymous_id=a 1; user_id=7 ~ email=ada@b.example; user_id=7 < email=ada@b.example 1",
				},
				{"email=ada@b.example anonymous_id=a", "email=ada@b.example ~ anonymous_id=a"},
			},
			customers: []string{"anonymous_id=a email=ada@b.example user_id=7"},
		},
		{
			name: "the older customer survives with all profiles of the younger one",
			steps: []step{
				{"email=ada@b.example anonymous_id=a", "email=ada@b.example ~ anonymous_id=a; email=ada@b.example < anonymous_id=a 1"},
				{"user_id=7 anonymous_id=b", "user_id=7 ~ anonymous_id=b; user_id=7 < anonymous_id=b 1"},
				{"user_id=7 email=ada@b.example", "user_id=7 ~ email=ada@b.example; email=ada@b.example < user_id=7 2"},
			},
			customers: []string{"anonymous_id=a anonymous_id=b email=ada@b.example user_id=7"},
		},
		{
			name: "two user ids stay two, said once a pair",
			steps: []step{
				{"user_id=7 anonymous_id=a", "user_id=7 ~ anonymous_id=a; user_id=7 < anonymous_id=a 1"},
				{"user_id=8 anonymous_id=a", "user_id=8 | anonymous_id=a TWO_USER_IDS"},
				{"user_id=8 anonymous_id=a", ""},
				{"alias user_id=8 user_id=7", "user_id=8 | user_id=7 TWO_USER_IDS"},
				{"user_id=8 anonymous_id=b", "user_id=8 ~ anonymous_id=b; user_id=8 < anonymous_id=b 1"},
			},
			customers: []string{"anonymous_id=a user_id=7", "anonymous_id=b user_id=8"},
		},
		{
			name: "limits",
			rules: func(r *Rules) {
				r.Kinds[KindEmail] = Kind{Strength: strengthStrong, Rank: 1, Limit: 2, SharedAbove: 5}
			},
			steps: []step{
				{"user_id=7 email=a@b.example", "user_id=7 ~ email=a@b.example; user_id=7 < email=a@b.example 1"},
				{"user_id=7 email=b@b.example", "user_id=7 ~ email=b@b.example; user_id=7 < email=b@b.example 1"},
				{"user_id=7 email=c@b.example", "user_id=7 | email=c@b.example KIND_LIMIT"},
				{"user_id=7 email=c@b.example", ""},
			},
			customers: []string{"email=a@b.example email=b@b.example user_id=7", "email=c@b.example"},
		},
		{
			name:  "size of a customer",
			rules: func(r *Rules) { r.MaxCustomerProfiles = 3 },
			steps: []step{
				{"anonymous_id=a anonymous_id=b", "anonymous_id=a ~ anonymous_id=b; anonymous_id=a < anonymous_id=b 1"},
				{"anonymous_id=c anonymous_id=d", "anonymous_id=c ~ anonymous_id=d; anonymous_id=c < anonymous_id=d 1"},
				{"anonymous_id=a anonymous_id=c", "anonymous_id=a | anonymous_id=c KIND_LIMIT"},
			},
			customers: []string{"anonymous_id=a anonymous_id=b", "anonymous_id=c anonymous_id=d"},
		},
		{
			name: "shared identifiers link nobody",
			steps: []step{
				{"email=info@b.example user_id=7", ""},
				{"email=info@b.example user_id=8", ""},
				{"email=info@b.example email=sales@b.example", ""},
			},
			customers: []string{"email=info@b.example", "email=sales@b.example", "user_id=7", "user_id=8"},
		},
		{
			name: "stated",
			steps: []step{
				{"alias user_id=7 anonymous_id=a", "user_id=7 ~ anonymous_id=a; user_id=7 < anonymous_id=a 1"},
			},
			customers: []string{"anonymous_id=a user_id=7"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.rules)
			for _, s := range c.steps {
				require.Equal(t, s.then, w.record(s.given), s.given)
			}
			require.Equal(t, c.customers, w.customers())
			w.requireReplayAgrees()
			require.Equal(t, c.customers, w.customers(), "also from the records")
		})
	}
}

func TestRuleAndReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("alias user_id=7 anonymous_id=secret-visitor")
	l := w.log[0].GetPayload().GetLinkAsserted()
	require.Equal(t, eventv1.LinkRule_LINK_RULE_STATED, l.GetRule())
	require.Equal(t, eventName(1), l.GetEvidenceEventId())
	require.NotContains(t, l.GetReason(), "secret-visitor")
	require.Equal(t, w.log[0].GetId(), w.log[1].GetPayload().GetCustomersMerged().GetLinkEventId())
	w.record("user_id=7 email=ada@b.example")
	require.Equal(t, eventv1.LinkRule_LINK_RULE_SAME_EVENT, w.log[3].GetPayload().GetLinkAsserted().GetRule())
}

func (w *world) profileID(name string) string {
	kind, value, _ := strings.Cut(name, "=")
	return ProfileID(testSecret, testTenant, kind, value)
}

func TestDiscardForgetsDecisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("anonymous_id=a")
	w.flush()
	w.record("user_id=7 anonymous_id=a")
	require.NotZero(t, w.graph.Changed())
	w.graph.Discard()
	w.log = w.log[:1]
	require.Equal(t, []string{"anonymous_id=a", "user_id=7"}, w.customers())
	w.requireReplayAgrees()
}

// The order of arrival does not matter to who is who, as long as nothing is
// refused.
func TestAnyOrderOfArrival(t *testing.T) {
	t.Parallel()
	journeys := [][]string{
		{"anonymous_id=a", "anonymous_id=a email=ada@b.example", "user_id=7 email=ada@b.example", "user_id=7 anonymous_id=b", "anonymous_id=b"},
		{"phone=+14158675309", "email=ada@b.example phone=+14158675309", "user_id=7 anonymous_id=a", "user_id=7 email=ada@b.example", "alias anonymous_id=a anonymous_id=b"},
	}
	for _, journey := range journeys {
		var want []string
		permutations(journey, func(order []string) {
			w := newWorld(t, nil)
			for _, s := range order {
				require.NotContains(t, w.record(s), "|")
			}
			got := w.customers()
			if want == nil {
				want = got
				require.Len(t, want, 1)
			}
			require.Equal(t, want, got, "order %v", order)
			w.requireReplayAgrees()
		})
	}
}

func permutations(items []string, visit func([]string)) {
	if len(items) <= 1 {
		visit(items)
		return
	}
	for i := range items {
		rest := slices.Delete(slices.Clone(items), i, i+1)
		permutations(rest, func(tail []string) { visit(append([]string{items[i]}, tail...)) })
	}
}

// Random interactions of people who share devices and addresses: what was
// decided equals what is replayed, and no invariant breaks.
func TestDecideEqualsReplay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, func(rules *Rules) {
			rules.MaxCustomerProfiles = 6
			rules.Kinds[KindEmail] = Kind{Strength: strengthStrong, Rank: 1, Limit: 2, SharedAbove: 5}
		})
		kinds := []string{"user_id=u%d", "email=e%d@b.example", "anonymous_id=a%d", "phone=+1415867530%d", "card=c%d"}
		for range 120 {
			var ids []string
			for range 1 + r.IntN(3) {
				ids = append(ids, fmt.Sprintf(kinds[r.IntN(len(kinds))], r.IntN(8)))
			}
			w.record(strings.Join(ids, " "))
			if r.IntN(10) == 0 {
				w.flush()
			}
		}
		for _, c := range w.customers() {
			require.LessOrEqual(t, strings.Count(c, "user_id="), 1, c)
			require.LessOrEqual(t, strings.Count(c, "email="), 2, c)
			require.LessOrEqual(t, len(strings.Fields(c)), 6, c)
		}
		w.requireReplayAgrees()
	}
}

// BenchmarkDecide decides interactions with three identifiers: ten a customer,
// of which the first links.
func BenchmarkDecide(b *testing.B) {
	w := newWorld(b, nil)
	const perCustomer = 10
	var events []*eventv1.Event
	for n := range 1000 {
		ev := &eventv1.Event{Id: eventName(n), Tenant: testTenant, Identifiers: spec(fmt.Sprintf("anonymous_id=a%d user_id=u%d email=e%d@b.example", n, n, n))}
		w.resolver.Stamp(ev)
		for range perCustomer {
			events = append(events, ev)
		}
	}
	derive := func(purpose string) string { return purpose }
	b.ReportAllocs()
	position := uint64(1)
	i := 0
	for b.Loop() {
		if i == len(events) {
			i = 0
			w.graph.Discard()
		}
		d, err := w.graph.Decide(events[i], position, derive)
		if err != nil {
			b.Fatal(err)
		}
		position += uint64(len(d)) + 1
		i++
	}
}

// BenchmarkStamp normalises three identifiers and names their profiles.
func BenchmarkStamp(b *testing.B) {
	r := newTestResolver(b, nil)
	ids := spec("anonymous_id=5f3c7d80 user_id=u-4711 email=Ada.Lovelace@example.com")
	b.ReportAllocs()
	for b.Loop() {
		ev := eventv1.Event{Tenant: testTenant, Identifiers: ids}
		r.Stamp(&ev)
	}
}
