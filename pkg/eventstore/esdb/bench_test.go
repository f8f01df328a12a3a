package esdb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/pkg/rawproto"
)

// nothing is a server that answers success at once, and any read with as many
// of the same events as are asked for: what is left is the client and the wire.
type nothing struct {
	serverfeatures.UnimplementedServerFeaturesServer
	streams.UnimplementedStreamsServer

	addr     string
	position atomic.Uint64
	logID    uuid.UUID
	// events are what a read of the whole log finds, encoded beforehand.
	events []*rawproto.Message
}

func startNothing(b *testing.B, readable uint64) *nothing {
	b.Helper()
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	n := &nothing{addr: listener.Addr().String(), logID: uuid.New()}
	n.position.Store(readable)
	for at := range readable {
		encoded := new(rawproto.Message)
		require.NoError(b, encoded.Append(n.event(at+1)))
		n.events = append(n.events, encoded)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawproto.Codec()))
	serverfeatures.RegisterServerFeaturesServer(server, n)
	streams.RegisterStreamsServer(server, n)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	b.Cleanup(func() {
		server.Stop()
		served.Wait()
	})
	return n
}

func (n *nothing) url() string { return "esdb://" + n.addr + "?tls=false" }

func (n *nothing) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: "24.10.0"}, nil
}

func (n *nothing) Append(stream streams.Streams_AppendServer) error {
	var count uint64
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		count++
	}
	return stream.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{
		CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: count - 2},
		PositionOption:        &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: n.position.Add(count)}},
	}}})
}

func (n *nothing) event(position uint64) *streams.ReadResp {
	data := make([]byte, 300)
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{
		Event: &streams.ReadResp_ReadEvent_RecordedEvent{
			Id:               &shared.UUID{Value: &shared.UUID_String_{String_: n.logID.String()}},
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("acme.email-conversation")},
			StreamRevision:   position, CommitPosition: position, PreparePosition: position,
			Metadata: map[string]string{
				"type": "io.parley.interaction.v1.Recorded", "content-type": "application/octet-stream",
				"created": strconv.FormatInt(time.Now().UnixNano()/100, 10),
			},
			Data: data, CustomMetadata: []byte(`{"$correlationId":"c-1"}`),
		},
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: position},
	}}}
}

func (n *nothing) Read(req *streams.ReadReq, stream streams.Streams_ReadServer) error {
	o := req.GetOptions()
	if o.GetStream() != nil || o.GetReadDirection() == streams.ReadReq_Options_Backwards {
		return stream.SendMsg(n.events[len(n.events)-1])
	}
	if o.GetSubscription() != nil {
		if err := stream.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{Confirmation: &streams.ReadResp_SubscriptionConfirmation{}}}); err != nil {
			return err
		}
	}
	for _, e := range n.events {
		if err := stream.SendMsg(e); err != nil {
			return err
		}
	}
	if o.GetSubscription() == nil {
		return nil
	}
	<-stream.Context().Done()
	return nil
}

// beside measures two ways to do the same in turns, so that whatever else the
// machine does falls on both, and reports the first by the second.
func beside(b *testing.B, unit string, each int, measured, yardstick func(count int)) {
	b.Helper()
	var took [2]time.Duration
	rounds := 0
	measured(each)
	yardstick(each)
	for b.Loop() {
		for i, do := range []func(int){measured, yardstick} {
			begin := time.Now()
			do(each)
			took[i] += time.Since(begin)
		}
		rounds++
	}
	rate := func(d time.Duration) float64 { return float64(rounds*each) / d.Seconds() }
	b.ReportMetric(rate(took[0]), unit+"/s")
	b.ReportMetric(rate(took[1]), "yardstick_"+unit+"/s")
	b.ReportMetric(rate(took[0])/rate(took[1]), "ratio")
}

// spread does count things, some at a time.
func spread(atATime, count int, do func()) {
	var left atomic.Int64
	left.Store(int64(count))
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				do()
			}
		})
	}
	wg.Wait()
}

