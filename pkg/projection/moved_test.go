package projection_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// TestSkipsInALogThatWasMoved heeds what was skipped before the move where that
// event is now, and nothing else at the position it had.
func TestSkipsInALogThatWasMoved(t *testing.T) {
	t.Parallel()
	before := projectiontest.NewLog(t)
	projectiontest.Append(t, before, projectiontest.Events(t, poisoned)...)
	var bad atomic.Bool
	bad.Store(true)
	e, stop := projectiontest.Start(t, poisonable(&bad), before, projectiontest.NewViews(t), projection.Options{RetryDelay: time.Microsecond})
	projectiontest.WaitFor(t, e, 5)
	_, err := e.Skip(t.Context(), projection.By{Reason: "a test call"}, view.Namespace{}, 3)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return visitsOf(t, e, "p1") == 2 }, time.Minute, time.Millisecond)
	want, other := visitsOf(t, e, "p1"), visitsOf(t, e, "p2")
	stop()

	log := projectiontest.NewLog(t)
	_, err = logcopy.Copy(t.Context(), before, log, logcopy.Options{})
	require.NoError(t, err)
	origins, err := posmap.Load(t.Context(), log)
	require.NoError(t, err)
	head, err := log.Head(t.Context())
	require.NoError(t, err)
	moved, err := origins.Resolve(t.Context(), before.LogID(), 3)
	require.NoError(t, err)
	require.NotEqualValues(t, 3, moved)
	for _, takes := range []bool{false, true} {
		bad.Store(!takes)
		e, stop := projectiontest.StartWith(t, poisonable(&bad), projection.Deps{
			Log: log, Origins: origins, Views: projectiontest.NewViews(t), Options: projection.Options{RetryDelay: time.Microsecond},
		})
		projectiontest.WaitFor(t, e, head)
		require.Equal(t, want, visitsOf(t, e, "p1"))
		require.Equal(t, other, visitsOf(t, e, "p2"))
		require.Empty(t, deadLetters(t, e))
		letters := deadLetters(t, e, opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED)
		require.Equal(t, []uint64{uint64(moved)}, positionsOf(letters))
		stop()
	}
}

// TestViewsOfALogThatWasMoved starts over the views of the log that was copied:
// they are set aside and computed anew, and what was given out before the move
// is waited for.
func TestViewsOfALogThatWasMoved(t *testing.T) {
	t.Parallel()
	before, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	last := projectiontest.Append(t, before, newGenerator(3, 10).events(100)...)
	e, stop := projectiontest.Start(t, visits(), before, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	stop()

	log := projectiontest.NewLog(t)
	_, err := logcopy.Copy(t.Context(), before, log, logcopy.Options{})
	require.NoError(t, err)
	origins, err := posmap.Load(t.Context(), log)
	require.NoError(t, err)
	for range 2 { // again, it is just theirs
		e, stop = projectiontest.StartWith(t, visits(), projection.Deps{Log: log, Origins: origins, Views: views})
		moved, err := origins.Resolve(t.Context(), before.LogID(), last)
		require.NoError(t, err)
		projectiontest.WaitFor(t, e, moved)
		require.Equal(t, "v1/g2 serving, v1/g1 retired", roles(t, e))
		requireClean(t, e, log)
		stop()
	}

	// Another log's are left alone.
	other := projectiontest.NewLog(t)
	origins, err = posmap.Load(t.Context(), other)
	require.NoError(t, err)
	e, _ = projectiontest.StartWith(t, visits(), projection.Deps{Log: other, Origins: origins, Views: views})
	require.Eventually(t, func() bool { return e.Status().State == projection.Halted }, time.Minute, time.Millisecond)
	require.ErrorIs(t, e.Status().Err, projection.ErrOtherLog)
}
