package customer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/customer"
)

func (h *house) merge(a, b string) *customerv1.MergeCustomersResponse {
	h.t.Helper()
	answer, err := h.client.MergeCustomers(h.call("acme"), &customerv1.MergeCustomersRequest{
		CustomerId: a, OtherCustomerId: b, Reason: "she told us", Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: "kim"},
	})
	require.NoError(h.t, err)
	return answer
}

func (h *house) explain(id, tok string) *customerv1.ExplainIdentityResponse {
	h.t.Helper()
	answer, err := h.client.ExplainIdentity(h.call("acme"), &customerv1.ExplainIdentityRequest{CustomerId: id, ConsistencyToken: tok})
	require.NoError(h.t, err)
	return answer
}

func (h *house) eventsOf(id, tok string) []string {
	h.t.Helper()
	answer, err := h.client.ListTimeline(h.call("acme"), &customerv1.ListTimelineRequest{CustomerId: id, ConsistencyToken: tok, PageSize: 500})
	require.NoError(h.t, err)
	var lines []string
	for _, row := range answer.GetInteractions() {
		lines = append(lines, row.GetEventId())
	}
	return lines
}

// A split right after a merge leaves every document and every timeline as it was.
func TestMergeAndUndo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{ids: []string{"user_id", "u1", "anonymous_id", "laptop"}, payload: traits("firstName", `"Ada"`, "plan", `"pro"`)})
	h.record(said{at: 5, ids: []string{"anonymous_id", "laptop"}, payload: order("A-1", eur(10, 0))})
	h.record(said{at: 6, ids: []string{"user_id", "u2", "email", "ada@example.com"}, payload: traits("firstName", `"A."`, "city", `"London"`)})
	tok := h.record(said{at: 7, ids: []string{"user_id", "u2"}, payload: order("A-2", eur(5, 0))})
	one, two := h.get("user_id", "u1", tok), h.get("user_id", "u2", tok)
	lines := [][]string{h.eventsOf(one.GetCustomerId(), tok), h.eventsOf(two.GetCustomerId(), tok)}

	merged := h.merge(two.GetCustomerId(), h.profile("anonymous_id", "laptop"))
	require.Equal(t, one.GetCustomerId(), merged.GetCustomerId(), "the older one survives")
	require.Equal(t, two.GetCustomerId(), merged.GetAbsorbedCustomerId())
	whole := h.get("user_id", "u2", merged.GetConsistencyToken())
	require.Equal(t, one.GetCustomerId(), whole.GetCustomerId())
	require.EqualValues(t, 2, whole.GetOrders().GetCount())
	require.Len(t, whole.GetProfileIds(), 4)
	require.Len(t, h.eventsOf(whole.GetCustomerId(), merged.GetConsistencyToken()), 4)

	explained := h.explain(whole.GetCustomerId(), merged.GetConsistencyToken())
	last := explained.GetDecisions()[len(explained.GetDecisions())-1]
	require.Equal(t, customerv1.IdentityAction_IDENTITY_ACTION_MERGED, last.GetAction())
	require.Equal(t, eventv1.GroupingRule_GROUPING_RULE_DECIDED, last.GetRule())
	require.Equal(t, "kim", last.GetActor().GetId())
	require.Equal(t, "she told us", last.GetReason())
	require.Equal(t, merged.GetEventId(), last.GetEventId())

	undone, err := h.client.SplitCustomer(h.call("acme"), &customerv1.SplitCustomerRequest{
		CustomerId: whole.GetCustomerId(), UndoMergeEventId: merged.GetEventId(), Reason: "another Ada",
	})
	require.NoError(t, err)
	require.Equal(t, two.GetCustomerId(), undone.GetNewCustomerId())
	tok = undone.GetConsistencyToken()
	for i, before := range []*customerv1.Customer{one, two} {
		after := h.get("user_id", fmt.Sprint("u", i+1), tok)
		require.Empty(t, diff(before, after))
		require.Equal(t, lines[i], h.eventsOf(after.GetCustomerId(), tok))
	}
}

// diff says how two documents differ.
func diff(a, b proto.Message) string {
	if proto.Equal(a, b) {
		return ""
	}
	return fmt.Sprintf("%v\n%v", a, b)
}

