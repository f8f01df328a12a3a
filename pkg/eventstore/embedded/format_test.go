package embedded

import (
	"bytes"
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Keys sort as streams do, then as revisions do, and no stream's keys lie
// between the bounds of another.
func FuzzRunKeys(f *testing.F) {
	f.Add("a", int64(0), "b", int64(1))
	f.Add("a", int64(255), "a", int64(256))
	f.Add("a", int64(7), "ab", int64(0))
	f.Add("a-1", int64(1<<40), "a-10", int64(3))
	f.Add("überprüft", int64(3), "日本", int64(4))
	f.Fuzz(func(t *testing.T, a string, ra int64, b string, rb int64) {
		if eventstore.ValidateStream(a) != nil || eventstore.ValidateStream(b) != nil || ra < 0 || rb < 0 {
			t.Skip()
		}
		ka, kb := runKey(nil, a, eventstore.Revision(ra)), runKey(nil, b, eventstore.Revision(rb))
		want := cmp.Or(strings.Compare(a, b), cmp.Compare(ra, rb))
		require.Equal(t, want, bytes.Compare(ka, kb))
		if a != b {
			require.False(t, bytes.HasPrefix(ka, kb))
		}
		lower, upper := runBounds(nil, a)
		require.True(t, bytes.Compare(lower, ka) <= 0 && bytes.Compare(ka, upper) < 0)
		inside := bytes.Compare(lower, kb) <= 0 && bytes.Compare(kb, upper) < 0
		require.Equal(t, a == b, inside)
		stream, revision, err := decodeRunKey(ka)
		require.NoError(t, err)
		require.Equal(t, a, string(stream))
		require.Equal(t, eventstore.Revision(ra), revision)
		require.Positive(t, bytes.Compare(ka, segmentKey(nil, everything)), "runs sort behind segments")
	})
}

func FuzzDecodeRunKey(f *testing.F) {
	f.Add(runKey(nil, "a", 0))
	f.Add([]byte("s\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, key []byte) {
		stream, first, err := decodeRunKey(key)
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrCorrupt)
			return
		}
		require.Equal(t, key, runKey(nil, string(stream), first))
	})
}

func FuzzSegmentKeys(f *testing.F) {
	f.Add(uint64(0), uint64(1))
	f.Add(uint64(255), uint64(256))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		ka, kb := segmentKey(nil, eventstore.Position(a)), segmentKey(nil, eventstore.Position(b))
		require.Equal(t, cmp.Compare(a, b), bytes.Compare(ka, kb))
		back, err := decodeSegmentKey(ka)
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(a), back)
		_, err = decodeSegmentKey(ka[:len(ka)-1])
		require.ErrorIs(t, err, eventstore.ErrCorrupt)
	})
}

// Whatever a run's value is, decoding it ends, and places stay in its bounds.
func FuzzDecodeRun(f *testing.F) {
	var w runWriter
	w.begin(10)
	w.cut(12)
	w.cut(15)
	f.Add(w.appendTo(nil, 10, 7, 9), int64(0), int64(8))
	f.Add([]byte{1, 1, 1, 0}, int64(0), int64(0))
	f.Add([]byte{2}, int64(0), int64(0))
	f.Fuzz(func(t *testing.T, value []byte, from, to int64) {
		r, err := decodeRun(runKey(nil, "a", 0), value)
		if err != nil {
			require.True(t, errors.Is(err, eventstore.ErrCorrupt) || errors.Is(err, eventstore.ErrNewerFormat))
			return
		}
		places, ok := r.places(nil, eventstore.Revision(from), eventstore.Revision(to))
		if !ok {
			return
		}
		require.LessOrEqual(t, uint64(len(places)), r.count)
		for _, p := range places {
			require.LessOrEqual(t, p.segment, p.position)
			require.GreaterOrEqual(t, p.position, r.position)
			require.Less(t, p.position, r.position+eventstore.Position(r.count))
		}
	})
}

func TestRunPlaces(t *testing.T) {
	t.Parallel()
	var w runWriter
	w.begin(10)
	w.cut(12)
	w.cut(15)
	r, err := decodeRun(runKey(nil, "a", 100), w.appendTo(nil, 10, 7, 9))
	require.NoError(t, err)
	require.Equal(t, eventstore.Revision(108), r.last())
	places, ok := r.places(nil, 101, 106)
	require.True(t, ok)
	require.Equal(t, []place{{11, 7}, {12, 12}, {13, 12}, {14, 12}, {15, 15}, {16, 15}}, places)
}

