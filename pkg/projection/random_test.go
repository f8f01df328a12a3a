package projection_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/testkit/testseed"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
	"github.com/parleyhq/parley/pkg/view/pgview"
)

// place is where a driver keeps views.
type place interface {
	open(t *testing.T) view.Store
	// crash loses what need not survive the end of the process; the store that
	// was open is closed afterwards and forgotten.
	crash(random *rand.Rand)
}

// crashable is a disk of Pebble's that loses what was not synced.
type crashable struct{ disk *vfs.MemFS }

func (c *crashable) open(t *testing.T) view.Store {
	views, err := pebbleview.Open("views", pebbleview.Options{FS: c.disk, MemTableBytes: 64 << 10})
	require.NoError(t, err)
	return views
}

func (c *crashable) crash(random *rand.Rand) {
	c.disk = c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
}

// database is a database of Postgres, which loses nothing.
type database struct{ url string }

func (d *database) open(t *testing.T) view.Store {
	views, err := pgview.Open(t.Context(), pgview.Config{URL: config.Secret(d.url)})
	require.NoError(t, err)
	return views
}

func (*database) crash(*rand.Rand) {}

// TestRandomOperations has operators and crashes at work while events come,
// some of which cannot be folded at times, and checks in the end that every
// generation holds what the log says.
func TestRandomOperations(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(t *testing.T) place{
		"pebble":   func(*testing.T) place { return &crashable{disk: vfs.NewCrashableMem()} },
		"postgres": func(t *testing.T) place { return &database{url: postgres.Database(t).URL()} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := testseed.Of(t)
			o := &operators{T: t, place: place(t), log: projectiontest.NewLog(t), g: newGenerator(seed, 30), seed: seed}
			o.start()
			for range 150 {
				o.step()
			}
			o.finish()
		})
	}
}

// operators do one thing after the other.
type operators struct {
	*testing.T
	place place
	log   eventstore.Store
	g     *generator
	seed  uint64

	views view.Store
	e     *visitEngine
	stop  func()
	// bad says that poison cannot be folded at present.
	bad atomic.Bool
}

func (o *operators) start() {
	o.views = o.place.open(o.T)
	g := o.g
	o.e, o.stop = projectiontest.StartWith(o.T, poisonable(&o.bad), projection.Deps{Log: o.log, Views: o.views, Options: projection.Options{
		CommitEvents: 1 << g.IntN(13), ReadBatch: 1 << g.IntN(13), ReadAhead: 1 + g.IntN(3), Decoders: 1 + g.IntN(3), Partitions: 1 + g.IntN(16),
		ReplayCacheBytes: 1 << g.IntN(20), LiveCacheBytes: 1 << g.IntN(20), RetryDelay: time.Microsecond, PollInterval: 10 * time.Millisecond,
		LiveDelay: time.Duration(g.IntN(2)*g.IntN(20)) * time.Millisecond,
	}})
}

func (o *operators) end() {
	o.stop()
	require.NoError(o, o.views.Close())
}

// append appends random events, now and then one that is poison.
func (o *operators) append() eventstore.Position {
	events := o.g.events(1 + o.g.IntN(80))
	for _, ev := range events {
		if page := ev.GetPayload().GetPageViewed(); page != nil && o.g.IntN(60) == 0 {
			page.Path = "/poison"
		}
	}
	return projectiontest.Append(o, o.log, events...)
}

// generations that a report shows in a role.
func (o *operators) generations(role opsv1.GenerationRole) []view.Namespace {
	report, err := o.e.Report(o.Context())
	require.NoError(o, err)
	var all []view.Namespace
	for _, g := range report.GetGenerations() {
		if g.GetRole() == role {
			all = append(all, generation(g.GetVersion(), g.GetGeneration()))
		}
	}
	return all
}