// What was linked to either side after the merge goes with its side.
func TestUndoMergeTakesLaterProfilesAlong(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{ids: []string{"user_id", "u1", "email", "one@example.com"}})
	tok := h.record(said{at: 1, ids: []string{"user_id", "u2", "email", "two@example.com"}})
	merged := h.merge(h.get("user_id", "u1", tok).GetCustomerId(), h.get("user_id", "u2", tok).GetCustomerId())
	h.record(said{at: 2, ids: []string{"email", "two@example.com", "anonymous_id", "phone-of-two"}})
	h.record(said{at: 3, ids: []string{"anonymous_id", "phone-of-two", "anonymous_id", "tablet-of-two"}})
	tok = h.record(said{at: 4, ids: []string{"user_id", "u1", "anonymous_id", "laptop-of-one"}})
	require.Len(t, h.get("user_id", "u1", tok).GetProfileIds(), 7)
	undone, err := h.client.SplitCustomer(h.call("acme"), &customerv1.SplitCustomerRequest{
		CustomerId: merged.GetCustomerId(), UndoMergeEventId: merged.GetEventId(), Reason: "two people",
	})
	require.NoError(t, err)
	tok = undone.GetConsistencyToken()
	require.Equal(t, []string{"anonymous_id laptop-of-one", "email one@example.com", "user_id u1"}, h.names("user_id", "u1", tok))
	require.Equal(t, []string{"anonymous_id phone-of-two", "anonymous_id tablet-of-two", "email two@example.com", "user_id u2"}, h.names("user_id", "u2", tok))
}

// names are the profiles of a customer by their identifiers.
func (h *house) names(kind, value, tok string) []string {
	h.t.Helper()
	var out []string
	for _, p := range h.explain(h.profile(kind, value), tok).GetProfiles() {
		out = append(out, p.GetKind()+" "+p.GetValue())
	}
	slices.Sort(out)
	return out
}

// Whom a person told apart no evidence brings together, and a decision tells so.
func TestKeepApart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{ids: []string{"user_id", "u1"}})
	h.record(said{at: 1, ids: []string{"email", "ada@example.com"}})
	u1, ada := h.profile("user_id", "u1"), h.profile("email", "ada@example.com")
	apart, err := h.client.KeepCustomersApart(h.call("acme"), &customerv1.KeepCustomersApartRequest{CustomerId: u1, OtherCustomerId: ada, Reason: "twins"})
	require.NoError(t, err)
	tok := h.record(said{at: 2, ids: []string{"user_id", "u1", "email", "ada@example.com"}})
	require.NotEqual(t, h.get("user_id", "u1", tok).GetCustomerId(), h.get("email", "ada@example.com", tok).GetCustomerId())
	for _, id := range []string{u1, ada} {
		got := h.explain(id, tok)
		require.Equal(t, apart.GetEventId(), got.GetDecisions()[0].GetEventId())
		require.Equal(t, "twins", got.GetDecisions()[0].GetReason())
		require.Equal(t, eventv1.LinkRefusal_LINK_REFUSAL_DECIDED, got.GetLinks()[0].GetRefusal())
	}
	_, err = h.client.KeepCustomersApart(h.call("acme"), &customerv1.KeepCustomersApartRequest{CustomerId: u1, OtherCustomerId: u1, Reason: "r"})
	require.Equal(t, errorv1.Reason_REASON_SAME_CUSTOMER, rpcerr.ReasonOf(err))
}

