package logcopy

import (
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// fits is how many of the records may be appended at once, one at least: within
// bounds, with no id twice in a stream, and with one only where they must be of
// one stream.
func fits(records []*eventstore.Record, most, mostBytes int, one bool) int {
	type event struct {
		stream string
		id     uuid.UUID
	}
	seen := map[event]struct{}{}
	size := 0
	for i, r := range records {
		size += len(r.Data) + len(r.Metadata)
		key := event{r.Stream, r.ID}
		_, twice := seen[key]
		if i > 0 && (i == most || size > mostBytes || twice || one && r.Stream != records[0].Stream) {
			return i
		}
		seen[key] = struct{}{}
	}
	return len(records)
}

// parts are the records as appends: those of one stream that follow each other in one.
func parts(records []*eventstore.Record) []eventstore.StreamAppend {
	var all []eventstore.StreamAppend
	size := 0
	for i, r := range records {
		size += len(r.Data) + len(r.Metadata)
		if i == 0 || r.Stream != records[i-1].Stream || len(all[len(all)-1].Records) >= eventstore.MaxAppendRecords || size > partBytes {
			all = append(all, eventstore.StreamAppend{Stream: r.Stream, Expected: r.Revision - 1})
			size = len(r.Data) + len(r.Metadata)
		}
		last := &all[len(all)-1]
		last.Records = append(last.Records, r.NewRecord)
	}
	return all
}
