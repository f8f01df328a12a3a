package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

func pull(seq iter.Seq2[*eventstore.Record, error]) (func() (*eventstore.Record, error, bool), func()) {
	return iter.Pull2(seq)
}

// write appends single records and pairs to a stream of each writer, at exact
// revisions, and calls done when all are through.
func (h *harness) write(writers, each int, done func()) {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			name := fmt.Sprintf("w%d", w)
			at := eventstore.NoStream
			for i := range each {
				appended, err := h.store.Append(h.Context(), h.stream(name), at, records(name, i%2+1)...)
				if err != nil {
					h.Errorf("writer %d: %v", w, err)
					return
				}
				at = appended.Revision
			}
		})
	}
	go func() {
		wg.Wait()
		done()
	}()
}

var concurrencyTests = map[string]func(*harness){
	"of writers to one stream exactly one wins each revision": func(h *harness) {
		const writers, revisions = 8, 30
		won := make([]atomic.Int32, revisions)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for at := range revisions {
					r := record(fmt.Sprintf("%d by %d", at, w))
					appended, err := h.store.Append(h.Context(), h.stream("a"), eventstore.Revision(at-1), r)
					var conflict *eventstore.RevisionConflictError
					switch {
					case err == nil && !appended.Repeated && appended.Revision == eventstore.Revision(at):
						won[at].Add(1)
					case errors.As(err, &conflict) && conflict.Actual >= eventstore.Revision(at):
					default:
						h.Errorf("writer %d at %d: %+v, %v", w, at, appended, err)
					}
				}
			})
		}
		wg.Wait()
		for at := range won {
			require.Equal(h, int32(1), won[at].Load(), "revision %d", at)
		}
		require.Len(h, h.readStream("a", eventstore.ReadStreamOptions{}), revisions)
	},
	"the same append by many happens once": func(h *harness) {
		const writers, rounds = 8, 20
		all := records("a", rounds*2)
		results := make([][]eventstore.Appended, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range rounds {
					appended, err := h.store.Append(h.Context(), h.stream("a"), eventstore.Revision(2*i-1), all[2*i:2*i+2]...)
					if err != nil {
						h.Errorf("writer %d round %d: %v", w, i, err)
						return
					}
					results[w] = append(results[w], appended)
				}
			})
		}
		wg.Wait()
		require.Equal(h, newIDs(all), readIDs(h.readStream("a", eventstore.ReadStreamOptions{})))
		for i := range rounds {
			first := 0
			for w := range writers {
				require.Len(h, results[w], rounds)
				require.Equal(h, results[0][i].Position, results[w][i].Position)
				require.Equal(h, eventstore.Revision(2*i+1), results[w][i].Revision)
				if !results[w][i].Repeated {
					first++
				}
			}
			require.Equal(h, 1, first, "round %d", i)
		}
	},
	"nothing appears below what was read": func(h *harness) {
		stop := make(chan struct{})
		h.write(8, 60, func() { close(stop) })
		var seen []*eventstore.Record
		at := h.base
		for last := false; !last; {
			select {
			case <-stop:
				last = true
			default:
			}
			// Up to the head, all of it; then never again below it.
			head := h.head()
			found, err := collect(h.store.ReadAll(h.Context(), eventstore.ReadAllOptions{From: at, Filter: h.mine()}))
			require.NoError(h, err)
			for _, r := range found {
				require.Greater(h, r.Position, at)
				at = r.Position
			}
			at = max(at, head)
			seen = append(seen, found...)
		}
		require.Len(h, seen, 8*90)
		require.Equal(h, readIDs(h.readMine()), readIDs(seen))
	},
	"an append is seen whole": func(h *harness) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 40 {
					name := fmt.Sprintf("w%d-%d", w, i)
					if _, err := h.store.Append(h.Context(), h.stream(name), eventstore.NoStream, records(name, 5)...); err != nil {
						h.Errorf("writer %d: %v", w, err)
						return
					}
				}
			})
		}
		go func() {
			wg.Wait()
			close(stop)
		}()
		for last := false; !last; {
			select {
			case <-stop:
				last = true
			default:
			}
			count := map[string]int{}
			for _, r := range h.readMine() {
				count[r.Stream]++
			}
			for stream, n := range count {
				require.Equal(h, 5, n, stream)
			}
			if last {
				require.Len(h, count, 160)
			}
		}
	},
	"subscribers miss nothing and get nothing twice": func(h *harness) {
		const writers, each, subscribers = 4, 100, 4
		total := writers * each / 2 * 3
		var all sync.WaitGroup
		all.Add(1)
		h.write(writers, each, all.Done)
		found := make([][]uuid.UUID, subscribers)
		from := make([]eventstore.Position, subscribers)
		for i := range subscribers {
			// Each begins somewhere else in what is just being written.
			for h.head() < h.base+eventstore.Position(i*20) {
				require.NoError(h, h.Context().Err())
			}
			if i > 0 {
				from[i] = h.head()
			} else {
				from[i] = h.base
			}
			sub, err := h.store.Subscribe(h.Context(), eventstore.SubscribeOptions{After: from[i], Filter: h.mine(), MaxBatch: 1 + i*9})
			require.NoError(h, err)
			all.Go(func() {
				defer func() {
					if err := sub.Close(); err != nil {
						h.Errorf("close: %v", err)
					}
				}()
				found[i] = h.follow(sub, total, from[i])
			})
		}
		all.Wait()
		written := h.readMine()
		require.Len(h, written, total)
		for i := range subscribers {
			var want []uuid.UUID
			for _, r := range written {
				if r.Position > from[i] {
					want = append(want, r.ID)
				}
			}
			require.Equal(h, want, found[i], "subscriber %d", i)
		}
	},
	"a head that was told can be read": func(h *harness) {
		stop := make(chan struct{})
		h.write(4, 40, func() { close(stop) })
		for last := false; !last; {
			select {
			case <-stop:
				last = true
			default:
			}
			for w := range 4 {
				name := fmt.Sprintf("w%d", w)
				head := h.streamHead(name)
				if head == eventstore.NoStream {
					continue
				}
				found := h.readStream(name, eventstore.ReadStreamOptions{From: head, Limit: 1})
				require.Len(h, found, 1)
				require.Equal(h, head, found[0].Revision)
				require.LessOrEqual(h, found[0].Position, h.head())
			}
		}
	},
	"whoever appended reads it at once": func(h *harness) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				name := fmt.Sprintf("w%d", w)
				for i := range 20 {
					r := record(name)
					appended, err := h.store.Append(h.Context(), h.stream(name), eventstore.Revision(i-1), r)
					if err != nil {
						h.Errorf("append: %v", err)
						return
					}
					head, err := h.store.Head(h.Context())
					if err != nil || head < appended.Position {
						h.Errorf("head %d, appended at %d: %v", head, appended.Position, err)
						return
					}
					found, err := collect(h.store.ReadStream(h.Context(), h.stream(name), eventstore.ReadStreamOptions{From: eventstore.Revision(i)}))
					if err != nil || len(found) != 1 || found[0].ID != r.ID {
						h.Errorf("read %d records back: %v", len(found), err)
						return
					}
				}
			})
		}
		wg.Wait()
	},
	"cancelled appends are there whole or not at all": func(h *harness) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 25 {
					name := fmt.Sprintf("w%d-%d", w, i)
					ctx, cancel := context.WithTimeout(h.Context(), time.Duration(i*20)*time.Microsecond)
					part := records(name, 3)
					appended, err := h.store.Append(ctx, h.stream(name), eventstore.NoStream, part...)
					cancel()
					switch {
					case err == nil && appended.Revision == 2:
					case errors.Is(err, context.DeadlineExceeded):
					default:
						h.Errorf("append: %+v, %v", appended, err)
						return
					}
					// Trying again settles it.
					again, err := h.store.Append(h.Context(), h.stream(name), eventstore.NoStream, part...)
					if err != nil || again.Revision != 2 {
						h.Errorf("append again: %+v, %v", again, err)
						return
					}
				}
			})
		}
		wg.Wait()
		require.Len(h, h.readMine(), 8*25*3)
	},
}

// follow takes what comes until it was there when all total records were
// written.
func (h *harness) follow(sub eventstore.Subscription, total int, from eventstore.Position) []uuid.UUID {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	var found []uuid.UUID
	for {
		batch, err := sub.Next(ctx)
		if err != nil {
			h.Errorf("subscriber from %d with %d of at most %d records: %v", from, len(found), total, err)
			return found
		}
		found = append(found, readIDs(batch.Records)...)
		if !batch.CaughtUp {
			continue
		}
		// Up to Position nothing is missing; the end is where all are written.
		written := 0
		for _, err := range h.store.ReadAll(ctx, eventstore.ReadAllOptions{From: h.base, Filter: h.mine()}) {
			if err != nil {
				h.Errorf("count: %v", err)
				return found
			}
			written++
		}
		if written < total {
			continue
		}
		last, err := collect(h.store.ReadAll(ctx, eventstore.ReadAllOptions{Direction: eventstore.Backwards, Limit: 1, Filter: h.mine()}))
		if err != nil || len(last) != 1 {
			h.Errorf("last: %v", err)
			return found
		}
		if last[0].Position <= batch.Position {
			return found
		}
	}
}
