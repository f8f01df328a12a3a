package esdbserver_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/rawproto"
)

const (
	benchEvents = 20_000
	benchBytes  = 300
)

// idle answers as the server does, of nothing: the yardstick.
type idle struct {
	streams.UnimplementedStreamsServer

	event []byte
}

func (i *idle) Read(_ *streams.ReadReq, stream streams.Streams_ReadServer) error {
	for range benchEvents {
		if err := stream.SendMsg(new(rawproto.Message).Nested(1, i.event)); err != nil {
			return err
		}
	}
	return nil
}

func (i *idle) Append(stream streams.Streams_AppendServer) error {
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{}}})
		}
		if err != nil {
			return err
		}
	}
}

func startIdle(b *testing.B, event []byte) *fixture {
	b.Helper()
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawproto.Codec()))
	streams.RegisterStreamsServer(server, &idle{event: event})
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	b.Cleanup(func() {
		server.Stop()
		require.NoError(b, <-done)
	})
	f := &fixture{TB: b, ctx: b.Context(), url: "esdb://" + listener.Addr().String() + "?tls=false"}
	f.raw = f.dial()
	return f
}

// BenchmarkRead is of events, read from $all; beside it a server that sends the
// same bytes from memory.
func BenchmarkRead(b *testing.B) {
	store := openStore(b)
	for i := range benchEvents / 100 {
		records := make([]eventstore.NewRecord, 100)
		for j := range records {
			records[j] = eventstore.NewRecord{ID: uuid.New(), Type: "parley.interaction", Data: make([]byte, benchBytes)}
		}
		_, err := store.Append(b.Context(), fmt.Sprintf("acme.web-%d", i), eventstore.NoStream, records...)
		require.NoError(b, err)
	}
	f := start(b, esdbserver.Config{Store: store})
	req := readOptions(func(o *streams.ReadReq_Options) { o.CountOption = &streams.ReadReq_Options_Count{Count: benchEvents} })
	first, err := f.rawRead(readOptions(func(*streams.ReadReq_Options) {}))
	require.NoError(b, err)
	event, err := proto.Marshal(first[0].GetEvent())
	require.NoError(b, err)
	for name, f := range map[string]*fixture{"esdbserver": f, "yardstick": startIdle(b, event)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				call, err := f.raw.Read(b.Context(), req)
				require.NoError(b, err)
				n := 0
				for {
					_, err := call.Recv()
					if errors.Is(err, io.EOF) {
						break
					}
					require.NoError(b, err)
					n++
				}
				require.Equal(b, benchEvents, n)
			}
			b.ReportMetric(float64(benchEvents)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkAppend is of one event a call, each to its stream, from 64 at a time.
func BenchmarkAppend(b *testing.B) {
	for name, f := range map[string]*fixture{"esdbserver": start(b, esdbserver.Config{}), "yardstick": startIdle(b, nil)} {
		for kind, expected := range map[string]*streams.AppendReq_Options{
			"none": {ExpectedStreamRevision: &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}},
			"any":  {ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}}},
		} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				var streamsCount atomic.Int64
				b.SetParallelism(32)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						call, err := f.raw.Append(b.Context())
						if err != nil {
							b.Error(err)
							return
						}
						name := fmt.Appendf(nil, "%s-%d-%d", kind, b.N, streamsCount.Add(1))
						m := message(uuid.New(), "t", "application/octet-stream")
						m.Data = make([]byte, benchBytes)
						_ = call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
							StreamIdentifier:       &shared.StreamIdentifier{StreamName: name},
							ExpectedStreamRevision: expected.GetExpectedStreamRevision(),
						}}})
						_ = call.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: m}})
						resp, err := call.CloseAndRecv()
						if err != nil || resp.GetSuccess() == nil {
							b.Errorf("append: %v, %v", resp, err)
							return
						}
					}
				})
			})
		}
	}
}
