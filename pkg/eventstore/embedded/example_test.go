package embedded_test

import (
	"context"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // best effort
	store, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	opened := eventstore.NewRecord{ID: uuid.New(), Type: "ticket.opened.v1", ContentType: eventstore.ContentJSON, Data: []byte(`{"subject":"a flat tyre"}`)}
	for range 2 { // as after a lost answer
		appended, err := store.Append(ctx, "acme.ticket-42", eventstore.NoStream, opened)
		if err != nil {
			panic(err)
		}
		fmt.Println("revision", appended.Revision, "position", appended.Position, "repeated", appended.Repeated)
	}
	for r, err := range store.ReadStream(ctx, "acme.ticket-42", eventstore.ReadStreamOptions{}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(r.Type, string(r.Data))
	}
	if err := store.Close(); err != nil {
		panic(err)
	}
	// Output:
	// revision 0 position 1 repeated false
	// revision 0 position 1 repeated true
	// ticket.opened.v1 {"subject":"a flat tyre"}
}
