package match_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/match"
)

// foldError is what nobody outside is to see.
type foldError struct{}

func (foldError) Error() string { return "an inner matter of the fold" }

// poisonable is the read model, except that traits named poison cannot be
// folded before it is mended, and models not while they are refused.
func poisonable(mended, noModels *atomic.Bool) projection.Customers[*customerv1.MatchRecord] {
	model := match.Definition()
	fold := model.Fold
	model.Fold = func(doc *customerv1.MatchRecord, rec *eventv1.RecordedEvent) error {
		poison := slices.ContainsFunc(rec.GetEvent().GetPayload().GetTraitsUpdated().GetTraits(), func(t *eventv1.Trait) bool { return t.GetName() == "poison" })
		if poison && !mended.Load() {
			return foldError{}
		}
		return fold(doc, rec)
	}
	model.Rows = slices.Clone(model.Rows)
	rows := model.Rows[0].Fold
	model.Rows[0].Fold = func(rec *eventv1.RecordedEvent, put func(id string, row proto.Message) error) error {
		if noModels.Load() && rec.GetEvent().GetPayload().GetModelFitted() != nil {
			return foldError{}
		}
		return rows(rec, put)
	}
	return model
}

func requireParked(t *testing.T, err error, what string) {
	t.Helper()
	e, ok := rpcerr.Parse(err)
	require.True(t, ok, "%s: %v", what, err)
	require.Equal(t, codes.Unavailable, e.Code, "%s: %s", what, e.Message)
	require.Equal(t, errorv1.Reason_REASON_DEAD_LETTER, e.Reason, "%s: %s", what, e.Message)
	require.NotContains(t, e.Message, foldError{}.Error())
}

func (h *house) retry() {
	h.t.Helper()
	left, err := h.engine.Retry(h.t.Context(), projection.By{}, view.Namespace{})
	require.NoError(h.t, err)
	require.Zero(h.t, left.Failed+left.Waiting)
}

// TestListsAroundADeadLetter parks what somebody said of himself: whoever asks
// for his pairs, or wrote it, is told; everybody else gets an answer.
func TestListsAroundADeadLetter(t *testing.T) {
	t.Parallel()
	var mended, noModels atomic.Bool
	h := houseOf(t, poisonable(&mended, &noModels), projectiontest.NewViews(t))
	h.town(people, doubles)
	// Of whom an event waits is no matter to the model of all.
	h.identify([]string{"user_id", "somebody"}, map[string]any{"poison": true})
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	before := h.identify([]string{"user_id", "user 7"}, map[string]any{"plan": "pro"})
	poison := h.identify([]string{"user_id", "user 0"}, map[string]any{"poison": true, "lastName": "Smith"})
	waiting := h.identify([]string{"user_id", "user 0"}, map[string]any{"lastName": "Jones"})
	unheard := h.identify([]string{"user_id", "unheard"}, map[string]any{"poison": true})
	after := h.identify([]string{"user_id", "user 7"}, map[string]any{"plan": "free"})
	list := func(user, tok string) error {
		req := &customerv1.ListMergeCandidatesRequest{ConsistencyToken: tok}
		if user != "" {
			req.CustomerId = h.profile("user_id", user)
		}
		_, err := h.client.ListMergeCandidates(h.call("acme"), req)
		return err
	}
	for name, tok := range map[string]string{"its own": poison, "of what waits behind": waiting} {
		for _, user := range []string{"user 0", "user 7", ""} {
			requireParked(t, list(user, tok), user+" with "+name+" token")
		}
	}
	requireParked(t, list("user 0", after), "with a later token")
	requireParked(t, list("unheard", unheard), "nobody knows him yet")
	require.NoError(t, list("user 7", after), "another with a later token")
	require.NoError(t, list("", after), "all with a later token")
	for _, tok := range []string{before, ""} {
		for _, user := range []string{"user 0", "user 7", ""} {
			require.NoError(t, list(user, tok), "%s with a token before, or none", user)
		}
	}
	mended.Store(true)
	h.retry()
	for _, tok := range []string{poison, waiting, after, unheard} {
		for _, user := range []string{"user 0", "user 7", "unheard", ""} {
			require.NoError(t, list(user, tok))
		}
	}
}

