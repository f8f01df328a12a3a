package eventstoretest

import (
	"bytes"
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

var appendTests = map[string]func(*harness){
	"places count up": func(h *harness) {
		require.Equal(h, eventstore.NoStream, h.streamHead("a"))
		first := h.append("a", eventstore.NoStream, records("a", 3)...)
		require.Equal(h, eventstore.Revision(2), first.Revision)
		require.Greater(h, first.Position, h.base)
		require.False(h, first.Repeated)
		other := h.append("b", eventstore.NoStream, record("b"))
		require.Equal(h, eventstore.Revision(0), other.Revision)
		require.Greater(h, other.Position, first.Position)
		second := h.append("a", 2, records("a", 2)...)
		require.Equal(h, eventstore.Revision(4), second.Revision)
		require.Greater(h, second.Position, other.Position)
		require.Equal(h, eventstore.Revision(4), h.streamHead("a"))
		require.GreaterOrEqual(h, h.head(), second.Position)

		found := h.readStream("a", eventstore.ReadStreamOptions{})
		require.Len(h, found, 5)
		require.Equal(h, first.Position, found[2].Position)
		require.Equal(h, second.Position, found[4].Position)
	},
	"dense positions have no gap": func(h *harness) {
		dense := h.store.Capabilities().DensePositions
		if !dense.Supported {
			require.NotEmpty(h, dense.Reason)
			return
		}
		h.fill("a", 20)
		h.fill("b", 20)
		all, err := collect(h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{}))
		require.NoError(h, err)
		for i, r := range all {
			require.Equal(h, eventstore.Position(i+1), r.Position)
		}
	},
	"every field comes back": func(h *harness) {
		binary := make([]byte, 256)
		for i := range binary {
			binary[i] = byte(i)
		}
		stream := "überprüft/日本-🙂 with space"
		written := []eventstore.NewRecord{
			{ID: uuid.New(), Type: "io.parley.größe.v1", ContentType: eventstore.ContentJSON, Data: []byte(`{"a":1}`), Metadata: []byte(`{"$correlationId":"x"}`)},
			{ID: uuid.New(), Type: "t", ContentType: eventstore.ContentProtobuf, Data: binary},
			{ID: uuid.New(), Type: strings.Repeat("y", eventstore.MaxTypeBytes), ContentType: eventstore.ContentProtobuf},
			{ID: uuid.New(), Type: "t", ContentType: eventstore.ContentProtobuf, Data: []byte{0}},
		}
		h.append(stream, eventstore.NoStream, written...)
		long := strings.Repeat("n", eventstore.MaxStreamNameBytes-len(h.prefix))
		h.append(long, eventstore.NoStream, record("long"))
		require.Equal(h, h.stream(long), h.readStream(long, eventstore.ReadStreamOptions{})[0].Stream)

		all := h.readMine()
		for _, found := range [][]*eventstore.Record{h.readStream(stream, eventstore.ReadStreamOptions{}), all[:len(all)-1]} {
			require.Len(h, found, len(written))
			for i, r := range found {
				require.Equal(h, written[i].ID, r.ID)
				require.Equal(h, written[i].Type, r.Type)
				require.Equal(h, written[i].ContentType, r.ContentType)
				require.True(h, bytes.Equal(written[i].Data, r.Data), "data of record %d", i)
				require.True(h, bytes.Equal(written[i].Metadata, r.Metadata), "metadata of record %d", i)
				require.Equal(h, h.stream(stream), r.Stream)
				require.Equal(h, eventstore.Revision(i), r.Revision)
				require.False(h, r.Recorded.IsZero())
				_, offset := r.Recorded.Zone()
				require.Zero(h, offset, "recorded time is in UTC")
			}
		}
	},
	"recorded time never goes back": func(h *harness) {
		h.fill("a", 50)
		found := h.readMine()
		for i := 1; i < len(found); i++ {
			require.False(h, found[i].Recorded.Before(found[i-1].Recorded))
		}
	},
	"the caller may change its bytes afterwards": func(h *harness) {
		r := record("a")
		want := bytes.Clone(r.Data)
		h.append("a", eventstore.NoStream, r)
		clear(r.Data)
		require.Equal(h, want, h.readStream("a", eventstore.ReadStreamOptions{})[0].Data)
	},
	"any expects nothing": func(h *harness) {
		require.Equal(h, eventstore.Revision(0), h.append("a", eventstore.Any, record("a")).Revision)
		require.Equal(h, eventstore.Revision(2), h.append("a", eventstore.Any, records("a", 2)...).Revision)
		require.Equal(h, eventstore.Revision(3), h.append("a", 2, record("a")).Revision)
	},
	"another revision is refused and nothing kept": func(h *harness) {
		for _, expected := range []eventstore.Revision{0, 5} {
			_, err := h.store.Append(h.Context(), h.stream("new"), expected, records("new", 2)...)
			h.conflict(err, "new", expected, eventstore.NoStream)
		}
		require.Equal(h, eventstore.NoStream, h.streamHead("new"))
		h.append("a", eventstore.NoStream, records("a", 3)...)
		for _, expected := range []eventstore.Revision{eventstore.NoStream, 0, 1, 3, 100} {
			_, err := h.store.Append(h.Context(), h.stream("a"), expected, records("a", 2)...)
			h.conflict(err, "a", expected, 2)
		}
		require.Equal(h, eventstore.Revision(2), h.streamHead("a"))
		require.Len(h, h.readMine(), 3)
		require.Equal(h, eventstore.Revision(3), h.append("a", 2, record("a")).Revision)
	},
	"names of which one begins the other are apart": func(h *harness) {
		for _, name := range []string{"a", "ab", "a b", "a.", "a-1", "a-10", "b"} {
			h.append(name, eventstore.NoStream, record(name), record(name))
		}
		for _, name := range []string{"a", "ab", "a b", "a.", "a-1", "a-10", "b"} {
			found := h.readStream(name, eventstore.ReadStreamOptions{})
			require.Len(h, found, 2)
			require.Equal(h, []byte("data of "+name), found[0].Data)
		}
	},
	"a record as large as allowed": func(h *harness) {
		r := record("large")
		r.Data = bytes.Repeat([]byte("0123456789"), (eventstore.MaxRecordBytes-len(r.Metadata))/10)
		h.append("a", eventstore.NoStream, r)
		h.append("a", 0, record("small"))
		found := h.readStream("a", eventstore.ReadStreamOptions{})
		require.Len(h, found, 2)
		require.True(h, bytes.Equal(r.Data, found[0].Data))
		all := h.readMine()
		require.Len(h, all, 2)
		require.True(h, bytes.Equal(r.Data, all[0].Data))
	},
	"what is malformed is refused": func(h *harness) {
		type change func(*eventstore.NewRecord)
		id := uuid.New()
		for name, c := range map[string]struct {
			stream   string
			expected eventstore.Revision
			records  int
			change   change
			want     error
		}{
			"empty stream":         {stream: "", want: eventstore.ErrInvalid},
			"system stream":        {stream: "$all", want: eventstore.ErrInvalid},
			"stream with NUL":      {stream: "a\x00b", want: eventstore.ErrInvalid},
			"stream with newline":  {stream: "a\nb", want: eventstore.ErrInvalid},
			"stream with DEL":      {stream: "a\x7f", want: eventstore.ErrInvalid},
			"stream with U+0085":   {stream: "a\u0085", want: eventstore.ErrInvalid},
			"stream not UTF-8":     {stream: "a\xff", want: eventstore.ErrInvalid},
			"stream too long":      {stream: strings.Repeat("a", eventstore.MaxStreamNameBytes+1), want: eventstore.ErrInvalid},
			"no records":           {stream: h.stream("a"), records: -1, want: eventstore.ErrInvalid},
			"expected end":         {stream: h.stream("a"), expected: eventstore.End, want: eventstore.ErrInvalid},
			"expected -4":          {stream: h.stream("a"), expected: -4, want: eventstore.ErrInvalid},
			"no id":                {stream: h.stream("a"), change: func(r *eventstore.NewRecord) { r.ID = uuid.Nil }, want: eventstore.ErrInvalid},
			"the same id twice":    {stream: h.stream("a"), records: 2, change: func(r *eventstore.NewRecord) { r.ID = id }, want: eventstore.ErrInvalid},
			"id twice among many":  {stream: h.stream("a"), records: 40, change: func(r *eventstore.NewRecord) { r.ID = id }, want: eventstore.ErrInvalid},
			"no type":              {stream: h.stream("a"), change: func(r *eventstore.NewRecord) { r.Type = "" }, want: eventstore.ErrInvalid},
			"system type":          {stream: h.stream("a"), change: func(r *eventstore.NewRecord) { r.Type = "$>" }, want: eventstore.ErrInvalid},
			"type with tab":        {stream: h.stream("a"), change: func(r *eventstore.NewRecord) { r.Type = "a\tb" }, want: eventstore.ErrInvalid},
			"type too long":        {stream: h.stream("a"), change: func(r *eventstore.NewRecord) { r.Type = strings.Repeat("t", eventstore.MaxTypeBytes+1) }, want: eventstore.ErrInvalid},
			"unknown content type": {stream: h.stream("a"), change: func(r *eventstore.NewRecord) { r.ContentType = 9 }, want: eventstore.ErrInvalid},
			"record too large":     {stream: h.stream("a"), change: func(r *eventstore.NewRecord) { r.Data = make([]byte, eventstore.MaxRecordBytes) }, want: eventstore.ErrTooLarge},
			"too many records":     {stream: h.stream("a"), records: eventstore.MaxAppendRecords + 1, want: eventstore.ErrTooLarge},
		} {
			all := records("a", max(c.records, 0))
			if c.records == 0 {
				all = records("a", 1)
			}
			if c.change != nil {
				for i := range all {
					c.change(&all[i])
				}
			}
			expected := c.expected
			if expected == 0 {
				expected = eventstore.NoStream
			}
			_, err := h.store.Append(h.Context(), c.stream, expected, all...)
			require.ErrorIs(h, err, c.want, name)
		}
		require.Empty(h, h.readMine())
	},
	"a cancelled context appends nothing": func(h *harness) {
		ctx, cancel := context.WithCancel(h.Context())
		cancel()
		_, err := h.store.Append(ctx, h.stream("a"), eventstore.NoStream, record("a"))
		require.ErrorIs(h, err, context.Canceled)
		require.Equal(h, eventstore.NoStream, h.streamHead("a"))
	},
	"the log has an id": func(h *harness) {
		require.NotEqual(h, uuid.Nil, h.store.LogID())
	},
}

