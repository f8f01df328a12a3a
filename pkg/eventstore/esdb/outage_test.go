package esdb_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
)

func record(text string) eventstore.NewRecord {
	return eventstore.NewRecord{ID: uuid.New(), Type: "tested", Data: []byte(text), Metadata: []byte(`{"m":1}`)}
}

func all(t testing.TB, store eventstore.Store, opts eventstore.ReadAllOptions) []*eventstore.Record {
	t.Helper()
	var found []*eventstore.Record
	for r, err := range store.ReadAll(deadline(t), opts) {
		require.NoError(t, err)
		found = append(found, r)
	}
	return found
}

// A server that goes away and comes back, gently or not, while there are
// appends and subscriptions: whatever was acknowledged is there once, in order,
// and every subscription gets all of it.
func TestOutages(t *testing.T) {
	t.Parallel()
	const writers, each, outages = 4, 120, 8
	random := rand.New(rand.NewPCG(testseed.Of(t), 1))
	behind := memory(t)
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	server.Start()
	store := open(t, esdb.Config{URL: config.Secret(server.URL()), Patience: time.Second, TailBytes: 16 << 10})
	ctx := deadline(t)

	var writing, following sync.WaitGroup
	written := make([][]uuid.UUID, writers)
	var total sync.WaitGroup
	total.Add(writers)
	for w := range writers {
		writing.Go(func() {
			defer total.Done()
			stream := fmt.Sprintf("acme.w%d", w)
			at := eventstore.NoStream
			for i := range each {
				part := []eventstore.NewRecord{record(fmt.Sprint(w, i, 0)), record(fmt.Sprint(w, i, 1))}
				appended, err := untilThere(ctx, store, stream, at, part)
				if err != nil || appended.Revision != at+2 {
					t.Errorf("writer %d append %d: %+v, %v", w, i, appended, err)
					return
				}
				at = appended.Revision
				written[w] = append(written[w], part[0].ID, part[1].ID)
			}
		})
	}
	prefixes := []string{"acme.", "acme.w1", "other."}
	got := make([][]*eventstore.Record, len(prefixes))
	end := make(chan eventstore.Position, 1)
	for i, prefix := range prefixes {
		sub, err := store.Subscribe(ctx, eventstore.SubscribeOptions{
			Filter: eventstore.Filter{StreamPrefixes: []string{prefix}}, MaxBatch: 1 + 50*i, Heartbeat: 50 * time.Millisecond,
		})
		require.NoError(t, err)
		following.Go(func() {
			defer func() { _ = sub.Close() }()
			for at, last := eventstore.Position(0), eventstore.Position(0); last == 0 || at < last; {
				batch, err := sub.Next(ctx)
				if err != nil {
					t.Errorf("subscription to %s at %d: %v", prefix, at, err)
					return
				}
				got[i] = append(got[i], batch.Records...)
				if batch.Position < at {
					t.Errorf("subscription to %s went back from %d to %d", prefix, at, batch.Position)
				}
				at = batch.Position
				select {
				case last = <-end:
					end <- last
				default:
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		total.Wait()
		close(done)
	}()
	for range outages {
		wait(ctx, done, time.Duration(random.IntN(60))*time.Millisecond)
		if random.IntN(2) == 0 {
			server.Kill()
		} else {
			server.Stop()
		}
		wait(ctx, done, time.Duration(random.IntN(60))*time.Millisecond)
		server.Start()
	}
	writing.Wait()
	head, err := store.Head(ctx)
	require.NoError(t, err)
	end <- head
	following.Wait()

	log := all(t, behind, eventstore.ReadAllOptions{Filter: eventstore.Filter{StreamPrefixes: []string{"acme."}}})
	require.Len(t, log, 2*writers*each)
	perStream := map[string][]uuid.UUID{}
	for _, r := range log {
		perStream[r.Stream] = append(perStream[r.Stream], r.ID)
	}
	for w := range writers {
		require.Equal(t, written[w], perStream[fmt.Sprintf("acme.w%d", w)])
	}
	for i, prefix := range prefixes {
		var want []uuid.UUID
		for _, r := range log {
			if (eventstore.Filter{StreamPrefixes: []string{prefix}}).Matches(r.Stream, r.Type) {
				want = append(want, r.ID)
			}
		}
		var found []uuid.UUID
		for _, r := range got[i] {
			found = append(found, r.ID)
		}
		require.Equal(t, want, found, prefix)
	}
}

// untilThere appends as a caller does who must.
func untilThere(ctx context.Context, store eventstore.Store, stream string, at eventstore.Revision, part []eventstore.NewRecord) (eventstore.Appended, error) {
	for {
		appended, err := store.Append(ctx, stream, at, part...)
		if err == nil || ctx.Err() != nil || !errors.Is(err, eventstore.ErrUnavailable) {
			return appended, err
		}
	}
}

// wait lets time pass in which things may happen, unless all has happened.
func wait(ctx context.Context, done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	case <-ctx.Done():
	}
}

// An answer that is lost: the driver finds by itself that the append happened.
func TestALostAnswerIsFound(t *testing.T) {
	t.Parallel()
	behind := memory(t)
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	server.Start()
	between := startProxy(t, server.Addr())
	store := open(t, esdb.Config{URL: config.Secret(between.url())})
	ctx := deadline(t)
	for name, expected := range map[string]eventstore.Revision{"acme.new": eventstore.NoStream, "acme.old": 0} {
		if expected == 0 {
			_, err := store.Append(ctx, name, eventstore.NoStream, record("first"))
			require.NoError(t, err)
		}
		head, err := behind.Head(ctx)
		require.NoError(t, err)
		between.hold()
		part := []eventstore.NewRecord{record("a"), record("b")}
		type result struct {
			eventstore.Appended
			err error
		}
		results := make(chan result, 1)
		go func() {
			appended, err := store.Append(ctx, name, expected, part...)
			results <- result{appended, err}
		}()
		awaitHead(ctx, t, behind, head+2)
		between.cut()
		got := <-results
		require.NoError(t, got.err)
		require.Equal(t, eventstore.Appended{Revision: expected + 2, Position: head + 2, Repeated: true}, got.Appended)
		now, err := behind.Head(ctx)
		require.NoError(t, err)
		require.Equal(t, head+2, now, "it was written once")
	}
}

// A caller that gave up and comes again is told that its records were there.
func TestALostAnswerIsARepetitionForWhoeverComesAgain(t *testing.T) {
	t.Parallel()
	behind := memory(t)
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	server.Start()
	between := startProxy(t, server.Addr())
	store := open(t, esdb.Config{URL: config.Secret(between.url()), Patience: time.Minute})
	ctx := deadline(t)
	head, err := behind.Head(ctx)
	require.NoError(t, err)
	between.hold()
	impatient, cancel := context.WithCancel(ctx)
	defer cancel()
	part := []eventstore.NewRecord{record("a")}
	failed := make(chan error, 1)
	go func() {
		_, err := store.Append(impatient, "acme.a", eventstore.NoStream, part...)
		failed <- err
	}()
	awaitHead(ctx, t, behind, head+1)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	between.cut()
	again, err := store.Append(ctx, "acme.a", eventstore.NoStream, part...)
	require.NoError(t, err)
	require.Equal(t, eventstore.Appended{Revision: 0, Position: head + 1, Repeated: true}, again)
}

// With Any nothing tells a repetition, so none is made.
func TestALostAnswerToAnAppendAnywhereIsUnavailable(t *testing.T) {
	t.Parallel()
	behind := memory(t)
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	server.Start()
	between := startProxy(t, server.Addr())
	store := open(t, esdb.Config{URL: config.Secret(between.url())})
	ctx := deadline(t)
	head, err := behind.Head(ctx)
	require.NoError(t, err)
	between.hold()
	failed := make(chan error, 1)
	go func() {
		_, err := store.Append(ctx, "acme.a", eventstore.Any, record("a"))
		failed <- err
	}()
	awaitHead(ctx, t, behind, head+1)
	between.cut()
	require.ErrorIs(t, <-failed, eventstore.ErrUnavailable)
	now, err := behind.Head(ctx)
	require.NoError(t, err)
	require.Equal(t, head+1, now)
}

// A server that takes everything and answers nothing is given up for another
// connection when the store's patience ends.
func TestAServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: memory(t)})
	server.Start()
	between := startProxy(t, server.Addr())
	store := open(t, esdb.Config{URL: config.Secret(between.url()), Patience: 2 * time.Second})
	ctx := deadline(t)
	first, err := store.Append(ctx, "acme.a", eventstore.NoStream, record("a"))
	require.NoError(t, err)
	between.hold()
	part := []eventstore.NewRecord{record("b")}
	_, err = store.Append(ctx, "acme.a", 0, part...)
	require.ErrorIs(t, err, eventstore.ErrUnavailable)
	between.release()
	again, err := store.Append(ctx, "acme.a", 0, part...)
	require.NoError(t, err)
	require.Equal(t, eventstore.Appended{Revision: 1, Position: first.Position + 1, Repeated: true}, again)
}

