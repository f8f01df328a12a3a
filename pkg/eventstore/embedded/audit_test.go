package embedded_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

// ack is an append that was acknowledged.
type ack struct {
	stream string
	ids    []uuid.UUID
	place  eventstore.Appended
}

func (a ack) String() string {
	ids := make([]string, 0, len(a.ids))
	for _, id := range a.ids {
		ids = append(ids, id.String())
	}
	return fmt.Sprintf("%s %d %d %s", a.stream, a.place.Revision, a.place.Position, strings.Join(ids, ","))
}

func parseAck(line string) (ack, error) {
	var a ack
	var ids string
	if _, err := fmt.Sscanf(line, "%s %d %d %s", &a.stream, &a.place.Revision, &a.place.Position, &ids); err != nil {
		return a, err
	}
	for id := range strings.SplitSeq(ids, ",") {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return a, err
		}
		a.ids = append(a.ids, parsed)
	}
	return a, nil
}

// audited is a part of an append whose data says which of how many it is, and
// what the first one's id is, so that audit sees whether it is whole.
func audited(count int) ([]eventstore.NewRecord, []uuid.UUID) {
	records := make([]eventstore.NewRecord, count)
	ids := make([]uuid.UUID, count)
	for i := range records {
		ids[i] = uuid.New()
		records[i] = eventstore.NewRecord{
			ID:   ids[i],
			Type: "audited",
			Data: fmt.Appendf(nil, "%s %d %d %s", ids[0], i, count, strings.Repeat("x", i*37%500)),
		}
	}
	return records, ids
}

// audit checks that the log keeps everything that it promises and holds every
// acknowledged append exactly once, where the acknowledgement said.
func audit(t *testing.T, store *embedded.Store, acks []ack) {
	t.Helper()
	ctx := context.Background()
	at := map[uuid.UUID]*eventstore.Record{}
	heads := map[string]eventstore.Revision{}
	streams := map[string][]uuid.UUID{}
	var all []*eventstore.Record
	for r, err := range store.ReadAll(ctx, eventstore.ReadAllOptions{}) {
		if err != nil || r.Position != eventstore.Position(len(all)+1) {
			t.Fatalf("read position %d, want %d: %v", r.Position, len(all)+1, err)
		}
		head, ok := heads[r.Stream]
		if !ok {
			head = eventstore.NoStream
		}
		if r.Revision != head+1 {
			t.Fatalf("revision %s of stream %s behind %s", r.Revision, r.Stream, head)
		}
		heads[r.Stream] = r.Revision
		if at[r.ID] != nil {
			t.Fatalf("record %s twice", r.ID)
		}
		at[r.ID] = r
		streams[r.Stream] = append(streams[r.Stream], r.ID)
		if len(all) > 0 {
			require.False(t, r.Recorded.Before(all[len(all)-1].Recorded))
		}
		all = append(all, r)
	}
	head, err := store.Head(ctx)
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(len(all)), head)
	for i := 0; i < len(all); {
		var first string
		var index, count int
		_, err := fmt.Sscanf(string(all[i].Data), "%s %d %d", &first, &index, &count)
		require.NoError(t, err)
		require.Zero(t, index, "an append without its beginning")
		require.Equal(t, all[i].ID.String(), first)
		require.LessOrEqual(t, i+count, len(all), "an append without its end")
		for j := range count {
			if want := fmt.Sprintf("%s %d %d ", first, j, count); !strings.HasPrefix(string(all[i+j].Data), want) {
				t.Fatalf("an append that is not whole: %q is no %q", all[i+j].Data, want)
			}
		}
		i += count
	}
	for _, a := range acks {
		last := len(a.ids) - 1
		for i, id := range a.ids {
			r := at[id]
			if r == nil {
				t.Fatalf("an acknowledged record is gone: %s", a)
			}
			if r.Stream != a.stream || r.Revision != a.place.Revision-eventstore.Revision(last-i) ||
				r.Position != a.place.Position-eventstore.Position(last-i) {
				t.Fatalf("acknowledged %s, is at %s %s %d", a, r.Stream, r.Revision, r.Position)
			}
		}
	}
	// The order of maps is a random choice of them; all would take long.
	left := 40
	for stream, want := range streams {
		if left--; left < 0 {
			break
		}
		var found []uuid.UUID
		for r, err := range store.ReadStream(ctx, stream, eventstore.ReadStreamOptions{}) {
			require.NoError(t, err)
			found = append(found, r.ID)
		}
		require.Equal(t, want, found, "stream %s", stream)
	}
}
