package takeovertest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

// deadline is how long a test waits for what must come; generous, for a machine
// that runs other tests meanwhile.
const deadline = time.Minute

func newDeadline() *time.Timer { return time.NewTimer(deadline) }

func withDeadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), deadline)
}

func timeOf(seconds int) time.Duration { return time.Duration(seconds) * time.Second }

func openStore(t *testing.T) *embedded.Store {
	t.Helper()
	s, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func newRecord(t *testing.T) eventstore.NewRecord {
	t.Helper()
	id, err := uuid.NewRandom()
	require.NoError(t, err)
	return eventstore.NewRecord{ID: id, Type: "parley.page.viewed", Data: []byte{1, 2}, Metadata: []byte(`{}`)}
}

// rounds is how often a recorder is stopped: PARLEY_TAKEOVER_ROUNDS, else few.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("PARLEY_TAKEOVER_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 2
}

// Two recorders; the one that records is stopped in the middle of a batch, the
// other takes over, the first one goes on. The log is as if there had been one
// recorder and nobody had stopped it.
func TestTakeoverOfAPausedRecorder(t *testing.T) {
	t.Parallel()
	t.Run("one commit", func(t *testing.T) {
		t.Parallel()
		takeovers(t, true, strain{perSecond: 600, waiting: 400})
	})
	// As at an EventStoreDB: a batch is appended stream by stream.
	t.Run("part by part", func(t *testing.T) {
		t.Parallel()
		takeovers(t, false, strain{perSecond: 150, waiting: 100})
	})
}

// when a recorder is stopped.
type when string

const (
	anytime     when = "at a random moment"
	asking      when = "before its append is done"
	beforeKnown when = "before it knows of its append"
	afterHead   when = "between the head and the append"
)

// then is what becomes of it.
type then string

const (
	late   then = "it goes on when the other one records"
	landed then = "its call is done meanwhile, and it goes on when the other one records"
	early  then = "it goes on when the other one is about to record"
	killed then = "it is killed, and another one stands by"
	blink  then = "it goes on after about the time of a lease"
)

// scenario is what a round does.
type scenario struct {
	when
	then
}

func every() (all []scenario) {
	for _, w := range []when{anytime, asking, beforeKnown, afterHead} {
		for _, th := range []then{late, landed, early, killed, blink} {
			if w == anytime && th == landed {
				continue // there is no call that is held
			}
			all = append(all, scenario{w, th})
		}
	}
	return all
}

