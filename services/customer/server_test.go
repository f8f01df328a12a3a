package customer_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func requireReason(t *testing.T, code codes.Code, reason errorv1.Reason, err error) {
	t.Helper()
	require.Equal(t, code, rpcerr.CodeOf(err), "%v", err)
	require.Equal(t, reason, rpcerr.ReasonOf(err), "%v", err)
}

// ada browses, says who she is, orders, and comes back on another device.
func ada(h *house) string {
	h.record(said{at: 0, ids: []string{"anonymous_id", "laptop"}, payload: page("/")})
	h.record(said{at: 1, ids: []string{"anonymous_id", "laptop"}, payload: page("/pricing")})
	h.record(said{
		at: 2, ids: []string{"anonymous_id", "laptop", "user_id", "u1", "email", "Ada@Example.com"},
		payload: traits("firstName", `"Ada"`, "lastName", `"Lovelace"`, "plan", `"free"`),
	})
	h.record(said{at: 3, ids: []string{"anonymous_id", "laptop", "user_id", "u1"}, payload: order("A-4711", eur(39, 90))})
	h.record(said{at: 4, ids: []string{"anonymous_id", "tablet"}, payload: page("/app")})
	h.record(said{at: 5, ids: []string{"anonymous_id", "tablet", "user_id", "u1"}, payload: traits("plan", `"pro"`)})
	return h.record(said{
		at: 6, channel: "email", direction: eventv1.Direction_DIRECTION_OUTBOUND, ids: []string{"email", "ada@example.com"},
		payload: &eventv1.Payload{Kind: &eventv1.Payload_EmailSent{EmailSent: &eventv1.EmailSent{Subject: "Your order"}}},
	})
}

func TestOnePersonIsOneCustomer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := ada(h)
	c := h.get("anonymous_id", "tablet", tok)
	require.Equal(t, h.profile("anonymous_id", "laptop"), c.GetCustomerId(), "the oldest profile names the customer")
	require.Len(t, c.GetProfileIds(), 4)
	require.Equal(t, c.GetCustomerId(), c.GetProfileIds()[0])
	require.Equal(t, "Ada Lovelace", c.GetDisplayName())
	var ids []string
	for _, id := range c.GetIdentifiers() {
		ids = append(ids, fmt.Sprintf("%s %s ×%d", id.GetKind(), id.GetValue(), id.GetEventCount()))
	}
	require.Equal(t, []string{
		"user_id u1 ×3", "email ada@example.com ×2", "anonymous_id tablet ×2", "anonymous_id laptop ×4",
	}, ids)
	var known []string
	for _, trait := range c.GetTraits() {
		known = append(known, trait.GetName()+"="+trait.GetValueJson())
	}
	require.Equal(t, []string{`firstName="Ada"`, `lastName="Lovelace"`, `plan="pro"`}, known)
	require.EqualValues(t, 7, c.GetInteractionCount())
	require.Equal(t, "web", c.GetPreferredChannel())
	require.Equal(t, []string{
		"09:00:06 mail went out “Your order”",
		"09:00:05 told plan",
		"09:00:04 viewed /app",
		"09:00:03 ordered A-4711 for 39.90 EUR",
		"09:00:02 told firstName, lastName, plan",
		"09:00:01 viewed /pricing",
		"09:00:00 viewed /",
	}, summaries(c.GetRecentInteractions()))
	require.Len(t, c.GetLinks(), 3)
	require.EqualValues(t, 1, c.GetOrders().GetCount())
	require.Equal(t, "A-4711", c.GetOrders().GetLastOrder().GetOrderId())
	require.Nil(t, c.GetWorking(), "what the fold keeps for itself is not served")
	for _, profile := range c.GetProfileIds() {
		again, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{CustomerId: profile})
		require.NoError(t, err)
		require.True(t, proto.Equal(c, again.GetCustomer()))
	}
}

