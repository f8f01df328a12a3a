package crashtest

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
	"github.com/parleyhq/parley/pkg/testkit/workload"
	"github.com/parleyhq/parley/pkg/view"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/load"
	"github.com/parleyhq/parley/services/parley/internal/process"
)

// TestCrashInReplayAndRebuild kills a process at random moments while it
// computes its read models anew: because they were deleted, or beside those
// that serve, which are read all the while and written on. Each time it comes to
// an end in the lives after, and what there is then is what a replay without a
// crash gives.
func TestCrashInReplayAndRebuild(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	dir, who := makeLog(t, seed, calls())
	for name, views := range map[string]func(t *testing.T, dir string) place{
		"pebble":   func(_ *testing.T, dir string) place { return embeddedViews{dir: dir} },
		"postgres": func(t *testing.T, _ string) place { return databaseViews{db: postgres.Database(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := fnv.New64a()
			_, _ = h.Write([]byte(name))
			c := &campaign{
				t: t, dir: filepath.Join(t.TempDir(), "data"), who: &people{gen: who.gen, token: who.token}, started: time.Second, verified: time.Second,
				writes: load.NewSource(workload.Options{Seed: seed, Customers: 200, Concurrent: 20, Prefix: "live"}),
			}
			require.NoError(t, os.CopyFS(c.dir, os.DirFS(dir)))
			c.place = views(t, c.dir)
			c.place.clear(t)
			c.meet()
			for n := range rounds(2) {
				// A round is the same however many there are.
				rng := rand.New(rand.NewPCG(seed^h.Sum64(), uint64(n)))
				newRound(c, rng, n%2 == 0).run()
			}
			c.compare()
			t.Logf("killed %s; %d looks at people, all right", c.tally(), c.looks)
		})
	}
}

// makeLog makes a data directory with a log, by the front door: eight calls for
// each of the people.
func makeLog(t *testing.T, seed uint64, calls int) (dir string, who *people) {
	t.Helper()
	opts := workload.Options{Seed: seed, Customers: calls / workload.CallsPerSession}
	dir = filepath.Join(t.TempDir(), "data")
	p := process.Start(t, dir)
	sender := load.NewSender(p.Addresses.HTTP, 4)
	defer sender.Close()
	require.Zero(t, load.Run(t.Context(), sender, load.NewSource(opts), 4, calls, func(load.Batch) {}))
	who = &people{gen: workload.New(opts), token: waitCaughtUp(t, p)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, p.Stop(ctx))
	return dir, who
}

// campaign is all that is done to one data directory.
type campaign struct {
	t      *testing.T
	dir    string
	place  place
	who    *people
	writes *load.Source

	// How long things take here, to find moments within them.
	started, verified time.Duration
	// killed counts the kills by what was going on.
	killed map[phase]int
	looks  int64
}

// meet lets a process fill the views for the first time.
func (c *campaign) meet() {
	c.t.Helper()
	l := begin(c.t, patience, c.dir, c.place.flags()...)
	defer l.end()
	l.connect()
	const some = 25
	c.who.meet(c.t, l.customers, some)
	c.stop(l)
}

// stop ends a process in good order.
func (c *campaign) stop(l *life) {
	c.t.Helper()
	l.leave()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	require.NoError(c.t, l.Stop(ctx))
}

// compare compares what is left in the end with a clean replay.
func (c *campaign) compare() {
	c.t.Helper()
	log, err := embedded.Open(filepath.Join(c.dir, "log"), embedded.Options{})
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, log.Close()) }()
	views := c.place.open(c.t)
	defer func() { require.NoError(c.t, views.Close()) }()
	require.Equal(c.t, replayed(c.t, log), stored(c.t, log, views))
}

func (c *campaign) tally() string {
	var parts []string
	for p := starting; p < phases; p++ {
		if n := c.killed[p]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n, p))
		}
	}
	return strings.Join(parts, ", ")
}

// phase is what goes on when the process is killed.
type phase int

// In the order in which they come.
const (
	starting phase = iota
	asking
	filling
	switching
	verifying
	dropping
	phases
)

func (p phase) String() string {
	return [...]string{"starting", "being asked", "filling", "about to switch or just done", "verifying", "dropping"}[p]
}

// moment is when to kill a process.
type moment struct {
	phase phase
	// share of what the phase is about that is done, 0 to 1.
	share float64
	// delay after that.
	delay time.Duration
}

// round is one replay, or rebuild, with its kills.
type round struct {
	*campaign
	rebuild bool
	// limit of a rebuild, in events a second; 0 for none.
	limit uint32
	// moments that are still to come.
	moments []moment
	// before is what served when it was begun.
	before map[string]view.Namespace
	// compared says that serving and previous generation were found equal.
	compared bool
}

