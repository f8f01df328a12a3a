package eventstoretest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

var subscribeTests = map[string]func(*harness){
	"catches up and goes on live": func(h *harness) {
		before := h.fill("a", 20)
		sub := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: h.mine()})
		found := sub.untilCaughtUp()
		require.Equal(h, newIDs(before), readIDs(found))
		for i := range 5 {
			written := records(fmt.Sprintf("b%d", i), i+1)
			h.append(fmt.Sprintf("b%d", i), eventstore.NoStream, written...)
			require.Equal(h, newIDs(written), readIDs(sub.records(i+1)))
		}
	},
	"begins behind any position": func(h *harness) {
		all := h.mixed(20)
		for i, r := range all {
			sub := h.subscribe(eventstore.SubscribeOptions{After: r.Position, Filter: h.mine()})
			require.Equal(h, readIDs(all[i+1:]), readIDs(sub.untilCaughtUp()))
		}
	},
	"says at the head that it caught up": func(h *harness) {
		head := h.head()
		sub := h.subscribe(eventstore.SubscribeOptions{After: head, Filter: h.mine(), Heartbeat: time.Hour})
		batch := sub.next()
		require.Empty(h, batch.Records)
		require.True(h, batch.CaughtUp)
		require.GreaterOrEqual(h, batch.Position, head)
	},
	"filters": func(h *harness) {
		all := h.mixed(24)
		filter := eventstore.Filter{Types: []string{"moved"}, StreamPrefixes: []string{h.prefix + "red"}}
		var want []*eventstore.Record
		for _, r := range all {
			if filter.Matches(r.Stream, r.Type) {
				want = append(want, r)
			}
		}
		sub := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: filter})
		require.Equal(h, readIDs(want), readIDs(sub.untilCaughtUp()))
		no, yes := record("no"), record("yes")
		yes.Type = "moved"
		h.append("red-9", eventstore.NoStream, no, yes)
		require.Equal(h, yes.ID, sub.records(1)[0].ID)
	},
	"heartbeats move on where nothing matches": func(h *harness) {
		sub := h.subscribe(eventstore.SubscribeOptions{
			After:     h.base,
			Filter:    eventstore.Filter{StreamPrefixes: []string{h.prefix + "other"}},
			Heartbeat: 20 * time.Millisecond,
		})
		sub.untilCaughtUp()
		last := h.append("a", eventstore.NoStream, records("a", 3)...).Position
		for {
			batch := sub.next()
			require.Empty(h, batch.Records)
			if batch.Position >= last {
				break
			}
		}
		// Also where nothing happens at all.
		require.Empty(h, sub.next().Records)
		require.Empty(h, sub.next().Records)
	},
	"a position resumes exactly behind it": func(h *harness) {
		all := h.mixed(60)
		filter := eventstore.Filter{Types: []string{"closed"}, StreamPrefixes: []string{h.prefix}}
		var want, found []*eventstore.Record
		for _, r := range all {
			if r.Type == "closed" {
				want = append(want, r)
			}
		}
		at := h.base
		for at < all[len(all)-1].Position {
			sub := h.subscribe(eventstore.SubscribeOptions{After: at, Filter: filter, MaxBatch: 3})
			sub.most = 3
			batch := sub.next()
			found = append(found, batch.Records...)
			at = batch.Position
		}
		require.Equal(h, readIDs(want), readIDs(found))
	},
	"batches keep to their bounds": func(h *harness) {
		all := h.fill("a", 25)
		sub := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: h.mine(), MaxBatch: 4})
		sub.most = 4
		require.Equal(h, newIDs(all), readIDs(sub.records(25)))

		large := records("large", 5)
		for i := range large {
			large[i].Data = make([]byte, 1000*(i+1))
		}
		from := h.head()
		h.append("large", eventstore.NoStream, large...)
		sub = h.subscribe(eventstore.SubscribeOptions{After: from, Filter: h.mine(), MaxBatchBytes: 3500})
		var found []*eventstore.Record
		for len(found) < len(large) {
			batch := sub.next()
			size := 0
			for _, r := range batch.Records {
				size += len(r.Data) + len(r.Metadata)
			}
			if len(batch.Records) > 1 {
				require.LessOrEqual(h, size, 3500)
			}
			found = append(found, batch.Records...)
		}
		require.Equal(h, newIDs(large), readIDs(found))
	},
	"whoever is slow is behind, not skipped": func(h *harness) {
		slow := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: h.mine(), MaxBatch: 10})
		slow.most = 10
		fast := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: h.mine()})
		all := h.fill("a", 300)
		require.Equal(h, newIDs(all), readIDs(fast.records(300)))
		require.Equal(h, newIDs(all), readIDs(slow.records(300)))
	},
	"records may be kept": func(h *harness) {
		h.fill("a", 100)
		sub := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: h.mine(), MaxBatch: 7})
		for i, r := range sub.records(100) {
			require.Equal(h, fmt.Appendf(nil, "data of a-%d", i), r.Data)
			require.Equal(h, h.stream("a"), r.Stream)
		}
	},
	"ahead of the head is refused": func(h *harness) {
		_, err := h.store.Subscribe(h.Context(), eventstore.SubscribeOptions{After: h.head() + 1_000_000_000})
		require.ErrorIs(h, err, eventstore.ErrAhead)
	},
	"an ended wait leaves it where it was": func(h *harness) {
		sub := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: h.mine(), Heartbeat: time.Hour})
		sub.untilCaughtUp()
		ctx, cancel := context.WithTimeout(h.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := sub.sub.Next(ctx)
		require.ErrorIs(h, err, context.DeadlineExceeded)
		r := record("a")
		h.append("a", eventstore.NoStream, r)
		require.Equal(h, r.ID, sub.records(1)[0].ID)
	},
	"it ends with its context": func(h *harness) {
		ctx, cancel := context.WithCancel(h.Context())
		sub, err := h.store.Subscribe(ctx, eventstore.SubscribeOptions{After: h.base, Heartbeat: time.Hour, Filter: h.mine()})
		require.NoError(h, err)
		defer func() { require.NoError(h, sub.Close()) }()
		ended := make(chan error, 1)
		go func() { ended <- nextError(h, sub) }()
		cancel()
		require.ErrorIs(h, h.wait(ended), context.Canceled)
	},
	"close ends a wait": func(h *harness) {
		sub, err := h.store.Subscribe(h.Context(), eventstore.SubscribeOptions{After: h.base, Filter: h.mine(), Heartbeat: time.Hour})
		require.NoError(h, err)
		ended := make(chan error, 1)
		go func() { ended <- nextError(h, sub) }()
		require.NoError(h, sub.Close())
		require.ErrorIs(h, h.wait(ended), eventstore.ErrClosed)
		require.NoError(h, sub.Close())
		_, err = sub.Next(h.Context())
		require.ErrorIs(h, err, eventstore.ErrClosed)
		// The store goes on.
		h.append("a", eventstore.NoStream, record("a"))
	},
}

