package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
	"github.com/parleyhq/parley/services/customer"
)

// BenchmarkReplay folds a log of a million calls of 100,000 customers into a
// fresh customer 360, beside a scan of the same log that decodes the envelopes.
func BenchmarkReplay(b *testing.B) {
	calls := sized(1_000_000)
	dir := logOf(b, calls)
	for b.Loop() {
		scanned, scan := scanLog(b, dir)
		profiled := profileSelf(b, "replay")
		events, replay := replayLog(b, dir)
		profiled()
		require.Equal(b, scanned, events)
		rate, yardstick := perSecond(events, replay), perSecond(scanned, scan)
		b.ReportMetric(rate, "events/s")
		b.ReportMetric(yardstick, "scan-events/s")
		report(row{
			what:      fmt.Sprintf("replay of the customer 360, embedded, %d events", events),
			figure:    thousands(rate),
			yardstick: "store scan with decode: " + thousands(yardstick),
			ratio:     ratio(rate / yardstick),
			floor:     "100k/s; 400k/s",
		})
	}
}

// scanLog reads and decodes the whole log once.
func scanLog(b *testing.B, dir string) (events int, took time.Duration) {
	b.Helper()
	log, err := embedded.Open(filepath.Join(dir, "log"), embedded.Options{})
	require.NoError(b, err)
	defer func() { require.NoError(b, log.Close()) }()
	codec := event.NewCodec()
	begun := time.Now()
	var ev eventv1.RecordedEvent
	for rec, err := range log.ReadAll(b.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(b, err)
		require.NoError(b, codec.DecodeInto(rec, &ev))
		events++
	}
	return events, time.Since(begun)
}

// replayLog folds the whole log into fresh views.
func replayLog(b *testing.B, dir string) (events int, took time.Duration) {
	b.Helper()
	views, err := pebbleview.Open(filepath.Join(b.TempDir(), "views"), pebbleview.Options{})
	require.NoError(b, err)
	defer func() { require.NoError(b, views.Close()) }()
	return replayInto(b, dir, views)
}

// replayInto folds the whole log into views.
func replayInto(b *testing.B, dir string, views view.Store) (events int, took time.Duration) {
	b.Helper()
	log, err := embedded.Open(filepath.Join(dir, "log"), embedded.Options{})
	require.NoError(b, err)
	defer func() { require.NoError(b, log.Close()) }()
	head, err := log.Head(b.Context())
	require.NoError(b, err)
	begun := time.Now()
	engine, err := projection.New(b.Context(), customer.Definition(), projection.Deps{Log: log, Codec: event.NewCodec(), Views: views})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	require.NoError(b, engine.WaitFor(ctx, head))
	took = time.Since(begun)
	cancel()
	require.NoError(b, <-ended)
	require.NoError(b, engine.Close())
	return int(head), took
}
