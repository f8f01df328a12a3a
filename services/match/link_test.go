package match_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// What a person told apart is neither listed nor linked.
func TestKeepApart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	pair := h.double(3)
	_, tok := h.command(&interactionv1.IdentityCommand{Kind: &interactionv1.IdentityCommand_KeepApart_{
		KeepApart: &interactionv1.IdentityCommand_KeepApart{CustomerId: pair[0], OtherCustomerId: pair[1]},
	}})
	for _, id := range []string{"", pair[0], pair[1]} {
		found := pairsOf(h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: id, ConsistencyToken: tok}))
		require.NotContains(t, found, pair)
	}
	h.linkFrom(0.9)
	h.fit(&customerv1.FitMatchModelRequest{SearchOnly: true})
	require.NotEqual(t, h.customer("user_id", "user 3"), h.customer("user_id", "double 3"))
	require.Empty(t, h.list(&customerv1.ListMergeCandidatesRequest{MinProbability: 0.9}))
}

// linkFrom changes the tenant's rules: what is so probable is linked unasked.
// Several accounts may be one person then.
func (h *house) linkFrom(probability float64) {
	h.t.Helper()
	rules := identity.DefaultRules()
	rules.LinkProbability = probability
	account := rules.Kinds["user_id"]
	account.Limit = 5
	rules.Kinds["user_id"] = account
	h.command(&interactionv1.IdentityCommand{Kind: &interactionv1.IdentityCommand_ChangeRules{
		ChangeRules: &interactionv1.IdentityCommand_ChangeIdentityRules{Rules: rules.Proto()},
	}})
}

// Where the rules say so, pairs are linked, marked as what they are, and a
// person's split undoes it for good.
func TestLinkAndUndo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	h.linkFrom(0.9)
	told := h.fit(&customerv1.FitMatchModelRequest{Seed: 5, MinProbability: 0.95})
	last := told[len(told)-1]
	require.EqualValues(t, doubles, last.GetLinked())
	for i := range doubles {
		require.Equal(t, h.customer("user_id", fmt.Sprint("user ", i)), h.customer("user_id", fmt.Sprint("double ", i)))
	}
	links := h.links()
	require.Len(t, links, doubles)
	for _, l := range links {
		require.Equal(t, eventv1.LinkRule_LINK_RULE_PROBABILISTIC, l.GetPayload().GetLinkAsserted().GetRule())
		require.GreaterOrEqual(t, l.GetPayload().GetLinkAsserted().GetProbability(), 0.9)
		require.Equal(t, eventv1.ActorKind_ACTOR_KIND_SYSTEM, l.GetActor().GetKind())
		require.Equal(t, "match", l.GetActor().GetId())
	}
	require.Empty(t, h.list(&customerv1.ListMergeCandidatesRequest{MinProbability: 0.95}), "they are one customer now")

	id := h.customer("user_id", "user 7")
	_, tok := h.command(&interactionv1.IdentityCommand{Kind: &interactionv1.IdentityCommand_Split{Split: &interactionv1.IdentityCommand_SplitCustomer{
		CustomerId: id, ProfileIds: []string{h.profile("user_id", "double 7")},
	}}})
	require.Empty(t, h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: id, ConsistencyToken: tok}))
	for range 2 {
		told = h.fit(&customerv1.FitMatchModelRequest{Seed: 8})
		require.Zero(t, told[len(told)-1].GetLinked())
	}
	require.NotEqual(t, h.customer("user_id", "user 7"), h.customer("user_id", "double 7"))
	require.Empty(t, h.list(&customerv1.ListMergeCandidatesRequest{MinProbability: 0.9}))
	require.Len(t, h.links(), doubles)
}

// links are the links asserted by the log.
func (h *house) links() []*eventv1.Event {
	h.t.Helper()
	var all []*eventv1.Event
	for rec, err := range h.log.ReadAll(h.t.Context(), eventstore.ReadAllOptions{Filter: eventstore.Filter{Types: []string{identity.TypeLinkAsserted}}}) {
		require.NoError(h.t, err)
		ev, err := h.codec.Decode(rec)
		require.NoError(h.t, err)
		all = append(all, ev.GetEvent())
	}
	return all
}

// A link that the rules forbid stays a suggestion.
func TestLinksThatTheRulesForbid(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	h.linkFrom(0.9)
	rules := identity.DefaultRules() // one account a customer
	rules.LinkProbability = 0.9
	h.command(&interactionv1.IdentityCommand{Kind: &interactionv1.IdentityCommand_ChangeRules{
		ChangeRules: &interactionv1.IdentityCommand_ChangeIdentityRules{Rules: rules.Proto()},
	}})
	told := h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	require.Zero(t, told[len(told)-1].GetLinked())
	require.NotEqual(t, h.customer("user_id", "user 1"), h.customer("user_id", "double 1"))
	require.Contains(t, pairsOf(h.list(&customerv1.ListMergeCandidatesRequest{})), h.double(1))
}