// TestAnyOrderOfArrival records the same in every order and gets the same
// customer, but for whom the log saw first.
func TestAnyOrderOfArrival(t *testing.T) {
	t.Parallel()
	story := []said{
		{at: 1, ids: []string{"anonymous_id", "laptop", "user_id", "u1"}, payload: traits("plan", `"free"`, "phone", `"1"`)},
		{at: 2, ids: []string{"user_id", "u1"}, payload: traits("plan", `"pro"`, "phone", `null`)},
		{at: 3, ids: []string{"anonymous_id", "laptop"}, payload: order("o1", eur(10, 0))},
		{at: 4, ids: []string{"user_id", "u1"}, payload: refund("o1", nil)},
	}
	var want *customerv1.Customer
	h := newHouse(t)
	for n, order := range permutations(len(story)) {
		var tok string
		user := fmt.Sprint("u", n)
		for _, i := range order {
			s := story[i]
			s.ids = slices.Clone(s.ids)
			for j := range s.ids {
				if s.ids[j] == "u1" {
					s.ids[j] = user
				}
				if s.ids[j] == "laptop" {
					s.ids[j] = fmt.Sprint("laptop", n)
				}
			}
			tok = h.record(s)
		}
		got := anonymised(h.get("user_id", user, tok))
		if want == nil {
			want = got
		}
		require.True(t, proto.Equal(want, got), "in order %v\nwant %v\ngot  %v", order, want, got)
	}
	require.Equal(t, []string{"plan"}, []string{want.GetTraits()[0].GetName()})
	require.Len(t, want.GetTraits(), 1)
	require.True(t, proto.Equal(eur(10, 0), want.GetOrders().GetRefunds()[0]), "got %v", want.GetOrders())
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, shorter := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}

// anonymised leaves out what must differ: ids and positions.
func anonymised(c *customerv1.Customer) *customerv1.Customer {
	c.CustomerId, c.ProfileIds, c.Links, c.DisplayName = "", nil, nil, ""
	for _, id := range c.GetIdentifiers() {
		id.Value, id.ProfileId = "", ""
	}
	for _, trait := range c.GetTraits() {
		trait.EventId = ""
	}
	c.Orders.LastOrder.EventId = ""
	for _, line := range c.GetRecentInteractions() {
		line.EventId, line.Position, line.ProfileId = "", 0, ""
	}
	return c
}

func TestSplitUndoesAMerge(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{at: 0, ids: []string{"anonymous_id", "a"}, payload: page("/1")})
	tok := h.record(said{at: 1, ids: []string{"user_id", "u1"}, payload: page("/2")})
	before := h.get("anonymous_id", "a", tok)
	tok = h.record(said{at: 2, ids: []string{"anonymous_id", "a", "user_id", "u1"}, payload: page("/3")})
	merged := h.get("user_id", "u1", tok)
	require.EqualValues(t, 3, merged.GetInteractionCount())
	tok = h.split(merged.GetCustomerId(), h.profile("user_id", "u1"))
	old := h.get("anonymous_id", "a", tok)
	require.Equal(t, before.GetInteractionCount(), old.GetInteractionCount())
	require.Equal(t, before.GetCustomerId(), old.GetCustomerId())
	apart := h.get("user_id", "u1", tok)
	require.Equal(t, h.profile("user_id", "u1"), apart.GetCustomerId())
	require.EqualValues(t, 2, apart.GetInteractionCount())
}

func TestGetCustomerRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := ada(h)
	c := h.get("user_id", "u1", tok)
	_, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{CustomerId: "nobody"})
	requireReason(t, codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, err)
	_, err = h.client.GetCustomer(h.call("other"), &customerv1.GetCustomerRequest{CustomerId: c.GetCustomerId()})
	requireReason(t, codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, err)
	_, err = h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{CustomerId: "a\x00b"})
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, err)
	_, err = h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{
		CustomerId: c.GetCustomerId(), ConsistencyToken: token.NewConsistency(uuid.New(), 1).String(),
	})
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, err)
	_, err = h.server.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{CustomerId: c.GetCustomerId()})
	requireReason(t, codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, err)
}

