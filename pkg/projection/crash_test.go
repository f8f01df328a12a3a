package projection_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
)

// TestCrash cuts the power under the views at random moments of a replay. What
// is left is a state that some commit made, and going on from it ends
// where a clean replay does.
func TestCrash(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := newGenerator(seed, 80)
	log := projectiontest.NewLog(t)
	last := projectiontest.Append(t, log, g.events(2500)...)
	clean, stop := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{})
	projectiontest.WaitFor(t, clean, last)
	want, err := clean.Digest(t.Context())
	require.NoError(t, err)
	stop()

	disk := vfs.NewCrashableMem()
	midway := 0
	for runs := 0; midway < 8; runs++ {
		require.Less(t, runs, 500, "crashes leave all or nothing")
		c := crashRun{t: t, g: g, log: log, disk: disk, last: last}
		disk = c.run()
		if c.from > 0 && c.from < last {
			midway++
		}
		if c.from == last {
			disk = vfs.NewCrashableMem() // once more from the start
		}
	}
	views, err := pebbleview.Open("views", pebbleview.Options{FS: disk})
	require.NoError(t, err)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, last)
	got, err := e.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.String(), got.String())
	stop()
	require.NoError(t, views.Close())
}

type crashRun struct {
	t    *testing.T
	g    *generator
	log  eventstore.Store
	disk *vfs.MemFS
	// last is the log's last position, from what had survived.
	last, from eventstore.Position
}

// run goes on for a random while and returns what a power cut leaves of the disk.
func (c *crashRun) run() *vfs.MemFS {
	// Small memory tables, so that crashes meet flushes and compactions.
	views, err := pebbleview.Open("views", pebbleview.Options{FS: c.disk, MemTableBytes: 32 << (10 + c.g.IntN(3))})
	require.NoError(c.t, err)
	c.check(views)
	e, stop := projectiontest.Start(c.t, visits(), c.log, views, projection.Options{
		CommitEvents: 1 << c.g.IntN(11), ReadBatch: 1 << (3 + c.g.IntN(6)), ReplayCacheBytes: 1 << c.g.IntN(24),
	})
	c.from = e.Position()
	projectiontest.WaitFor(c.t, e, min(c.last, c.from+eventstore.Position(1+c.g.IntN(1000))))
	crashed := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.g.IntN(101), RNG: rand.New(rand.NewPCG(c.g.Uint64(), 3))})
	stop()
	require.NoError(c.t, views.Close())
	return crashed
}

// check compares what survived, before anything goes on, with what a
// projection of the log up to there would hold.
func (c *crashRun) check(views view.Store) {
	e, err := projection.New(c.t.Context(), visits(), projection.Deps{Log: c.log, Codec: decoder{}, Views: views})
	require.NoError(c.t, err)
	position := e.Position()
	model := projectiontest.NewModel(visits())
	for rec, err := range c.log.ReadAll(c.t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(c.t, err)
		if rec.Position > position {
			break
		}
		ev := &eventv1.RecordedEvent{}
		require.NoError(c.t, decoder{}.DecodeInto(rec, ev))
		model.Apply(ev)
	}
	model.Check(c.t, e.Reader())
	require.NoError(c.t, e.Close())
}
