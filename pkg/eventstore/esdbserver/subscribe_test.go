package esdbserver_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// subscription says what it gets, a line each.
type subscription struct {
	*fixture

	inner *esdb.Subscription
}

func (f *fixture) subscribed(inner *esdb.Subscription, err error) *subscription {
	f.Helper()
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, inner.Close()) })
	return &subscription{fixture: f, inner: inner}
}

// next is `checkpoint n`, `caught up`, `fell behind`, an event or `dropped …`.
func (s *subscription) next() string {
	switch e := s.inner.Recv(); {
	case e.EventAppeared != nil:
		return said(e.EventAppeared.OriginalEvent())
	case e.CheckPointReached != nil:
		return fmt.Sprintf("checkpoint %d", e.CheckPointReached.Commit)
	case e.CaughtUp != nil:
		return "caught up"
	case e.FellBehind != nil:
		return "fell behind"
	default:
		return "dropped " + status.Code(e.SubscriptionDropped.Error).String()
	}
}

func (s *subscription) take(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s.next()
	}
	return out
}

// until collects lines up to and with one.
func (s *subscription) until(line string) []string {
	s.Helper()
	var out []string
	for {
		got := s.next()
		out = append(out, got)
		if got == line {
			return out
		}
		require.False(s, strings.HasPrefix(got, "dropped"), "%v", out)
	}
}

func TestSubscribeToAll(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("a", 2)
	f.fill("b", 1)
	for name, tc := range map[string]struct {
		from esdb.AllPosition
		want []string
	}{
		"start":    {esdb.Start{}, []string{"0 a a-0", "1 a a-1", "0 b b-0", "caught up"}},
		"position": {esdb.Position{Commit: 2, Prepare: 2}, []string{"0 b b-0", "caught up"}},
		"head":     {esdb.Position{Commit: 3, Prepare: 3}, []string{"caught up"}},
		"end":      {esdb.End{}, []string{"caught up"}},
	} {
		sub := f.subscribed(f.client.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{From: tc.from}))
		require.NotEmpty(t, sub.inner.Id())
		require.Equal(t, tc.want, sub.take(len(tc.want)), name)
		defer func() { require.Equal(t, []string{"0 c c-0", "1 c c-1"}, sub.take(2), name) }()
	}
	f.fill("c", 2)
}

func TestSubscribeToStream(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("a", 3)
	f.fill("ab", 2)
	for name, tc := range map[string]struct {
		stream     string
		from       esdb.StreamPosition
		want, live []string
	}{
		"start":          {"a", esdb.Start{}, []string{"0 a a-0", "1 a a-1", "2 a a-2", "caught up"}, []string{"3 a live", "4 a more"}},
		"revision":       {"a", esdb.Revision(1), []string{"2 a a-2", "caught up"}, []string{"3 a live", "4 a more"}},
		"end":            {"a", esdb.End{}, []string{"caught up"}, []string{"3 a live", "4 a more"}},
		"beyond the end": {"a", esdb.Revision(3), []string{"caught up"}, []string{"4 a more"}},
		"not there":      {"new", esdb.Start{}, []string{"caught up"}, []string{"0 new live"}},
		"of the system":  {"$$a", esdb.Start{}, []string{"caught up"}, []string{`0 $$a {"$maxCount":1}`}},
	} {
		sub := f.subscribed(f.client.SubscribeToStream(f.ctx, tc.stream, esdb.SubscribeToStreamOptions{From: tc.from}))
		require.Equal(t, tc.want, sub.take(len(tc.want)), name)
		defer func() { require.Equal(t, tc.live, sub.take(len(tc.live)), name) }()
	}
	f.append("ab", esdb.Any{}, event("other"))
	f.append("a", esdb.Any{}, event("live"))
	f.append("new", esdb.NoStream{}, event("live"))
	f.append("a", esdb.Any{}, event("more"))
	var meta esdb.StreamMetadata
	meta.SetMaxCount(1)
	_, err := f.client.SetStreamMetadata(f.ctx, "a", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, meta)
	require.NoError(t, err)
}

func TestSubscriptionResolvesLinks(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("a", 2)
	link := event("")
	link.EventType, link.Data = "$>", []byte("1@a")
	f.append("links", esdb.NoStream{}, link)
	for _, sub := range []*subscription{
		f.subscribed(f.client.SubscribeToStream(f.ctx, "links", esdb.SubscribeToStreamOptions{From: esdb.Start{}, ResolveLinkTos: true})),
		f.subscribed(f.client.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{From: esdb.Position{Commit: 2, Prepare: 2}, ResolveLinkTos: true})),
	} {
		e := sub.inner.Recv().EventAppeared
		require.Equal(t, "1 a a-1", said(e.Event))
		require.Equal(t, "0 links 1@a", said(e.Link))
		require.EqualValues(t, 3, *e.Commit)
	}
}

