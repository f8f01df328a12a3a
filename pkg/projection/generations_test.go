package projection_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
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

func generation(version, number uint32) view.Namespace {
	return view.Namespace{Projection: "visits", Version: version, Generation: number}
}

// roles are the generations of a report with what they are there for.
func roles(t *testing.T, e projection.Operations) string {
	t.Helper()
	report, err := e.Report(t.Context())
	require.NoError(t, err)
	var all []string
	for _, g := range report.GetGenerations() {
		role := strings.ToLower(strings.TrimPrefix(g.GetRole().String(), "GENERATION_ROLE_"))
		all = append(all, fmt.Sprintf("v%d/g%d %s", g.GetVersion(), g.GetGeneration(), role))
	}
	return strings.Join(all, ", ")
}

func awaitRoles(t *testing.T, e projection.Operations, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return roles(t, e) == want }, time.Minute, time.Millisecond, "%s", want)
}

// awaitLive waits until a generation has caught up.
func awaitLive(t *testing.T, e projection.Operations, number uint32) {
	t.Helper()
	var last *opsv1.Projection
	defer func() {
		if t.Failed() {
			t.Log(last)
		}
	}()
	require.Eventually(t, func() bool {
		report, err := e.Report(t.Context())
		require.NoError(t, err)
		last = report
		for _, g := range report.GetGenerations() {
			if g.GetGeneration() == number {
				return g.GetState() == opsv1.GenerationState_GENERATION_STATE_LIVE
			}
		}
		return false
	}, time.Minute, time.Millisecond)
}

// TestRebuild goes once through the life of a generation.
func TestRebuild(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	g := newGenerator(11, 40)
	last := projectiontest.Append(t, log, g.events(800)...)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	by := projection.By{Actor: &eventv1.Actor{Id: "ada"}, Reason: "to see it"}

	require.ErrorIs(t, e.Rollback(t.Context(), by), projection.ErrNothingToRollBack)
	require.ErrorIs(t, e.SwitchOver(t.Context(), by, view.Namespace{}), projection.ErrUnknownGeneration)
	require.ErrorIs(t, e.SwitchOver(t.Context(), by, generation(1, 1)), projection.ErrAlreadyServing)
	require.ErrorIs(t, e.Drop(t.Context(), by, generation(1, 1)), projection.ErrAlreadyServing)
	require.ErrorIs(t, e.Drop(t.Context(), by, generation(1, 9)), projection.ErrUnknownGeneration)

	ns, err := e.Rebuild(t.Context(), by, projection.RebuildOptions{})
	require.NoError(t, err)
	require.Equal(t, generation(1, 2), ns)
	_, err = e.Rebuild(t.Context(), by, projection.RebuildOptions{})
	require.ErrorIs(t, err, projection.ErrRebuildRunning)
	require.Equal(t, "v1/g1 serving, v1/g2 candidate", roles(t, e))
	awaitLive(t, e, 2)
	difference, err := e.Compare(t.Context(), view.Namespace{}, view.Namespace{}, projection.CompareOptions{MaxDocuments: 3})
	require.NoError(t, err)
	require.True(t, difference.GetEqual())
	require.NotEmpty(t, difference.GetCollections())
	for _, c := range difference.GetCollections() {
		require.Equal(t, c.GetDigest(), c.GetOtherDigest())
		require.Equal(t, c.GetDocuments(), c.GetOtherDocuments())
	}
	require.NoError(t, e.SwitchOver(t.Context(), by, view.Namespace{}))
	require.Equal(t, "v1/g2 serving, v1/g1 previous", roles(t, e))
	require.Equal(t, generation(1, 2), e.Status().Namespace)
	requireClean(t, e, log)

	// The one that served folds on, so that one can go back to it.
	projectiontest.WaitFor(t, e, projectiontest.Append(t, log, g.events(50)...))
	require.NoError(t, e.Rollback(t.Context(), by))
	require.Equal(t, "v1/g1 serving, v1/g2 previous", roles(t, e))
	requireClean(t, e, log)
	require.NoError(t, e.Drop(t.Context(), by, generation(1, 2)))
	require.Equal(t, "v1/g1 serving", roles(t, e))
	all, err := views.Namespaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []view.Namespace{generation(1, 1)}, all)

	// Numbers are not used again; a rebuild can switch by itself, and goes on after a restart.
	ns, err = e.Rebuild(t.Context(), by, projection.RebuildOptions{SwitchWhenReady: true, MaxEventsPerSecond: 1})
	require.NoError(t, err)
	require.Equal(t, generation(1, 3), ns)
	stop()
	e, _ = projectiontest.Start(t, visits(), log, views, projection.Options{})
	report, err := e.Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, "rebuild by ada: to see it", report.GetGenerations()[1].GetReason())
	require.NoError(t, e.Drop(t.Context(), by, ns))
	_, err = e.Rebuild(t.Context(), by, projection.RebuildOptions{SwitchWhenReady: true})
	require.NoError(t, err)
	awaitRoles(t, e, "v1/g4 serving, v1/g1 previous")
	requireClean(t, e, log)

	// Every operation stands in the log, with who asked for it.
	var operations []string
	for ev := range operated(t, log) {
		require.Equal(t, "ada", ev.GetActor().GetId())
		operations = append(operations, strings.TrimPrefix(ev.GetPayload().GetProjectionOperated().GetOperation().String(), "PROJECTION_OPERATION_"))
	}
	require.Equal(t, "REBUILD SWITCH_OVER ROLLBACK DROP REBUILD DROP REBUILD", strings.Join(operations, " "))
}

