package esdbserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

// deadline is how long a test waits for what must come.
const deadline = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openStore is a store in memory.
func openStore(t testing.TB) *embedded.Store {
	t.Helper()
	store, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// fixture is a server with a client of each kind.
type fixture struct {
	testing.TB

	ctx    context.Context
	store  eventstore.Store
	url    string
	client *esdb.Client
	raw    streams.StreamsClient
}

// start serves cfg, over a new store where it has none.
func start(t testing.TB, cfg esdbserver.Config) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	if cfg.Store == nil {
		cfg.Store = openStore(t)
	}
	f := &fixture{TB: t, ctx: ctx, store: cfg.Store, url: esdbservertest.Start(t, cfg)}
	f.client = f.connect(f.url)
	f.raw = f.dial()
	return f
}

// address is host:port of the server.
func (f *fixture) address() string {
	return strings.TrimSuffix(strings.TrimPrefix(f.url, "esdb://"), "?tls=false")
}

// conn is a plain gRPC connection.
func (f *fixture) conn(options ...grpc.DialOption) *grpc.ClientConn {
	f.Helper()
	conn, err := grpc.NewClient(f.address(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, conn.Close()) })
	return conn
}

func (f *fixture) dial(options ...grpc.DialOption) streams.StreamsClient {
	f.Helper()
	return streams.NewStreamsClient(f.conn(options...))
}

func (f *fixture) connect(url string) *esdb.Client {
	f.Helper()
	settings, err := esdb.ParseConnectionString(url)
	require.NoError(f, err)
	settings.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(settings)
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, client.Close()) })
	return client
}

// event is a JSON event named for what it says.
func event(text string) esdb.EventData {
	return esdb.EventData{
		EventID: uuid.New(), EventType: "said", ContentType: esdb.ContentTypeJson,
		Data: fmt.Appendf(nil, "%q", text), Metadata: []byte(`{"m":1}`),
	}
}

// eventsOf are events that say a-0, a-1, …
func eventsOf(name string, from, count int) []esdb.EventData {
	out := make([]esdb.EventData, count)
	for i := range out {
		out[i] = event(fmt.Sprintf("%s-%d", name, from+i))
	}
	return out
}

func (f *fixture) append(stream string, expected esdb.ExpectedRevision, events ...esdb.EventData) *esdb.WriteResult {
	f.Helper()
	result, err := f.client.AppendToStream(f.ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, events...)
	require.NoError(f, err)
	return result
}

// fill appends count events to a new stream.
func (f *fixture) fill(stream string, count int) {
	f.Helper()
	const most = 500
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	for at := 0; at < count; at += most {
		n := min(most, count-at)
		expected = esdb.Revision(f.append(stream, expected, eventsOf(stream, at, n)...).NextExpectedVersion)
	}
}

// said are what events say, as `revision stream text`.
func said(e *esdb.RecordedEvent) string {
	return fmt.Sprintf("%d %s %s", e.EventNumber, e.StreamID, strings.Trim(string(e.Data), `"`))
}

func (f *fixture) all(read *esdb.ReadStream, err error) []*esdb.ResolvedEvent {
	f.Helper()
	events, err := collect(read, err)
	require.NoError(f, err)
	return events
}

func collect(read *esdb.ReadStream, err error) ([]*esdb.ResolvedEvent, error) {
	if err != nil {
		return nil, err
	}
	defer read.Close()
	var out []*esdb.ResolvedEvent
	for {
		e, err := read.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
}

// texts are the events of a read, a line each.
func (f *fixture) texts(read *esdb.ReadStream, err error) []string {
	f.Helper()
	out := []string{}
	for _, e := range f.all(read, err) {
		out = append(out, said(e.OriginalEvent()))
	}
	return out
}

// fails wants the client's typed error, whose text has what.
func (f *fixture) fails(err error, code esdb.ErrorCode, what string) {
	f.Helper()
	var typed *esdb.Error
	require.ErrorAs(f, err, &typed)
	require.Equal(f, code, typed.Code(), "%v", err)
	require.ErrorContains(f, err, what)
}