func TestSubscriptionToTruncatedStream(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("s", 5)
	var meta esdb.StreamMetadata
	meta.SetMaxCount(2)
	_, err := f.client.SetStreamMetadata(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, meta)
	require.NoError(t, err)
	sub := f.subscribed(f.client.SubscribeToStream(f.ctx, "s", esdb.SubscribeToStreamOptions{From: esdb.Start{}}))
	require.Equal(t, []string{"3 s s-3", "4 s s-4", "caught up"}, sub.take(3))
	_, err = f.client.DeleteStream(f.ctx, "s", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	waiting := f.subscribed(f.client.SubscribeToStream(f.ctx, "s", esdb.SubscribeToStreamOptions{From: esdb.Start{}}))
	require.Equal(t, "caught up", waiting.next())
	f.append("s", esdb.NoStream{}, event("again"))
	require.Equal(t, "5 s again", sub.next())
	require.Equal(t, "5 s again", waiting.next())
}

func TestSubscriptionToStreamEndsWithItsTombstone(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("s", 1)
	sub := f.subscribed(f.client.SubscribeToStream(f.ctx, "s", esdb.SubscribeToStreamOptions{From: esdb.Start{}}))
	require.Equal(t, []string{"0 s s-0", "caught up"}, sub.take(2))
	_, err := f.client.TombstoneStream(f.ctx, "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	require.Equal(t, "dropped FailedPrecondition", sub.next())
}

func TestSubscriptionBeyondTheHeadIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("s", 1)
	_, err := f.client.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{From: esdb.Position{Commit: 2, Prepare: 2}})
	require.ErrorContains(t, err, "ahead of the log")
	require.Equal(t, codes.InvalidArgument, status.Code(cause(err)))
}

func TestFilteredSubscription(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	typed := func(typ, text string) esdb.EventData {
		e := event(text)
		e.EventType = typ
		return e
	}
	f.append("orders-1", esdb.NoStream{}, typed("Placed", "1"), typed("Paid", "2"))
	f.append("carts-1", esdb.NoStream{}, typed("Placed", "3"), typed("$link", "4"))
	f.append("$orders", esdb.NoStream{}, typed("Placed", "5"), typed("~Placed", "6"))
	for name, tc := range map[string]struct {
		filter esdb.SubscriptionFilter
		want   string
	}{
		"stream prefix":   {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"orders-"}}, "12"},
		"two prefixes":    {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"orders-", "$"}}, "1256"},
		"every stream":    {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"x", ""}}, "123456"},
		"stream regex":    {esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "^.?orders"}, "1256"},
		"type prefix":     {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"P"}}, "1235"},
		"type of ours":    {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"$"}}, "4"},
		"type and tilde":  {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"~"}}, "6"},
		"type regex":      {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "^Pa"}, "2"},
		"without systems": {*esdb.ExcludeSystemEventsFilter(), "12356"},
		"nothing":         {esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "^never$"}, ""},
	} {
		sub := f.subscribed(f.client.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: &tc.filter}))
		got := ""
		for _, line := range sub.until("caught up") {
			if !strings.HasPrefix(line, "c") {
				got += line[strings.LastIndexByte(line, ' ')+1:]
			}
		}
		require.Equal(t, tc.want, got, name)
	}
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	f.fill("other", 25)
	f.fill("mine", 3)
	f.fill("another", 7)
	// Positions: 1–25 other, 26–28 mine, 29–35 another. Ten are looked at
	// between checkpoints.
	filter := &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"mine"}}
	opts := esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: filter, MaxSearchWindow: 5, CheckpointInterval: 2}
	sub := f.subscribed(f.client.SubscribeToAll(f.ctx, opts))
	require.Equal(t, []string{
		"checkpoint 20", "0 mine mine-0", "1 mine mine-1", "2 mine mine-2", "checkpoint 30", "checkpoint 35", "caught up",
	}, sub.until("caught up"))
	f.append("mine", esdb.Any{}, eventsOf("live", 0, 1)...) // 36
	require.Equal(t, "3 mine live-0", sub.next())
	f.append("other", esdb.Any{}, eventsOf("live", 0, 10)...) // 37–46
	f.append("mine", esdb.Any{}, eventsOf("live", 1, 1)...)   // 47
	require.Equal(t, []string{"checkpoint 40", "4 mine live-1"}, sub.take(2))

	// Resumed from a checkpoint nothing is missing, and nothing comes twice.
	opts.From = esdb.Position{Commit: 30, Prepare: 30}
	resumed := f.subscribed(f.client.SubscribeToAll(f.ctx, opts))
	got := resumed.until("caught up")
	require.Equal(t, []string{"3 mine live-0", "checkpoint 40", "4 mine live-1", "caught up"}, got)
}

