package match_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/match"
)

// town records people, every one with an account of his own, and of the first
// some a second time, misspelt and under another account: `user 0` and
// `double 0` are one person.
func (h *house) town(people, doubles int) (tok string) {
	h.t.Helper()
	r := rand.New(rand.NewPCG(11, 13))
	for i := range people {
		given, family := fmt.Sprint(syllables(r, 2)), fmt.Sprint(syllables(r, 3))
		traits := map[string]any{
			"firstName": given, "lastName": family, "birthday": fmt.Sprintf("19%02d-%02d-%02d", 30+r.IntN(70), 1+r.IntN(12), 1+r.IntN(28)),
			"email": fmt.Sprintf("%s.%s%d@example.com", given, family, i), "address": map[string]any{
				"street": fmt.Sprintf("%s street %d", syllables(r, 2), 1+r.IntN(90)), "city": syllables(rand.New(rand.NewPCG(1, r.Uint64N(8))), 3),
				"postalCode": fmt.Sprint(1000 + 10*r.IntN(40)),
			},
		}
		h.identify([]string{"user_id", fmt.Sprint("user ", i)}, traits)
		if i < doubles {
			traits["firstName"] = given + "e"
			delete(traits, "email")
			tok = h.identify([]string{"user_id", fmt.Sprint("double ", i)}, traits)
		}
	}
	return tok
}

func syllables(r *rand.Rand, n int) string {
	s := ""
	for range n {
		s += string("bdfgklmnprstvw"[r.IntN(14)]) + string("aeiou"[r.IntN(5)])
	}
	return s
}

func (h *house) double(i int) [2]string {
	a, b := h.profile("user_id", fmt.Sprint("user ", i)), h.profile("user_id", fmt.Sprint("double ", i))
	return [2]string{min(a, b), max(a, b)}
}

func pairOf(c *customerv1.MergeCandidate) [2]string {
	return [2]string{min(c.GetCustomerId(), c.GetOtherCustomerId()), max(c.GetCustomerId(), c.GetOtherCustomerId())}
}

func pairsOf(all []*customerv1.MergeCandidate) map[[2]string]*customerv1.MergeCandidate {
	found := map[[2]string]*customerv1.MergeCandidate{}
	for _, c := range all {
		found[pairOf(c)] = c
	}
	return found
}

const (
	people  = 300
	doubles = 25
)

func TestFitAndList(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	told := h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	last := told[len(told)-1]
	require.Equal(t, customerv1.FitPhase_FIT_PHASE_DONE, last.GetPhase())
	require.InDelta(t, 1, last.GetDone(), 0)
	require.EqualValues(t, people+doubles, last.GetCustomers())
	require.Zero(t, last.GetLinked(), "nobody asked for links")
	models := h.models()
	require.Len(t, models, 1)
	ev := models[0].GetEvent()
	require.Equal(t, last.GetModelEventId(), ev.GetId())
	require.Equal(t, "match", ev.GetSource())
	require.Equal(t, "console", ev.GetActor().GetId())
	require.EqualValues(t, 5, ev.GetPayload().GetModelFitted().GetSeed())
	require.EqualValues(t, people+doubles, ev.GetPayload().GetModelFitted().GetMatch().GetRecords())
	require.Equal(t, ev.GetPayload().GetModelFitted().GetPosition(), models[0].GetPosition()-1)

	answer, err := h.client.ListMergeCandidates(h.call("acme", "read"), &customerv1.ListMergeCandidatesRequest{PageSize: 500})
	require.NoError(t, err)
	require.Equal(t, last.GetModelEventId(), answer.GetModelEventId())
	require.True(t, answer.GetSearchedTime().IsValid())
	require.EqualValues(t, len(answer.GetCandidates()), last.GetCandidates())
	found := pairsOf(answer.GetCandidates())
	for i := range doubles {
		c := found[h.double(i)]
		require.NotNil(t, c, "double %d", i)
		require.Equal(t, h.profile("user_id", fmt.Sprint("user ", i)), c.GetCustomerId(), "the older one comes first")
		var sum float64
		for _, r := range c.GetReasons() {
			sum += r.GetWeight()
			if r.GetField() == "given" {
				require.Equal(t, r.GetValue()+"e", r.GetOtherValue())
			}
		}
		require.InDelta(t, c.GetWeight(), sum, 0.01)
	}
	require.LessOrEqual(t, len(found), doubles+2, "hardly anybody else")

	// In small pages the same, whatever their size.
	small := h.list(&customerv1.ListMergeCandidatesRequest{PageSize: 3})
	require.Len(t, small, len(found))
	require.Equal(t, found, pairsOf(small))

	// By a profile what the batch found, to the bit.
	for i := range doubles {
		pair := h.double(i)
		for _, id := range pair {
			own := pairsOf(h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: id, PageSize: 1}))
			require.Empty(t, missing(own, found), "what is found of one is found of all")
			require.True(t, proto.Equal(found[pair], own[pair]), "%v\n%v", found[pair], own[pair])
		}
	}
	// Somebody of whom nothing is compared has nobody, and so has one unknown here.
	tok := h.record([]string{"user_id", "quiet"}, &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/"}}})
	require.Empty(t, h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: h.profile("user_id", "quiet"), ConsistencyToken: tok}))
}

