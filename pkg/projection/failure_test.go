package projection_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
)

// decoder is the real codec, except that it fails on events of one path.
type decoder struct{ fail string }

func (d decoder) DecodeInto(rec *eventstore.Record, ev *eventv1.RecordedEvent) error {
	if err := event.NewCodec().DecodeInto(rec, ev); err != nil {
		return err
	}
	if d.fail != "" && ev.GetEvent().GetPayload().GetPageViewed().GetPath() == d.fail {
		return errFold
	}
	return nil
}

const poisoned = `
	p1 page.viewed {"path": "/1"}
	p2 page.viewed {"path": "/2"}
	p1 page.viewed {"path": "/poison"}
	p2 page.viewed {"path": "/3"}
	p1 page.viewed {"path": "/4"}`

// TestPoison checks that an event that cannot be folded is set aside, whatever
// part of the definition fails, that its customer waits and nobody else, and
// that everything is as it should be once it is mended and retried.
func TestPoison(t *testing.T) {
	t.Parallel()
	isPoison := func(rec *eventv1.RecordedEvent) bool {
		return rec.GetEvent().GetPayload().GetPageViewed().GetPath() == "/poison"
	}
	hasPoison := func(doc *customerv1.Customer) bool {
		for _, page := range doc.GetRecentInteractions() {
			if page.GetSummary() == "/poison" {
				return true
			}
		}
		return false
	}
	for name, spoil := range map[string]func(*projection.Customers[*customerv1.Customer], *projection.Deps){
		"fold fails": func(d *projection.Customers[*customerv1.Customer], _ *projection.Deps) {
			d.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
				if isPoison(rec) {
					return errFold
				}
				return foldVisit(doc, rec)
			}
		},
		"fold panics": func(d *projection.Customers[*customerv1.Customer], _ *projection.Deps) {
			d.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
				if isPoison(rec) {
					panic(errFold)
				}
				return foldVisit(doc, rec)
			}
		},
		"row fails": func(d *projection.Customers[*customerv1.Customer], _ *projection.Deps) {
			d.Rows[0].Fold = func(rec *eventv1.RecordedEvent, put func(string, proto.Message) error) error {
				if isPoison(rec) {
					return errFold
				}
				return foldPage(rec, put)
			}
		},
		"finish panics": func(d *projection.Customers[*customerv1.Customer], _ *projection.Deps) {
			d.Finish = func(doc *customerv1.Customer, c projection.Customer) {
				if hasPoison(doc) {
					panic(errFold)
				}
				finishVisits(doc, c)
			}
		},
		"index fails": func(d *projection.Customers[*customerv1.Customer], _ *projection.Deps) {
			extract := d.Documents.Indexes[1].Extract
			d.Documents.Indexes[1].Extract = func(doc proto.Message) []view.Tuple {
				if hasPoison(visitor(doc)) {
					return []view.Tuple{{view.String("not a number: " + errFold.Error())}}
				}
				return extract(doc)
			}
		},
		"decode fails": func(_ *projection.Customers[*customerv1.Customer], deps *projection.Deps) {
			deps.Codec = decoder{fail: "/poison"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
			projectiontest.Append(t, log, projectiontest.Events(t, poisoned)...)
			def := visits()
			deps := projection.Deps{Log: log, Codec: decoder{}, Views: views, Options: projection.Options{RetryDelay: time.Microsecond}}
			spoil(&def, &deps)
			e, stop := projectiontest.StartWith(t, def, deps)
			projectiontest.WaitFor(t, e, 5)
			letters := deadLetters(t, e)
			require.Len(t, letters, 1)
			require.EqualValues(t, 3, letters[0].GetPosition())
			require.Equal(t, "parley.page.viewed", letters[0].GetType())
			require.Equal(t, "acme", letters[0].GetTenant())
			require.Equal(t, []string{"p1"}, letters[0].GetProfileIds())
			require.NotEmpty(t, letters[0].GetEventId())
			require.Contains(t, letters[0].GetStream(), "acme.")
			if name != "index fails" {
				require.Contains(t, letters[0].GetError(), errFold.Error())
			}
			if strings.Contains(name, "panics") {
				require.Contains(t, letters[0].GetStack(), "failure_test.go")
			}
			if name != "decode fails" {
				require.EqualValues(t, 3, letters[0].GetAttempts())
			}
			status := e.Status()
			require.Equal(t, 1, status.DeadLetters)
			require.Equal(t, 1, status.Waiting)
			require.False(t, status.OldestDeadLetter.IsZero())

			// The customer stands right before it, the other one does not wait.
			require.Equal(t, int64(1), visitsOf(t, e, "p1"))
			require.Equal(t, int64(2), visitsOf(t, e, "p2"))
			reader := e.Reader()
			require.NoError(t, reader.Folded(t.Context(), "acme", "p1", 2))
			require.NoError(t, reader.Folded(t.Context(), "acme", "p2", 5))
			var parked *projection.DeadLetterError
			require.ErrorAs(t, reader.Folded(t.Context(), "acme", "p1", 3), &parked)
			require.EqualValues(t, 3, parked.Position)
			require.ErrorIs(t, reader.FoldedAt(t.Context(), 5), projection.ErrDeadLetter)
			require.NoError(t, reader.FoldedAt(t.Context(), 4))

			// A retry with the same fold changes nothing but the number of attempts.
			result, err := e.Retry(t.Context(), projection.By{}, view.Namespace{})
			require.NoError(t, err)
			require.Equal(t, projection.RetryResult{Failed: 1, Waiting: 1}, result)
			require.Equal(t, int64(1), visitsOf(t, e, "p1"))
			require.Greater(t, deadLetters(t, e)[0].GetAttempts(), letters[0].GetAttempts())
			stop()

			// With a mended definition it is folded when it is retried, and what waited too.
			mended, _ := projectiontest.Start(t, visits(), log, views, projection.Options{})
			projectiontest.WaitFor(t, mended, 5)
			require.Len(t, deadLetters(t, mended), 1)
			result, err = mended.Retry(t.Context(), projection.By{}, view.Namespace{}, 3)
			require.NoError(t, err)
			require.Equal(t, projection.RetryResult{Folded: 2}, result)
			require.Empty(t, deadLetters(t, mended))
			require.Equal(t, int64(3), visitsOf(t, mended, "p1"))
			require.NoError(t, mended.Reader().Folded(t.Context(), "acme", "p1", 5))
			requireClean(t, mended, log)
		})
	}
}

