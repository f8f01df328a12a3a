package identity

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

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
}

func newWorld(t testing.TB, change func(*Rules)) *world {
	t.Helper()
	w := &world{t: t, resolver: newTestResolver(t, change), state: NewMemory(), names: map[string]string{}}
	w.graph = NewGraph(w.resolver.Rules(), w.state)
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

// record takes one interaction and gives the decisions as text.
func (w *world) record(text string) string {
	w.t.Helper()
	payload := &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{}}}
	if rest, ok := strings.CutPrefix(text, "alias "); ok {
		text = rest
		payload = &eventv1.Payload{Kind: &eventv1.Payload_IdentityStated{IdentityStated: &eventv1.IdentityStated{Statement: "alias"}}}
	}
	ev := &eventv1.Event{Id: fmt.Sprintf("event-%d", len(w.log)), Tenant: testTenant, Identifiers: spec(text), Payload: payload}
	w.resolver.Stamp(ev)
	for _, id := range ev.GetIdentifiers() {
		w.names[id.GetProfileId()] = id.GetKind() + "=" + id.GetValue()
	}
	decisions, err := w.graph.Decide(ev, uint64(len(w.log)+1), func(purpose string) string { return ev.GetId() + "/" + purpose })
	require.NoError(w.t, err)
	var said []string
	for _, d := range decisions {
		w.log = append(w.log, &eventv1.Event{
			Id: d.ID, Tenant: testTenant, Type: d.Type, ProfileId: d.ProfileID, Payload: d.Payload, Identifiers: d.Identifiers,
		})
		said = append(said, w.say(d.Payload))
	}
	w.log = append(w.log, ev)
	return strings.Join(said, "; ")
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
	g := NewGraph(w.resolver.Rules(), m)
	for i, ev := range w.log {
		position := uint64(i + 1)
		if IsIdentityType(ev.GetType()) {
			require.NoError(w.t, g.Apply(ev, position))
		} else {
			require.NoError(w.t, g.See(ev.GetTenant(), ev.GetProfileId(), position))
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
		require.Empty(w.t, cmp.Diff(w.state.edges, m.edges, cmp.AllowUnexported(edgeKey{})), "flushed every %d", every)
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
				r.Kinds[KindEmail] = Kind{Strength: strengthStrong, Rank: 1, Limit: 2}
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
	require.Equal(t, "event-0", l.GetEvidenceEventId())
	require.NotContains(t, l.GetReason(), "secret-visitor")
	require.Equal(t, w.log[0].GetId(), w.log[1].GetPayload().GetCustomersMerged().GetLinkEventId())
	w.record("user_id=7 email=ada@b.example")
	require.Equal(t, eventv1.LinkRule_LINK_RULE_SAME_EVENT, w.log[3].GetPayload().GetLinkAsserted().GetRule())
}

// put appends an event that no interaction caused, as a command would.
func (w *world) put(payload *eventv1.Payload, eventType string) {
	w.t.Helper()
	ev := &eventv1.Event{Id: fmt.Sprintf("command-%d", len(w.log)), Tenant: testTenant, Type: eventType, Payload: payload}
	w.log = append(w.log, ev)
	require.NoError(w.t, w.graph.Apply(ev, uint64(len(w.log))))
}

func (w *world) profileID(name string) string {
	kind, value, _ := strings.Cut(name, "=")
	return ProfileID(testSecret, testTenant, kind, value)
}

func TestSplitStaysSplit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("anonymous_id=a")
	w.record("user_id=7 anonymous_id=a")
	w.record("user_id=7 email=ada@b.example")
	w.put(&eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
		CustomerId: w.profileID("anonymous_id=a"), NewCustomerId: w.profileID("user_id=7"),
		MovedProfileIds: []string{w.profileID("user_id=7"), w.profileID("email=ada@b.example")},
	}}}, TypeCustomersSplit)
	require.Equal(t, []string{"anonymous_id=a", "email=ada@b.example user_id=7"}, w.customers())
	require.Equal(t, "user_id=7", w.customer("email=ada@b.example"))
	require.Empty(t, w.record("user_id=7 anonymous_id=a"), "a person decided it")
	require.Equal(t, []string{"anonymous_id=a", "email=ada@b.example user_id=7"}, w.customers())

	// The user id went with the split, so the visitor may become somebody else.
	require.Equal(t, "user_id=8 ~ anonymous_id=a; anonymous_id=a < user_id=8 1", w.record("user_id=8 anonymous_id=a"))
	w.requireReplayAgrees()

	// And all of it joined again.
	w.put(&eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
		CustomerId: w.profileID("anonymous_id=a"), AbsorbedCustomerId: w.profileID("user_id=7"),
		AbsorbedProfileIds: []string{w.profileID("user_id=7"), w.profileID("email=ada@b.example")},
	}}}, TypeCustomersMerged)
	require.Equal(t, []string{"anonymous_id=a email=ada@b.example user_id=7 user_id=8"}, w.customers())
	w.requireReplayAgrees()
}

func TestToldApartStaysApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7")
	w.record("email=ada@b.example")
	w.put(&eventv1.Payload{Kind: &eventv1.Payload_LinkRefused{LinkRefused: &eventv1.LinkRefused{
		ProfileId: w.profileID("user_id=7"), OtherProfileId: w.profileID("email=ada@b.example"),
		Refusal: eventv1.LinkRefusal_LINK_REFUSAL_DECIDED,
	}}}, TypeLinkRefused)
	require.Empty(t, w.record("user_id=7 email=ada@b.example"))
	require.Len(t, w.customers(), 2)
	w.requireReplayAgrees()
}

func TestRefusedPairIsLinkedOnceItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7 anonymous_id=a")
	require.Equal(t, "user_id=8 | anonymous_id=a TWO_USER_IDS", w.record("user_id=8 anonymous_id=a"))
	w.put(&eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
		CustomerId: w.profileID("user_id=7"), NewCustomerId: w.profileID("anonymous_id=a"),
		MovedProfileIds: []string{w.profileID("anonymous_id=a")},
	}}}, TypeCustomersSplit)
	require.Equal(t, "user_id=8 ~ anonymous_id=a; anonymous_id=a < user_id=8 1", w.record("user_id=8 anonymous_id=a"))
	require.Equal(t, []string{"anonymous_id=a user_id=8", "user_id=7"}, w.customers())
	w.requireReplayAgrees()
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
			rules.Kinds[KindEmail] = Kind{Strength: strengthStrong, Rank: 1, Limit: 2}
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

func TestRecordsRoundTrip(t *testing.T) {
	t.Parallel()
	p := Profile{First: 77, Customer: "c", Kind: "email"}
	data, err := p.AppendBinary(nil)
	require.NoError(t, err)
	var p2 Profile
	require.NoError(t, p2.UnmarshalBinary(data))
	require.Equal(t, p, p2)

	c := Customer{First: 1, Members: []string{"a", "b"}, Kinds: []KindCount{{"email", 2}}}
	data, err = c.AppendBinary(nil)
	require.NoError(t, err)
	var c2 Customer
	require.NoError(t, c2.UnmarshalBinary(data))
	require.Equal(t, c, c2)
	require.ErrorIs(t, c2.UnmarshalBinary(data[:len(data)-1]), errRecord)
	require.ErrorIs(t, c2.UnmarshalBinary(append(data, 0)), errRecord)

	e := Edge{Refused: eventv1.LinkRefusal_LINK_REFUSAL_DECIDED}
	data, err = e.AppendBinary(nil)
	require.NoError(t, err)
	var e2 Edge
	require.NoError(t, e2.UnmarshalBinary(data))
	require.Equal(t, e, e2)
}

func FuzzRecords(f *testing.F) {
	data, err := Customer{First: 1, Members: []string{"a"}, Kinds: []KindCount{{"email", 1}}}.AppendBinary(nil)
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Customer
		if c.UnmarshalBinary(data) == nil {
			again, err := c.AppendBinary(nil)
			require.NoError(t, err)
			var c2 Customer
			require.NoError(t, c2.UnmarshalBinary(again))
			require.Equal(t, c, c2)
		}
		var p Profile
		_ = p.UnmarshalBinary(data) // only must not panic
		var e Edge
		_ = e.UnmarshalBinary(data) // only must not panic
	})
}

// BenchmarkDecide decides interactions with three identifiers: ten a customer,
// of which the first links.
func BenchmarkDecide(b *testing.B) {
	w := newWorld(b, nil)
	const perCustomer = 10
	var events []*eventv1.Event
	for n := range 1000 {
		ev := &eventv1.Event{Id: fmt.Sprint(n), Tenant: testTenant, Identifiers: spec(fmt.Sprintf("anonymous_id=a%d user_id=u%d email=e%d@b.example", n, n, n))}
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