// scenarios are all of them, in the order of rng, again and again.
func scenarios(rng *rand.Rand) func() (when, then) {
	var left []scenario
	return func() (when, then) {
		if len(left) == 0 {
			left = every()
			rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		s := left[0]
		left = left[1:]
		return s.when, s.then
	}
}

// rig is two recorders and those who stop them.
type rig struct {
	t       *testing.T
	rng     *rand.Rand
	server  *server
	nats    string
	batches bool

	active, other *process
	started       int
	took          []time.Duration // takeovers
	gone          []string        // children that were killed
}

func takeovers(t *testing.T, batches bool, much strain) {
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("PARLEY_TAKEOVER_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d (PARLEY_TAKEOVER_SEED), %d rounds", seed, rounds())
	store := openStore(t)
	b, err := bus.Open(t.Context(), bus.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}, bus.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	heard := listen(t, b.Addr())
	r := &rig{t: t, rng: rand.New(rand.NewPCG(seed, 1)), server: serve(t, store), nats: "nats://" + b.Addr(), batches: batches}
	r.active, r.other = r.start(t.TempDir()), r.start(t.TempDir())
	l := begin(t, r.server, b, much, seed)
	audit := newAuditor(t, batches)
	r.settle()
	next := scenarios(r.rng)
	for i := range rounds() {
		w, th := next()
		before := len(r.took)
		r.round(w, th)
		audit.read(store)
		took := "no takeover"
		if len(r.took) > before {
			took = "taken over after " + r.took[before].Round(time.Millisecond).String()
		}
		t.Logf("round %d: stopped %s; %s: %s", i+1, w, th, took)
	}
	l.stop()
	l.last(1)
	r.settled(func() bool { return true })
	r.await("both have read the log", func() bool {
		head, err := store.Head(t.Context())
		return err == nil && r.server.look(r.active.name()).status.Position == head && r.server.look(r.other.name()).status.Position == head
	})
	r.summary(l, audit, store)
	r.other.stop()
	r.active.stop()

	audit.read(store)
	audit.checkComplete(l)
	audit.checkCommands(l)
	profiles, together := audit.checkGraph()
	require.Positive(t, together)
	t.Logf("%d profiles, %d of them together with others", profiles, together)
	checkIndexes(t, store, r.active.settings.IndexDir, r.other.settings.IndexDir)
	checkUndisturbed(t, store, heard.heard(), l, seed, batches)
}

func (r *rig) start(dir string) *process {
	r.t.Helper()
	r.started++
	return start(r.t, settings{
		Name: fmt.Sprintf("recorder %d", r.started), Store: r.server.address, NATS: r.nats, IndexDir: dir, Batches: r.batches,
	})
}

// await waits for a condition that the wire tells.
func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	timer := newDeadline()
	defer timer.Stop()
	for {
		changed := r.server.watch()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-r.active.ended:
			require.Fail(r.t, "the active recorder has ended", "%v, waiting for: %s", r.active.err, what)
		case <-r.other.ended:
			require.Fail(r.t, "the standby has ended", "%v, waiting for: %s", r.other.err, what)
		case <-timer.C:
			require.Fail(r.t, "it does not come", "%s; active %+v, other %+v", what, r.server.look(r.active.name()), r.server.look(r.other.name()))
		}
		require.False(r.t, r.t.Failed())
	}
}

// settle waits until exactly one of the two records, as both say now, and has
// recorded something, and calls it active.
func (r *rig) settle() {
	r.t.Helper()
	x, y := r.active.name(), r.other.name()
	began := map[string]seen{x: r.server.look(x), y: r.server.look(y)}
	r.settled(func() bool {
		for name, before := range began {
			now := r.server.look(name)
			if now.status.Active && now.accepted > before.accepted {
				return true
			}
		}
		return false
	})
}

// settled waits for cond while exactly one of the two says that it records.
func (r *rig) settled(cond func() bool) {
	r.t.Helper()
	x, y := r.server.look(r.active.name()).reports, r.server.look(r.other.name()).reports
	r.await("one records and the other does not", func() bool {
		a, b := r.server.look(r.active.name()), r.server.look(r.other.name())
		return a.reports > x+1 && b.reports > y+1 && a.status.Active != b.status.Active && cond()
	})
	if !r.server.look(r.active.name()).status.Active {
		r.active, r.other = r.other, r.active
	}
}

// round stops the active one, and lets it go on.
func (r *rig) round(w when, th then) {
	r.t.Helper()
	first, second := r.active, r.other
	var second1 *hold
	if th == early {
		second1 = r.server.hold(second.name(), true, asked, 0)
		defer second1.release()
	}
	held := r.stopInBatch(first, w, th == killed)
	defer held.release()
	r.server.mark(second.name())
	stopped, before := time.Now(), r.server.look(first.name())

	meanwhile := r.rng.IntN(2) == 0 // the call is done before it goes on, or after
	switch th {
	case blink:
		r.blink()
		held.release()
		first.goOn()
		r.settle()
		if r.active != first {
			r.took = append(r.took, r.server.look(second.name()).first.Sub(stopped))
		}
		return
	case landed:
		held.release()
		r.await("the call is done", func() bool { return closed(held.passed) })
		r.takenOver(stopped, second)
		first.goOn()
	case late:
		r.takenOver(stopped, second)
		if meanwhile {
			held.release()
		}
		first.goOn()
		held.release()
	case early:
		r.await("the other one is about to record", func() bool { return closed(second1.reached) })
		r.took = append(r.took, time.Since(stopped))
		held.release()
		first.goOn()
		// It has its turn, or sees that it has none any more.
		r.await("the first one goes on", func() bool {
			now := r.server.look(first.name())
			return now.answered > before.answered || now.reports > before.reports+1 && !now.status.Active
		})
		second1.release()
	case killed:
		if meanwhile {
			held.release()
		}
		dir := first.settings.IndexDir
		if r.rng.IntN(2) == 0 {
			dir = r.t.TempDir()
		}
		r.gone = append(r.gone, first.name())
		r.active, r.other = second, r.start(dir)
		// Both wait for the lease; the new one may have begun in time to be first.
		r.takenOver(stopped, r.active, r.other)
		held.release()
	}
	r.settle()
}