// TestPassingFailure has a fold that fails twice and then does not.
func TestPassingFailure(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	events := newGenerator(5, 20).events(500)
	last := projectiontest.Append(t, log, events...)
	def := visits()
	var failures atomic.Int32
	def.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		if rec.GetPosition()%100 == 50 && failures.Add(1)%3 != 0 {
			return errFold
		}
		return foldVisit(doc, rec)
	}
	e, _ := projectiontest.Start(t, def, log, projectiontest.NewViews(t), projection.Options{RetryDelay: time.Microsecond, CommitEvents: 64})
	projectiontest.WaitFor(t, e, last)
	model := projectiontest.NewModel(visits())
	for _, rec := range projectiontest.Recorded(events) {
		model.Apply(rec)
	}
	model.Check(t, e.Reader())
	require.GreaterOrEqual(t, failures.Load(), int32(3))
}

func TestWaitFor(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := e.WaitFor(ctx, 7)
	require.ErrorIs(t, err, projection.ErrBehind)
	var behind *projection.BehindError
	require.ErrorAs(t, err, &behind)
	require.EqualValues(t, 7, behind.Want)
	require.Zero(t, behind.At)

	canceled, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	require.ErrorIs(t, e.WaitFor(canceled, 7), context.Canceled)

	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { projectiontest.WaitFor(t, e, eventstore.Position(1+i%20)) })
	}
	for i := range 20 {
		projectiontest.Append(t, log, projectiontest.NewEvent("acme", "p1", i, projectiontest.Epoch,
			&eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/"}}}))
	}
	wg.Wait()
	stop()
	require.NoError(t, e.WaitFor(t.Context(), 20), "what is there is there")
}

// TestQuarantineIsSkipped has records in the log that are no events: they move
// the position and nothing else.
func TestQuarantineIsSkipped(t *testing.T) {
	t.Parallel()
	log := projectiontest.NewLog(t)
	_, err := log.Append(t.Context(), event.QuarantineStream("acme"), eventstore.NoStream, eventstore.NewRecord{
		ID: uuid.New(), Type: event.TypeQuarantine, Data: []byte("garbage"),
	})
	require.NoError(t, err)
	done, err := log.Append(t.Context(), "foreign-1", eventstore.NoStream, eventstore.NewRecord{
		ID: uuid.New(), Type: "somebody.elses", ContentType: eventstore.ContentJSON, Data: []byte("{}"),
	})
	require.NoError(t, err)
	e, _ := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{})
	projectiontest.WaitFor(t, e, done.Position)
	for found, err := range e.Reader().Scan(t.Context(), "") {
		require.NoError(t, err)
		t.Fatalf("nobody did anything, but there is %v", found)
	}
}

