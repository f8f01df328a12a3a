package projection_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
)

type visitEngine = projection.Engine[*customerv1.Customer]

// deadLetters are all dead letters of an engine in these states, the failed ones by default.
func deadLetters(t *testing.T, e *visitEngine, states ...opsv1.DeadLetterState) []*opsv1.DeadLetter {
	t.Helper()
	var all []*opsv1.DeadLetter
	q := projection.DeadLetterQuery{States: states, Limit: 7}
	for {
		page, err := e.DeadLetters(t.Context(), view.Namespace{}, q)
		require.NoError(t, err)
		all = append(all, page.DeadLetters...)
		if q.Cursor = page.Next; q.Cursor == nil {
			return all
		}
	}
}

func visitsOf(t *testing.T, e *visitEngine, id string) int64 {
	t.Helper()
	doc, _, err := e.Reader().Document(t.Context(), "acme", id)
	require.NoError(t, err)
	return doc.GetInteractionCount()
}

// requireClean checks that an engine holds what a clean replay of the log does.
func requireClean(t *testing.T, e *visitEngine, log eventstore.Store) {
	t.Helper()
	head, err := log.Head(t.Context())
	require.NoError(t, err)
	projectiontest.WaitFor(t, e, head)
	got, err := e.Digest(t.Context())
	require.NoError(t, err)
	clean, stop := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{})
	defer stop()
	projectiontest.WaitFor(t, clean, head)
	want, err := clean.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
}

// poisonable is the read model visits, except that pages of the path /poison cannot
// be folded while poisoned is true.
func poisonable(poisoned *atomic.Bool) projection.Customers[*customerv1.Customer] {
	def := visits()
	def.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		if poisoned.Load() && strings.HasPrefix(rec.GetEvent().GetPayload().GetPageViewed().GetPath(), "/poison") {
			return errFold
		}
		return foldVisit(doc, rec)
	}
	return def
}

// TestOrderBehindADeadLetter has customers merged and split while one of them
// waits: whatever concerns him waits too, all else goes on, and after the mend
// everything is as if nothing had been.
func TestOrderBehindADeadLetter(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	projectiontest.Append(t, log, projectiontest.Events(t, `
		p1 page.viewed {"path": "/1"}
		p2 page.viewed {"path": "/2"}
		p3 page.viewed {"path": "/3"}
		p4 page.viewed {"path": "/4"}
		p1 page.viewed {"path": "/poison"}
		- customers.merged {"customerId": "p1", "absorbedCustomerId": "p2", "absorbedProfileIds": ["p2"]}
		p2 page.viewed {"path": "/5"}
		p3 page.viewed {"path": "/6"}
		- customers.merged {"customerId": "p1", "absorbedCustomerId": "p3", "absorbedProfileIds": ["p3"]}
		- customers.split {"customerId": "p1", "newCustomerId": "p2", "movedProfileIds": ["p2"]}
		p2 page.viewed {"path": "/poison2"}
		p2 page.viewed {"path": "/7"}
		p3 page.viewed {"path": "/8"}
		p4 page.viewed {"path": "/9"}
		p5 page.viewed {"path": "/10"}
		- customers.merged {"customerId": "p4", "absorbedCustomerId": "p5", "absorbedProfileIds": ["p5"]}`)...)
	var poisoned atomic.Bool
	poisoned.Store(true)
	def := poisonable(&poisoned)
	fold := def.Fold
	var mended atomic.Bool
	def.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		if mended.Load() && rec.GetEvent().GetPayload().GetPageViewed().GetPath() == "/poison" {
			return foldVisit(doc, rec)
		}
		return fold(doc, rec)
	}
	e, _ := projectiontest.Start(t, def, log, views, projection.Options{RetryDelay: time.Microsecond})
	projectiontest.WaitFor(t, e, 16)
	waiting := deadLetters(t, e, opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED, opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING)
	require.Equal(t, []uint64{5, 6, 7, 9, 10, 11, 12, 13}, positionsOf(waiting))
	for id, want := range map[string]int64{"p1": 1, "p2": 1, "p3": 2, "p4": 3, "p5": 3} {
		require.Equal(t, want, visitsOf(t, e, id), id)
	}
	for _, id := range []string{"p1", "p2", "p3"} {
		require.ErrorIs(t, e.Reader().Folded(t.Context(), "acme", id, 16), projection.ErrDeadLetter, id)
	}
	for _, id := range []string{"p4", "p5", "nobody"} {
		require.NoError(t, e.Reader().Folded(t.Context(), "acme", id, 16), id)
	}
	detail, err := e.DeadLetter(t.Context(), view.Namespace{}, 6)
	require.NoError(t, err)
	require.Equal(t, "parley.customers.merged", detail.Event.GetEvent().GetType())
	require.Len(t, detail.Documents, 2)
	page, err := e.DeadLetters(t.Context(), view.Namespace{}, projection.DeadLetterQuery{
		Tenant: "acme", CustomerID: "p3", States: []opsv1.DeadLetterState{opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING}, Limit: 10,
	})
	require.NoError(t, err)
	require.Equal(t, []uint64{9, 13}, positionsOf(page.DeadLetters))

	// The first is mended: all goes on up to the second, of which only one side of the split is.
	mended.Store(true)
	result, err := e.Retry(t.Context(), projection.By{}, view.Namespace{}, 5)
	require.NoError(t, err)
	require.Equal(t, projection.RetryResult{Folded: 6, Failed: 1, Waiting: 1}, result)
	require.Equal(t, []uint64{11, 12}, positionsOf(deadLetters(t, e, opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED, opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING)))
	require.Equal(t, int64(5), visitsOf(t, e, "p1"))
	require.Equal(t, int64(2), visitsOf(t, e, "p2"))
	require.NoError(t, e.Reader().Folded(t.Context(), "acme", "p3", 16))
	require.ErrorIs(t, e.Reader().Folded(t.Context(), "acme", "p2", 16), projection.ErrDeadLetter)

	poisoned.Store(false)
	result, err = e.Retry(t.Context(), projection.By{}, view.Namespace{})
	require.NoError(t, err)
	require.Equal(t, projection.RetryResult{Folded: 2}, result)
	requireClean(t, e, log)
}