// step does something at random.
func (o *operators) step() {
	ctx, cancel := context.WithTimeout(o.Context(), time.Minute)
	defer cancel()
	by := projection.By{Actor: &eventv1.Actor{Id: "ops"}, Reason: "at random"}
	var err error
	switch o.g.IntN(24) {
	case 0:
		o.end()
		o.start()
	case 1:
		o.place.crash(rand.New(rand.NewPCG(o.seed, o.g.Uint64())))
		o.end()
		o.start()
	case 2:
		o.bad.Store(o.g.IntN(2) == 0)
	case 3:
		_, err = o.e.Rebuild(ctx, by, projection.RebuildOptions{SwitchWhenReady: o.g.IntN(2) == 0})
	case 4, 5:
		err = o.e.SwitchOver(ctx, by, view.Namespace{})
	case 6:
		err = o.e.Rollback(ctx, by)
	case 7:
		for _, role := range []opsv1.GenerationRole{opsv1.GenerationRole_GENERATION_ROLE_RETIRED, opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS, opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE} {
			for _, ns := range o.generations(role) {
				if o.g.IntN(2) == 0 {
					err = errors.Join(err, o.e.Drop(ctx, by, ns))
				}
			}
		}
	case 8:
		err = o.e.Pause(ctx, by)
	case 9, 10:
		err = o.e.Resume(ctx, by)
	case 11, 12:
		_, err = o.e.Retry(ctx, by, view.Namespace{})
	case 13:
		if letters := deadLetters(o.T, o.e); len(letters) > 0 && o.e.Status().State != projection.Paused {
			_, err = o.e.Skip(ctx, by, view.Namespace{}, eventstore.Position(letters[o.g.IntN(len(letters))].GetPosition()))
		}
	case 14:
		_, err = o.e.Compare(ctx, view.Namespace{}, view.Namespace{}, projection.CompareOptions{})
	case 15:
		if o.e.Status().State != projection.Paused {
			waitSome(o.T, o.e, o.append())
		}
	default:
		o.append()
	}
	var behind *projection.NotCaughtUpError
	var folded *projection.AlreadyFoldedError
	for _, fine := range []error{
		projection.ErrRebuildRunning, projection.ErrUnknownGeneration, projection.ErrNothingToRollBack, projection.ErrAlreadyServing, projection.ErrPaused,
		projection.ErrFrozen,
	} {
		if errors.Is(err, fine) {
			err = nil
		}
	}
	if errors.As(err, &behind) || errors.As(err, &folded) {
		err = nil
	}
	require.NoError(o, err)
}

// waitSome waits for a position, or until it is clear that it takes an operator.
func waitSome(t *testing.T, e *visitEngine, position eventstore.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, e.WaitFor(ctx, position))
}

// finish mends everything and compares all generations with a clean replay.
func (o *operators) finish() {
	o.bad.Store(false)
	by := projection.By{Actor: &eventv1.Actor{Id: "ops"}}
	require.NoError(o, o.e.Resume(o.Context(), by))
	head, err := o.log.Head(o.Context())
	require.NoError(o, err)
	projectiontest.WaitFor(o, o.e, head)
	var report *opsv1.Projection
	require.Eventually(o, func() bool {
		report, err = o.e.Report(o.Context())
		require.NoError(o, err)
		return !slices.ContainsFunc(report.GetGenerations(), (*opsv1.Generation).GetSwitchWhenReady)
	}, time.Minute, time.Millisecond, "a switch that is still to come")
	var compared []string
	for _, g := range report.GetGenerations() {
		ns := generation(g.GetVersion(), g.GetGeneration())
		if g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_RETIRED || g.GetDiverged() {
			continue
		}
		awaitLive(o.T, o.e, ns.Generation)
		_, err := o.e.Retry(o.Context(), by, ns)
		require.NoError(o, err)
	}
	report, err = o.e.Report(o.Context())
	require.NoError(o, err)
	for _, g := range report.GetGenerations() {
		ns := generation(g.GetVersion(), g.GetGeneration())
		if g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_RETIRED || g.GetDiverged() || ns == o.e.Status().Namespace {
			continue
		}
		difference, err := o.e.Compare(o.Context(), ns, view.Namespace{}, projection.CompareOptions{MaxDocuments: 3})
		require.NoError(o, err)
		require.True(o, difference.GetEqual(), "%s: %s", ns, difference)
		compared = append(compared, ns.String())
	}
	if !report.GetGenerations()[0].GetDiverged() {
		requireClean(o.T, o.e, o.log)
		compared = append(compared, o.e.Status().Namespace.String())
	}
	o.Logf("%d events; equal in the end: %s", head, strings.Join(compared, ", "))
	o.end()
}