func newRound(c *campaign, rng *rand.Rand, rebuild bool) *round {
	r := &round{campaign: c, rebuild: rebuild}
	if rebuild && rng.IntN(3) == 0 {
		r.limit = 20_000
	}
	kinds := []phase{starting, filling, filling, switching, switching, verifying}
	if rebuild {
		kinds = append(kinds, asking, dropping)
	}
	for range 1 + rng.IntN(3) {
		m := moment{phase: kinds[rng.IntN(len(kinds))], share: rng.Float64()}
		if m.phase == filling || m.phase == switching {
			m.delay = time.Duration(rng.Int64N(int64(60 * time.Millisecond)))
		}
		r.moments = append(r.moments, m)
	}
	slices.SortStableFunc(r.moments, func(a, b moment) int {
		return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.share, b.share))
	})
	return r
}

func (r *round) run() {
	r.t.Helper()
	if !r.rebuild {
		r.place.clear(r.t)
	}
	for !r.live() {
		require.False(r.t, r.t.Failed())
	}
	require.Empty(r.t, r.moments)
}

// take gives the next moment if it is of the phase, and its share is reached.
func (r *round) take(p phase, done float64) (moment, bool) {
	if len(r.moments) == 0 || r.moments[0].phase != p || r.moments[0].share > done {
		return moment{}, false
	}
	m := r.moments[0]
	r.moments = r.moments[1:]
	if r.killed == nil {
		r.killed = map[phase]int{}
	}
	r.killed[p]++
	return m, true
}

// live is one life of the process; true where the round came to its end in it.
func (r *round) live() bool {
	r.t.Helper()
	// It rebuilds and verifies what grows from round to round, and gives way to
	// reads meanwhile.
	const lifetime = 4 * patience
	l := begin(r.t, lifetime, r.dir, r.place.flags()...)
	defer func() {
		l.end()
		r.looks += l.looks.Load()
	}()
	if m, now := r.take(starting, 1); now {
		// Also a little beyond.
		l.killOnce(time.Duration(1.2 * m.share * float64(r.started)))
		return false
	}
	l.connect()
	r.started = l.Started
	if r.rebuild {
		l.read(r.who, "", r.who.token)
		const pause = time.Second
		l.write(r.writes, pause)
	} else {
		// What was there is known to be missing by the token only.
		l.read(r.who, r.who.token)
	}
	for _, step := range []func(*life) bool{r.fill, r.verify, r.compareWithPrevious, r.drop} {
		if !step(l) {
			return false
		}
	}
	serving := r.settle(l)
	r.stop(l)
	requireSettled(r.t, r.place, serving)
	return true
}

// fill has the read models filled.
func (r *round) fill(l *life) bool {
	r.t.Helper()
	for {
		done, ok := r.filled(l)
		if !ok {
			return false
		}
		m, now := r.take(filling, done)
		if !now && done > 0.9 {
			m, now = r.take(switching, 1)
		}
		if now {
			l.killOnce(m.delay)
			return false
		}
		if done == 1 {
			return true
		}
		const poll = 3 * time.Millisecond
		require.True(r.t, wait(poll, l.clients.Done()), "%.0f%% filled", 100*done)
	}
}

// filled says how much of it is done; 1 once all of it is, and serves. It asks
// for what nobody has asked for.
func (r *round) filled(l *life) (done float64, ok bool) {
	r.t.Helper()
	done = 1
	serving := map[string]view.Namespace{}
	var missing []string
	for _, name := range projections {
		p, ok := l.projection(name)
		if !ok {
			return 0, false
		}
		now := p.GetGenerations()[0]
		require.Equal(r.t, opsv1.GenerationRole_GENERATION_ROLE_SERVING, now.GetRole())
		serving[name] = namespace(name, now)
		switch {
		case !r.rebuild:
			if now.GetPosition() < p.GetHead() {
				done = min(done, now.GetFraction(), 0.999)
			}
		case r.before == nil || serving[name] == r.before[name]:
			done = min(done, 0.999)
			i := slices.IndexFunc(p.GetGenerations(), isCandidate)
			if i < 0 {
				missing = append(missing, name)
				done = 0
			} else {
				done = min(done, p.GetGenerations()[i].GetFraction())
			}
		}
	}
	if r.before == nil {
		r.before = serving
	}
	if len(missing) == 0 {
		return done, true
	}
	m, now := r.take(asking, 1)
	if now {
		const aboutAsLong = 20 * time.Millisecond
		l.killAfter(time.Duration(m.share * float64(aboutAsLong)))
	}
	_, err := l.ops.RebuildProjections(l.clients, &opsv1.RebuildProjectionsRequest{
		Projections: missing, SwitchWhenReady: true, MaxEventsPerSecond: r.limit, Reason: "to be killed in it",
	})
	return 0, !l.failed(err) && (!now || !l.died())
}