func operated(t *testing.T, log eventstore.Store) func(yield func(*eventv1.Event) bool) {
	return func(yield func(*eventv1.Event) bool) {
		for rec, err := range log.ReadStream(t.Context(), "operations.projections", eventstore.ReadStreamOptions{}) {
			require.NoError(t, err)
			ev := &eventv1.RecordedEvent{}
			require.NoError(t, decoder{}.DecodeInto(rec, ev))
			if !yield(ev.GetEvent()) {
				return
			}
		}
	}
}

// TestSwitchUnderLoad switches to and fro while events are written and read:
// no read fails, and none misses what was waited for.
func TestSwitchUnderLoad(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	e, _ := projectiontest.Start(t, visits(), log, views, projection.Options{})
	_, err := e.Rebuild(t.Context(), projection.By{}, projection.RebuildOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var reads atomic.Int64
	for w := range 3 {
		wg.Go(func() {
			profile := fmt.Sprintf("w%d", w)
			for n := 1; ctx.Err() == nil; n++ {
				last := projectiontest.Append(t, log, projectiontest.NewEvent("acme", profile, n, projectiontest.Epoch.Add(time.Duration(n)*time.Second),
					&eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/"}}}))
				if !waited(t, e, last) {
					return
				}
				reader := e.Reader()
				doc, _, err := reader.Document(t.Context(), "acme", profile)
				if err != nil || doc.GetInteractionCount() != int64(n) {
					t.Errorf("after %d events %d: %v", n, doc.GetInteractionCount(), err)
					return
				}
				c, page, err := reader.CustomerRows(t.Context(), "pages", "acme", profile, func(projection.Customer) view.Query {
					return view.Query{Index: "time", Prefixes: []view.Tuple{{view.String(profile)}}, Limit: view.MaxLimit}
				})
				if err != nil || c.ID != profile || len(page.Entries) != min(n, view.MaxLimit) {
					t.Errorf("after %d events %d rows: %v", n, len(page.Entries), err)
					return
				}
				reads.Add(1)
			}
		})
	}
	for i := range 20 {
		require.Eventually(t, func() bool { return reads.Load() > int64(20*i) || t.Failed() }, time.Minute, time.Millisecond)
		if i%2 == 0 {
			if i == 0 {
				require.NoError(t, e.SwitchOver(t.Context(), projection.By{}, view.Namespace{}))
				continue
			}
			difference, err := e.Compare(t.Context(), generation(1, 1), generation(1, 2), projection.CompareOptions{MaxDocuments: 3})
			require.NoError(t, err)
			require.True(t, difference.GetEqual(), difference)
		}
		require.NoError(t, e.Rollback(t.Context(), projection.By{}))
	}
	cancel()
	wg.Wait()
	requireClean(t, e, log)
}

// waited waits for a position; false where it was in vain.
func waited(t *testing.T, e *visitEngine, position eventstore.Position) bool {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.WaitFor(ctx, position); err != nil {
		t.Errorf("wait for %d: %v", position, err)
		return false
	}
	return true
}

// doubled is visits in a later version, which counts every visit twice.
func doubled() projection.Customers[*customerv1.Customer] {
	def := visits()
	def.Version = 2
	def.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		doc.InteractionCount++
		return foldVisit(doc, rec)
	}
	return def
}

// TestNewVersion starts a binary of a later version on the views of an earlier one.
func TestNewVersion(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	last := projectiontest.Append(t, log, projectiontest.Events(t, "p1 page.viewed {}\np1 page.viewed {}")...)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	stop()

	deps := projection.Deps{Log: log, Views: views}
	e, err := projection.New(t.Context(), doubled(), projection.Deps{Log: log, Codec: decoder{}, Views: views}, visits())
	require.NoError(t, err)
	require.Equal(t, int64(2), visitsOf(t, e, "p1"), "it serves what the earlier version computed")
	require.NoError(t, e.Close())

	e, stop = projectiontest.StartWith(t, doubled(), deps, visits())
	awaitRoles(t, e, "v2/g2 serving, v1/g1 previous")
	require.Eventually(t, func() bool { return visitsOf(t, e, "p1") == 4 }, time.Minute, time.Millisecond)
	last = projectiontest.Append(t, log, projectiontest.NewEvent("acme", "p1", 9, projectiontest.Epoch,
		&eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{}}}))
	projectiontest.WaitFor(t, e, last)
	require.Equal(t, int64(6), visitsOf(t, e, "p1"))
	require.NoError(t, e.Rollback(t.Context(), projection.By{}))
	require.Equal(t, int64(3), visitsOf(t, e, "p1"), "the earlier version folded on")
	stop()

	// Rolled back it stays, also after a restart.
	e, stop = projectiontest.StartWith(t, doubled(), deps, visits())
	require.Equal(t, "v1/g1 serving, v2/g2 previous", roles(t, e))
	awaitLive(t, e, 2)
	require.Equal(t, "v1/g1 serving, v2/g2 previous", roles(t, e))
	require.NoError(t, e.SwitchOver(t.Context(), projection.By{}, generation(2, 2)))
	stop()

	// The earlier binary goes on with its own while that is there; without it it says what to do.
	old, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	require.Equal(t, int64(3), visitsOf(t, old, "p1"))
	stop()
	e, stop = projectiontest.StartWith(t, doubled(), deps, visits())
	require.NoError(t, e.Drop(t.Context(), projection.By{}, generation(1, 1)))
	stop()
	_, err = projection.New(t.Context(), visits(), projection.Deps{Log: log, Codec: decoder{}, Views: views})
	require.ErrorIs(t, err, view.ErrNewerFormat)
	require.ErrorContains(t, err, "newer binary")
}