// TestAModelThatCannotBeFolded fails the job that fitted it, which would else
// search by the one before.
func TestAModelThatCannotBeFolded(t *testing.T) {
	t.Parallel()
	var mended, noModels atomic.Bool
	h := houseOf(t, poisonable(&mended, &noModels), projectiontest.NewViews(t))
	h.town(people, doubles)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	noModels.Store(true)
	_, err := h.tryFit(h.call("acme"), &customerv1.FitMatchModelRequest{Seed: 6})
	requireParked(t, err, "fit")
	models := h.models()
	require.Len(t, models, 2)
	answer, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{})
	require.NoError(t, err)
	require.Equal(t, models[0].GetEvent().GetId(), answer.GetModelEventId(), "what there was serves on")

	noModels.Store(false)
	h.retry()
	told := h.fit(&customerv1.FitMatchModelRequest{SearchOnly: true})
	require.Equal(t, models[1].GetEvent().GetId(), told[len(told)-1].GetModelEventId())
}

// stops are views in which the next read of a collection's index waits.
type stops struct {
	view.Store

	collection atomic.Pointer[string]
	reached    chan struct{}
	open       chan struct{}
}

func (s *stops) Open(ctx context.Context, ns view.Namespace, collections ...view.Collection) (view.Generation, error) {
	gen, err := s.Store.Open(ctx, ns, collections...)
	if err != nil {
		return nil, err
	}
	return &stoppable{Generation: gen, stops: s}, nil
}

type stoppable struct {
	view.Generation

	stops *stops
}

func (g *stoppable) Query(ctx context.Context, collection string, q view.Query) (view.Page, error) {
	if at := g.stops.collection.Load(); at != nil && *at == collection && g.stops.collection.CompareAndSwap(at, nil) {
		close(g.stops.reached)
		<-g.stops.open
	}
	return g.Generation.Query(ctx, collection, q)
}

// TestACallReadsOneGeneration stops a call between the customer and those who
// may be he, while a generation comes to serve in which nobody can be compared.
func TestACallReadsOneGeneration(t *testing.T) {
	t.Parallel()
	var forgets atomic.Bool
	model := match.Definition()
	fold := model.Fold
	model.Fold = func(doc *customerv1.MatchRecord, rec *eventv1.RecordedEvent) error {
		if forgets.Load() {
			return nil
		}
		return fold(doc, rec)
	}
	views := &stops{Store: projectiontest.NewViews(t), reached: make(chan struct{}), open: make(chan struct{})}
	h := houseOf(t, model, views)
	h.town(people, doubles)
	h.fit(&customerv1.FitMatchModelRequest{Seed: 5})
	list := func() (int, error) {
		answer, err := h.client.ListMergeCandidates(h.call("acme"), &customerv1.ListMergeCandidatesRequest{CustomerId: h.double(0)[0]})
		return len(answer.GetCandidates()), err
	}
	type result struct {
		found int
		err   error
	}
	began := make(chan result, 1)
	collection := "records"
	views.collection.Store(&collection)
	go func() {
		found, err := list()
		began <- result{found, err}
	}()
	<-views.reached
	forgets.Store(true)
	ns, err := h.engine.Rebuild(t.Context(), projection.By{}, projection.RebuildOptions{SwitchWhenReady: true})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return h.engine.Status().Namespace == ns }, patience, time.Millisecond)
	found, err := list()
	require.NoError(t, err)
	require.Zero(t, found, "the other generation serves")
	close(views.open)
	old := <-began
	require.NoError(t, old.err)
	require.Equal(t, 1, old.found, "what began before is of the generation that served then")
}