func TestReadMasks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	whole := h.get("user_id", "u1", ada(h))
	for _, tc := range []struct {
		name  string
		paths []string
		want  *customerv1.Customer
	}{
		{"empty is everything", nil, whole},
		{"a star is everything", []string{"*"}, whole},
		{"one field", []string{"display_name"}, &customerv1.Customer{DisplayName: whole.GetDisplayName()}},
		{
			"nested", []string{"orders.count", "orders.last_order.order_id", "first_seen_time.seconds", "traits"},
			&customerv1.Customer{
				Orders: &customerv1.OrderSummary{Count: 1, LastOrder: &customerv1.LastOrder{OrderId: "A-4711"}},
				Traits: whole.GetTraits(), FirstSeenTime: &timestamppb.Timestamp{Seconds: whole.GetFirstSeenTime().GetSeconds()},
			},
		},
		{"the shorter path wins", []string{"orders", "orders.count"}, &customerv1.Customer{Orders: whole.GetOrders()}},
		{"also behind the longer", []string{"orders.count", "orders"}, &customerv1.Customer{Orders: whole.GetOrders()}},
		{"what is not there", []string{"consents"}, &customerv1.Customer{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{
				CustomerId: whole.GetCustomerId(), ReadMask: &fieldmaskpb.FieldMask{Paths: tc.paths},
			})
			require.NoError(t, err)
			require.True(t, proto.Equal(tc.want, got.GetCustomer()), "want %v\ngot  %v", tc.want, got.GetCustomer())
		})
	}
	for _, path := range []string{"", "nothing", "orders.nothing", "identifiers.kind", "display_name.x", "orders.", "*.x"} {
		_, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{
			CustomerId: whole.GetCustomerId(), ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"orders", path}},
		})
		requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, err)
		require.Equal(t, "read_mask.paths[1]", rpcerr.ViolationsOf(err)[0].Field)
	}
}

func TestBatchGet(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	c := h.get("user_id", "u1", ada(h))
	tok := h.record(said{ids: []string{"user_id", "u2"}})
	other := h.get("user_id", "u2", tok)
	for _, read := range []*fieldmaskpb.FieldMask{nil, {Paths: []string{"customer_id"}}} {
		answer, err := h.client.BatchGetCustomers(h.call("acme"), &customerv1.BatchGetCustomersRequest{
			CustomerIds: []string{"x", other.GetCustomerId(), h.profile("email", "ada@example.com"), "y", c.GetCustomerId(), "x"}, ReadMask: read,
		})
		require.NoError(t, err)
		require.Equal(t, []string{"x", "y"}, answer.GetMissingIds())
		require.Len(t, answer.GetCustomers(), 2)
		require.Equal(t, other.GetCustomerId(), answer.GetCustomers()[0].GetCustomerId())
		require.Equal(t, c.GetCustomerId(), answer.GetCustomers()[1].GetCustomerId())
		require.Equal(t, read == nil, answer.GetCustomers()[1].GetDisplayName() != "")
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada(h)
	// Two who write from the same role address, and one who gives Ada's.
	h.record(said{ids: []string{"user_id", "u2", "email", "info@example.com"}})
	h.record(said{ids: []string{"user_id", "u3", "email", "info@example.com"}})
	tok := h.record(said{at: 1000, ids: []string{"user_id", "u4", "email", "ada@example.com"}})
	lookup := func(kind, value string) ([]string, error) {
		answer, err := h.client.LookupCustomer(h.call("acme"), &customerv1.LookupCustomerRequest{
			Kind: kind, Value: value, ConsistencyToken: tok, ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"identifiers"}},
		})
		var got []string
		for _, match := range answer.GetMatches() {
			require.Empty(t, match.GetCustomer().GetCustomerId(), "the mask leaves it out")
			got = append(got, match.GetCustomer().GetIdentifiers()[0].GetValue()+" "+match.GetStrength().String()[len("IDENTIFIER_STRENGTH_"):])
		}
		return got, err
	}
	for _, tc := range []struct {
		kind, value string
		want        []string
	}{
		{"user_id", "u1", []string{"u1 UNIQUE"}},
		{"anonymous_id", "laptop", []string{"u1 WEAK"}},
		{"email", " ADA@example.COM ", []string{"u1 STRONG", "u4 SHARED"}},
		{"email", "nobody@example.com", nil},
		{"email", "null", nil},
	} {
		got, err := lookup(tc.kind, tc.value)
		require.NoError(t, err)
		require.Equal(t, tc.want, got, "%s %s", tc.kind, tc.value)
	}
	got, err := lookup("email", "info@example.com")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"u2 SHARED", "u3 SHARED"}, got)
	_, err = lookup("email", "no address")
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, err)
}

