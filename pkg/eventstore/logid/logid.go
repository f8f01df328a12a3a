// Package logid makes a log have one id, however it is reached.
//
// A log in an EventStoreDB keeps its id in a record, the only one of the stream
// Stream, since the database has no place of its own for it; Parley's driver
// writes it where there is none. A log of another store knows its id by itself.
// Where that one is served over EventStoreDB's protocol, Shown lets the driver
// read that very id, so that it makes no second one up: tokens and checkpoints
// then mean the same to those who have the log at hand and to those who ask for
// it over the wire, and what was begun in one way can go on in the other.
//
// The record is in no place of the log: reads of all of it, heads and
// subscriptions are as they were, and nothing is written.
package logid

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Stream holds the id of a log in an EventStoreDB: the event id of its one record.
const Stream = "parley-log"

// Shown is a store in which Stream can be read. Nobody can append to it. All
// else, Close too, is the store's own.
func Shown(store eventstore.Store) eventstore.Store { return shown{store} }

type shown struct{ eventstore.Store }

func (s shown) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	if stream == Stream {
		return eventstore.Appended{}, refused(expected)
	}
	return s.Store.Append(ctx, stream, expected, records...)
}

func (s shown) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	for i := range appends {
		if appends[i].Stream == Stream {
			return nil, refused(appends[i].Expected)
		}
	}
	return s.Store.AppendBatch(ctx, appends)
}

// refused is for whoever would write an id where there is one.
func refused(expected eventstore.Revision) error {
	return fmt.Errorf("the log has an id: %w", &eventstore.RevisionConflictError{Stream: Stream, Expected: expected, Actual: 0})
}

func (s shown) StreamHead(ctx context.Context, stream string) (eventstore.Revision, error) {
	if stream == Stream {
		return 0, nil
	}
	return s.Store.StreamHead(ctx, stream)
}

func (s shown) ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error] {
	if stream != Stream {
		return s.Store.ReadStream(ctx, stream, opts)
	}
	return func(yield func(*eventstore.Record, error) bool) {
		if opts.Direction == eventstore.Forwards && opts.From > 0 {
			return
		}
		id := s.LogID()
		yield(&eventstore.Record{
			NewRecord: eventstore.NewRecord{
				ID: id, Type: "parley.log", ContentType: eventstore.ContentJSON, Data: []byte(`{"log_id":"` + id.String() + `"}`),
			},
			Stream: Stream, Recorded: time.Unix(0, 0).UTC(),
		}, nil)
	}
}
