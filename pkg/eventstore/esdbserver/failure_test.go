package esdbserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// failingStore fails with one error, or panics where there is none.
type failingStore struct {
	eventstore.Store

	err error
}

func (s *failingStore) fail() error {
	if s.err == nil {
		panic("the store is broken")
	}
	return fmt.Errorf("secret detail: %w", s.err)
}

func (s *failingStore) Append(context.Context, string, eventstore.Revision, ...eventstore.NewRecord) (eventstore.Appended, error) {
	return eventstore.Appended{}, s.fail()
}

func (s *failingStore) StreamHead(context.Context, string) (eventstore.Revision, error) {
	return 0, s.fail()
}

func (s *failingStore) Subscribe(context.Context, eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	return nil, s.fail()
}

func (s *failingStore) ReadAll(context.Context, eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) { yield(nil, s.fail()) }
}

func TestFailuresOfTheStore(t *testing.T) {
	t.Parallel()
	for want, cause := range map[codes.Code]error{
		codes.ResourceExhausted: eventstore.ErrFull,
		codes.Unavailable:       eventstore.ErrUnavailable,
		codes.InvalidArgument:   eventstore.ErrInvalid,
		codes.Internal:          eventstore.ErrCorrupt,
		codes.DeadlineExceeded:  context.DeadlineExceeded,
		codes.Canceled:          context.Canceled,
		codes.Unknown:           nil, // stands for a panic, which is INTERNAL
	} {
		t.Run(want.String(), func(t *testing.T) {
			t.Parallel()
			f := start(t, esdbserver.Config{Store: &failingStore{Store: openStore(t), err: cause}})
			want := want
			if want == codes.Unknown {
				want = codes.Internal
			}
			check := func(what string, err error) {
				require.Equal(t, want, status.Code(err), "%s: %v", what, err)
				if want == codes.Internal {
					require.NotContains(t, err.Error(), "secret")
					require.NotContains(t, err.Error(), "broken")
				}
			}
			for what, expected := range map[string]*streams.AppendReq_Options{
				"append":     {ExpectedStreamRevision: &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}},
				"append any": {ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}}},
			} {
				expected.StreamIdentifier = &shared.StreamIdentifier{StreamName: []byte("s")}
				_, err := f.rawAppend(expected, message(uuid.New(), "t", "application/json"))
				check(what, err)
			}
			_, err := f.rawRead(readOptions(func(*streams.ReadReq_Options) {}))
			check("read", err)
			_, err = f.rawRead(readOptions(func(o *streams.ReadReq_Options) { o.StreamOption = ofStream("s", 0) }))
			check("read stream", err)
			_, err = f.rawRead(readOptions(func(o *streams.ReadReq_Options) { o.CountOption = &streams.ReadReq_Options_Subscription{} }))
			check("subscribe", err)
			_, err = f.raw.Delete(f.ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{
				StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("s")},
				ExpectedStreamRevision: &streams.DeleteReq_Options_Any{Any: &shared.Empty{}},
			}})
			check("delete", err)
			b := f.batch()
			id := uuid.NewString()
			b.send(request(id, "s", 1))
			e := b.byID(1)[id].GetError()
			require.EqualValues(t, want, e.GetCode(), e.GetMessage())
			require.Len(t, e.GetDetails(), 1)
		})
	}
}

func TestClosedStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	sub := f.subscribed(f.client.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{}))
	require.Equal(t, "caught up", sub.next())
	require.NoError(t, f.store.Close())
	require.Equal(t, "dropped Unavailable", sub.next())
	_, err := f.rawRead(readOptions(func(o *streams.ReadReq_Options) { o.StreamOption = ofStream("s", 0) }))
	require.Equal(t, codes.Unavailable, status.Code(err))
}

// A message larger than any may be is gRPC's own refusal.
func TestMessageLargerThanAny(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	m := message(uuid.New(), "t", "application/json")
	m.Data = make([]byte, 10<<20)
	_, err := f.rawAppend(&streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("s")},
		ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
	}, m)
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
}

// An append is before the tombstone, or is told of it.
func TestTombstoneAmongAppends(t *testing.T) {
	t.Parallel()
	f := start(t, esdbserver.Config{})
	const clients, appends = 8, 30
	f.fill("s", 1)
	var wg sync.WaitGroup
	started := make(chan struct{}, clients*appends)
	for range clients {
		wg.Go(func() {
			for range appends {
				_, err := f.client.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("x"))
				var typed *esdb.Error
				if err != nil && (!errors.As(err, &typed) || typed.Code() != esdb.ErrorCodeStreamDeleted) {
					t.Errorf("append: %v", err)
				}
				started <- struct{}{}
			}
		})
	}
	<-started
	_, err := f.client.TombstoneStream(f.ctx, "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	wg.Wait()
	all := f.all(f.client.ReadAll(f.ctx, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1<<20))
	require.Equal(t, "$streamDeleted", all[0].Event.EventType)
	for _, e := range all[1:] {
		require.Equal(t, "said", e.Event.EventType)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	f := start(t, esdbserver.Config{Metrics: registry})
	f.fill("s", 3)
	_, err := f.client.AppendToStream(f.ctx, "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("x"))
	f.fails(err, esdb.ErrorCodeWrongExpectedVersion, "")
	sub := f.subscribed(f.client.SubscribeToAll(f.ctx, esdb.SubscribeToAllOptions{From: esdb.Start{}}))
	require.Len(t, sub.until("caught up"), 4)
	value := func(name string, labels ...string) float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			for _, m := range family.GetMetric() {
				if family.GetName() == name && (len(labels) == 0 || m.GetLabel()[0].GetValue() == labels[0]) {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
		return -1
	}
	require.InDelta(t, 1, value("parley_esdbserver_subscriptions"), 0)
	require.InDelta(t, 3, value("parley_esdbserver_events_sent_total"), 0)
	require.InDelta(t, 1, value("parley_esdbserver_appends_total", "ok"), 0)
	require.InDelta(t, 1, value("parley_esdbserver_appends_total", "conflict"), 0)
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, sub.inner.Close())
	require.Eventually(t, func() bool { return value("parley_esdbserver_subscriptions") == 0 }, deadline, time.Millisecond)
	_, err = esdbserver.New(esdbserver.Config{Store: f.store, Advertise: "127.0.0.1:1", Metrics: registry})
	require.ErrorContains(t, err, "register metrics")
}

// What breaks off in the middle of a call is gone; what was answered stays.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	server := esdbservertest.NewRestartable(t, esdbserver.Config{Store: openStore(t)})
	server.Start()
	f := &fixture{TB: t, ctx: t.Context(), url: server.URL()}
	f.raw = f.dial()
	call, err := f.raw.Append(t.Context())
	require.NoError(t, err)
	options := &streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("s")},
		ExpectedStreamRevision: &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}},
	}
	require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: options}}))
	kept := message(uuid.New(), "t", "application/json")
	_, err = f.rawAppend(&streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("kept")},
		ExpectedStreamRevision: &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}},
	}, kept)
	require.NoError(t, err)
	server.Kill()
	_, err = call.CloseAndRecv()
	require.True(t, errors.Is(err, io.EOF) || status.Code(err) == codes.Unavailable, "%v", err)
	server.Start()
	f.raw = f.dial()
	got, err := f.rawRead(readOptions(func(o *streams.ReadReq_Options) { o.CountOption = &streams.ReadReq_Options_Count{Count: 9} }))
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "kept", string(got[0].GetEvent().GetEvent().GetStreamIdentifier().GetStreamName()))
}