func TestExplainIdentity(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{ids: []string{"user_id", "u1", "anonymous_id", "laptop"}})
	h.record(said{at: 1, ids: []string{"user_id", "u1", "email", "ada@example.com"}})
	tok := h.record(said{at: 2, ids: []string{"user_id", "u2", "anonymous_id", "laptop"}})
	got := h.explain(h.profile("email", "ada@example.com"), tok)
	require.Equal(t, h.get("user_id", "u1", tok).GetCustomerId(), got.GetCustomerId())
	require.Len(t, got.GetProfiles(), 3)
	require.Equal(t, "user_id", got.GetProfiles()[0].GetKind(), "the oldest first")
	var links []string
	for _, l := range got.GetLinks() {
		line := "made"
		if l.GetRefusal() != 0 {
			line = l.GetRefusal().String()
		}
		if l.GetInForce() {
			line += " in force"
		}
		if l.GetOtherCustomerId() != "" {
			require.Equal(t, h.profile("user_id", "u2"), l.GetOtherCustomerId())
			line += " with another"
		}
		require.NotNil(t, l.GetEvidenceTime())
		require.NotEmpty(t, l.GetEvidenceEventId())
		links = append(links, line)
	}
	require.Equal(t, []string{"made in force", "made in force", "LINK_REFUSAL_TWO_USER_IDS with another"}, links)
	require.Len(t, got.GetDecisions(), 2)
	// The other side tells the same of it.
	other := h.explain(h.profile("user_id", "u2"), tok)
	require.Len(t, other.GetLinks(), 1)
	require.Equal(t, got.GetCustomerId(), other.GetLinks()[0].GetOtherCustomerId())
}

func TestIdentityErrors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{ids: []string{"user_id", "u1", "anonymous_id", "laptop"}})
	tok := h.record(said{ids: []string{"user_id", "u2"}})
	u1, u2, laptop := h.profile("user_id", "u1"), h.profile("user_id", "u2"), h.profile("anonymous_id", "laptop")
	h.get("user_id", "u2", tok)
	merge := func(a, b string) error {
		_, err := h.client.MergeCustomers(h.call("acme"), &customerv1.MergeCustomersRequest{CustomerId: a, OtherCustomerId: b, Reason: "r"})
		return err
	}
	split := func(req *customerv1.SplitCustomerRequest) error {
		req.Reason = "r"
		_, err := h.client.SplitCustomer(h.call("acme"), req)
		return err
	}
	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		reason errorv1.Reason
	}{
		"with oneself":      {merge(u1, u1), codes.FailedPrecondition, errorv1.Reason_REASON_SAME_CUSTOMER},
		"with one's own":    {merge(u1, laptop), codes.FailedPrecondition, errorv1.Reason_REASON_SAME_CUSTOMER},
		"with nobody":       {merge(u1, "nobody"), codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND},
		"never joined":      {split(&customerv1.SplitCustomerRequest{CustomerId: u1, ProfileIds: []string{u2}}), codes.FailedPrecondition, errorv1.Reason_REASON_NOT_A_PROFILE_OF_CUSTOMER},
		"nothing stays":     {split(&customerv1.SplitCustomerRequest{CustomerId: u2, ProfileIds: []string{u2}}), codes.FailedPrecondition, errorv1.Reason_REASON_NOTHING_TO_SPLIT},
		"names nothing":     {split(&customerv1.SplitCustomerRequest{CustomerId: u1}), codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD},
		"no such merge":     {split(&customerv1.SplitCustomerRequest{CustomerId: u1, UndoMergeEventId: uuid.NewString()}), codes.NotFound, errorv1.Reason_REASON_EVENT_NOT_FOUND},
		"explain nobody":    {errOf(h.client.ExplainIdentity(h.call("acme"), &customerv1.ExplainIdentityRequest{CustomerId: "nobody"})), codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND},
		"of another tenant": {errOf(h.client.MergeCustomers(h.call("other"), &customerv1.MergeCustomersRequest{CustomerId: u1, OtherCustomerId: u2, Reason: "r"})), codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND},
	} {
		e, ok := rpcerr.Parse(c.err)
		require.True(t, ok, "%s: %v", name, c.err)
		require.Equal(t, c.code, e.Code, "%s: %s", name, e.Message)
		require.Equal(t, c.reason, e.Reason, name)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestRulesOverGRPC(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	got, err := h.client.GetIdentityRules(h.call("acme"), &customerv1.GetIdentityRulesRequest{})
	require.NoError(t, err)
	require.Empty(t, got.GetEventId())
	defaults := identity.DefaultRules()
	require.Empty(t, diff(defaults.Proto(), got.GetRules()))

	got.Rules.DefaultRegion = "AT"
	update, err := h.client.UpdateIdentityRules(h.call("acme"), &customerv1.UpdateIdentityRulesRequest{Rules: got.GetRules(), Reason: "we are Austrian"})
	require.NoError(t, err)
	now, err := h.client.GetIdentityRules(h.call("acme"), &customerv1.GetIdentityRulesRequest{ConsistencyToken: update.GetConsistencyToken()})
	require.NoError(t, err)
	require.Equal(t, "AT", now.GetRules().GetDefaultRegion())
	require.Equal(t, update.GetEventId(), now.GetEventId())

	// Reads go by the new rules as soon as they are there.
	h.resolver.ForgetRules()
	require.NoError(t, h.resolver.SetRules("acme", identity.RulesFromProto(now.GetRules())))
	tok := h.record(said{ids: []string{"phone", "01 58858"}})
	found, err := h.client.LookupCustomer(h.call("acme"), &customerv1.LookupCustomerRequest{Kind: "phone", Value: "01 58858", ConsistencyToken: tok})
	require.NoError(t, err)
	require.Len(t, found.GetMatches(), 1)
	require.Equal(t, "+43158858", found.GetMatches()[0].GetCustomer().GetIdentifiers()[0].GetValue())

	got.Rules.OtherKinds.Limit = 0
	_, err = h.client.UpdateIdentityRules(h.call("acme"), &customerv1.UpdateIdentityRulesRequest{Rules: got.GetRules(), Reason: "broken"})
	e, ok := rpcerr.Parse(err)
	require.True(t, ok)
	require.Equal(t, errorv1.Reason_REASON_INVALID_FIELD, e.Reason)
}

// mail is a mail from an address whose check came to this.
func mail(h *house, at int, from string, verdict eventv1.AuthenticationVerdict, replyTo string) string {
	h.t.Helper()
	received := &eventv1.EmailReceived{Subject: "Hello", From: []*eventv1.EmailAddress{{Address: from}}, Authentication: verdict}
	if replyTo != "" {
		received.ReplyTo = []*eventv1.EmailAddress{{Address: replyTo}}
	}
	assurance := map[eventv1.AuthenticationVerdict]eventv1.IdentifierAssurance{
		eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_FAIL: eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED,
		eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_NONE: eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNCHECKED,
	}[verdict]
	return h.record(said{
		at: at, channel: "email", ids: []string{"email", from}, assurance: assurance,
		payload: &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: received}},
	})
}

