package recorder

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// seedsOf are the seeds of this run, for about so long; PARLEY_TEST_SEED
// repeats one.
func seedsOf(t *testing.T, long time.Duration, run func(t *testing.T, seed uint64)) {
	t.Helper()
	one := func(seed uint64) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testseed.Print(t, seed)
			run(t, seed)
		})
	}
	if seed, given := testseed.Given(t); given {
		one(seed)
		return
	}
	for began := time.Now(); time.Since(began) < long && !t.Failed(); {
		one(rand.Uint64())
	}
}

// TestAnyFailureOfARemoteStore has a recorder on a store without a commit over
// many streams, of which appends fail, before or after they were made, or are
// made much later, in any order; which dies and is replaced, with its index, an
// older one or none; and which another one overtakes in the middle. In the end
// the log is, stream by stream and byte for byte, that of a recorder which
// nothing happened to on a store that commits all at once; but for the names of
// customers where newcomers are not kept in order.
func TestAnyFailureOfARemoteStore(t *testing.T) {
	t.Parallel()
	seedsOf(t, 8*time.Second, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		messages := newTraffic(t, rng).messages(20 + rng.IntN(60))
		plain := newRig(t, openLog(t))
		for at := 0; at < len(messages); {
			n := min(1+rng.IntN(20), len(messages)-at)
			plain.record(messages[at : at+n]...)
			at += n
		}

		w := &world{t: t, log: openLog(t), rng: rng, messages: messages, failures: rng.IntN(60), odds: 4 + rng.IntN(60), inOrder: rng.IntN(2) == 0}
		w.run()
		final := newRig(t, &remote{Store: w.log})
		final.deps.NewcomersInOrder = w.inOrder
		before := len(final.records())
		got := final.record(messages...)
		require.Len(t, final.records(), before, "all of it is there")

		require.Equal(t, plain.whoIsWho(), final.whoIsWho())
		if w.inOrder {
			require.Equal(t, plain.byStream(), final.byStream())
			require.Equal(t, plain.portableIndex(), final.portableIndex())
		} else {
			require.Equal(t, withoutDecisions(plain.byStream()), withoutDecisions(final.byStream()))
		}
		requireOnce(t, final.records())
		requireDecisionsFirst(t, plain.records(), final.records())
		requireSameAnswers(t, plain.record(messages...), got, w.inOrder)
		final.requireIndexIsLog()
	})
}

func withoutDecisions(streams map[string][]string) map[string][]string {
	maps.DeleteFunc(streams, func(stream string, _ []string) bool { return stream == event.IdentityStream(event.TenantOf(stream)) })
	return streams
}

// requireOnce: no tenant has an event twice.
func requireOnce(t *testing.T, all []*eventstore.Record) {
	t.Helper()
	seen := map[eventKey]bool{}
	for _, rec := range all {
		k := eventKey{event.TenantOf(rec.Stream), rec.ID}
		require.False(t, seen[k], "%s in %s", rec.Type, rec.Stream)
		seen[k] = true
	}
}

// requireDecisionsFirst: before each record of a tenant stand at least the
// decisions that stand before it where all is committed in order.
func requireDecisionsFirst(t *testing.T, plain, remote []*eventstore.Record) {
	t.Helper()
	type place struct {
		stream   string
		revision eventstore.Revision
	}
	decisions := func(all []*eventstore.Record) map[place]int {
		seen, before := map[string]int{}, map[place]int{}
		for _, rec := range all {
			tenant := event.TenantOf(rec.Stream)
			switch rec.Stream {
			case event.IdentityStream(tenant):
				seen[tenant]++
			case event.QuarantineStream(tenant):
			default:
				before[place{rec.Stream, rec.Revision}] = seen[tenant]
			}
		}
		return before
	}
	want, got := decisions(plain), decisions(remote)
	require.Len(t, got, len(want))
	for at, n := range want {
		require.GreaterOrEqual(t, got[at], n, "%s at %d", at.stream, int64(at.revision))
	}
}

// requireSameAnswers: who asks again hears the same of both.
func requireSameAnswers(t *testing.T, want, got []*interactionv1.IngressReply, names bool) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Len(t, got[i].GetResults(), len(want[i].GetResults()))
		for j, a := range want[i].GetResults() {
			b := got[i].GetResults()[j]
			if b.GetStream() != "" { // untold where the rules have changed since
				require.Equal(t, a.GetStream(), b.GetStream())
			}
			require.Equal(t, a.GetOutcome(), b.GetOutcome())
			require.Equal(t, a.GetEventId(), b.GetEventId())
			require.Equal(t, a.GetReason(), b.GetReason())
		}
		require.Equal(t, want[i].GetCommand().GetRefusal(), got[i].GetCommand().GetRefusal())
		if !names { // which the rest has in it
			continue
		}
		require.True(t, proto.Equal(want[i].GetCommand(), got[i].GetCommand()), "%v, %v", want[i].GetCommand(), got[i].GetCommand())
	}
}