// TestNewVersionWithoutThePreviousOne serves the new version at once, since nobody
// could read the earlier one.
func TestNewVersionWithoutThePreviousOne(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	last := projectiontest.Append(t, log, projectiontest.Events(t, "p1 page.viewed {}\np1 page.viewed {}")...)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	stop()
	e, _ = projectiontest.Start(t, doubled(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	require.Equal(t, int64(4), visitsOf(t, e, "p1"))
	require.ErrorIs(t, e.Rollback(t.Context(), projection.By{}), projection.ErrFrozen)
	require.NoError(t, e.Drop(t.Context(), projection.By{}, generation(1, 1)))
	require.Equal(t, "v2/g2 serving", roles(t, e))
}

func TestPause(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	last := projectiontest.Append(t, log, projectiontest.Events(t, "p1 page.viewed {}")...)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	require.NoError(t, e.Pause(t.Context(), projection.By{Actor: &eventv1.Actor{Id: "ada"}, Reason: "the disk is being moved"}))
	last = projectiontest.Append(t, log, projectiontest.NewEvent("acme", "p1", 9, projectiontest.Epoch,
		&eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{}}}))
	paused := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := e.WaitFor(ctx, last)
		require.ErrorIs(t, err, projection.ErrBehind)
		require.ErrorIs(t, err, projection.ErrPaused)
		require.ErrorContains(t, err, "ada: the disk is being moved")
		require.Equal(t, projection.Paused, e.Status().State)
		require.Equal(t, int64(1), visitsOf(t, e, "p1"))
	}
	paused()
	stop()
	e, _ = projectiontest.Start(t, visits(), log, views, projection.Options{})
	require.Eventually(t, func() bool { return e.Status().State == projection.Paused }, time.Minute, time.Millisecond)
	paused()
	require.NoError(t, e.Resume(t.Context(), projection.By{}))
	projectiontest.WaitFor(t, e, last)
	require.Equal(t, int64(2), visitsOf(t, e, "p1"))
}

