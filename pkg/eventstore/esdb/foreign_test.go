package esdb_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// client is the official one.
func client(t testing.TB, url string) *official.Client {
	t.Helper()
	conf, err := official.ParseConnectionString(url)
	require.NoError(t, err)
	conf.Logger = func(official.LogLevel, string, ...any) {}
	c, err := official.NewClient(conf)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// What the cluster keeps for itself never comes out, however much of it there
// is, and moves neither head nor positions that are handed out.
func TestTheClustersOwnRecordsStayInside(t *testing.T) {
	t.Parallel()
	url := esdbservertest.Start(t, esdbserver.Config{Store: memory(t)})
	store := open(t, esdb.Config{URL: config.Secret(url)})
	other := client(t, url)
	ctx := deadline(t)
	// system makes the cluster write for itself: metadata of streams, and
	// links, which stand in ordinary streams too.
	system := func(count int) {
		for _, own := range []struct{ stream, kind, data string }{
			{"$$acme.a", "$metadata", `{"$maxAge":1000000}`}, {"links", "$>", "0@acme.a"},
		} {
			events := make([]official.EventData, count)
			for i := range events {
				events[i] = official.EventData{EventID: uuid.New(), EventType: own.kind, ContentType: official.ContentTypeJson, Data: []byte(own.data)}
			}
			_, err := other.AppendToStream(ctx, own.stream, official.AppendToStreamOptions{ExpectedRevision: official.Any{}}, events...)
			require.NoError(t, err)
		}
	}
	head := func() eventstore.Position {
		head, err := store.Head(ctx)
		require.NoError(t, err)
		return head
	}
	system(20)
	require.Zero(t, head())
	sub, err := store.Subscribe(ctx, eventstore.SubscribeOptions{Heartbeat: 5 * time.Millisecond})
	require.NoError(t, err)
	defer func() { require.NoError(t, sub.Close()) }()
	var last eventstore.Appended
	const count = 4
	for i := range count {
		last, err = store.Append(ctx, "acme.a", eventstore.Revision(i-1), record(fmt.Sprint(i)))
		require.NoError(t, err)
		system(400)
		require.Equal(t, last.Position, head())
	}
	for name, s := range map[string]*esdb.Store{"that appended": store, "that was just opened": open(t, esdb.Config{URL: config.Secret(url)})} {
		head, err := s.Head(ctx)
		require.NoError(t, err)
		require.Equal(t, last.Position, head, name)
		for _, filter := range []eventstore.Filter{{}, {StreamPrefixes: []string{""}}, {StreamPrefixes: []string{"a", "links", "$"}}, {Types: []string{"tested", "$>"}}} {
			for _, direction := range []eventstore.Direction{eventstore.Forwards, eventstore.Backwards} {
				require.Len(t, all(t, s, eventstore.ReadAllOptions{Filter: filter, Direction: direction}), count, "%s %+v", name, filter)
			}
			// One that catches up hands out no position beyond the head, and
			// can be taken up again at each.
			behind, err := s.Subscribe(ctx, eventstore.SubscribeOptions{Filter: filter, MaxBatch: 2})
			require.NoError(t, err)
			found := 0
			for caughtUp := false; !caughtUp; {
				batch, err := behind.Next(ctx)
				require.NoError(t, err)
				found += len(batch.Records)
				caughtUp = batch.CaughtUp
				require.LessOrEqual(t, batch.Position, head)
				again, err := s.Subscribe(ctx, eventstore.SubscribeOptions{After: batch.Position})
				require.NoError(t, err)
				require.NoError(t, again.Close())
			}
			require.Equal(t, count, found)
			require.NoError(t, behind.Close())
		}
	}
	found := 0
	for found < count {
		batch, err := sub.Next(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, batch.Position, last.Position)
		found += len(batch.Records)
	}
	require.Equal(t, count, found)
}

// What others append is seen, and repeated, as what was appended here.
func TestOthersAppendToo(t *testing.T) {
	t.Parallel()
	url := esdbservertest.Start(t, esdbserver.Config{Store: memory(t)})
	one, two := open(t, esdb.Config{URL: config.Secret(url)}), open(t, esdb.Config{URL: config.Secret(url)})
	ctx := deadline(t)
	sub, err := two.Subscribe(ctx, eventstore.SubscribeOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, sub.Close()) }()
	part := []eventstore.NewRecord{record("a"), record("b")}
	first, err := one.Append(ctx, "acme.a", eventstore.NoStream, part...)
	require.NoError(t, err)
	var found []*eventstore.Record
	for len(found) < 2 {
		batch, err := sub.Next(ctx)
		require.NoError(t, err)
		found = append(found, batch.Records...)
	}
	require.Equal(t, part[1].ID, found[1].ID)
	again, err := two.Append(ctx, "acme.a", eventstore.NoStream, part...)
	require.NoError(t, err)
	first.Repeated = true
	require.Equal(t, first, again)
	// A repetition of some, which stand at the end of an append.
	tail, err := two.Append(ctx, "acme.a", 0, part[1])
	require.NoError(t, err)
	require.Equal(t, first, tail)
	_, err = two.Append(ctx, "acme.a", 0, part[0])
	var conflict *eventstore.RevisionConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, eventstore.RevisionConflictError{Stream: "acme.a", Expected: 0, Actual: 1}, *conflict)
}

