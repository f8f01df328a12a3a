package recorder

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// partsAfter makes a part of each list of those that it waits for; its stream
// is its number.
func partsAfter(after ...[]int) *parts {
	s := newParts(false)
	for i := range after {
		s.list = append(s.list, part{StreamAppend: eventstore.StreamAppend{Stream: fmt.Sprint(i)}, after: after[i]})
	}
	return s
}

func TestSpreadKeepsTheOrderAndTheBound(t *testing.T) {
	t.Parallel()
	const parts, bound = 200, 7
	var after [][]int
	for i := range parts {
		if i%3 == 0 {
			after = append(after, nil)
			continue
		}
		after = append(after, []int{i / 2, i / 3})
	}
	s := partsAfter(after...)
	var mu sync.Mutex
	var flying, most atomic.Int64
	done := map[string]bool{}
	last, err := spread(t.Context(), s, bound, func(_ context.Context, stream string, _ eventstore.Revision, _ ...eventstore.NewRecord) (eventstore.Appended, error) {
		most.Store(max(most.Load(), flying.Add(1)))
		defer flying.Add(-1)
		mu.Lock()
		defer mu.Unlock()
		var i int
		_, err := fmt.Sscan(stream, &i)
		for _, j := range s.list[i].after {
			if !done[fmt.Sprint(j)] {
				err = fmt.Errorf("%d before %d", i, j)
			}
		}
		done[stream] = true
		return eventstore.Appended{Position: eventstore.Position(1000 - i)}, err
	})
	require.NoError(t, err)
	require.Len(t, done, parts)
	require.Equal(t, eventstore.Position(1000), last, "the last position, whoever's it is")
	require.LessOrEqual(t, most.Load(), int64(bound))
}

// After a failure nothing is begun any more, and those in flight are waited for.
func TestSpreadWaitsForThoseInFlight(t *testing.T) {
	t.Parallel()
	s := partsAfter(nil, nil, []int{0}, []int{1})
	failed := make(chan struct{})
	var mu sync.Mutex
	var made []string
	_, err := spread(t.Context(), s, 2, func(_ context.Context, stream string, _ eventstore.Revision, _ ...eventstore.NewRecord) (eventstore.Appended, error) {
		if stream == "0" {
			defer close(failed)
			return eventstore.Appended{}, away()
		}
		<-failed
		mu.Lock()
		defer mu.Unlock()
		made = append(made, stream)
		return eventstore.Appended{}, nil
	})
	require.ErrorIs(t, err, eventstore.ErrUnavailable)
	require.Equal(t, []string{"1"}, made)
}

func TestSpreadOfWhatWaitsForEachOther(t *testing.T) {
	t.Parallel()
	_, err := spread(t.Context(), partsAfter(nil, []int{2}, []int{1}), 8, func(context.Context, string, eventstore.Revision, ...eventstore.NewRecord) (eventstore.Appended, error) {
		return eventstore.Appended{}, nil
	})
	require.ErrorIs(t, err, errStuck)
}

// A batch costs one look at the head and one read of what it became, besides
// its appends.
func TestQuestionsToARemoteStore(t *testing.T) {
	t.Parallel()
	store := &remote{Store: openLog(t)}
	g := newRig(t, store)
	events := sessions(600, 30)
	g.recordEvents(events[:300]...)
	store.questions.Store(0)
	store.appends.Store(0)
	g.recordEvents(events[300:]...)
	require.EqualValues(t, 2, store.questions.Load())
	require.Less(t, store.appends.Load(), int64(300))

	store.questions.Store(0)
	require.Equal(t, duplicate, outcomes(g.recordEvents(events[17]))[0])
	require.Less(t, store.questions.Load(), int64(8), "finding a duplicate's stream takes few looks")
}