// TestPagesOverASwitch goes on with the pages of the generation in which they were begun.
func TestPagesOverASwitch(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	last := projectiontest.Append(t, log, newGenerator(3, 20).events(200)...)
	e, _ := projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	_, err := e.Rebuild(t.Context(), projection.By{}, projection.RebuildOptions{})
	require.NoError(t, err)
	awaitLive(t, e, 2)
	q := view.Query{Tenant: "acme", Index: "count", Limit: 3}
	whole, err := e.Reader().Query(t.Context(), view.Query{Tenant: "acme", Index: "count", Limit: view.MaxLimit})
	require.NoError(t, err)
	page, err := e.Reader().Query(t.Context(), q)
	require.NoError(t, err)
	require.NoError(t, e.SwitchOver(t.Context(), projection.By{}, view.Namespace{}))
	all := page.Entries
	first := page.Next
	for page.Next != nil {
		q.Cursor = page.Next
		page, err = e.Reader().Query(t.Context(), q)
		require.NoError(t, err)
		all = append(all, page.Entries...)
	}
	require.Equal(t, whole.Entries, all)
	require.NoError(t, e.Drop(t.Context(), projection.By{}, generation(1, 1)))
	q.Cursor = first
	_, err = e.Reader().Query(t.Context(), q)
	require.ErrorIs(t, err, view.ErrInvalidCursor)
	for _, garbage := range [][]byte{{}, {1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, []byte("garbage")} {
		q.Cursor = garbage
		_, err = e.Reader().Query(t.Context(), q)
		require.ErrorIs(t, err, view.ErrInvalidCursor, garbage)
	}
}

// TestVerify finds a document that is not what the log says.
func TestVerify(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	events := newGenerator(21, 60).events(1500)
	last := projectiontest.Append(t, log, events...)
	// The binary of then counted one visit of one customer too many.
	wrong := visits()
	var once sync.Once
	wrong.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		if err := foldVisit(doc, rec); err != nil {
			return err
		}
		once.Do(func() { doc.InteractionCount++ })
		return nil
	}
	e, stop := projectiontest.Start(t, wrong, log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	stop()
	e, _ = projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	var steps []string
	opts := projection.VerifyOptions{CompareOptions: projection.CompareOptions{MaxDocuments: 5, Progress: func(p *opsv1.Progress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.GetStep() {
			steps = append(steps, p.GetStep())
		}
	}}}
	difference, err := e.Verify(t.Context(), projection.By{}, opts)
	require.NoError(t, err)
	require.False(t, difference.GetEqual())
	require.Contains(t, steps, "folding")
	require.Contains(t, steps, "comparing visitors")
	c := difference.GetCollections()[0]
	require.Equal(t, "visitors", c.GetCollection())
	require.EqualValues(t, 1, c.GetDiffering())
	require.Len(t, c.GetExamples(), 1)
	paths := map[string]bool{}
	for _, f := range c.GetExamples()[0].GetFields() {
		paths[f.GetPath()] = true
		require.NotEqual(t, f.GetValue(), f.GetOtherValue())
	}
	require.True(t, paths["interaction_count"], c.GetExamples())
	require.Equal(t, "v1/g1 serving", roles(t, e), "the scratch generation is gone")

	// A sample is right about the customers that are in it.
	seen := map[bool]int{}
	for range 12 {
		opts.Sample = 0.5
		difference, err := e.Verify(t.Context(), projection.By{}, opts)
		require.NoError(t, err)
		require.InDelta(t, 0.5, difference.GetSample(), 0)
		seen[difference.GetEqual()]++
		for _, c := range difference.GetCollections() {
			require.LessOrEqual(t, c.GetDiffering(), uint64(1), c)
		}
	}
	require.Positive(t, seen[true], "never was the wrong one left out")
	require.Positive(t, seen[false], "never was the wrong one chosen")

	// Who goes away leaves nothing behind.
	ctx, cancel := context.WithCancel(t.Context())
	opts.MaxEventsPerSecond = 1
	opts.Progress = func(p *opsv1.Progress) {
		if p.GetStep() == "folding" {
			cancel()
		}
	}
	_, err = e.Verify(ctx, projection.By{}, opts)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "v1/g1 serving", roles(t, e))
}