func readSegment(first eventstore.Position, value []byte) (all []eventstore.Record, err error) {
	var s segmentReader
	if err := s.open(first, value); err != nil {
		return nil, err
	}
	for {
		more, err := s.next()
		if err != nil || !more {
			return all, err
		}
		all = append(all, eventstore.Record{
			NewRecord: eventstore.NewRecord{
				ID: s.id, Type: string(s.typ), ContentType: s.contentType,
				Data: bytes.Clone(s.data), Metadata: bytes.Clone(s.metadata),
			},
			Stream: string(s.stream), Revision: s.revision, Position: s.position, Recorded: s.recorded,
		})
	}
}

// What was written comes back, and every record has the same fields.
func FuzzSegment(f *testing.F) {
	f.Add("a", "b", "t", "u", []byte("data"), []byte("meta"), int64(3), uint64(17))
	f.Add("a", "a", "t", "t", []byte(nil), []byte(nil), int64(0), uint64(1))
	f.Fuzz(func(t *testing.T, sa, sb, ta, tb string, data, metadata []byte, revision int64, position uint64) {
		if sa == "" || sb == "" || ta == "" || tb == "" || revision < 0 || revision > 1<<61 || position == 0 || position > 1<<61 {
			t.Skip()
		}
		recorded := time.UnixMicro(revision % 1e15).UTC()
		var want []eventstore.Record
		var w segmentWriter
		for i := range 6 {
			r := eventstore.Record{
				NewRecord: eventstore.NewRecord{
					ID: uuid.UUID{byte(i + 1)}, Type: []string{ta, tb}[i/2%2], ContentType: eventstore.ContentType(i % 2),
					Data: bytes.Clone(data[:len(data)*i/6]), Metadata: bytes.Clone(metadata),
				},
				Stream: []string{sa, sb}[i/3], Revision: eventstore.Revision(revision) + eventstore.Revision(i),
				Position: eventstore.Position(position) + eventstore.Position(i), Recorded: recorded,
			}
			w.add(r.Stream, r.Revision, &r.NewRecord)
			want = append(want, r)
		}
		value := w.appendTo(nil, recorded)
		found, err := readSegment(eventstore.Position(position), value)
		require.NoError(t, err)
		require.Len(t, found, len(want))
		for i := range want {
			require.True(t, bytes.Equal(want[i].Data, found[i].Data) && bytes.Equal(want[i].Metadata, found[i].Metadata))
			want[i].Data, want[i].Metadata, found[i].Data, found[i].Metadata = nil, nil, nil, nil
		}
		require.Equal(t, want, found)
		// Cut off anywhere it is an error, not something else.
		_, err = readSegment(eventstore.Position(position), value[:len(value)-1-int(position%uint64(len(value)))])
		require.Error(t, err)
	})
}

func FuzzDecodeSegment(f *testing.F) {
	var w segmentWriter
	w.add("a", 0, &eventstore.NewRecord{ID: uuid.UUID{1}, Type: "t", Data: []byte("data")})
	w.add("a", 1, &eventstore.NewRecord{ID: uuid.UUID{2}, Type: "t", Metadata: []byte("{}")})
	f.Add(w.appendTo(nil, time.UnixMicro(1)), uint64(1))
	f.Add([]byte{1}, uint64(1))
	f.Add([]byte{2}, uint64(1))
	f.Fuzz(func(t *testing.T, value []byte, first uint64) {
		all, err := readSegment(eventstore.Position(first), value)
		if err != nil {
			require.True(t, errors.Is(err, eventstore.ErrCorrupt) || errors.Is(err, eventstore.ErrNewerFormat))
			return
		}
		require.NotEmpty(t, all)
		for _, r := range all {
			require.NotEmpty(t, r.Stream)
			require.NotEmpty(t, r.Type)
			require.LessOrEqual(t, len(r.Data)+len(r.Metadata), len(value))
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte(`{"kind":"parley event store","format":1,"log_id":"11111111-2222-4333-8444-555555555555","ready":true}`))
	f.Add([]byte(`{"kind":"parley event store","format":2}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, text []byte) {
		who, err := decodeIdentity(storeFile, text)
		if err != nil {
			require.True(t, errors.Is(err, eventstore.ErrCorrupt) || errors.Is(err, eventstore.ErrNewerFormat))
			return
		}
		require.Equal(t, format, who.Format)
		require.NotEqual(t, uuid.Nil, who.LogID)
	})
}

func TestHeadsForgetTheLeastUsed(t *testing.T) {
	t.Parallel()
	h := newHeads(2)
	h.set("a", 1)
	h.set("b", 2)
	h.set("c", 3) // a and b are old now
	head, ok := h.get("a")
	require.True(t, ok)
	require.Equal(t, eventstore.Revision(1), head)
	h.set("d", 4) // b was not used since: gone
	_, ok = h.get("b")
	require.False(t, ok)
	h.set("a", 5)
	head, ok = h.get("a")
	require.True(t, ok)
	require.Equal(t, eventstore.Revision(5), head)
	require.LessOrEqual(t, len(h.young)+len(h.old), 4)
}