// A duplicate is answered with its stream, however long that is, and with none
// where the rules by which it was told have changed; a command that comes
// again, with what it came to.
func TestDuplicatesOfARemoteStore(t *testing.T) {
	t.Parallel()
	g := newRig(t, &remote{Store: openLog(t)})
	var events []*eventv1.Event
	for i := range 40 {
		events = append(events, page(fmt.Sprint(i), "user_id=7"), call(fmt.Sprint("call-", i%3, "-", i), "user_id=7"))
	}
	first := g.recordEvents(events...)
	again := g.recordEvents(events...)
	for i, r := range again.GetResults() {
		require.Equal(t, duplicate, r.GetOutcome())
		require.NotEmpty(t, r.GetStream())
		require.Equal(t, first.GetResults()[i].GetStream(), r.GetStream())
		require.Equal(t, first.GetResults()[i].GetPosition(), r.GetPosition())
	}

	g.recordEvents(page("other", "user_id=8"))
	merge := mergeCommand(1, "user_id=7", "user_id=8")
	replies := g.record(g.commandMessage(merge), g.message("acme", page("between", "user_id=9")), g.commandMessage(merge))
	done, repeated := replies[0].GetCommand(), replies[2].GetCommand()
	require.NotEmpty(t, done.GetEventId(), done.GetReason())
	require.True(t, repeated.GetRepeated())
	require.Equal(t, done.GetEventId(), repeated.GetEventId())

	abroad := page("abroad", "phone=030/901820")
	rules := identity.DefaultRules()
	rules.DefaultRegion = "DE"
	g.record(g.commandMessage(rulesCommand(2, "", rules)))
	told := g.recordEvents(abroad).GetResults()[0].GetStream()
	rules.DefaultRegion = ""
	g.record(g.commandMessage(rulesCommand(3, event.DerivedID(uuid.MustParse(command(2).GetId()), "rules").String(), rules)))
	reply := g.recordEvents(abroad).GetResults()[0]
	require.Equal(t, duplicate, reply.GetOutcome())
	require.NotEmpty(t, told)
	require.Empty(t, reply.GetStream())
}

// A store that cannot be reached when the recorder starts, and later in the
// middle of it, is waited for.
func TestRunWaitsForARemoteStore(t *testing.T) {
	t.Parallel()
	var gone atomic.Bool
	gone.Store(true)
	fail := func() error {
		if gone.Load() {
			return away()
		}
		return nil
	}
	store := &remote{Store: openLog(t), asked: fail}
	store.around = func(_ string, do appendOnce) (eventstore.Appended, error) {
		if err := fail(); err != nil {
			return eventstore.Appended{}, err
		}
		return do()
	}
	b, dir := openBus(t), t.TempDir()
	r := newRecorder(t, store, b, dir)
	stop := run(t, r)
	sick := func() bool {
		// And not only that it is starting.
		return errors.Is(r.Healthy(), eventstore.ErrUnavailable)
	}
	require.Eventually(t, sick, deadline, time.Millisecond)
	gone.Store(false)
	require.Eventually(t, func() bool { return r.Healthy() == nil }, deadline, time.Millisecond)
	stop()

	// Also with an index there already, which has to be compared with the log.
	g := &rig{t: t, store: store, Recorder: r, dir: dir}
	g.open()
	require.NoError(t, g.handle(t.Context(), []bus.Message{g.message("acme", page("0", "user_id=7"))}))
	require.NoError(t, g.index.close())
	gone.Store(true)
	r = newRecorder(t, store, b, dir)
	run(t, r)
	require.Eventually(t, sick, deadline, time.Millisecond)
	gone.Store(false)
	require.Eventually(t, func() bool { return r.Healthy() == nil }, deadline, time.Millisecond)

	gone.Store(true)
	answered := make(chan error, 1)
	go func() {
		_, err := b.Publisher().PublishAndWait(waiting(t), "acme", "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{page("1", "user_id=7")}})
		answered <- err
	}()
	require.Eventually(t, sick, deadline, time.Millisecond)
	gone.Store(false)
	require.NoError(t, <-answered)
	require.Len(t, (&rig{t: t, store: store, Recorder: r}).stored(), 2, "and nothing is in quarantine")
}

// A log that does not show what it has taken is not believed.
func TestReadBehindWhatWasAppended(t *testing.T) {
	t.Parallel()
	store := &stale{remote: remote{Store: openLog(t)}}
	g := newRig(t, store)
	m := g.message("acme", page("1", "user_id=7"))
	store.hide = true
	err := g.handle(t.Context(), []bus.Message{m})
	require.ErrorIs(t, err, eventstore.ErrUnavailable)
	require.Empty(t, g.bus.replies)
	store.hide = false
	g.record(m)
	require.Len(t, g.stored(), 1)
	g.requireIndexIsLog()
}

// stale is a store whose reads end before what was just appended.
type stale struct {
	remote
	hide bool
}

func (s *stale) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	if s.hide {
		return func(func(*eventstore.Record, error) bool) {}
	}
	return s.remote.ReadAll(ctx, opts)
}