// missing are the pairs of a that b does not have.
func missing(a, b map[[2]string]*customerv1.MergeCandidate) (out [][2]string) {
	for p := range a {
		if b[p] == nil {
			out = append(out, p)
		}
	}
	return out
}

// The same customers and the same seed give the same model, bit for bit; a
// replay of the log gives the same read model, by digest.
func TestSameLogSameModel(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	h.start(match.Deps{Workers: 3})
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	h.identify([]string{"user_id", "one more"}, map[string]any{"firstName": "Bafe", "email": "bafe@example.com"})
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	models := h.models()
	require.Len(t, models, 3)
	var sums [3][sha256.Size]byte
	for i := range models {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(models[i].GetEvent().GetPayload().GetModelFitted().GetMatch())
		require.NoError(t, err)
		sums[i] = sha256.Sum256(raw)
	}
	require.Equal(t, sums[0], sums[1])
	require.NotEqual(t, sums[0], sums[2], "other customers")

	head, err := h.log.Head(t.Context())
	require.NoError(t, err)
	again := h.project()
	projectiontest.WaitFor(t, again, head)
	projectiontest.WaitFor(t, h.engine, head)
	want, err := h.engine.Digest(t.Context())
	require.NoError(t, err)
	got, err := again.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
}

// The list is in memory only: after a restart the first to ask has it searched
// for.
func TestListAfterRestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	before := pairsOf(h.list(&customerv1.ListMergeCandidatesRequest{}))

	h.start(match.Deps{})
	_, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{})
	require.Equal(t, codes.Unavailable, rpcerr.CodeOf(err))
	require.Equal(t, errorv1.Reason_REASON_BEHIND, rpcerr.ReasonOf(err))
	e, _ := rpcerr.Parse(err)
	require.Positive(t, e.RetryAfter)
	require.Len(t, h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: h.double(0)[0]}), 1, "one customer's need no search")
	require.Eventually(t, func() bool {
		_, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{})
		return err == nil
	}, patience, time.Millisecond)
	require.Equal(t, before, pairsOf(h.list(&customerv1.ListMergeCandidatesRequest{})))
	require.Len(t, h.models(), 1, "nothing was fitted anew")

	// Somebody who asks for a job does not wait for one that nobody asked for.
	h.start(match.Deps{})
	_, err = h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{})
	require.Equal(t, errorv1.Reason_REASON_BEHIND, rpcerr.ReasonOf(err))
	told := h.fit(&customerv1.FitMatchModelRequest{SearchOnly: true})
	require.Equal(t, h.models()[0].GetEvent().GetId(), told[len(told)-1].GetModelEventId())
}