func awaitHead(ctx context.Context, t testing.TB, store eventstore.Store, want eventstore.Position) {
	t.Helper()
	require.Eventually(t, func() bool {
		head, err := store.Head(ctx)
		return err == nil && head >= want
	}, patience, time.Millisecond)
}

// Nothing blocks past its context or the store's patience while the server is
// away, and Close does not wait for it.
func TestAwayForGood(t *testing.T) {
	t.Parallel()
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: memory(t)})
	server.Start()
	store := open(t, esdb.Config{URL: config.Secret(server.URL()), Patience: 2 * time.Second})
	ctx := deadline(t)
	_, err := store.Append(ctx, "acme.a", eventstore.NoStream, record("a"))
	require.NoError(t, err)
	sub, err := store.Subscribe(ctx, eventstore.SubscribeOptions{Heartbeat: 10 * time.Millisecond})
	require.NoError(t, err)
	for caughtUp := false; !caughtUp; {
		batch, err := sub.Next(ctx)
		require.NoError(t, err)
		caughtUp = batch.CaughtUp
	}
	server.Kill()

	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	var calls sync.WaitGroup
	for name, call := range map[string]func(context.Context) error{
		"append": func(ctx context.Context) error {
			_, err := store.Append(ctx, "acme.a", 0, record("b"))
			return err
		},
		"append any": func(ctx context.Context) error {
			_, err := store.Append(ctx, "acme.a", eventstore.Any, record("b"))
			return err
		},
		"head": func(ctx context.Context) error {
			_, err := store.Head(ctx)
			return err
		},
		"stream head": func(ctx context.Context) error {
			_, err := store.StreamHead(ctx, "acme.a")
			return err
		},
		"read": func(ctx context.Context) error {
			for _, err := range store.ReadAll(ctx, eventstore.ReadAllOptions{}) {
				return err
			}
			return nil
		},
		"read stream": func(ctx context.Context) error {
			for _, err := range store.ReadStream(ctx, "acme.a", eventstore.ReadStreamOptions{}) {
				return err
			}
			return nil
		},
		"subscribe": func(ctx context.Context) error {
			_, err := store.Subscribe(ctx, eventstore.SubscribeOptions{})
			return err
		},
	} {
		calls.Go(func() {
			if err := call(ctx); !errors.Is(err, eventstore.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			if err := call(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s with a deadline: %v", name, err)
			}
		})
	}
	calls.Wait()
	// Subscriptions go on saying where they are.
	for range 3 {
		batch, err := sub.Next(ctx)
		require.NoError(t, err)
		require.Empty(t, batch.Records)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := store.Append(ctx, "acme.a", 0, record("c"))
		ended <- err
	}()
	require.NoError(t, store.Close())
	require.Error(t, <-ended)
	_, err = sub.Next(ctx)
	require.ErrorIs(t, err, eventstore.ErrClosed)
}