func TestOtherLog(t *testing.T) {
	t.Parallel()
	views := projectiontest.NewViews(t)
	log := projectiontest.NewLog(t)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	projectiontest.WaitFor(t, e, projectiontest.Append(t, log, newGenerator(1, 5).events(10)...))
	stop()
	other, err := projection.New(t.Context(), visits(), projection.Deps{Log: projectiontest.NewLog(t), Codec: decoder{}, Views: views})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- other.Run(ctx) }()
	err = other.WaitFor(t.Context(), 1000)
	require.ErrorIs(t, err, projection.ErrOtherLog)
	require.Contains(t, err.Error(), "remove the views")
	require.Equal(t, projection.Halted, other.Status().State)
	cancel()
	require.NoError(t, errors.Join(<-done, other.Close()))
}

// TestTakeover runs two engines on one generation: the later one wins, the earlier one halts.
func TestTakeover(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	deps := projection.Deps{Log: log, Codec: decoder{}, Views: views}
	first, err := projection.New(t.Context(), visits(), deps)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	g := newGenerator(3, 10)
	projectiontest.WaitFor(t, first, projectiontest.Append(t, log, g.events(50)...))
	require.ErrorIs(t, first.Run(t.Context()), projection.ErrRunning)

	second, stop := projectiontest.Start(t, visits(), log, views, projection.Options{})
	require.Eventually(t, func() bool { return second.Status().State == projection.Live }, time.Minute, time.Millisecond)
	last := projectiontest.Append(t, log, g.events(50)...)
	projectiontest.WaitFor(t, second, last)
	require.Eventually(t, func() bool { return first.Status().State == projection.Halted }, time.Minute, time.Millisecond)
	require.ErrorIs(t, first.Status().Err, view.ErrFenced)
	cancel()
	require.NoError(t, errors.Join(<-ended, first.Close()))
	digest, err := second.Digest(t.Context())
	require.NoError(t, err)
	stop()
	clean, _ := projectiontest.Start(t, visits(), log, projectiontest.NewViews(t), projection.Options{})
	projectiontest.WaitFor(t, clean, last)
	want, err := clean.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.String(), digest.String())
}

