package bench

import (
	"context"
	"fmt"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
)

// BenchmarkReplayPostgres folds a log into a fresh customer 360 in Postgres,
// beside the same commits without the fold: the rows that the replay wrote,
// written again as they were.
func BenchmarkReplayPostgres(b *testing.B) {
	dir := logOf(b, sized(1_000_000))
	server := benchServer(b)
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(limit)
	for b.Loop() {
		views := openPostgres(b, server)
		recording := &recordingViews{Store: views}
		events, replay := replayInto(b, dir, recording)
		require.NoError(b, views.Close())

		views = openPostgres(b, server)
		yardstick := recording.writeAgain(b, views)
		require.NoError(b, views.Close())

		rate, bare := perSecond(events, replay), perSecond(events, yardstick)
		b.ReportMetric(rate, "events/s")
		b.ReportMetric(bare, "rows-only-events/s")
		report(row{
			what:      fmt.Sprintf("replay of the customer 360 into Postgres %d, %d events, %d rows", server.Version()/10000, events, recording.rows),
			figure:    thousands(rate),
			yardstick: "the same row writes without the fold: " + thousands(bare),
			ratio:     ratio(rate / bare),
			floor:     "0.7; 0.9",
		})
	}
}

// benchServer is a Postgres with the settings that its documentation advises for
// much writing.
func benchServer(b *testing.B) *postgres.Cluster {
	b.Helper()
	return postgres.Server(b, postgres.SharedBuffers("256MB"), postgres.Setting("max_wal_size", "4GB"))
}

// BenchmarkLargePostgres replays the read models of a log of ten million calls
// into Postgres, in a process of its own, and measures its memory and its rate
// against a tenth of the log.
func BenchmarkLargePostgres(b *testing.B) {
	many := sized(large)
	few := max(1000, many/10/20*20)
	server := benchServer(b)
	for b.Loop() {
		smallEvents, smallTook, _ := replayServed(b, logOf(b, few), "--views", server.Database(b).URL())
		events, took, peak := replayServed(b, logOf(b, many), "--views", server.Database(b).URL())
		growth := (took.Seconds() / float64(events)) / (smallTook.Seconds() / float64(smallEvents))
		b.ReportMetric(growth, "growth")
		b.ReportMetric(float64(peak>>20), "peak-MiB")
		report(row{what: fmt.Sprintf("memory, replay of %d events into Postgres", events), figure: mebibytes(peak) + " at the peak", yardstick: "–", ratio: "–", floor: "1 GB; 400 MB"})
		report(row{
			what:      fmt.Sprintf("replay cost per event into Postgres, %d ÷ %d", events, smallEvents),
			figure:    thousands(perSecond(events, took)),
			yardstick: "the smaller log: " + thousands(perSecond(smallEvents, smallTook)),
			ratio:     ratio(growth), floor: "1.5; 1.1",
		})
	}
}

func openPostgres(b *testing.B, server *postgres.Cluster) view.Store {
	b.Helper()
	views, err := pgview.Open(b.Context(), pgview.Config{URL: config.Secret(server.Database(b).URL())})
	require.NoError(b, err)
	return views
}

// replayMemory is the memory limit of parley.
const replayMemory = 800 << 20

// recordingViews remembers what was committed.
type recordingViews struct {
	view.Store
	collections []view.Collection
	batches     []recordedBatch
	rows, bytes int
}

type recordedBatch struct {
	checkpoint view.Checkpoint
	ops        []view.Op
}

func (r *recordingViews) Open(ctx context.Context, ns view.Namespace, collections ...view.Collection) (view.Generation, error) {
	g, err := r.Store.Open(ctx, ns, collections...)
	r.collections = collections
	return &recordingGeneration{Generation: g, into: r}, err
}

type recordingGeneration struct {
	view.Generation
	into *recordingViews
}

func (g *recordingGeneration) Commit(ctx context.Context, batch *view.Batch) error {
	// The rows' bytes are the batch's for ever; its list of them is used again.
	g.into.batches = append(g.into.batches, recordedBatch{checkpoint: batch.Checkpoint, ops: append([]view.Op(nil), batch.Ops()...)})
	g.into.rows += batch.Len()
	// What is remembered is no memory that the replay would have otherwise.
	const everySoMuch = 64 << 20
	before := g.into.bytes
	if g.into.bytes += 2 * batch.Bytes(); before/everySoMuch != g.into.bytes/everySoMuch {
		debug.SetMemoryLimit(replayMemory + int64(g.into.bytes))
	}
	return g.Generation.Commit(ctx, batch)
}

// writeAgain commits what was recorded, into other views.
func (r *recordingViews) writeAgain(b *testing.B, views view.Store) time.Duration {
	b.Helper()
	ns := r.batches[0].checkpoint.Namespace
	gen, err := views.Open(b.Context(), ns, r.collections...)
	require.NoError(b, err)
	defer func() { require.NoError(b, gen.Close()) }()
	token, err := gen.Fence(b.Context())
	require.NoError(b, err)
	clustered := map[string]bool{}
	for i := range r.collections {
		clustered[r.collections[i].Name] = r.collections[i].Clustered
	}
	begun := time.Now()
	var batch view.Batch
	for i := range r.batches {
		batch.Reset()
		batch.Checkpoint = r.batches[i].checkpoint
		batch.Checkpoint.Token = token
		for _, op := range r.batches[i].ops {
			switch {
			case op.Delete:
				batch.Delete(op.Collection, op.Key, op.Prior)
			case clustered[op.Collection]:
				batch.AppendRow(op.Collection, op.Key, op.Row)
			default:
				batch.PutRow(op.Collection, op.Key, op.Row, op.Prior)
			}
		}
		require.NoError(b, gen.Commit(b.Context(), &batch))
	}
	return time.Since(begun)
}
