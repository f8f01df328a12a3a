package eventstoretest

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

var readStreamTests = map[string]func(*harness){
	"from anywhere both ways with limits": func(h *harness) {
		const count = 30
		all := newIDs(h.fill("a", count))
		h.fill("b", 5)
		for from := -1; from <= count+1; from++ {
			for _, limit := range []int{0, 1, 7, count, count + 5} {
				forwards, backwards := all[min(max(from, 0), count):], slices.Clone(all[:min(from+1, count)])
				opts := eventstore.ReadStreamOptions{From: eventstore.Revision(from), Limit: limit}
				if from == -1 {
					opts.From, forwards, backwards = eventstore.End, all[count-1:], slices.Clone(all)
				}
				slices.Reverse(backwards)
				if limit > 0 {
					forwards, backwards = forwards[:min(limit, len(forwards))], backwards[:min(limit, len(backwards))]
				}
				at := fmt.Sprintf("from %s limit %d", opts.From, limit)
				require.Equal(h, forwards, readIDs(h.readStream("a", opts)), at)
				opts.Direction = eventstore.Backwards
				require.Equal(h, backwards, readIDs(h.readStream("a", opts)), at)
			}
		}
	},
	"many records both ways": func(h *harness) {
		const count = 3000
		written := records("a", count)
		h.append("a", eventstore.NoStream, written[:100]...)
		h.fill("b", 10)
		h.append("a", 99, written[100:]...)
		all := newIDs(written)
		require.Equal(h, all, readIDs(h.readStream("a", eventstore.ReadStreamOptions{})))
		slices.Reverse(all)
		require.Equal(h, all, readIDs(h.readStream("a", eventstore.ReadStreamOptions{From: eventstore.End, Direction: eventstore.Backwards})))
	},
	"a stream that never was": func(h *harness) {
		for _, direction := range []eventstore.Direction{eventstore.Forwards, eventstore.Backwards} {
			found, err := collect(h.store.ReadStream(h.Context(), h.stream("none"), eventstore.ReadStreamOptions{Direction: direction}))
			require.ErrorIs(h, err, eventstore.ErrStreamNotFound)
			require.Empty(h, found)
		}
		require.Equal(h, eventstore.NoStream, h.streamHead("none"))
	},
	"what is malformed is refused": func(h *harness) {
		h.fill("a", 1)
		_, err := collect(h.store.ReadStream(h.Context(), h.stream("a"), eventstore.ReadStreamOptions{From: eventstore.Any}))
		require.ErrorIs(h, err, eventstore.ErrInvalid)
		_, err = collect(h.store.ReadStream(h.Context(), h.stream("a"), eventstore.ReadStreamOptions{Limit: -1}))
		require.ErrorIs(h, err, eventstore.ErrInvalid)
		_, err = collect(h.store.ReadStream(h.Context(), "", eventstore.ReadStreamOptions{}))
		require.ErrorIs(h, err, eventstore.ErrInvalid)
		_, err = h.store.StreamHead(h.Context(), "a\x00")
		require.ErrorIs(h, err, eventstore.ErrInvalid)
	},
	"it ends where it began to be read": func(h *harness) {
		h.fill("a", 10)
		count := 0
		for _, err := range h.store.ReadStream(h.Context(), h.stream("a"), eventstore.ReadStreamOptions{}) {
			require.NoError(h, err)
			count++
			h.append("a", eventstore.Any, record("more"))
		}
		require.Equal(h, 10, count)
		require.Equal(h, eventstore.Revision(19), h.streamHead("a"))
	},
	"it can be left": func(h *harness) {
		all := h.fill("a", 10)
		for r, err := range h.store.ReadStream(h.Context(), h.stream("a"), eventstore.ReadStreamOptions{From: 3}) {
			require.NoError(h, err)
			require.Equal(h, all[3].ID, r.ID)
			break
		}
	},
	"a cancelled context ends it": func(h *harness) {
		h.fill("a", 10)
		ctx, cancel := context.WithCancel(h.Context())
		cancel()
		_, err := collect(h.store.ReadStream(ctx, h.stream("a"), eventstore.ReadStreamOptions{}))
		require.ErrorIs(h, err, context.Canceled)
	},
	"a sequence can be ranged over again": func(h *harness) {
		h.fill("a", 3)
		seq := h.store.ReadStream(h.Context(), h.stream("a"), eventstore.ReadStreamOptions{})
		for range 2 {
			found, err := collect(seq)
			require.NoError(h, err)
			require.Len(h, found, 3)
		}
	},
	"records may be kept": func(h *harness) {
		h.fill("a", 200)
		found := h.readStream("a", eventstore.ReadStreamOptions{})
		h.fill("b", 200)
		h.readStream("b", eventstore.ReadStreamOptions{})
		for i, r := range found {
			require.Equal(h, fmt.Appendf(nil, "data of a-%d", i), r.Data)
			require.Equal(h, fmt.Appendf(nil, `{"of":"a-%d"}`, i), r.Metadata)
		}
	},
}

// mixed appends to several streams in turn, with several types.
func (h *harness) mixed(count int) []*eventstore.Record {
	h.Helper()
	heads := map[string]eventstore.Revision{}
	for i := range count {
		name := []string{"red-1", "red-2", "blue-1", "green"}[i%4]
		r := record(name)
		r.Type = []string{"opened", "moved", "closed"}[i%3]
		expected, ok := heads[name]
		if !ok {
			expected = eventstore.NoStream
		}
		heads[name] = h.append(name, expected, r).Revision
	}
	all := h.readMine()
	require.Len(h, all, count)
	return all
}

