package logcopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// reader reads a log on and on.
type reader struct {
	sub     eventstore.Subscription
	without []string // streams
	records []*eventstore.Record
	// position up to which everything was fetched.
	position eventstore.Position
	caughtUp bool
}

func newReader(ctx context.Context, store eventstore.Store, after eventstore.Position, most int, without ...string) (*reader, error) {
	sub, err := store.Subscribe(ctx, eventstore.SubscribeOptions{After: after, MaxBatch: most})
	if err != nil {
		return nil, fmt.Errorf("read log %s behind position %d: %w", store.LogID(), after, err)
	}
	return &reader{sub: sub, without: without, position: after}, nil
}

// fetch waits until there is something to say.
func (r *reader) fetch(ctx context.Context) error {
	batch, err := r.sub.Next(ctx)
	if err != nil {
		return err
	}
	r.records, r.position, r.caughtUp = batch.Records, batch.Position, batch.CaughtUp
	if slices.ContainsFunc(r.records, r.leavesOut) {
		r.records = slices.DeleteFunc(slices.Clone(r.records), r.leavesOut)
	}
	return nil
}

func (r *reader) leavesOut(rec *eventstore.Record) bool {
	return slices.Contains(r.without, rec.Stream)
}

// left is how many records were fetched and not taken.
func (r *reader) left() int { return len(r.records) }

// rest takes them all. They are the caller's.
func (r *reader) rest() []*eventstore.Record {
	records := r.records
	r.records = nil
	return records
}

// next takes a record; nil where there was something else to say.
func (r *reader) next(ctx context.Context) (*eventstore.Record, error) {
	if len(r.records) == 0 {
		if err := r.fetch(ctx); err != nil {
			return nil, err
		}
		if len(r.records) == 0 {
			return nil, nil
		}
	}
	rec := r.records[0]
	r.records = r.records[1:]
	return rec, nil
}

// nextOrEnd takes a record; nil where the log ends.
func (r *reader) nextOrEnd(ctx context.Context) (*eventstore.Record, error) {
	for r.left() > 0 || !r.caughtUp {
		rec, err := r.next(ctx)
		if rec != nil || err != nil {
			return rec, err
		}
	}
	return nil, nil
}

func (r *reader) close() error {
	if err := r.sub.Close(); err != nil && !errors.Is(err, eventstore.ErrClosed) {
		return fmt.Errorf("close subscription: %w", err)
	}
	return nil
}

// same says whether two records are the same but for position and recorded
// time, and else names what differs.
func same(a, b *eventstore.Record, field *string) bool {
	for _, f := range []struct {
		name  string
		equal bool
	}{
		{"stream", a.Stream == b.Stream},
		{"revision", a.Revision == b.Revision},
		{"event id", a.ID == b.ID},
		{"type", a.Type == b.Type},
		{"content type", a.ContentType == b.ContentType},
		{"data", bytes.Equal(a.Data, b.Data)},
		{"metadata", bytes.Equal(a.Metadata, b.Metadata)},
	} {
		if !f.equal {
			*field = f.name
			return false
		}
	}
	return true
}

// short makes a stream's name fit for a message.
func short(stream string) string {
	const most = 64
	if len(stream) > most {
		return fmt.Sprintf("%q…", stream[:most])
	}
	return fmt.Sprintf("%q", stream)
}
