package esdbserver_test

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
)

func Example() {
	store, err := embedded.Open("store", embedded.Options{FS: vfs.NewMem()})
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close() }() // in memory
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server, err := esdbserver.New(esdbserver.Config{
		Store:     store,
		Advertise: listener.Addr().String(),
		ReadOnly:  func(stream string) bool { return strings.HasPrefix(stream, "acme.") },
	})
	if err != nil {
		panic(err)
	}
	grpcServer := grpc.NewServer(server.ServerOptions()...)
	server.Register(grpcServer)
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(listener) }()

	settings, err := esdb.ParseConnectionString("esdb://" + listener.Addr().String() + "?tls=false")
	if err != nil {
		panic(err)
	}
	settings.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(settings)
	if err != nil {
		panic(err)
	}
	result, err := client.AppendToStream(context.Background(), "orders-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}},
		esdb.EventData{EventType: "Placed", ContentType: esdb.ContentTypeJson, Data: []byte(`{"total":3}`)})
	if err != nil {
		panic(err)
	}
	fmt.Println("revision", result.NextExpectedVersion, "position", result.CommitPosition)
	if err := client.Close(); err != nil {
		panic(err)
	}
	server.Stop()
	grpcServer.GracefulStop()
	if err := <-served; err != nil {
		panic(err)
	}
	// Output: revision 0 position 1
}