// takenOver waits until another one has recorded something, and perhaps a
// little longer.
func (r *rig) takenOver(stopped time.Time, others ...*process) {
	r.t.Helper()
	var by string
	r.await("another one records", func() bool {
		for _, p := range others {
			if !r.server.look(p.name()).first.IsZero() {
				by = p.name()
				return true
			}
		}
		return false
	})
	r.took = append(r.took, r.server.look(by).first.Sub(stopped))
	target := r.server.look(by).accepted + r.rng.IntN(4)
	r.await("it goes on recording", func() bool { return r.server.look(by).accepted >= target })
}

// stopInBatch pauses or kills a recorder and gives what holds its call.
func (r *rig) stopInBatch(p *process, w when, kill bool) *hold {
	r.t.Helper()
	stop := func() {
		if kill {
			p.kill()
		} else {
			p.pause()
		}
	}
	var h *hold
	switch w {
	case anytime:
		from := r.server.look(p.name()).answered + r.rng.IntN(20)
		r.await("it records", func() bool { return r.server.look(p.name()).answered > from })
		moment := time.NewTimer(time.Duration(r.rng.Int64N(int64(20 * time.Millisecond))))
		<-moment.C
		stop()
		return &hold{released: make(chan struct{}), passed: make(chan struct{})}
	case asking:
		h = r.server.hold(p.name(), true, asked, r.rng.IntN(12))
	case beforeKnown:
		h = r.server.hold(p.name(), true, done, r.rng.IntN(12))
	case afterHead:
		h = r.server.hold(p.name(), false, done, r.rng.IntN(6))
	}
	r.await("its call is held", func() bool { return closed(h.reached) })
	stop()
	return h
}

// blink waits for about the time of a lease: sometimes it is taken over by then.
func (r *rig) blink() {
	moment := time.NewTimer(time.Duration(float64(bus.LeaseTTL) * (0.6 + 0.7*r.rng.Float64())))
	<-moment.C
}

func (r *rig) summary(l *load, audit *auditor, store eventstore.Store) {
	r.t.Helper()
	head, err := store.Head(r.t.Context())
	require.NoError(r.t, err)
	var all seen
	failures := 0
	for i := range r.started {
		one := r.server.look(fmt.Sprintf("recorder %d", i+1))
		all.accepted += one.accepted
		all.repeated += one.repeated
		all.conflicts += one.conflicts
		failures += one.status.Failures
	}
	events, quarantined := l.counts()
	slices.Sort(r.took)
	median, longest := time.Duration(0), time.Duration(0)
	if n := len(r.took); n > 0 {
		median, longest = r.took[n/2], r.took[n-1]
	}
	r.t.Logf("%d events, %d in quarantine, %d commands, %d records; %d takeovers, %d killed; taken over after %s in the middle, %s at most",
		events, quarantined, len(l.commands), head, len(r.took), len(r.gone), median.Round(time.Millisecond), longest.Round(time.Millisecond))
	r.t.Logf("appends: %d accepted, %d repeated, %d refused as conflicts; %d batches failed and came again", all.accepted, all.repeated, all.conflicts, failures)
	require.NotEmpty(r.t, audit.decisions)
	if rounds() >= 2*len(every()) {
		// Else the fence was not put to the test. Part by part it is nearly
		// always a repetition that is recognised.
		require.Positive(r.t, all.repeated)
		if r.batches {
			require.Positive(r.t, all.conflicts)
		}
	}
}