// TestStartsAndStops is fifty times, from ten goroutines; goleak looks after it.
func TestStartsAndStops(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	projectiontest.Append(t, log, newGenerator(9, 10).events(300)...)
	var wg sync.WaitGroup
	for worker := range 10 {
		wg.Go(func() {
			def := visits()
			def.Name = fmt.Sprintf("visits_%d", worker)
			for i := range 5 {
				e, err := projection.New(t.Context(), def, projection.Deps{Log: log, Codec: decoder{}, Views: views})
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- e.Run(ctx) }()
				if i%2 == 0 {
					projectiontest.WaitFor(t, e, eventstore.Position(60*(i+1)))
				}
				cancel()
				if err := errors.Join(<-done, e.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// fullFS says how much is free.
type fullFS struct {
	vfs.FS
	free atomic.Uint64
}

func (f *fullFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load(), TotalBytes: 1 << 40}, nil
}

// TestFullDisk goes on once there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	fs := &fullFS{FS: vfs.NewMem()}
	fs.free.Store(1 << 40)
	views, err := pebbleview.Open("views", pebbleview.Options{FS: fs})
	require.NoError(t, err)
	log := projectiontest.NewLog(t)
	e, stop := projectiontest.Start(t, visits(), log, views, projection.Options{RetryDelay: time.Millisecond})
	g := newGenerator(3, 10)
	first := projectiontest.Append(t, log, g.events(10)...)
	projectiontest.WaitFor(t, e, first)
	fs.free.Store(0)
	// The free space is looked up now and then, so some commits may still go through.
	last := first
	require.Eventually(t, func() bool {
		last = projectiontest.Append(t, log, g.events(1)...)
		status := e.Status()
		return status.State == projection.Retrying && errors.Is(status.Err, view.ErrFull)
	}, time.Minute, 5*time.Millisecond)
	_, err = e.Reader().Resolve(t.Context(), "acme", "p001")
	if err != nil {
		require.ErrorIs(t, err, view.ErrNotFound, "reads go on")
	}
	fs.free.Store(1 << 40)
	projectiontest.WaitFor(t, e, last)
	stop()
	require.NoError(t, views.Close())
}

func TestWatch(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	e, _ := projectiontest.Start(t, visits(), log, views, projection.Options{})
	all, few := e.Changes(100), e.Changes(1)
	defer all.Close()
	defer few.Close()
	w := e.Watch(view.Key{Tenant: "acme", ID: "b"})
	defer w.Close()
	projectiontest.WaitFor(t, e, projectiontest.Append(t, log, projectiontest.Events(t, `
		a page.viewed
		c page.viewed`)...))
	select {
	case <-w.C():
		t.Fatal("b did not change")
	default:
	}
	events := projectiontest.Events(t, `
		# one more line, so that ids differ
		- page.viewed
		- page.viewed
		b page.viewed
		- customers.merged {"customerId": "a", "absorbedCustomerId": "b", "absorbedProfileIds": ["b"]}`)[2:]
	projectiontest.WaitFor(t, e, projectiontest.Append(t, log, events[:1]...))
	<-w.C()
	projectiontest.WaitFor(t, e, projectiontest.Append(t, log, events[1:]...))
	<-w.C() // the absorbed one changed for the last time
	w.Set(view.Key{Tenant: "acme", ID: "a"})

	seen := map[string]bool{}
	for len(seen) < 3 {
		keys, overflow, err := all.Next(t.Context())
		require.NoError(t, err)
		require.False(t, overflow)
		for _, key := range keys {
			seen[key.ID] = true
		}
	}
	keys, overflow, err := few.Next(t.Context())
	require.NoError(t, err)
	require.True(t, overflow)
	require.Empty(t, keys)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, _, err = few.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	log, views := projectiontest.NewLog(t), projectiontest.NewViews(t)
	registry := prometheus.NewPedanticRegistry()
	deps := projection.Deps{Log: log, Codec: decoder{}, Views: views, Metrics: registry}
	e, err := projection.New(t.Context(), visits(), deps)
	require.NoError(t, err)
	_, err = projection.New(t.Context(), visits(), deps)
	require.Error(t, err, "twice the same metrics")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	projectiontest.WaitFor(t, e, projectiontest.Append(t, log, newGenerator(1, 5).events(30)...))
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[strings.TrimPrefix(f.GetName(), "parley_projection_")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	require.InDelta(t, 30, got["position"], 0)
	require.InDelta(t, 30, got["events_total"], 0)
	require.InDelta(t, 0, got["lag_events"], 0)
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, e.Close())
	families, err = registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families)
}

// TestRetryDelays checks, in a bubble of its own time, that a log that is
// away is asked for again, at growing intervals.
func TestRetryDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &awayLog{}
		e, err := projection.New(t.Context(), visits(), projection.Deps{Log: log, Codec: decoder{}, Views: projectiontest.NewViews(t)})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, e.Run(ctx))
		// 50 ms doubled up to 3.2 s, in a minute.
		require.InDelta(t, 24, log.asked.Load(), 3)
		require.NoError(t, e.Close())
	})
}

type awayLog struct {
	eventstore.Store
	asked atomic.Int32
}

func (l *awayLog) Subscribe(context.Context, eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	l.asked.Add(1)
	return nil, eventstore.ErrUnavailable
}

func (*awayLog) StreamHead(context.Context, string) (eventstore.Revision, error) {
	return eventstore.NoStream, nil
}

func (*awayLog) Head(context.Context) (eventstore.Position, error) {
	return 0, eventstore.ErrUnavailable
}

func (*awayLog) LogID() uuid.UUID { return uuid.UUID{1} }