var readAllTests = map[string]func(*harness){
	"from anywhere both ways with limits": func(h *harness) {
		const count = 24
		all := h.mixed(count)
		for i := -1; i < count; i++ {
			from := h.base
			if i >= 0 {
				from = all[i].Position
			}
			for _, limit := range []int{0, 1, 5, count + 5} {
				forwards := readIDs(all[i+1:])
				if limit > 0 {
					forwards = forwards[:min(limit, len(forwards))]
				}
				at := fmt.Sprintf("from %d limit %d", from, limit)
				opts := eventstore.ReadAllOptions{From: from, Limit: limit, Filter: h.mine()}
				found, err := collect(h.store.ReadAll(h.Context(), opts))
				require.NoError(h, err, at)
				require.Equal(h, forwards, readIDs(found), at)
				if i < 0 {
					continue
				}
				backwards := readIDs(all[:i])
				slices.Reverse(backwards)
				if limit > 0 {
					backwards = backwards[:min(limit, len(backwards))]
				}
				opts.Direction = eventstore.Backwards
				found, err = collect(h.store.ReadAll(h.Context(), opts))
				require.NoError(h, err, at)
				require.Equal(h, backwards, readIDs(found), at)
			}
		}
	},
	"backwards from the head": func(h *harness) {
		all := h.mixed(10)
		opts := eventstore.ReadAllOptions{Direction: eventstore.Backwards, Limit: 3, Filter: h.mine()}
		found, err := collect(h.store.ReadAll(h.Context(), opts))
		require.NoError(h, err)
		require.Equal(h, []uuid.UUID{all[9].ID, all[8].ID, all[7].ID}, readIDs(found))
		opts.From = all[9].Position + 1_000_000
		found, err = collect(h.store.ReadAll(h.Context(), opts))
		require.NoError(h, err)
		require.Equal(h, []uuid.UUID{all[9].ID, all[8].ID, all[7].ID}, readIDs(found))
	},
	"ahead of the head there is nothing": func(h *harness) {
		h.mixed(3)
		found, err := collect(h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{From: h.head() + 1_000_000, Filter: h.mine()}))
		require.NoError(h, err)
		require.Empty(h, found)
	},
	"filters": func(h *harness) {
		all := h.mixed(48)
		for name, filter := range map[string]eventstore.Filter{
			"one type":              {Types: []string{"moved"}, StreamPrefixes: []string{h.prefix}},
			"types":                 {Types: []string{"closed", "opened"}, StreamPrefixes: []string{h.prefix}},
			"no such type":          {Types: []string{"mov"}, StreamPrefixes: []string{h.prefix}},
			"prefix":                {StreamPrefixes: []string{h.prefix + "red-"}},
			"prefixes":              {StreamPrefixes: []string{h.prefix + "red-2", h.prefix + "g"}},
			"prefixes that overlap": {StreamPrefixes: []string{h.prefix + "red-2", h.prefix + "red"}},
			"no such prefix":        {StreamPrefixes: []string{h.prefix + "x"}},
			"both":                  {Types: []string{"moved", "opened"}, StreamPrefixes: []string{h.prefix + "red-1", h.prefix + "blue"}},
		} {
			var want []uuid.UUID
			for _, r := range all {
				if filter.Matches(r.Stream, r.Type) {
					want = append(want, r.ID)
				}
			}
			for _, limit := range []int{0, 2} {
				forwards, backwards := slices.Clone(want), slices.Clone(want)
				slices.Reverse(backwards)
				if limit > 0 {
					forwards, backwards = forwards[:min(limit, len(want))], backwards[:min(limit, len(want))]
				}
				opts := eventstore.ReadAllOptions{From: h.base, Limit: limit, Filter: filter}
				found, err := collect(h.store.ReadAll(h.Context(), opts))
				require.NoError(h, err)
				require.Len(h, found, len(forwards), name)
				for i := range found {
					require.Equal(h, forwards[i], found[i].ID, name)
				}
				opts.From, opts.Direction = 0, eventstore.Backwards
				found, err = collect(h.store.ReadAll(h.Context(), opts))
				require.NoError(h, err)
				require.Len(h, found, len(backwards), name)
				for i := range found {
					require.Equal(h, backwards[i], found[i].ID, name)
				}
			}
		}
	},
	"many records both ways": func(h *harness) {
		const count = 5000
		written := records("a", count)
		for at := 0; at < count; at += 500 {
			h.append("a", eventstore.Revision(at-1), written[at:at+500]...)
		}
		want := newIDs(written)
		require.Equal(h, want, readIDs(h.readMine()))
		found, err := collect(h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{Direction: eventstore.Backwards, Filter: h.mine(), Limit: count}))
		require.NoError(h, err)
		slices.Reverse(want)
		require.Equal(h, want, readIDs(found))
	},
	"it ends where it began to be read": func(h *harness) {
		h.fill("a", 10)
		count := 0
		for _, err := range h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{From: h.base, Filter: h.mine()}) {
			require.NoError(h, err)
			count++
			h.append("a", eventstore.Any, record("more"))
		}
		require.Equal(h, 10, count)
	},
	"it can be left": func(h *harness) {
		all := h.mixed(10)
		for r, err := range h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{From: all[2].Position, Filter: h.mine()}) {
			require.NoError(h, err)
			require.Equal(h, all[3].ID, r.ID)
			break
		}
	},
	"a cancelled context ends it": func(h *harness) {
		h.mixed(10)
		ctx, cancel := context.WithCancel(h.Context())
		cancel()
		_, err := collect(h.store.ReadAll(ctx, eventstore.ReadAllOptions{}))
		require.ErrorIs(h, err, context.Canceled)
		_, err = h.store.Head(ctx)
		require.ErrorIs(h, err, context.Canceled)
	},
	"a negative limit is refused": func(h *harness) {
		_, err := collect(h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{Limit: -1}))
		require.ErrorIs(h, err, eventstore.ErrInvalid)
	},
}
