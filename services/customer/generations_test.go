package customer_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/customer"
)

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

// rebuild fills another generation and has it serve.
func (h *house) rebuild() view.Namespace {
	h.t.Helper()
	ns, err := h.engine.Rebuild(h.t.Context(), projection.By{}, projection.RebuildOptions{SwitchWhenReady: true})
	require.NoError(h.t, err)
	require.Eventually(h.t, func() bool { return h.engine.Status().Namespace == ns }, patience, time.Millisecond)
	return ns
}

// counting is the read model, except that each interaction counts as many
// times as step says at the moment. So generations filled one after the other differ.
func counting(step *atomic.Int64) projection.Customers[*customerv1.Customer] {
	model := customer.Definition()
	fold := model.Fold
	model.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		before := doc.GetInteractionCount()
		if err := fold(doc, rec); err != nil {
			return err
		}
		doc.InteractionCount = before + (doc.GetInteractionCount()-before)*step.Load()
		return nil
	}
	return model
}

// TestACallReadsOneGeneration stops a call between two of its reads while another
// generation comes to serve.
func TestACallReadsOneGeneration(t *testing.T) {
	t.Parallel()
	var step atomic.Int64
	step.Store(1)
	views := &stops{Store: projectiontest.NewViews(t), reached: make(chan struct{}), open: make(chan struct{})}
	h := houseWith(t, setting{model: counting(&step), views: views})
	h.record(said{at: 0, ids: []string{"user_id", "u1", "email", "ada@example.com"}})
	tok := h.record(said{
		at: 1, channel: "email", ids: []string{"email", "ada@example.com"}, assurance: eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED,
	})
	counts := func() ([2]int64, error) {
		answer, err := h.client.GetCustomer(h.call("acme"), &customerv1.GetCustomerRequest{
			CustomerId: h.profile("user_id", "u1"), IncludeClaims: true, ConsistencyToken: tok,
		})
		if err != nil || len(answer.GetClaims()) != 1 {
			return [2]int64{}, fmt.Errorf("%d claims: %w", len(answer.GetClaims()), err)
		}
		return [2]int64{answer.GetCustomer().GetInteractionCount(), answer.GetClaims()[0].GetInteractionCount()}, nil
	}
	type result struct {
		counts [2]int64
		err    error
	}
	began := make(chan result, 1)
	// The rules are read behind the customer and before the claims.
	collection := "identity_facts"
	views.collection.Store(&collection)
	go func() {
		got, err := counts()
		began <- result{got, err}
	}()
	<-views.reached
	step.Store(1000)
	h.rebuild()
	got, err := counts()
	require.NoError(t, err)
	require.Equal(t, [2]int64{1000, 1000}, got, "the other generation serves")
	close(views.open)
	old := <-began
	require.NoError(t, old.err)
	require.Equal(t, [2]int64{1, 1}, old.counts, "what began before is of the generation that served then")
	require.NoError(t, h.engine.Rollback(t.Context(), projection.By{}))
	got, err = counts()
	require.NoError(t, err)
	require.Equal(t, [2]int64{1, 1}, got)
}

// TestPagesThroughASwitch goes on where it was begun for as long as that is there.
func TestPagesThroughASwitch(t *testing.T) {
	t.Parallel()
	var step atomic.Int64
	step.Store(1)
	h := houseWith(t, setting{model: counting(&step), views: projectiontest.NewViews(t)})
	var tok string
	const people = 5
	for i := range people {
		tok = h.record(said{ids: []string{"user_id", fmt.Sprint("u", i)}, payload: traits("name", fmt.Sprintf(`"Smith %d"`, i))})
	}
	req := &customerv1.SearchCustomersRequest{
		Query: "smith", PageSize: 1, ConsistencyToken: tok, ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"customer_id", "interaction_count"}},
	}
	next := func() *customerv1.Customer {
		t.Helper()
		answer, err := h.client.SearchCustomers(h.call("acme"), req)
		require.NoError(t, err)
		require.Len(t, answer.GetCustomers(), 1)
		req.PageToken = answer.GetNextPageToken()
		return answer.GetCustomers()[0]
	}
	seen := map[string]bool{next().GetCustomerId(): true}
	began := h.engine.Status().Namespace
	step.Store(1000)
	h.rebuild()
	for range people - 2 {
		c := next()
		require.EqualValues(t, 1, c.GetInteractionCount())
		seen[c.GetCustomerId()] = true
	}
	require.Len(t, seen, people-1, "nobody twice")
	require.NotEmpty(t, req.GetPageToken())
	require.NoError(t, h.engine.Drop(t.Context(), projection.By{}, began))
	_, err := h.client.SearchCustomers(h.call("acme"), req)
	requireReason(t, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_TOKEN, err)
	e, _ := rpcerr.Parse(err)
	require.Contains(t, e.Message, "begin with the first page")
	req.PageToken = ""
	require.EqualValues(t, 1000, next().GetInteractionCount())
}

// TestAWatchThroughASwitch sends what the other generation has, and ends where
// that cannot have what the watch began with.
func TestAWatchThroughASwitch(t *testing.T) {
	t.Parallel()
	var step atomic.Int64
	step.Store(1)
	model := counting(&step)
	var bad atomic.Bool
	fold := model.Fold
	model.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		if bad.Load() && rec.GetEvent().GetPayload().GetPageViewed().GetPath() == "/second" {
			return foldError{}
		}
		return fold(doc, rec)
	}
	h := houseWith(t, setting{model: model, views: projectiontest.NewViews(t), options: projection.Options{RetryDelay: time.Microsecond}})
	first := h.record(said{at: 0, ids: []string{"user_id", "u1"}})
	second := h.record(said{at: 1, ids: []string{"user_id", "u1"}, payload: page("/second")})
	id := h.profile("user_id", "u1")
	h.get("user_id", "u1", second)
	asked := h.watch(&customerv1.WatchCustomerRequest{CustomerId: id, ConsistencyToken: second})
	content := h.watch(&customerv1.WatchCustomerRequest{CustomerId: id, ConsistencyToken: first})
	for _, stream := range []interface {
		Recv() (*customerv1.WatchCustomerResponse, error)
	}{asked, content} {
		state, err := stream.Recv()
		require.NoError(t, err)
		require.EqualValues(t, 2, state.GetCustomer().GetInteractionCount())
		require.Equal(t, second, state.GetConsistencyToken())
	}
	step.Store(1000)
	h.rebuild()
	head, err := h.log.Head(t.Context())
	require.NoError(t, err)
	for _, stream := range []interface {
		Recv() (*customerv1.WatchCustomerResponse, error)
	}{asked, content} {
		state, err := stream.Recv()
		require.NoError(t, err)
		require.EqualValues(t, 2000, state.GetCustomer().GetInteractionCount())
		parsed, err := token.Parse(token.Consistency, state.GetConsistencyToken())
		require.NoError(t, err)
		require.LessOrEqual(t, parsed.Position, head)
	}
	bad.Store(true)
	h.rebuild()
	_, err = asked.Recv()
	requireParked(t, err, "a watch of what the generation has not")
	state, err := content.Recv()
	require.NoError(t, err)
	require.EqualValues(t, 1000, state.GetCustomer().GetInteractionCount())
}