// Pairs of the list are of now: who was merged since is no pair any more, or
// one under his name of today.
func TestListFollowsMerges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	merge := func(a, b string) string {
		_, tok := h.command(&interactionv1.IdentityCommand{Kind: &interactionv1.IdentityCommand_Merge{
			Merge: &interactionv1.IdentityCommand_MergeCustomers{CustomerId: a, OtherCustomerId: b},
		}})
		return tok
	}
	merge(h.double(0)[0], h.double(0)[1])
	// A device that was heard of before everybody else would name the customer.
	h.identify([]string{"anonymous_id", "tablet"}, map[string]any{"plan": "pro"})
	tok := merge(h.profile("user_id", "user 1"), h.profile("anonymous_id", "tablet"))
	found := pairsOf(h.list(&customerv1.ListMergeCandidatesRequest{ConsistencyToken: tok}))
	require.NotContains(t, found, h.double(0))
	require.Contains(t, found, h.double(1))
	for _, i := range []int{1, 2} {
		// By any profile.
		require.Len(t, h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: h.profile("user_id", fmt.Sprint("user ", i))}), 1)
	}
	require.Len(t, h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: h.profile("anonymous_id", "tablet")}), 1)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	expect := func(err error, code codes.Code, reason errorv1.Reason) {
		t.Helper()
		require.Equal(t, code.String(), rpcerr.CodeOf(err).String(), "%v", err)
		require.Equal(t, reason, rpcerr.ReasonOf(err))
	}
	list := func(ctx context.Context, req *customerv1.ListMergeCandidatesRequest) error {
		_, err := h.client.ListMergeCandidates(ctx, req)
		return err
	}
	fit := func(ctx context.Context, req *customerv1.FitMatchModelRequest) error {
		_, err := h.tryFit(ctx, req)
		return err
	}
	none := context.Background()
	for _, err := range []error{list(none, &customerv1.ListMergeCandidatesRequest{}), fit(none, &customerv1.FitMatchModelRequest{})} {
		expect(err, codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS)
	}
	expect(list(h.call("acme", "record"), &customerv1.ListMergeCandidatesRequest{}), codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED)
	expect(fit(h.call("acme", "record"), &customerv1.FitMatchModelRequest{}), codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED)

	expect(list(h.call("acme"), &customerv1.ListMergeCandidatesRequest{}), codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL)
	expect(fit(h.call("acme"), &customerv1.FitMatchModelRequest{SearchOnly: true}), codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL)
	expect(fit(h.call("acme"), &customerv1.FitMatchModelRequest{}), codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL)

	h.town(people, doubles)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	expect(list(h.call("other"), &customerv1.ListMergeCandidatesRequest{}), codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL)
	expect(list(h.call("acme"), &customerv1.ListMergeCandidatesRequest{PageToken: "x"}), codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN)
	expect(list(h.call("acme"), &customerv1.ListMergeCandidatesRequest{ConsistencyToken: "x"}), codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN)
	expect(list(h.call("acme"), &customerv1.ListMergeCandidatesRequest{CustomerId: "\x00"}), codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD)
	page, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{PageSize: 1})
	require.NoError(t, err)
	expect(list(h.call("acme"), &customerv1.ListMergeCandidatesRequest{MinProbability: 0.9, PageToken: page.GetNextPageToken()}),
		codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN)

	// A model of another version of the comparisons is not used.
	strange := proto.CloneOf(h.models()[0].GetEvent())
	strange.Id = uuid.NewString()
	strange.GetPayload().GetModelFitted().GetMatch().Version += 1000
	projectiontest.WaitFor(t, h.engine, h.append(match.Stream("acme"), strange))
	expect(list(h.call("acme"), &customerv1.ListMergeCandidatesRequest{}), codes.FailedPrecondition, errorv1.Reason_REASON_NO_MODEL)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	require.NoError(t, list(h.call("acme"), &customerv1.ListMergeCandidatesRequest{}))

	h.server.Close()
	expect(fit(h.call("acme"), &customerv1.FitMatchModelRequest{}), codes.Unavailable, errorv1.Reason_REASON_STOPPING)
}

// A customer whose keys many have is compared by those that few have.
func TestCommonKeysArePassedOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.town(people, doubles)
	for i := range 300 {
		h.identify([]string{"user_id", fmt.Sprint("crowd ", i)}, map[string]any{"firstName": "Anna", "lastName": "Huber", "city": "Wien", "plan": i})
	}
	double := map[string]any{"firstName": "Anna", "lastName": "Huber", "city": "Wien", "birthday": "1980-12-09", "email": "anna.huber@example.com"}
	h.identify([]string{"user_id", "anna"}, double)
	double["firstName"] = "Ana"
	tok := h.identify([]string{"user_id", "ana"}, double)
	registry := prometheus.NewRegistry()
	h.start(match.Deps{Metrics: registry})
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	found := h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: h.profile("user_id", "anna"), ConsistencyToken: tok, PageSize: 500})
	require.Len(t, found, 1)
	require.Equal(t, h.profile("user_id", "ana"), found[0].GetOtherCustomerId())
	crowd := h.list(&customerv1.ListMergeCandidatesRequest{CustomerId: h.profile("user_id", "crowd 7"), PageSize: 500})
	require.Empty(t, crowd)
	require.Positive(t, counted(t, registry, "parley_match_keys_skipped_total"))
}
