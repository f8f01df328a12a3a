package embedded_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

// model is the simplest thing that keeps the contract.
type model struct {
	log     []*eventstore.Record
	streams map[string][]*eventstore.Record
}

func (m *model) head(stream string) eventstore.Revision {
	return eventstore.Revision(len(m.streams[stream]) - 1)
}

// append answers what the store must.
func (m *model) append(parts []eventstore.StreamAppend) ([]eventstore.Appended, *eventstore.RevisionConflictError) {
	var results []eventstore.Appended
	var repeated *eventstore.RevisionConflictError
	fresh := 0
	log, heads := len(m.log), map[string]int{}
	undo := func() {
		m.log = m.log[:log]
		for stream, n := range heads {
			m.streams[stream] = m.streams[stream][:n]
		}
	}
	for _, a := range parts {
		head := m.head(a.Stream)
		conflict := &eventstore.RevisionConflictError{Stream: a.Stream, Expected: a.Expected, Actual: head}
		if a.Expected == eventstore.Any || a.Expected == head {
			if _, ok := heads[a.Stream]; !ok {
				heads[a.Stream] = len(m.streams[a.Stream])
			}
			for _, r := range a.Records {
				record := &eventstore.Record{
					NewRecord: r, Stream: a.Stream, Revision: m.head(a.Stream) + 1, Position: eventstore.Position(len(m.log) + 1),
				}
				m.log = append(m.log, record)
				m.streams[a.Stream] = append(m.streams[a.Stream], record)
			}
			fresh++
			results = append(results, eventstore.Appended{Revision: m.head(a.Stream), Position: eventstore.Position(len(m.log))})
			continue
		}
		last := a.Expected + eventstore.Revision(len(a.Records))
		_, touched := heads[a.Stream]
		if touched || last > head || !slices.EqualFunc(a.Records, m.streams[a.Stream][a.Expected+1:last+1],
			func(n eventstore.NewRecord, r *eventstore.Record) bool { return n.ID == r.ID }) {
			undo()
			return nil, conflict
		}
		if repeated == nil {
			repeated = conflict
		}
		results = append(results, eventstore.Appended{Revision: last, Position: m.streams[a.Stream][last].Position, Repeated: true})
	}
	if fresh > 0 && repeated != nil {
		undo()
		return nil, repeated
	}
	return results, nil
}

func digest(records []*eventstore.Record) string {
	h := sha256.New()
	for _, r := range records {
		// What a hash is written to never fails.
		_, _ = fmt.Fprintf(h, "%d %q %d %s %q %d %d %d\n",
			r.Position, r.Stream, r.Revision, r.ID, r.Type, r.ContentType, len(r.Data), len(r.Metadata))
		_, _ = h.Write(r.Data)
		_, _ = h.Write(r.Metadata)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// machine does the same random operations to a model and to stores that are
// configured differently, and compares every answer.
type machine struct {
	t      *testing.T
	rng    *rand.Rand
	model  model
	fs     [2]vfs.FS
	opts   [2]embedded.Options
	stores [2]*embedded.Store
	subs   [2]eventstore.Subscription
	subAt  int
	past   [][]eventstore.StreamAppend
}

func TestRandomOperations(t *testing.T) {
	t.Parallel()
	for run := range 3 {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			m := &machine{t: t, rng: rand.New(rand.NewPCG(seed, 0)), model: model{streams: map[string][]*eventstore.Record{}}}
			now := func() time.Time { return time.Unix(1_900_000_000, 0) }
			m.opts[0] = embedded.Options{MemTableBytes: 64 << 10, CacheBytes: 1 << 10, MinFreeBytes: -1, Now: now}
			m.opts[1] = embedded.Options{Now: now}
			for i := range m.stores {
				m.fs[i] = vfs.NewMem()
				m.opts[i].FS = m.fs[i]
				m.open(i)
			}
			for range 400 {
				m.step()
			}
			m.compareAll()
			for i := range m.stores {
				m.close(i)
			}
		})
	}
}

func (m *machine) open(i int) {
	store, err := embedded.Open("store", m.opts[i])
	require.NoError(m.t, err)
	m.stores[i] = store
	after := eventstore.Position(m.subAt)
	m.subs[i], err = store.Subscribe(m.t.Context(), eventstore.SubscribeOptions{After: after, MaxBatch: 1 << 20, MaxBatchBytes: 1 << 30})
	require.NoError(m.t, err)
}

func (m *machine) close(i int) {
	require.NoError(m.t, m.subs[i].Close())
	require.NoError(m.t, m.stores[i].Close())
}

func (m *machine) step() {
	switch n := m.rng.IntN(100); {
	case n < 55:
		m.append(m.parts(1))
	case n < 65:
		m.append(m.parts(1 + m.rng.IntN(4)))
	case n < 72 && len(m.past) > 0:
		m.append(m.past[m.rng.IntN(len(m.past))])
	case n < 84:
		m.readStream()
	case n < 93:
		m.readAll()
	case n < 98:
		m.follow()
	default:
		i := m.rng.IntN(len(m.stores))
		m.close(i)
		m.open(i)
	}
}

func (m *machine) stream() string {
	// Some streams get long, most stay short; some names begin others.
	n := m.rng.IntN(40)
	if m.rng.IntN(2) == 0 {
		n = m.rng.IntN(3)
	}
	return fmt.Sprintf("s%s%d", strings.Repeat("-", n%3), n)
}