func TestAnAppendOverTheClustersBound(t *testing.T) {
	t.Parallel()
	store, behind := served(t)
	large := []eventstore.NewRecord{record(""), record("")}
	large[0].Data, large[1].Data = make([]byte, 600_000), make([]byte, 600_000)
	before, err := behind.Head(t.Context())
	require.NoError(t, err)
	_, err = store.Append(deadline(t), "acme.a", eventstore.NoStream, large...)
	require.ErrorIs(t, err, eventstore.ErrTooLarge)
	after, err := behind.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)

	// A server that is set to less says so itself.
	small := open(t, esdb.Config{URL: config.Secret(esdbservertest.Start(t, esdbserver.Config{Store: memory(t), MaxAppendBytes: 1000}))})
	large[0].Data = make([]byte, 1000)
	_, err = small.Append(deadline(t), "acme.a", eventstore.NoStream, large[0])
	require.ErrorIs(t, err, eventstore.ErrTooLarge)
}

// counting says how far each subscription read a store.
type counting struct {
	eventstore.Store

	open atomic.Int64
	mu   sync.Mutex
	subs []*atomic.Int64
}

func (c *counting) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	sub, err := c.Store.Subscribe(ctx, opts)
	read := new(atomic.Int64)
	if opts.After == 0 {
		c.mu.Lock()
		c.subs = append(c.subs, read)
		c.mu.Unlock()
	}
	c.open.Add(1)
	return &countingSubscription{Subscription: sub, read: read, open: &c.open}, err
}

type countingSubscription struct {
	eventstore.Subscription
	read   *atomic.Int64
	open   *atomic.Int64
	closed sync.Once
}

func (c *countingSubscription) Close() error {
	c.closed.Do(func() { c.open.Add(-1) })
	return c.Subscription.Close()
}

func (c *countingSubscription) Next(ctx context.Context) (eventstore.Batch, error) {
	batch, err := c.Subscription.Next(ctx)
	for _, r := range batch.Records {
		c.read.Add(int64(len(r.Data)))
	}
	return batch, err
}

// Whoever does not ask for more costs a bounded amount, while others go on.
func TestASlowSubscriberIsBounded(t *testing.T) {
	t.Parallel()
	const count, size, bound = 3000, 10_000, 12 << 20
	behind := memory(t)
	ctx := deadline(t)
	for at := 0; at < count; at += 100 {
		part := make([]eventstore.NewRecord, 100)
		for i := range part {
			part[i] = record("")
			part[i].Data = make([]byte, size)
		}
		_, err := behind.Append(ctx, "acme.a", eventstore.Revision(at-1), part...)
		require.NoError(t, err)
	}
	counted := &counting{Store: behind}
	store := open(t, esdb.Config{URL: config.Secret(esdbservertest.Start(t, esdbserver.Config{Store: counted}))})
	take := func(sub eventstore.Subscription, want int) {
		for found := 0; found < want; {
			batch, err := sub.Next(ctx)
			require.NoError(t, err)
			found += len(batch.Records)
		}
	}
	slow, err := store.Subscribe(ctx, eventstore.SubscribeOptions{MaxBatch: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, slow.Close()) }()
	take(slow, 1)
	fast, err := store.Subscribe(ctx, eventstore.SubscribeOptions{})
	require.NoError(t, err)
	defer func() { require.NoError(t, fast.Close()) }()
	take(fast, count)
	counted.mu.Lock()
	require.Len(t, counted.subs, 2)
	require.GreaterOrEqual(t, counted.subs[1].Load(), int64(count*size))
	require.Less(t, counted.subs[0].Load(), int64(bound))
	counted.mu.Unlock()
	// Nor does it hold anything of the cluster's for long.
	require.Eventually(t, func() bool { return counted.open.Load() == 1 }, patience, 5*time.Millisecond, "only the tail stays")
	take(slow, count-1)
}

// More that lag than a node takes calls for: they wait for one another, and
// nobody else does.
func TestManyThatAreBehind(t *testing.T) {
	t.Parallel()
	const count, subscribers = 600, 12
	behind := memory(t)
	ctx := deadline(t)
	for at := 0; at < count; at += 50 {
		part := make([]eventstore.NewRecord, 50)
		for i := range part {
			part[i] = record("")
			part[i].Data = make([]byte, 10_000)
		}
		_, err := behind.Append(ctx, "acme.a", eventstore.Revision(at-1), part...)
		require.NoError(t, err)
	}
	url := esdbservertest.Start(t, esdbserver.Config{Store: behind}, grpc.MaxConcurrentStreams(4))
	store := open(t, esdb.Config{URL: config.Secret(url), TailBytes: 1 << 20})
	var all sync.WaitGroup
	for i := range subscribers {
		all.Go(func() {
			sub, err := store.Subscribe(ctx, eventstore.SubscribeOptions{MaxBatch: 100})
			if err != nil {
				t.Errorf("subscriber %d: %v", i, err)
				return
			}
			defer func() { _ = sub.Close() }()
			found := 0
			for caughtUp := false; !caughtUp; {
				batch, err := sub.Next(ctx)
				if err != nil {
					t.Errorf("subscriber %d with %d: %v", i, found, err)
					return
				}
				found += len(batch.Records)
				caughtUp = batch.CaughtUp
				// Every batch waits for an append to be through meanwhile.
				if _, err := store.Append(ctx, "z.other", eventstore.Any, record("")); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
			if found < count {
				t.Errorf("subscriber %d found %d", i, found)
			}
		})
	}
	all.Wait()
}