// A mail that fails authentication is a claim beside the customer, never in his
// timeline; one without a verdict is his, and marked.
func TestClaims(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{ids: []string{"user_id", "u1", "email", "ada@example.com"}})
	mail(h, 1, "ada@example.com", eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_PASS, "")
	mail(h, 2, "ada@example.com", eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_NONE, "")
	tok := mail(h, 3, "ada@example.com", eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_FAIL, "")

	answer, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{
		CustomerId: h.profile("user_id", "u1"), ConsistencyToken: tok, IncludeClaims: true,
	})
	require.NoError(t, err)
	ada := answer.GetCustomer()
	require.EqualValues(t, 3, ada.GetInteractionCount())
	require.Len(t, h.eventsOf(ada.GetCustomerId(), tok), 3)
	require.Equal(t, eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_NONE, ada.GetRecentInteractions()[0].GetAuthentication())
	require.Len(t, answer.GetClaims(), 1)
	claim := answer.GetClaims()[0]
	require.Equal(t, "ada@example.com", claim.GetValue())
	require.EqualValues(t, 1, claim.GetInteractionCount())
	require.NotEqual(t, ada.GetCustomerId(), claim.GetCustomerId())
	require.Len(t, h.eventsOf(claim.GetCustomerId(), tok), 1)
	require.Empty(t, diff(claim, h.explain(ada.GetCustomerId(), tok).GetClaims()[0]))

	// Who asks by address gets the customer first and the claim behind him.
	found, err := h.client.LookupCustomer(h.call("acme"), &customerv1.LookupCustomerRequest{Kind: "email", Value: "ada@example.com", ConsistencyToken: tok})
	require.NoError(t, err)
	require.Len(t, found.GetMatches(), 2)
	require.Equal(t, ada.GetCustomerId(), found.GetMatches()[0].GetCustomer().GetCustomerId())
	require.Equal(t, eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED, found.GetMatches()[1].GetCustomer().GetIdentifiers()[0].GetAssurance())

	// Without being asked for they do not come.
	answer, err = h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{CustomerId: ada.GetCustomerId()})
	require.NoError(t, err)
	require.Empty(t, answer.GetClaims())
}