func appendOfficially(b *testing.B, client *official.Client) func() {
	data := make([]byte, 300)
	return func() {
		_, err := client.AppendToStream(b.Context(), "acme.email-"+uuid.NewString(), official.AppendToStreamOptions{ExpectedRevision: official.NoStream{}},
			official.EventData{EventID: uuid.New(), EventType: "io.parley.interaction.v1.Recorded", Data: data, Metadata: []byte(`{"$correlationId":"c-1"}`)})
		if err != nil {
			b.Error(err)
		}
	}
}

func readOfficially(b *testing.B, client *official.Client) func(int) {
	return func(count int) {
		read, err := client.ReadAll(b.Context(), official.ReadAllOptions{}, uint64(count))
		require.NoError(b, err)
		defer read.Close()
		for range count {
			if _, err := read.Recv(); err != nil {
				b.Error(err)
				return
			}
		}
	}
}

// The driver beside the official client, both against a server that does
// nothing. Goal: 0.8.
func BenchmarkDriver(b *testing.B) {
	for _, atATime := range []int{1, 64} {
		b.Run(fmt.Sprintf("append/in_flight=%d", atATime), func(b *testing.B) {
			server := startNothing(b, 1)
			store, plain := open(b, esdb.Config{URL: config.Secret(server.url())}), appendOfficially(b, client(b, server.url()))
			data := make([]byte, 300)
			driver := func() {
				_, err := store.Append(b.Context(), "acme.email-"+uuid.NewString(), eventstore.NoStream,
					eventstore.NewRecord{ID: uuid.New(), Type: "io.parley.interaction.v1.Recorded", Data: data, Metadata: []byte(`{"$correlationId":"c-1"}`)})
				if err != nil {
					b.Error(err)
				}
			}
			beside(b, "appends", 500, func(n int) { spread(atATime, n, driver) }, func(n int) { spread(atATime, n, plain) })
		})
	}
	b.Run("read", func(b *testing.B) {
		const count = 5000
		server := startNothing(b, count)
		store, plain := open(b, esdb.Config{URL: config.Secret(server.url())}), readOfficially(b, client(b, server.url()))
		beside(b, "reads", count, func(n int) {
			for _, err := range store.ReadAll(b.Context(), eventstore.ReadAllOptions{}) {
				if err != nil {
					b.Error(err)
				}
				n--
			}
			require.Zero(b, n)
		}, plain)
	})
}

// The server over the embedded store, in memory, beside one that does nothing,
// both asked by the official client. Goal: 0.5.
func BenchmarkServer(b *testing.B) {
	for _, atATime := range []int{1, 64} {
		b.Run(fmt.Sprintf("append/in_flight=%d", atATime), func(b *testing.B) {
			served := appendOfficially(b, client(b, esdbservertest.Start(b, esdbserver.Config{Store: memory(b)})))
			plain := appendOfficially(b, client(b, startNothing(b, 1).url()))
			beside(b, "appends", 500, func(n int) { spread(atATime, n, served) }, func(n int) { spread(atATime, n, plain) })
		})
	}
	b.Run("read", func(b *testing.B) {
		const count = 5000
		behind := memory(b)
		for at := 0; at < count; at += 100 {
			part := make([]eventstore.NewRecord, 100)
			for i := range part {
				part[i] = eventstore.NewRecord{ID: uuid.New(), Type: "io.parley.interaction.v1.Recorded", Data: make([]byte, 300), Metadata: []byte(`{"$correlationId":"c-1"}`)}
			}
			_, err := behind.Append(b.Context(), "acme.email-conversation", eventstore.Revision(at-1), part...)
			require.NoError(b, err)
		}
		served := readOfficially(b, client(b, esdbservertest.Start(b, esdbserver.Config{Store: behind})))
		plain := readOfficially(b, client(b, startNothing(b, count).url()))
		beside(b, "reads", count, served, plain)
	})
}