func positionsOf(letters []*opsv1.DeadLetter) []uint64 {
	var all []uint64
	for _, l := range letters {
		all = append(all, l.GetPosition())
	}
	return all
}

// TestSkip leaves an event out for ever: now, after a restart, and in what is
// computed anew.
func TestSkip(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	projectiontest.Append(t, log, projectiontest.Events(t, poisoned)...)
	var bad atomic.Bool
	bad.Store(true)
	e, stop := projectiontest.Start(t, poisonable(&bad), log, views, projection.Options{RetryDelay: time.Microsecond})
	projectiontest.WaitFor(t, e, 5)

	_, err := e.Skip(t.Context(), projection.By{}, view.Namespace{}, 3)
	require.ErrorIs(t, err, view.ErrInvalid)
	require.ErrorContains(t, err, "reason")
	_, err = e.Skip(t.Context(), projection.By{Reason: "x"}, view.Namespace{}, 4)
	require.ErrorIs(t, err, projection.ErrUnknownDeadLetter)

	skipped, err := e.Skip(t.Context(), projection.By{Reason: "a test call"}, view.Namespace{}, 3)
	require.NoError(t, err)
	require.Zero(t, skipped.Failed)
	require.EqualValues(t, 6, skipped.Position)
	require.Eventually(t, func() bool { return visitsOf(t, e, "p1") == 2 }, time.Minute, time.Millisecond, "what waited behind it")
	require.Empty(t, deadLetters(t, e))
	letters := deadLetters(t, e, opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED)
	require.Equal(t, []uint64{3}, positionsOf(letters))
	require.Equal(t, "a test call", letters[0].GetError())
	_, err = e.Skip(t.Context(), projection.By{Reason: "again"}, view.Namespace{}, 3)
	require.ErrorIs(t, err, projection.ErrUnknownDeadLetter)
	want, err := e.Digest(t.Context())
	require.NoError(t, err)
	stop()

	// With a fold that could take it the decision holds.
	bad.Store(false)
	anew, _ := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{})
	projectiontest.WaitFor(t, anew, 6)
	got, err := anew.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
	difference, err := anew.Verify(t.Context(), projection.By{}, projection.VerifyOptions{})
	require.NoError(t, err)
	require.True(t, difference.GetEqual())
}

// TestLimits halts rather than set more aside than it may.
func TestLimits(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	for i := range 4 {
		projectiontest.Append(t, log, projectiontest.NewEvent("acme", fmt.Sprintf("p%d", i), i, projectiontest.Epoch,
			&eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/poison"}}}))
	}
	var bad atomic.Bool
	bad.Store(true)
	e, _ := projectiontest.Start(t, poisonable(&bad), log, views, projection.Options{RetryDelay: time.Microsecond, MaxDeadLetters: 2})
	err := e.WaitFor(t.Context(), 4)
	var tooMany *projection.TooManyDeadLettersError
	require.ErrorAs(t, err, &tooMany)
	require.Equal(t, 2, tooMany.Failed)
	require.ErrorIs(t, err, errFold)
	require.Equal(t, projection.Halted, e.Status().State)
	require.EqualValues(t, 2, e.Position())

	bad.Store(false)
	require.NoError(t, e.Resume(t.Context(), projection.By{}))
	projectiontest.WaitFor(t, e, 4)
	result, err := e.Retry(t.Context(), projection.By{}, view.Namespace{})
	require.NoError(t, err)
	require.Equal(t, projection.RetryResult{Folded: 2}, result)
	requireClean(t, e, log)
}

// TestManyWaiting drains more than one portion, while more comes.
func TestManyWaiting(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	page := func(n int, profile, path string) *eventv1.Event {
		return projectiontest.NewEvent("acme", profile, n, projectiontest.Epoch.Add(time.Duration(n)*time.Second),
			&eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: path}}})
	}
	var bad atomic.Bool
	bad.Store(true)
	events := []*eventv1.Event{page(0, "p1", "/poison")}
	for n := range 2000 {
		path := "/"
		if n == 1000 {
			path = "/poison"
		}
		events = append(events, page(n+1, []string{"p1", "p2"}[n%2], path))
	}
	last := projectiontest.Append(t, log, events...)
	e, stop := projectiontest.Start(t, poisonable(&bad), log, views, projection.Options{RetryDelay: time.Microsecond})
	projectiontest.WaitFor(t, e, last)
	require.Equal(t, int64(1000), visitsOf(t, e, "p2"))
	require.Equal(t, 1000, e.Status().Waiting)
	stop()
	bad.Store(false)
	e, _ = projectiontest.Start(t, poisonable(&bad), log, views, projection.Options{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 300 {
			projectiontest.Append(t, log, page(3000+n, "p1", "/late"))
		}
	}()
	_, err := e.Retry(t.Context(), projection.By{}, view.Namespace{})
	require.NoError(t, err)
	<-done
	requireClean(t, e, log)
	require.Equal(t, int64(1301), visitsOf(t, e, "p1"))
	require.Empty(t, deadLetters(t, e, opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING, opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED))
}
