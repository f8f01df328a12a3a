package projectiontest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
)

// NewLog opens an empty log in memory, closed with the test.
func NewLog(t testing.TB) eventstore.Store {
	t.Helper()
	log, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	return log
}

// NewViews opens an empty store of views in memory, closed with the test.
func NewViews(t testing.TB) view.Store {
	t.Helper()
	views, err := pebbleview.Open("views", pebbleview.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, views.Close()) })
	return views
}

// Start opens an engine and runs it until stop is called, at the latest when
// the test ends.
func Start[D proto.Message](t testing.TB, def projection.Customers[D], log eventstore.Store, views view.Store, opts projection.Options) (e *projection.Engine[D], stop func()) {
	t.Helper()
	return StartWith(t, def, projection.Deps{Log: log, Views: views, Options: opts})
}

// StartWith is Start with more dependencies, and previous versions. A codec and
// an auditor are added where there is none.
func StartWith[D proto.Message](t testing.TB, def projection.Customers[D], deps projection.Deps, previous ...projection.Customers[D]) (e *projection.Engine[D], stop func()) {
	t.Helper()
	if deps.Codec == nil {
		deps.Codec = event.NewCodec()
	}
	if deps.Audit == nil {
		deps.Audit = NewAudit(deps.Log)
	}
	e, err := projection.New(t.Context(), def, deps, previous...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, e.Close())
	}
	t.Cleanup(stop)
	return e, stop
}

// patience is how long anything may take before a test gives up.
const patience = time.Minute

// WaitFor waits until an engine has everything up to position.
func WaitFor(t testing.TB, e projection.Projection, position eventstore.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, e.WaitFor(ctx, position))
}

// Agree runs a projection over the events in portions of many sizes, with
// several numbers of partitions and caches too small for anything, and checks
// that every run has the same digest and says what the model says.
func Agree[D proto.Message](t *testing.T, def projection.Customers[D], events []*eventv1.Event) {
	t.Helper()
	log := NewLog(t)
	last := Append(t, log, events...)
	model := NewModel(def)
	for _, rec := range Recorded(events) {
		model.Apply(rec)
	}
	var digest string
	for _, opts := range []projection.Options{
		{},
		{CommitEvents: 1, ReadBatch: 1, Partitions: 1, ReplayCacheBytes: 1},
		{CommitEvents: 7, ReadBatch: 3, Partitions: 2, ReplayCacheBytes: 1},
		{CommitEvents: 100, ReadBatch: 64, Partitions: 3, ReplayCacheBytes: 1 << 14},
		{CommitEvents: 4096, ReadBatch: 1000, Partitions: 16},
	} {
		name := fmt.Sprintf("commits of %d, reads of %d, %d partitions", opts.CommitEvents, opts.ReadBatch, opts.Partitions)
		e, stop := Start(t, def, log, NewViews(t), opts)
		WaitFor(t, e, last)
		d, err := e.Digest(t.Context())
		require.NoError(t, err)
		if digest == "" {
			digest = d.String()
			model.Check(t, e.Reader())
		}
		require.Equal(t, digest, d.String(), name)
		stop()
	}
}