func (m *machine) parts(count int) []eventstore.StreamAppend {
	parts := make([]eventstore.StreamAppend, 0, count)
	for range count {
		a := eventstore.StreamAppend{Stream: m.stream()}
		a.Expected = m.model.head(a.Stream)
		switch m.rng.IntN(12) {
		case 0:
			a.Expected = eventstore.Any
		case 1:
			a.Expected = eventstore.Revision(m.rng.IntN(20) - 1)
		}
		for range 1 + m.rng.IntN(1+m.rng.IntN(30)) {
			var id uuid.UUID
			for i := range id {
				id[i] = byte(m.rng.Uint32())
			}
			size := m.rng.IntN(400)
			if m.rng.IntN(300) == 0 {
				size = 50_000 + m.rng.IntN(50_000)
			}
			a.Records = append(a.Records, eventstore.NewRecord{
				ID: id, Type: fmt.Sprintf("type-%d", m.rng.IntN(5)), ContentType: eventstore.ContentType(m.rng.IntN(2)),
				Data: []byte(strings.Repeat("d", size)), Metadata: []byte(strings.Repeat("m", m.rng.IntN(20))),
			})
		}
		parts = append(parts, a)
	}
	return parts
}

func (m *machine) append(parts []eventstore.StreamAppend) {
	want, conflict := m.model.append(parts)
	m.past = append(m.past, parts)
	for i, store := range m.stores {
		var found []eventstore.Appended
		var err error
		if len(parts) == 1 {
			var one eventstore.Appended
			one, err = store.Append(m.t.Context(), parts[0].Stream, parts[0].Expected, parts[0].Records...)
			found = []eventstore.Appended{one}
		} else {
			found, err = store.AppendBatch(m.t.Context(), parts)
		}
		if conflict != nil {
			var refused *eventstore.RevisionConflictError
			require.ErrorAs(m.t, err, &refused, "store %d", i)
			require.Equal(m.t, *conflict, *refused, "store %d", i)
			continue
		}
		require.NoError(m.t, err, "store %d", i)
		require.Equal(m.t, want, found, "store %d", i)
	}
}

func take(seq func(func(*eventstore.Record, error) bool)) (all []*eventstore.Record, err error) {
	for r, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

func (m *machine) readStream() {
	stream := m.stream()
	want := slices.Clone(m.model.streams[stream])
	opts := eventstore.ReadStreamOptions{
		From: eventstore.Revision(m.rng.IntN(len(want) + 2)), Direction: eventstore.Direction(m.rng.IntN(2)), Limit: m.rng.IntN(len(want) + 2),
	}
	head := m.model.head(stream)
	if opts.Direction == eventstore.Forwards {
		want = want[min(int(opts.From), len(want)):]
	} else {
		want = want[:min(int(opts.From)+1, len(want))]
		slices.Reverse(want)
	}
	if opts.Limit > 0 {
		want = want[:min(opts.Limit, len(want))]
	}
	for i, store := range m.stores {
		found, err := take(store.ReadStream(m.t.Context(), stream, opts))
		if head == eventstore.NoStream {
			require.ErrorIs(m.t, err, eventstore.ErrStreamNotFound)
			continue
		}
		require.NoError(m.t, err)
		require.Equal(m.t, digest(want), digest(found), "store %d, %s %+v: %d records, %d found", i, stream, opts, len(want), len(found))
		got, err := store.StreamHead(m.t.Context(), stream)
		require.NoError(m.t, err)
		require.Equal(m.t, head, got)
	}
}

func (m *machine) readAll() {
	size := len(m.model.log)
	opts := eventstore.ReadAllOptions{From: eventstore.Position(m.rng.IntN(size + 3)), Direction: eventstore.Direction(m.rng.IntN(2)), Limit: m.rng.IntN(200)}
	if m.rng.IntN(2) == 0 {
		opts.Filter.Types = []string{fmt.Sprintf("type-%d", m.rng.IntN(6)), "type-0"}
	}
	if m.rng.IntN(3) == 0 {
		opts.Filter.StreamPrefixes = []string{"s-", "s2"}
	}
	var want []*eventstore.Record
	for i := range size {
		r := m.model.log[i]
		if opts.Direction == eventstore.Backwards {
			r = m.model.log[size-1-i]
			if opts.From != 0 && r.Position >= opts.From {
				continue
			}
		} else if r.Position <= opts.From {
			continue
		}
		if opts.Filter.Matches(r.Stream, r.Type) {
			want = append(want, r)
		}
		if opts.Limit > 0 && len(want) == opts.Limit {
			break
		}
	}
	for i, store := range m.stores {
		found, err := take(store.ReadAll(m.t.Context(), opts))
		require.NoError(m.t, err)
		require.Equal(m.t, digest(want), digest(found), "store %d, %+v: %d records, %d found", i, opts, len(want), len(found))
	}
}

// follow takes what the subscriptions have to say up to the head.
func (m *machine) follow() {
	want := m.model.log[m.subAt:]
	if len(want) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	for i, sub := range m.subs {
		var found []*eventstore.Record
		for len(found) < len(want) {
			batch, err := sub.Next(ctx)
			require.NoError(m.t, err)
			found = append(found, batch.Records...)
		}
		require.Equal(m.t, digest(want), digest(found), "store %d", i)
	}
	m.subAt = len(m.model.log)
}

func (m *machine) compareAll() {
	want := digest(m.model.log)
	for i, store := range m.stores {
		found, err := take(store.ReadAll(m.t.Context(), eventstore.ReadAllOptions{}))
		require.NoError(m.t, err)
		require.Equal(m.t, want, digest(found), "store %d", i)
	}
}
