package customer_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/customer"
)

// secretReason stands in the errors of a fold, which nobody outside is to see.
const secretReason = "an inner matter of the fold"

type foldError struct{}

func (foldError) Error() string { return secretReason }

// poisonable is the read model, except that pages of the path /poison, and
// rules of the region XX, cannot be folded before it is mended.
func poisonable(mended *atomic.Bool) projection.Customers[*customerv1.Customer] {
	model := customer.Definition()
	poison := func(rec *eventv1.RecordedEvent) bool {
		payload := rec.GetEvent().GetPayload()
		return !mended.Load() && (strings.HasPrefix(payload.GetPageViewed().GetPath(), "/poison") ||
			payload.GetIdentityRulesChanged().GetRules().GetDefaultRegion() == "XX")
	}
	fold := model.Fold
	model.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		if poison(rec) {
			return foldError{}
		}
		return fold(doc, rec)
	}
	model.Rows = slices.Clone(model.Rows)
	rows := model.Rows[1].Fold
	model.Rows[1].Fold = func(rec *eventv1.RecordedEvent, put func(id string, row proto.Message) error) error {
		if poison(rec) {
			return foldError{}
		}
		return rows(rec, put)
	}
	return model
}

func poisonableHouse(t *testing.T, options projection.Options) (*house, *atomic.Bool) {
	t.Helper()
	mended := &atomic.Bool{}
	options.RetryDelay = time.Microsecond
	return houseWith(t, setting{
		model: poisonable(mended), views: projectiontest.NewViews(t), options: options, matching: &matcher{},
	}), mended
}

// mend has what could not be folded folded.
func (h *house) mend(mended *atomic.Bool) {
	h.t.Helper()
	mended.Store(true)
	left, err := h.engine.Retry(h.t.Context(), projection.By{}, view.Namespace{})
	require.NoError(h.t, err)
	require.Zero(h.t, left.Failed+left.Waiting)
}

// aboutOne are the calls about one customer, by RPC: whom they are about and as of what.
func (h *house) aboutOne() map[string]func(kind, value, tok string) error {
	acme := func() context.Context { return h.call("acme") }
	return map[string]func(kind, value, tok string) error{
		"GetCustomer": func(kind, value, tok string) error {
			return errOf(h.client.GetCustomer(acme(), &customerv1.GetCustomerRequest{CustomerId: h.profile(kind, value), ConsistencyToken: tok}))
		},
		"BatchGetCustomers": func(kind, value, tok string) error {
			ids := []string{"nobody", h.profile("user_id", "bystander"), h.profile(kind, value)}
			return errOf(h.client.BatchGetCustomers(acme(), &customerv1.BatchGetCustomersRequest{CustomerIds: ids, ConsistencyToken: tok}))
		},
		"LookupCustomer": func(kind, value, tok string) error {
			return errOf(h.client.LookupCustomer(acme(), &customerv1.LookupCustomerRequest{Kind: kind, Value: value, ConsistencyToken: tok}))
		},
		"ListTimeline": func(kind, value, tok string) error {
			return errOf(h.client.ListTimeline(acme(), &customerv1.ListTimelineRequest{CustomerId: h.profile(kind, value), ConsistencyToken: tok}))
		},
		"WatchCustomer": func(kind, value, tok string) error {
			ctx, end := context.WithCancel(acme())
			defer end()
			stream, err := h.client.WatchCustomer(ctx, &customerv1.WatchCustomerRequest{CustomerId: h.profile(kind, value), ConsistencyToken: tok})
			if err != nil {
				return err
			}
			return errOf(stream.Recv())
		},
		"ExplainIdentity": func(kind, value, tok string) error {
			return errOf(h.client.ExplainIdentity(acme(), &customerv1.ExplainIdentityRequest{CustomerId: h.profile(kind, value), ConsistencyToken: tok}))
		},
		"ListMergeCandidates": func(kind, value, tok string) error {
			return errOf(h.client.ListMergeCandidates(acme(), &customerv1.ListMergeCandidatesRequest{CustomerId: h.profile(kind, value), ConsistencyToken: tok}))
		},
	}
}

// aboutNobody are the calls about nobody in particular.
func (h *house) aboutNobody() map[string]func(tok string) error {
	return map[string]func(tok string) error{
		"SearchCustomers": func(tok string) error {
			return errOf(h.client.SearchCustomers(h.call("acme"), &customerv1.SearchCustomersRequest{Query: "lovelace", ConsistencyToken: tok}))
		},
		"GetIdentityRules": func(tok string) error {
			return errOf(h.client.GetIdentityRules(h.call("acme"), &customerv1.GetIdentityRulesRequest{ConsistencyToken: tok}))
		},
		// It may be one of those who share the identifier that the token is of.
		"LookupCustomer of another": func(tok string) error {
			return errOf(h.client.LookupCustomer(h.call("acme"), &customerv1.LookupCustomerRequest{Kind: "user_id", Value: "bystander", ConsistencyToken: tok}))
		},
	}
}

