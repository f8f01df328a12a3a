package eventstoretest

import (
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// batchTest skips over to the refusal where the driver has no batches.
func batchTest(test func(*harness)) func(*harness) {
	return func(h *harness) {
		can := h.store.Capabilities().BatchAppend
		if can.Supported {
			test(h)
			return
		}
		require.NotEmpty(h, can.Reason)
		_, err := h.store.AppendBatch(h.Context(), []eventstore.StreamAppend{h.part("a", eventstore.NoStream, record("a"))})
		require.ErrorIs(h, err, eventstore.ErrUnsupported)
		require.Empty(h, h.readMine())
	}
}

func (h *harness) part(name string, expected eventstore.Revision, records ...eventstore.NewRecord) eventstore.StreamAppend {
	return eventstore.StreamAppend{Stream: h.stream(name), Expected: expected, Records: records}
}

func (h *harness) appendBatch(parts ...eventstore.StreamAppend) []eventstore.Appended {
	h.Helper()
	appended, err := h.store.AppendBatch(h.Context(), parts)
	require.NoError(h, err)
	require.Len(h, appended, len(parts))
	return appended
}

var batchTests = map[string]func(*harness){
	"many streams in the order given": batchTest(func(h *harness) {
		a, b, c := records("a", 2), records("b", 1), records("c", 3)
		h.append("b", eventstore.NoStream, record("b"))
		appended := h.appendBatch(h.part("c", eventstore.NoStream, c...), h.part("b", 0, b...), h.part("a", eventstore.Any, a...))
		require.Equal(h, eventstore.Revision(2), appended[0].Revision)
		require.Equal(h, eventstore.Revision(1), appended[1].Revision)
		require.Equal(h, eventstore.Revision(1), appended[2].Revision)
		found := h.readMine()[1:]
		require.Equal(h, newIDs(append(append(append([]eventstore.NewRecord{}, c...), b...), a...)), readIDs(found))
		require.Equal(h, found[2].Position, appended[0].Position)
		require.Equal(h, found[3].Position, appended[1].Position)
		require.Equal(h, found[5].Position, appended[2].Position)
	}),
	"a later part sees an earlier one": batchTest(func(h *harness) {
		all := records("a", 4)
		appended := h.appendBatch(h.part("a", eventstore.NoStream, all[:2]...), h.part("b", eventstore.NoStream, record("b")), h.part("a", 1, all[2:]...))
		require.Equal(h, eventstore.Revision(3), appended[2].Revision)
		require.Equal(h, newIDs(all), readIDs(h.readStream("a", eventstore.ReadStreamOptions{})))
		_, err := h.store.AppendBatch(h.Context(), []eventstore.StreamAppend{
			h.part("c", eventstore.NoStream, record("c")), h.part("c", eventstore.NoStream, record("c")),
		})
		h.conflict(err, "c", eventstore.NoStream, 0)
		require.Equal(h, eventstore.NoStream, h.streamHead("c"))
	}),
	"one conflict and nothing is kept": batchTest(func(h *harness) {
		h.append("b", eventstore.NoStream, record("b"))
		_, err := h.store.AppendBatch(h.Context(), []eventstore.StreamAppend{
			h.part("a", eventstore.NoStream, record("a")), h.part("b", eventstore.NoStream, record("b")), h.part("c", eventstore.NoStream, record("c")),
		})
		h.conflict(err, "b", eventstore.NoStream, 0)
		require.Equal(h, eventstore.NoStream, h.streamHead("a"))
		require.Equal(h, eventstore.NoStream, h.streamHead("c"))
		require.Len(h, h.readMine(), 1)
		require.Equal(h, eventstore.Revision(0), h.append("a", eventstore.NoStream, record("a")).Revision)
	}),
	"again as a whole": batchTest(func(h *harness) {
		parts := []eventstore.StreamAppend{
			h.part("a", eventstore.NoStream, records("a", 2)...),
			h.part("b", eventstore.NoStream, record("b")),
			h.part("a", 1, records("a", 2)...),
		}
		first := h.appendBatch(parts...)
		h.append("b", 0, record("later"))
		h.append("a", 3, record("later"))
		again := h.appendBatch(parts...)
		for i := range again {
			require.Equal(h, eventstore.Appended{Revision: first[i].Revision, Position: first[i].Position, Repeated: true}, again[i])
		}
		require.Len(h, h.readMine(), 7)
	}),
	"a part of it there is a conflict": batchTest(func(h *harness) {
		r := record("a")
		h.append("a", eventstore.NoStream, r)
		_, err := h.store.AppendBatch(h.Context(), []eventstore.StreamAppend{
			h.part("b", eventstore.NoStream, record("b")), h.part("a", eventstore.NoStream, r),
		})
		h.conflict(err, "a", eventstore.NoStream, 0)
		require.Equal(h, eventstore.NoStream, h.streamHead("b"))
	}),
	"what is malformed is refused": batchTest(func(h *harness) {
		_, err := h.store.AppendBatch(h.Context(), nil)
		require.ErrorIs(h, err, eventstore.ErrInvalid)
		_, err = h.store.AppendBatch(h.Context(), []eventstore.StreamAppend{h.part("a", eventstore.NoStream, record("a")), {Stream: "$b", Expected: eventstore.Any, Records: records("b", 1)}})
		require.ErrorIs(h, err, eventstore.ErrInvalid)
		r := record("a")
		_, err = h.store.AppendBatch(h.Context(), []eventstore.StreamAppend{h.part("a", eventstore.NoStream, r), h.part("a", 0, r)})
		require.ErrorIs(h, err, eventstore.ErrInvalid)
		half := records("a", eventstore.MaxAppendRecords/2+1)
		_, err = h.store.AppendBatch(h.Context(), []eventstore.StreamAppend{h.part("a", eventstore.NoStream, half...), h.part("b", eventstore.NoStream, half...)})
		require.ErrorIs(h, err, eventstore.ErrTooLarge)
		require.Empty(h, h.readMine())
	}),
	"as many records as allowed": batchTest(func(h *harness) {
		parts := make([]eventstore.StreamAppend, 0, 100)
		for i := range 100 {
			name := "s" + string(rune('0'+i/10)) + string(rune('0'+i%10))
			parts = append(parts, h.part(name, eventstore.NoStream, records(name, eventstore.MaxAppendRecords/100)...))
		}
		h.appendBatch(parts...)
		require.Len(h, h.readMine(), eventstore.MaxAppendRecords)
	}),
}