func TestSubscriptionSaysWhenItFallsBehind(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	sub := f.subscribed(f.client.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}}))
	require.Equal(t, "caught up", sub.next())
	// More than is taken from the store at a time.
	const count = 600
	big := make([]eventstore.NewRecord, 0, count)
	for _, e := range eventsOf("x", 0, count) {
		big = append(big, eventstore.NewRecord{ID: e.EventID, Type: "t", Data: make([]byte, 40)})
	}
	_, err := f.store.Append(f.ctx, "s", eventstore.NoStream, big...)
	require.NoError(t, err)
	lines := sub.until("caught up")
	require.Len(t, lines, count+2)
	require.Equal(t, "fell behind", lines[0])
}

func TestStopEndsSubscriptions(t *testing.T) {
	t.Parallel()
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: openStore(t)})
	server.Start()
	f := &fixture{TB: t, ctx: t.Context()}
	client := f.connect(server.URL())
	all := f.subscribed(client.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{}))
	stream := f.subscribed(client.SubscribeToStream(t.Context(), "s", esdb.SubscribeToStreamOptions{}))
	require.Equal(t, "caught up", all.next())
	require.Equal(t, "caught up", stream.next())
	server.Stop()
	require.Equal(t, "dropped Unavailable", all.next())
	require.Equal(t, "dropped Unavailable", stream.next())
	server.Start()
	f.client = f.connect(server.URL())
	f.append("s", esdb.NoStream{}, event("after"))
}

// countingStore counts what subscriptions and reads take from it.
type countingStore struct {
	eventstore.Store

	taken atomic.Int64
}

func (s *countingStore) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	sub, err := s.Store.Subscribe(ctx, opts)
	return &countingSubscription{Subscription: sub, store: s}, err
}

type countingSubscription struct {
	eventstore.Subscription

	store *countingStore
}

func (s *countingSubscription) Next(ctx context.Context) (eventstore.Batch, error) {
	b, err := s.Subscription.Next(ctx)
	for _, r := range b.Records {
		s.store.taken.Add(int64(len(r.Data)))
	}
	return b, err
}

func (s *countingStore) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		for r, err := range s.Store.ReadAll(ctx, opts) {
			if r != nil {
				s.taken.Add(int64(len(r.Data)))
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// stillAt waits until a count that has begun stands still: of what is tested
// nothing makes it go on but the test, so that a pause will do.
func stillAt(t *testing.T, count func() int64) {
	t.Helper()
	var before int64
	still := 0
	require.Eventually(t, func() bool {
		now := count()
		if now == 0 || now != before {
			before, still = now, 0
			return false
		}
		still++
		return still == 20
	}, deadline, 10*time.Millisecond)
}

// A client that stops reading has as much of it underway as flow control
// allows, and a batch, of 20 MB.
func TestClientThatStopsReadingIsNotReadAheadFor(t *testing.T) {
	t.Parallel()
	store := &countingStore{Store: openStore(t)}
	const count, size = 20, 1_000_000
	for i := range count {
		_, err := store.Append(t.Context(), fmt.Sprintf("s-%d", i), eventstore.NoStream,
			eventstore.NewRecord{ID: eventsOf("", 0, 1)[0].EventID, Type: "t", Data: make([]byte, size)})
		require.NoError(t, err)
	}
	f := start(t, esdbserver.Config{Store: store})
	// Left to itself the client makes room for more and more.
	raw := f.dial(grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))
	for name, options := range map[string]*streams.ReadReq_Options{
		"subscription": {
			CountOption: &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}},
		},
		"read": {CountOption: &streams.ReadReq_Options_Count{Count: count}},
	} {
		options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
			AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}},
		}}
		store.taken.Store(0)
		ctx, cancel := context.WithCancel(f.ctx)
		call, err := raw.Read(ctx, &streams.ReadReq{Options: options})
		require.NoError(t, err)
		stillAt(t, store.taken.Load)
		require.Less(t, store.taken.Load(), int64(4*size), name)
		// It goes on as soon as the client does.
		for got := 0; got < count; {
			resp, err := call.Recv()
			require.NoError(t, err)
			if resp.GetEvent() != nil {
				got++
			}
		}
		require.EqualValues(t, count*size, store.taken.Load(), name)
		cancel()
	}
}
