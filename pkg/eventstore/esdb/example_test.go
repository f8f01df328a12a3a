package esdb_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
)

// A program that appends to a cluster, and follows what is appended.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, err := esdb.Open(ctx, esdb.Config{URL: "esdb://parley:secret@node1:2113,node2:2113,node3:2113?tlsCaFile=/etc/parley/ca.pem"})
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = store.Close() }()
	_, err = store.Append(ctx, "acme.email-thread", eventstore.NoStream, eventstore.NewRecord{
		ID: uuid.New(), Type: "io.parley.interaction.v1.Recorded", Data: []byte{1},
	})
	if err != nil {
		log.Print(err)
		return
	}
	sub, err := store.Subscribe(ctx, eventstore.SubscribeOptions{Filter: eventstore.Filter{StreamPrefixes: []string{"acme."}}})
	if err != nil {
		log.Print(err)
		return
	}
	batch, err := sub.Next(ctx)
	fmt.Println(len(batch.Records), batch.Position, err)
}
