package projection_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
)

// TestStandby runs a projection in two processes on views that both have open: one
// folds, the other takes over.
func TestStandby(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	deps := projection.Deps{Log: log, Views: views, Lease: newOneLease(), Options: projection.Options{PollInterval: 10 * time.Millisecond}}
	one, stopOne := projectiontest.StartWith(t, visits(), deps)
	require.Eventually(t, func() bool { return one.Status().State == projection.Live }, time.Minute, time.Millisecond)
	two, stopTwo := projectiontest.StartWith(t, visits(), deps)
	defer stopTwo()
	last := projectiontest.Append(t, log, newGenerator(5, 10).events(100)...)
	projectiontest.WaitFor(t, two, last)
	a, err := one.Digest(t.Context())
	require.NoError(t, err)
	b, err := two.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, a.String(), b.String())

	// Whoever is asked, the one that folds does it.
	_, err = two.Rebuild(t.Context(), projection.By{}, projection.RebuildOptions{})
	require.NoError(t, err)
	awaitLive(t, one, 2)
	require.NoError(t, two.SwitchOver(t.Context(), projection.By{}, view.Namespace{}))
	require.Equal(t, generation(1, 2), two.Status().Namespace)
	require.Eventually(t, func() bool { return one.Status().Namespace == generation(1, 2) }, time.Minute, time.Millisecond)
	_, err = two.Compare(t.Context(), generation(1, 1), view.Namespace{}, projection.CompareOptions{})
	var notActive *projection.NotActiveError
	require.ErrorAs(t, err, &notActive)

	stopOne()
	require.Eventually(t, func() bool { return two.Status().State == projection.Live }, time.Minute, time.Millisecond)
	last = projectiontest.Append(t, log, newGenerator(6, 10).events(100)...)
	projectiontest.WaitFor(t, two, last)
	requireClean(t, two, log)
}

// oneLease is a lease within this process.
type oneLease struct{ free chan struct{} }

func newOneLease() *oneLease {
	l := &oneLease{free: make(chan struct{}, 1)}
	l.free <- struct{}{}
	return l
}

func (l *oneLease) Acquire(ctx context.Context) (<-chan struct{}, func(), error) {
	select {
	case <-l.free:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	lost := make(chan struct{})
	var once sync.Once
	return lost, func() {
		once.Do(func() {
			close(lost)
			l.free <- struct{}{}
		})
	}, nil
}

// TestFencedIsFollowed takes a projection over from a process that holds the
// lease still: its readers see what the other one folds, and no error.
func TestFencedIsFollowed(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	deps := projection.Deps{Log: log, Views: views, Options: projection.Options{PollInterval: 10 * time.Millisecond}}
	deps.Lease = newOneLease()
	one, _ := projectiontest.StartWith(t, visits(), deps)
	require.Eventually(t, func() bool { return one.Status().State == projection.Live }, time.Minute, time.Millisecond)

	// Two thinks so as well, as after a partition of the network.
	deps.Lease = newOneLease()
	two, stopTwo := projectiontest.StartWith(t, visits(), deps)
	require.Eventually(t, func() bool { return two.Status().State == projection.Live }, time.Minute, time.Millisecond)
	generator := newGenerator(5, 10)
	for range 20 {
		last := projectiontest.Append(t, log, generator.events(10)...)
		projectiontest.WaitFor(t, one, last)
		projectiontest.WaitFor(t, two, last)
	}
	stopTwo()
	projectiontest.WaitFor(t, one, projectiontest.Append(t, log, generator.events(10)...))
	requireClean(t, one, log)
}

// awayViews are views whose server can be away.
type awayViews struct {
	view.Store
	away atomic.Bool
}

func (v *awayViews) Control(ctx context.Context, name string) (view.Control, error) {
	if v.away.Load() {
		return view.Control{}, fmt.Errorf("%w: connection refused", view.ErrUnavailable)
	}
	return v.Store.Control(ctx, name)
}

// TestIdleAndAway has the views go away while there is nothing to fold: nothing
// fails then by which a projection would notice.
func TestIdleAndAway(t *testing.T) {
	t.Parallel()
	for _, lease := range []projection.Lease{nil, &oneLease{}} { // one that folds, and one that stands by
		views := &awayViews{Store: projectiontest.NewViews(t)}
		e, _ := projectiontest.StartWith(t, visits(), projection.Deps{
			Log: projectiontest.NewLog(t), Views: views, Lease: lease, Options: projection.Options{PollInterval: 5 * time.Millisecond},
		})
		await := func(state projection.State, cause error) {
			require.Eventually(t, func() bool {
				status := e.Status()
				return status.State == state && errors.Is(status.Err, cause)
			}, time.Minute, time.Millisecond)
		}
		await(projection.Live, nil)
		views.away.Store(true)
		await(projection.Retrying, view.ErrUnavailable)
		views.away.Store(false)
		await(projection.Live, nil)
	}
}

// sharedViews say that other processes have them open.
type sharedViews struct{ view.Store }

func (sharedViews) Shared() bool { return true }

// TestRetryFromAStandby asks a process that stands by to retry: the one that
// folds does it, or says why not.
func TestRetryFromAStandby(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), sharedViews{projectiontest.NewViews(t)}
	var poisoned atomic.Bool
	poisoned.Store(true)
	last := projectiontest.Append(t, log, projectiontest.Events(t, "p1 page.viewed {}\np1 page.viewed {\"path\": \"/poison\"}\np1 page.viewed {}")...)
	deps := projection.Deps{Log: log, Views: views, Lease: newOneLease(), Options: projection.Options{
		PollInterval: 10 * time.Millisecond, RetryDelay: time.Microsecond,
	}}
	deps.Process = "one"
	one, _ := projectiontest.StartWith(t, poisonable(&poisoned), deps)
	projectiontest.WaitFor(t, one, last)
	deps.Process = "two"
	two, _ := projectiontest.StartWith(t, poisonable(&poisoned), deps)
	projectiontest.WaitFor(t, two, last)
	result, err := two.Retry(t.Context(), projection.By{}, view.Namespace{})
	require.NoError(t, err)
	require.Equal(t, projection.RetryResult{Failed: 1, Waiting: 1}, result)

	require.NoError(t, two.Pause(t.Context(), projection.By{Reason: "the disk is being moved"}))
	_, err = two.Retry(t.Context(), projection.By{}, view.Namespace{})
	require.Error(t, err)

	// What is about to fold again does it then.
	poisoned.Store(false)
	for round := range 30 {
		require.NoError(t, two.Resume(t.Context(), projection.By{}))
		result, err = two.Retry(t.Context(), projection.By{}, view.Namespace{})
		require.NoError(t, err)
		if round == 0 {
			require.EqualValues(t, 2, result.Folded)
		}
		require.NoError(t, two.Pause(t.Context(), projection.By{Reason: "once more"}))
	}
	require.NoError(t, two.Resume(t.Context(), projection.By{}))
	require.Eventually(t, func() bool { return one.Status().State == projection.Live }, time.Minute, time.Millisecond)
	requireClean(t, one, log)
}