// requireParked checks that a call was refused for a dead letter, and told nothing
// of it but what is in the metadata.
func requireParked(t *testing.T, err error, what string) map[string]string {
	t.Helper()
	e, ok := rpcerr.Parse(err)
	require.True(t, ok, "%s: %v", what, err)
	require.Equal(t, codes.Unavailable, e.Code, "%s: %s", what, e.Message)
	require.Equal(t, errorv1.Reason_REASON_DEAD_LETTER, e.Reason, "%s: %s", what, e.Message)
	require.NotContains(t, e.Message, secretReason)
	require.NotContains(t, e.Message, customer.Name+":")
	return e.Metadata
}

// TestReadsAroundADeadLetter parks an event of Ada's: whoever asks for her with a
// token of it, or a later one, is told; everybody else gets an answer.
func TestReadsAroundADeadLetter(t *testing.T) {
	t.Parallel()
	h, mended := poisonableHouse(t, projection.Options{})
	ids := []string{"user_id", "u1", "email", "ada@example.com"}
	h.record(said{at: 0, ids: ids, payload: traits("name", `"Ada Lovelace"`)})
	before := h.record(said{at: 1, ids: []string{"user_id", "bystander"}})
	poison := h.record(said{at: 2, ids: ids, payload: page("/poison")})
	waiting := h.record(said{at: 3, ids: []string{"user_id", "u1"}})
	unheard := h.record(said{at: 4, ids: []string{"user_id", "unheard"}, payload: page("/poison")})
	after := h.record(said{at: 5, ids: []string{"user_id", "bystander"}})

	for rpc, call := range h.aboutOne() {
		for name, tok := range map[string]string{"its own": poison, "of what waits behind": waiting, "a later": after} {
			for kind, value := range map[string]string{"user_id": "u1", "email": "ada@example.com"} {
				requireParked(t, call(kind, value, tok), rpc+" with "+name+" token, by "+kind)
			}
		}
		require.NoError(t, call("user_id", "u1", before), "%s with a token before", rpc)
		require.NoError(t, call("user_id", "u1", ""), "%s without a token", rpc)
		require.NoError(t, call("user_id", "bystander", after), "%s of another", rpc)
		if rpc != "LookupCustomer" {
			require.NoError(t, call("user_id", "bystander", poison), "%s of another, with the token of what is parked", rpc)
			// Nobody knows him yet, but whoever wrote of him.
			requireParked(t, call("user_id", "unheard", unheard), rpc+" of one unheard of")
		}
	}
	for rpc, call := range h.aboutNobody() {
		requireParked(t, call(poison), rpc+" with its own token")
		requireParked(t, call(waiting), rpc+" with the token of what waits behind")
		for name, tok := range map[string]string{"before": before, "after": after, "none": ""} {
			require.NoError(t, call(tok), "%s with a token: %s", rpc, name)
		}
	}

	// Which of many it was is told, by the id that was asked for.
	of := requireParked(t, errOf(h.client.BatchGetCustomers(h.call("acme"), &customerv1.BatchGetCustomersRequest{
		CustomerIds: []string{h.profile("user_id", "bystander"), h.profile("email", "ada@example.com")}, ConsistencyToken: after,
	})), "a batch")
	require.Equal(t, map[string]string{"customer_id": h.profile("email", "ada@example.com")}, of)

	h.mend(mended)
	for rpc, call := range h.aboutOne() {
		for _, tok := range []string{poison, waiting, after} {
			require.NoError(t, call("user_id", "u1", tok), rpc)
		}
		require.NoError(t, call("user_id", "unheard", unheard), rpc)
	}
	for rpc, call := range h.aboutNobody() {
		require.NoError(t, call(poison), rpc)
	}
	require.EqualValues(t, 3, h.get("user_id", "u1", after).GetInteractionCount())
}