var idempotencyTests = map[string]func(*harness){
	"again at once": func(h *harness) {
		all := records("a", 3)
		first := h.append("a", eventstore.NoStream, all...)
		again := h.append("a", eventstore.NoStream, all...)
		require.True(h, again.Repeated)
		require.Equal(h, first.Revision, again.Revision)
		require.Equal(h, first.Position, again.Position)
		require.Len(h, h.readMine(), 3)
	},
	"again after later appends": func(h *harness) {
		var expected []eventstore.Revision
		var appended []eventstore.Appended
		var parts [][]eventstore.NewRecord
		at := eventstore.NoStream
		for i := range 40 {
			part := records("a", i%4+1)
			expected, parts = append(expected, at), append(parts, part)
			result := h.append("a", at, part...)
			at = result.Revision
			appended = append(appended, result)
		}
		count := len(h.readMine())
		for i := range parts {
			again := h.append("a", expected[i], parts[i]...)
			require.Equal(h, eventstore.Appended{Revision: appended[i].Revision, Position: appended[i].Position, Repeated: true}, again)
		}
		require.Len(h, h.readMine(), count)
	},
	"the ids count, not the bytes": func(h *harness) {
		r := record("a")
		h.append("a", eventstore.NoStream, r)
		r.Data = []byte("different")
		require.True(h, h.append("a", eventstore.NoStream, r).Repeated)
		require.Equal(h, []byte("data of a"), h.readStream("a", eventstore.ReadStreamOptions{})[0].Data)
	},
	"across the appends' own bounds": func(h *harness) {
		all := records("a", 6)
		h.append("a", eventstore.NoStream, all[:2]...)
		h.append("a", 1, all[2:]...)
		again := h.append("a", 0, all[1:4]...)
		require.True(h, again.Repeated)
		require.Equal(h, eventstore.Revision(3), again.Revision)
		require.True(h, h.append("a", eventstore.NoStream, all...).Repeated)
	},
	"some of them there is a conflict": func(h *harness) {
		all := records("a", 4)
		h.append("a", eventstore.NoStream, all[:2]...)
		for name, again := range map[string][]eventstore.NewRecord{
			"more than are there": all,
			"another at the end":  {all[0], record("x")},
			"another at first":    {record("x"), all[1]},
			"in another order":    {all[1], all[0]},
			"not from the start":  {all[1]},
		} {
			_, err := h.store.Append(h.Context(), h.stream("a"), eventstore.NoStream, again...)
			var conflict *eventstore.RevisionConflictError
			require.ErrorAs(h, err, &conflict, name)
			require.Equal(h, eventstore.Revision(1), conflict.Actual, name)
		}
		require.Len(h, h.readMine(), 2)
	},
	"at another expected revision is a conflict": func(h *harness) {
		all := records("a", 3)
		h.append("a", eventstore.NoStream, all...)
		_, err := h.store.Append(h.Context(), h.stream("a"), 0, all[0])
		h.conflict(err, "a", 0, 2)
	},
	"an id is of its stream": func(h *harness) {
		r := record("a")
		h.append("a", eventstore.NoStream, r)
		other := h.append("b", eventstore.NoStream, r)
		require.False(h, other.Repeated)
		require.Len(h, h.readMine(), 2)
	},
}