// world is a log, the messages on the bus, and what happens to recorders.
type world struct {
	t        *testing.T
	log      *embedded.Store
	messages []bus.Message

	mu       sync.Mutex
	rng      *rand.Rand
	failures int // that may still happen
	odds     int // of an append: one in so many fails
	inOrder  bool
	floor    int // messages before it are acknowledged
	delayed  []appendOnce
	rival    *life
	busy     atomic.Bool // the rival records

	indexes []string // of recorders that are dead
}

func (w *world) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// life is a recorder from its start to its death.
type life struct {
	*rig
	dead atomic.Bool
}

// begin starts a recorder with any of the indexes that there are, or none.
func (w *world) begin(fails bool) *life {
	w.t.Helper()
	store := &remote{Store: w.log}
	l := &life{rig: &rig{t: w.t, store: store, bus: &fakeBus{}, dir: w.t.TempDir()}}
	if n := w.draw(2 * (len(w.indexes) + 1)); n < len(w.indexes) {
		l.dir = w.indexes[n]
		w.indexes = slices.Delete(w.indexes, n, n+1)
	}
	l.Recorder = newRecorder(w.t, store, l.bus, l.dir)
	l.deps.AppendsInFlight, l.deps.NewcomersInOrder = 1+w.draw(16), w.inOrder
	l.open()
	store.around = func(_ string, do appendOnce) (eventstore.Appended, error) { return w.around(l, fails, do) }
	store.asked = func() error {
		if l.dead.Load() || fails && w.fails(4) {
			return away()
		}
		return nil
	}
	return l
}

func (w *world) end(l *life) {
	require.NoError(w.t, l.index.close())
	w.indexes = append(w.indexes, l.dir)
}

// fails says whether something does, less often than an append.
func (w *world) fails(seldom int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures == 0 || w.rng.IntN(w.odds*seldom) != 0 {
		return false
	}
	w.failures--
	return true
}

// around is what happens to an append.
func (w *world) around(l *life, fails bool, do appendOnce) (eventstore.Appended, error) {
	for range w.draw(40) {
		runtime.Gosched() // others come first
	}
	if w.draw(8) == 0 {
		w.late()
	}
	if l.dead.Load() {
		if w.draw(2) == 0 {
			_, _ = do()
		}
		return eventstore.Appended{}, away()
	}
	if !fails || !w.fails(1) {
		return do()
	}
	switch w.draw(6) {
	case 0: // not made
	case 1: // made, and nobody hears of it
		_, _ = do()
	case 2: // made later
		w.mu.Lock()
		w.delayed = append(w.delayed, do)
		w.mu.Unlock()
	case 3:
		l.dead.Store(true)
	default:
		w.overtake()
		return do()
	}
	return eventstore.Appended{}, away()
}

// late makes an append that was on its way.
func (w *world) late() {
	w.mu.Lock()
	if len(w.delayed) == 0 {
		w.mu.Unlock()
		return
	}
	i := w.rng.IntN(len(w.delayed))
	do := w.delayed[i]
	w.delayed = slices.Delete(w.delayed, i, i+1)
	w.mu.Unlock()
	_, _ = do()
}

// overtake has another recorder record from the floor on.
func (w *world) overtake() {
	if !w.busy.CompareAndSwap(false, true) {
		return
	}
	defer w.busy.Store(false)
	w.deliver(w.rival)
}

// deliver hands messages over from the floor on, and acknowledges them.
func (w *world) deliver(l *life) bool {
	w.mu.Lock()
	at := w.floor
	n := min(1+w.rng.IntN(12), len(w.messages)-at)
	w.mu.Unlock()
	if err := l.handle(w.t.Context(), w.messages[at:at+n]); err != nil {
		return false
	}
	w.mu.Lock()
	w.floor = max(w.floor, at+n)
	w.mu.Unlock()
	return true
}

func (w *world) run() {
	w.rival = w.begin(false)
	defer w.end(w.rival)
	l := w.begin(true)
	for w.floor < len(w.messages) {
		if !w.deliver(l) && l.dead.Load() {
			w.end(l)
			l = w.begin(true)
		}
	}
	for len(w.delayed) > 0 {
		w.late()
	}
	w.end(l)
}