// Where an answer goes is the conversation's own: a merge and a split change
// nothing of it.
func TestReplyAddressStaysTheConversations(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	mail(h, 1, "ada@home.example", eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_PASS, "")
	tok := mail(h, 2, "ada@work.example", eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_PASS, "desk@work.example")
	want := []string{"desk@work.example", "ada@home.example"}
	merged := h.merge(h.profile("email", "ada@home.example"), h.profile("email", "ada@work.example"))
	require.NotEmpty(t, tok)
	answer, err := h.client.ListTimeline(h.call("acme"), &customerv1.ListTimelineRequest{
		CustomerId: merged.GetCustomerId(), ConsistencyToken: merged.GetConsistencyToken(),
	})
	require.NoError(t, err)
	var got []string
	for _, row := range answer.GetInteractions() {
		got = append(got, row.GetReplyAddress())
	}
	require.Equal(t, want, got)
}

// Random interactions and decisions: what is served equals what a replay gives, and a
// split right after a merge is as if neither had been.
func TestRandomDecisions(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 23))
		h := newHouse(t)
		value := func() []string {
			kind := []string{"user_id", "email", "anonymous_id"}[r.IntN(3)]
			v := fmt.Sprint("v", r.IntN(8))
			if kind == "email" {
				v += "@example.com"
			}
			return []string{kind, v}
		}
		seen := map[string]bool{}
		tok := ""
		for n := range 120 {
			ids := value()
			for range r.IntN(3) {
				ids = append(ids, value()...)
			}
			payload := []*eventv1.Payload{page("/"), traits("plan", fmt.Sprintf(`"%d"`, n)), order(fmt.Sprint("o", n), eur(int64(n), 0))}[r.IntN(3)]
			var ev *eventv1.Event
			ev, tok = h.recordEvent(said{at: r.IntN(1000), ids: ids, payload: payload})
			seen[ev.GetProfileId()] = true
			if n%10 != 9 {
				continue
			}
			profiles := slices.Sorted(func(yield func(string) bool) {
				for p := range seen {
					if !yield(p) {
						return
					}
				}
			})
			a, b := profiles[r.IntN(len(profiles))], profiles[r.IntN(len(profiles))]
			one, two := h.byID(a, tok), h.byID(b, tok)
			if one.GetCustomerId() == two.GetCustomerId() {
				continue
			}
			merged := h.merge(a, b)
			undone, err := h.client.SplitCustomer(h.call("acme"), &customerv1.SplitCustomerRequest{
				CustomerId: a, UndoMergeEventId: merged.GetEventId(), Reason: "not after all",
			})
			require.NoError(t, err)
			tok = undone.GetConsistencyToken()
			require.Empty(t, diff(one, h.byID(a, tok)), "seed %d", seed)
			require.Empty(t, diff(two, h.byID(b, tok)), "seed %d", seed)
			if r.IntN(2) == 0 {
				tok = h.merge(a, b).GetConsistencyToken()
			}
		}
		h.requireReplayAgrees(tok)
	}
}

func (h *house) byID(id, tok string) *customerv1.Customer {
	h.t.Helper()
	answer, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{CustomerId: id, ConsistencyToken: tok})
	require.NoError(h.t, err)
	return answer.GetCustomer()
}

// requireReplayAgrees folds the log anew and compares the digests.
func (h *house) requireReplayAgrees(tok string) {
	h.t.Helper()
	_, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{CustomerId: "nobody", ConsistencyToken: tok})
	require.Error(h.t, err) // but the read model is there
	want, err := h.engine.Digest(h.t.Context())
	require.NoError(h.t, err)
	again, _ := projectiontest.Start(h.t, customer.Definition(), h.log, projectiontest.NewViews(h.t), projection.Options{CommitEvents: 7, ReadBatch: 3})
	head, err := h.log.Head(h.t.Context())
	require.NoError(h.t, err)
	projectiontest.WaitFor(h.t, again, head)
	got, err := again.Digest(h.t.Context())
	require.NoError(h.t, err)
	require.Equal(h.t, want, got)
}