// While customers merge and split, nobody is in the answer twice.
func TestLookupIsOfOneState(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada(h)
	begun := h.record(said{ids: []string{"user_id", "u4", "email", "ada@example.com"}})
	survivor, other := h.profile("anonymous_id", "laptop"), h.profile("user_id", "u4")
	merged := &eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
		CustomerId: survivor, AbsorbedCustomerId: other, AbsorbedProfileIds: []string{other},
	}}}
	done := make(chan string)
	go func() {
		tok := ""
		for range 300 {
			ev := &eventv1.Event{
				Id: uuid.NewString(), Tenant: "acme", Source: "parley/ops", Channel: "identity", ProfileId: survivor, Payload: merged,
			}
			event.SetOccurred(ev, opening, opening, false)
			h.append(event.IdentityStream("acme"), ev)
			tok = h.split(survivor, other)
		}
		done <- tok
	}()
	apart, together := 0, 0
	lookup := func(tok string) {
		answer, err := h.client.LookupCustomer(h.call("acme"), &customerv1.LookupCustomerRequest{
			Kind: "email", Value: "ada@example.com", ConsistencyToken: tok,
		})
		require.NoError(t, err)
		seen := map[string]bool{}
		for _, match := range answer.GetMatches() {
			for _, profile := range match.GetCustomer().GetProfileIds() {
				require.False(t, seen[profile], "twice in %v", answer)
				seen[profile] = true
			}
		}
		require.True(t, seen[survivor] && seen[other], "missing in %v", answer)
		if len(answer.GetMatches()) == 1 {
			together++
		} else {
			apart++
		}
	}
	for {
		select {
		case tok := <-done:
			lookup(tok)
			require.Positive(t, apart)
			return
		default:
			lookup(begun)
		}
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ada(h)
	tok := h.record(said{
		ids: []string{"user_id", "u2", "phone", "+49 170 1234567"}, payload: traits("name", `"Zoë Ångström"`, "company", `{"name":"Acme Räder"}`),
	})
	search := func(query string) []string {
		answer, err := h.client.SearchCustomers(h.call("acme"), &customerv1.SearchCustomersRequest{Query: query, ConsistencyToken: tok})
		require.NoError(t, err)
		names := []string{}
		for _, c := range answer.GetCustomers() {
			names = append(names, c.GetDisplayName())
		}
		return names
	}
	one, two := []string{"Ada Lovelace"}, []string{"Zoë Ångström"}
	for query, want := range map[string][]string{
		"love": one, "LOVELACE ada": one, "ada@exa": one, "A-4711": one, "4711": one, "a4711": one,
		"zoe": two, "angstrom": two, "räder": two, "1234567": two, "0170 1234567": two, "+49 (170) 123-45": two, "0049170": two,
		"lovelace zoe": {}, "nobody": {}, "free": {},
	} {
		require.Equal(t, want, search(query), "query %q", query)
	}
	_, err := h.client.SearchCustomers(h.call("acme"), &customerv1.SearchCustomersRequest{Query: "  a "})
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD, err)
	other, err := h.client.SearchCustomers(h.call("other"), &customerv1.SearchCustomersRequest{Query: "lovelace"})
	require.NoError(t, err)
	require.Empty(t, other.GetCustomers())
}

func TestSearchPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var tok string
	const people = 25
	for i := range people {
		tok = h.record(said{ids: []string{"user_id", fmt.Sprint("u", i)}, payload: traits("name", fmt.Sprintf(`"Smith %d"`, i))})
	}
	seen := map[string]bool{}
	req := &customerv1.SearchCustomersRequest{Query: "smith", PageSize: 4, ConsistencyToken: tok}
	for pages := 0; ; pages++ {
		require.Less(t, pages, people)
		answer, err := h.client.SearchCustomers(h.call("acme"), req)
		require.NoError(t, err)
		require.LessOrEqual(t, len(answer.GetCustomers()), 4)
		for _, c := range answer.GetCustomers() {
			require.False(t, seen[c.GetCustomerId()], "twice")
			seen[c.GetCustomerId()] = true
		}
		if pages == 1 {
			h.record(said{ids: []string{"user_id", "later"}, payload: traits("name", `"Jones"`)})
		}
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
		for _, wrong := range []*customerv1.SearchCustomersRequest{
			{Query: "smyth", PageToken: req.GetPageToken()}, {Query: "smith", PageToken: "garbage"},
		} {
			_, err := h.client.SearchCustomers(h.call("acme"), wrong)
			requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, err)
		}
		_, err = h.client.SearchCustomers(h.call("other"), req)
		requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, err)
	}
	require.Len(t, seen, people)
}

func TestATokenIsWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i := range 50 {
		tok := h.record(said{at: i, ids: []string{"user_id", "u1"}})
		require.EqualValues(t, i+1, h.get("user_id", "u1", tok).GetInteractionCount())
	}
}