// TestATenantsDeadLetterIsItsOwn has the same person at two companies.
func TestATenantsDeadLetterIsItsOwn(t *testing.T) {
	t.Parallel()
	h, _ := poisonableHouse(t, projection.Options{})
	h.record(said{tenant: "other", ids: []string{"user_id", "u1"}})
	h.record(said{ids: []string{"user_id", "u1"}, payload: page("/poison")})
	after := h.record(said{ids: []string{"user_id", "bystander"}})
	elsewhere, err := h.resolver.Lookup("other", "user_id", "u1")
	require.NoError(t, err)
	_, err = h.client.GetCustomer(h.call("other"), &customerv1.GetCustomerRequest{CustomerId: elsewhere.ProfileID, ConsistencyToken: after})
	require.NoError(t, err)
	// A stranger's id is unknown there, whatever waits here.
	_, err = h.client.GetCustomer(h.call("other"), &customerv1.GetCustomerRequest{CustomerId: h.profile("user_id", "u1"), ConsistencyToken: after})
	requireReason(t, codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, err)
}

// TestAClaimsDeadLetter parks what somebody did who only claims to be Ada: it
// matters where claims are told.
func TestAClaimsDeadLetter(t *testing.T) {
	t.Parallel()
	h, mended := poisonableHouse(t, projection.Options{})
	h.record(said{at: 0, ids: []string{"user_id", "u1", "email", "ada@example.com"}})
	tok := h.record(said{
		at: 1, channel: "email", ids: []string{"email", "ada@example.com"}, payload: page("/poison"),
		assurance: eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED,
	})
	get := func(claims bool, tok string) (*customerv1.GetCustomerResponse, error) {
		return h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{
			CustomerId: h.profile("user_id", "u1"), IncludeClaims: claims, ConsistencyToken: tok,
		})
	}
	explain := func(tok string) error {
		return errOf(h.client.ExplainIdentity(h.call("acme"), &customerv1.ExplainIdentityRequest{CustomerId: h.profile("user_id", "u1"), ConsistencyToken: tok}))
	}
	require.NoError(t, errOf(get(false, tok)))
	requireParked(t, errOf(get(true, tok)), "GetCustomer with claims")
	requireParked(t, explain(tok), "ExplainIdentity")
	require.NoError(t, errOf(get(true, "")))
	require.NoError(t, explain(""))
	h.mend(mended)
	answer, err := get(true, tok)
	require.NoError(t, err)
	require.Len(t, answer.GetClaims(), 1)
}

// TestRulesThatCannotBeFolded are asked for by whoever changed them.
func TestRulesThatCannotBeFolded(t *testing.T) {
	t.Parallel()
	h, mended := poisonableHouse(t, projection.Options{})
	rules, err := h.client.GetIdentityRules(h.call("acme"), &customerv1.GetIdentityRulesRequest{})
	require.NoError(t, err)
	rules.Rules.DefaultRegion = "XX"
	ev := &eventv1.Event{
		Id: event.DeterministicID("acme", "test", "rules").String(), Tenant: "acme", Source: "parley/ops", Channel: "identity",
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_IdentityRulesChanged{IdentityRulesChanged: &eventv1.IdentityRulesChanged{Rules: rules.GetRules()}}},
	}
	event.SetOccurred(ev, opening, opening, false)
	tok := h.token(h.append(event.IdentityStream("acme"), ev))
	requireParked(t, errOf(h.client.GetIdentityRules(h.call("acme"), &customerv1.GetIdentityRulesRequest{ConsistencyToken: tok})), "GetIdentityRules")
	h.mend(mended)
	rules, err = h.client.GetIdentityRules(h.call("acme"), &customerv1.GetIdentityRulesRequest{ConsistencyToken: tok})
	require.NoError(t, err)
	require.Equal(t, "XX", rules.GetRules().GetDefaultRegion())
}

// TestNothingIsUndoneBehindADeadLetter has a merge undone of which the read model
// does not know everything.
func TestNothingIsUndoneBehindADeadLetter(t *testing.T) {
	t.Parallel()
	h, mended := poisonableHouse(t, projection.Options{})
	h.record(said{at: 0, ids: []string{"user_id", "u1"}})
	h.record(said{at: 1, ids: []string{"user_id", "u2"}})
	merged := h.merge(h.profile("user_id", "u1"), h.profile("user_id", "u2"))
	h.record(said{at: 2, ids: []string{"user_id", "u1"}, payload: page("/poison")})
	// Linked since, and waiting: this one leaves with u2, as nobody knows yet.
	h.record(said{at: 3, ids: []string{"user_id", "u2", "anonymous_id", "tablet"}})
	undo := &customerv1.SplitCustomerRequest{CustomerId: merged.GetCustomerId(), UndoMergeEventId: merged.GetEventId(), Reason: "two people"}
	head, err := h.log.Head(t.Context())
	require.NoError(t, err)
	requireParked(t, errOf(h.client.SplitCustomer(h.call("acme"), undo)), "SplitCustomer")
	still, err := h.log.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head, still, "nothing was decided")

	h.mend(mended)
	split, err := h.client.SplitCustomer(h.call("acme"), undo)
	require.NoError(t, err)
	require.Equal(t, h.get("user_id", "u2", split.GetConsistencyToken()).GetCustomerId(),
		h.get("anonymous_id", "tablet", split.GetConsistencyToken()).GetCustomerId())
	require.NotEqual(t, h.get("user_id", "u1", split.GetConsistencyToken()).GetCustomerId(),
		h.get("user_id", "u2", split.GetConsistencyToken()).GetCustomerId())
}