func isCandidate(g *opsv1.Generation) bool {
	return g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE
}

func namespace(projection string, g *opsv1.Generation) view.Namespace {
	return view.Namespace{Projection: projection, Version: g.GetVersion(), Generation: g.GetGeneration()}
}

func generationName(ns view.Namespace) *opsv1.GenerationName {
	return &opsv1.GenerationName{Projection: ns.Projection, Version: ns.Version, Generation: ns.Generation}
}

// others are the generations that do not serve; false where the process was killed.
func (r *round) others(l *life) (all []view.Namespace, ok bool) {
	r.t.Helper()
	for _, name := range projections {
		p, ok := l.projection(name)
		if !ok {
			return nil, false
		}
		for _, g := range p.GetGenerations()[1:] {
			all = append(all, namespace(name, g))
		}
	}
	return all, true
}

// verify computes everything anew and compares. What an earlier life left of
// that has gone by itself.
func (r *round) verify(l *life) bool {
	r.t.Helper()
	for {
		scratch := false
		for _, name := range projections {
			p, ok := l.projection(name)
			if !ok {
				return false
			}
			scratch = scratch || slices.ContainsFunc(p.GetGenerations(), func(g *opsv1.Generation) bool {
				return g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_SCRATCH
			})
		}
		if !scratch {
			break
		}
		require.True(r.t, wait(time.Millisecond, l.clients.Done()), "a scratch generation is left behind")
	}
	m, now := r.take(verifying, 1)
	if now {
		l.killAfter(time.Duration(m.share * float64(r.verified)))
	}
	begun := time.Now()
	if !l.verify(projections...) || now && l.died() {
		return false
	}
	r.verified = time.Since(begun)
	return true
}

// compareWithPrevious compares what serves with what did before.
func (r *round) compareWithPrevious(l *life) bool {
	r.t.Helper()
	if !r.rebuild {
		return true
	}
	others, ok := r.others(l)
	if !ok {
		return false
	}
	for _, ns := range others {
		if r.before[ns.Projection] != ns {
			continue
		}
		stream, err := l.ops.CompareGenerations(l.clients, &opsv1.CompareGenerationsRequest{Generation: generationName(ns)})
		if l.failed(err) {
			return false
		}
		var difference *opsv1.Difference
		for difference == nil {
			answer, err := stream.Recv()
			if l.failed(err) {
				return false
			}
			difference = answer.GetDifference()
		}
		requireEqual(r.t, difference)
	}
	r.compared = r.compared || len(others) == len(projections)
	return true
}

// drop drops what does not serve any more.
func (r *round) drop(l *life) bool {
	r.t.Helper()
	others, ok := r.others(l)
	if !ok {
		return false
	}
	m, now := r.take(dropping, 1)
	if now {
		const aboutAsLong = 40 * time.Millisecond
		l.killAfter(time.Duration(m.share * float64(aboutAsLong)))
	}
	for _, ns := range others {
		_, err := l.ops.DropGeneration(l.clients, &opsv1.DropGenerationRequest{Generation: generationName(ns)})
		if status.Code(err) == codes.NotFound {
			continue // what was asked for in an earlier life is done in this one
		}
		if l.failed(err) {
			return false
		}
	}
	return !now || !l.died()
}

// settle waits until all is as it was before the round, but for the generations
// that serve, and says which these are.
func (r *round) settle(l *life) map[string]view.Namespace {
	r.t.Helper()
	serving := map[string]view.Namespace{}
	for _, name := range projections {
		for {
			p, ok := l.projection(name)
			require.True(r.t, ok)
			g := p.GetGenerations()[0]
			serving[name] = namespace(name, g)
			if len(p.GetGenerations()) == 1 && g.GetState() == opsv1.GenerationState_GENERATION_STATE_LIVE {
				require.Empty(r.t, g.GetError())
				require.Zero(r.t, g.GetDeadLetters())
				require.False(r.t, g.GetSwitchWhenReady() || g.GetDiverged())
				break
			}
			require.True(r.t, wait(time.Millisecond, l.clients.Done()), "%s", p)
		}
		if r.rebuild {
			require.NotEqual(r.t, r.before[name], serving[name])
		}
	}
	require.Equal(r.t, r.rebuild, r.compared)
	return serving
}
