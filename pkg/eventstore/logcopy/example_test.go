package logcopy_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

// A log is copied, and a position that was given out before is found again.
func Example() {
	if err := move(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1 record copied
	// what was at position 1 is at position 2
}

func move(ctx context.Context) (err error) {
	from, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	given, err := from.Append(ctx, "acme.web-1", eventstore.NoStream, eventstore.NewRecord{ID: uuid.New(), Type: "parley.page.viewed"})
	if err != nil {
		return err
	}
	to, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()

	result, err := logcopy.Copy(ctx, from, to, logcopy.Options{})
	if err != nil {
		return err
	}
	fmt.Println(result.Copied, "record copied")
	origins, err := posmap.Load(ctx, to)
	if err != nil {
		return err
	}
	now, err := origins.Resolve(ctx, from.LogID(), given.Position)
	if err != nil {
		return err
	}
	fmt.Println("what was at position", given.Position, "is at position", now)
	return nil
}