// nextError takes batches until there is an error.
func nextError(h *harness, sub eventstore.Subscription) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.Context()), patience)
	defer cancel()
	for {
		if _, err := sub.Next(ctx); err != nil {
			return err
		}
	}
}

func (h *harness) wait(ended <-chan error) error {
	h.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		h.Fatal("it did not end")
		return nil
	}
}

var closeTests = map[string]func(*harness){
	"everything answers closed": func(h *harness) {
		h.fill("a", 3)
		sub := h.subscribe(eventstore.SubscribeOptions{After: h.base, Filter: h.mine(), Heartbeat: time.Hour})
		sub.untilCaughtUp()
		ended := make(chan error, 1)
		go func() { ended <- nextError(h, sub.sub) }()
		require.NoError(h, h.store.Close())
		require.ErrorIs(h, h.wait(ended), eventstore.ErrClosed)
		require.NoError(h, h.store.Close())

		ctx := h.Context()
		_, err := h.store.Append(ctx, h.stream("a"), 2, record("a"))
		require.ErrorIs(h, err, eventstore.ErrClosed)
		if h.store.Capabilities().BatchAppend.Supported {
			_, err = h.store.AppendBatch(ctx, []eventstore.StreamAppend{h.part("a", 2, record("a"))})
			require.ErrorIs(h, err, eventstore.ErrClosed)
		}
		_, err = collect(h.store.ReadStream(ctx, h.stream("a"), eventstore.ReadStreamOptions{}))
		require.ErrorIs(h, err, eventstore.ErrClosed)
		_, err = collect(h.store.ReadAll(ctx, eventstore.ReadAllOptions{}))
		require.ErrorIs(h, err, eventstore.ErrClosed)
		_, err = h.store.Head(ctx)
		require.ErrorIs(h, err, eventstore.ErrClosed)
		_, err = h.store.StreamHead(ctx, h.stream("a"))
		require.ErrorIs(h, err, eventstore.ErrClosed)
		_, err = h.store.Subscribe(ctx, eventstore.SubscribeOptions{})
		require.ErrorIs(h, err, eventstore.ErrClosed)
	},
	"a read that is under way ends": func(h *harness) {
		h.fill("a", 200)
		next, stop := pull(h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{From: h.base, Filter: h.mine()}))
		defer stop()
		_, err, ok := next()
		require.True(h, ok)
		require.NoError(h, err)
		require.NoError(h, h.store.Close())
		for ok && err == nil {
			_, err, ok = next()
		}
		if err != nil {
			require.ErrorIs(h, err, eventstore.ErrClosed)
		}
	},
}