// TestAWatchThroughADeadLetter begins before an event is parked, and sees it once
// that is mended.
func TestAWatchThroughADeadLetter(t *testing.T) {
	t.Parallel()
	h, mended := poisonableHouse(t, projection.Options{})
	tok := h.record(said{at: 0, ids: []string{"user_id", "u1"}})
	stream := h.watch(&customerv1.WatchCustomerRequest{CustomerId: h.profile("user_id", "u1"), ConsistencyToken: tok})
	first, err := stream.Recv()
	require.NoError(t, err)
	require.EqualValues(t, 1, first.GetCustomer().GetInteractionCount())
	poison := h.record(said{at: 1, ids: []string{"user_id", "u1"}, payload: page("/poison")})
	_, err = h.watch(&customerv1.WatchCustomerRequest{CustomerId: h.profile("user_id", "u1"), ConsistencyToken: poison}).Recv()
	requireParked(t, err, "a watch that begins with what is parked")
	h.mend(mended)
	second, err := stream.Recv()
	require.NoError(t, err)
	require.EqualValues(t, 2, second.GetCustomer().GetInteractionCount(), "nothing in between")
}

// TestAPausedReadModel says that it is paused, and not by whom or why.
func TestAPausedReadModel(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.record(said{at: 0, ids: []string{"user_id", "u1"}})
	before := h.record(said{at: 1, ids: []string{"user_id", "u1"}})
	h.get("user_id", "u1", before)
	by := projection.By{Actor: &eventv1.Actor{Id: "kim"}, Reason: secretReason}
	require.NoError(t, h.engine.Pause(t.Context(), by))
	tok := h.record(said{at: 2, ids: []string{"user_id", "u1"}})
	const short = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(h.call("acme"), short)
	defer cancel()
	_, err := h.client.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: h.profile("user_id", "u1"), ConsistencyToken: tok})
	requireReason(t, codes.Unavailable, errorv1.Reason_REASON_BEHIND, err)
	e, _ := rpcerr.Parse(err)
	require.Contains(t, e.Message, "an operator has paused it")
	require.NotContains(t, e.Message, "kim")
	require.NotContains(t, e.Message, secretReason)
	require.NotEqual(t, "0", e.Metadata["lag_events"])
	require.Subset(t, slices.Collect(maps.Keys(e.Metadata)), []string{"lag_events", "lag_seconds"})
	require.EqualValues(t, 2, h.get("user_id", "u1", before).GetInteractionCount(), "what it has it answers")
	require.NoError(t, h.engine.Resume(t.Context(), by))
	require.EqualValues(t, 3, h.get("user_id", "u1", tok).GetInteractionCount())
}

// TestTooManyDeadLetters halts the read model: whoever comes with a later token
// is told at once.
func TestTooManyDeadLetters(t *testing.T) {
	t.Parallel()
	h, mended := poisonableHouse(t, projection.Options{MaxDeadLetters: 1})
	before := h.record(said{at: 0, ids: []string{"user_id", "u1"}})
	h.record(said{at: 1, ids: []string{"user_id", "u2"}, payload: page("/poison")})
	h.record(said{at: 2, ids: []string{"user_id", "u3"}, payload: page("/poison")})
	after := h.record(said{at: 3, ids: []string{"user_id", "u1"}})
	for rpc, call := range h.aboutOne() {
		requireParked(t, call("user_id", "u1", after), rpc)
		require.NoError(t, call("user_id", "u1", before), rpc)
	}
	for rpc, call := range h.aboutNobody() {
		requireParked(t, call(after), rpc)
		require.NoError(t, call(before), rpc)
	}
	mended.Store(true)
	require.NoError(t, h.engine.Resume(t.Context(), projection.By{}))
	require.EqualValues(t, 2, h.get("user_id", "u1", after).GetInteractionCount())
}