// subscriptions counts how often a log is read from its start.
type subscriptions struct {
	eventstore.Store
	fromStart atomic.Int32
}

func (s *subscriptions) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	if opts.After == 0 {
		s.fromStart.Add(1)
	}
	return s.Store.Subscribe(ctx, opts)
}

// TestOneScanForSeveral rebuilds three projections with one reading of the log.
func TestOneScanForSeveral(t *testing.T) {
	t.Parallel()
	log := &subscriptions{Store: projectiontest.NewLog(t)}
	views := projectiontest.NewViews(t)
	last := projectiontest.Append(t, log, newGenerator(8, 50).events(3000)...)
	scans := &projection.Scans{}
	var engines []*visitEngine
	for i := range 3 {
		def := visits()
		def.Name = fmt.Sprintf("visits_%d", i)
		if i == 2 {
			def.Types = []string{"parley.page.viewed"}
		}
		e, _ := projectiontest.StartWith(t, def, projection.Deps{Log: log, Views: views, Scans: scans, Options: projection.Options{ReadBatch: 100, CommitEvents: 50}})
		projectiontest.WaitFor(t, e, last)
		engines = append(engines, e)
	}
	before := log.fromStart.Load()
	for _, e := range engines {
		_, err := e.Rebuild(t.Context(), projection.By{}, projection.RebuildOptions{SwitchWhenReady: true, Scan: "all"})
		require.NoError(t, err)
	}
	for _, e := range engines {
		awaitRoles(t, e, "v1/g2 serving, v1/g1 previous")
		difference, err := e.Compare(t.Context(), view.Namespace{Generation: 1}, view.Namespace{}, projection.CompareOptions{MaxDocuments: 2})
		require.NoError(t, err)
		require.True(t, difference.GetEqual(), difference)
		require.Zero(t, e.Status().DeadLetters)
	}
	require.Equal(t, before+1, log.fromStart.Load())
	requireClean(t, engines[0], log)
}

// TestListed shows a projection that operators can do nothing with.
func TestListed(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	last := projectiontest.Append(t, log, newGenerator(3, 5).events(20)...)
	e, _ := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{})
	projectiontest.WaitFor(t, e, last)
	l := projection.Listed(e)
	report, err := l.Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, "visits", report.GetName())
	require.Len(t, report.GetGenerations(), 1)
	require.EqualValues(t, last, report.GetGenerations()[0].GetPosition())
	require.Zero(t, report.GetGenerations()[0].GetLagEvents())
	require.ErrorIs(t, l.Pause(t.Context(), projection.By{}), projection.ErrNotOperable)
	_, err = l.Rebuild(t.Context(), projection.By{}, projection.RebuildOptions{})
	require.ErrorIs(t, err, projection.ErrNotOperable)
	_, err = l.Verify(t.Context(), projection.By{}, projection.VerifyOptions{})
	require.ErrorIs(t, err, projection.ErrNotOperable)
	page, err := l.DeadLetters(t.Context(), view.Namespace{}, projection.DeadLetterQuery{})
	require.NoError(t, err)
	require.Empty(t, page.DeadLetters)
}
