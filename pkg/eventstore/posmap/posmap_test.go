package posmap_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) eventstore.Store {
	t.Helper()
	store, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// pairs are positions in two logs. The second grows with the first.
type pairs struct{ old, new []eventstore.Position }

// draw draws pairs, now in long even runs and now unevenly.
func draw(rnd *rand.Rand, count int) pairs {
	var p pairs
	var o, n, oldStep, newStep eventstore.Position
	for even := 0; len(p.old) < count; even-- {
		if even <= 0 {
			oldStep, newStep = eventstore.Position(1+rnd.IntN(400)), eventstore.Position(1+rnd.IntN(400))
			if rnd.IntN(3) == 0 {
				oldStep, newStep = 1, 1
			}
			if even = 1; rnd.IntN(8) == 0 {
				even = rnd.IntN(100)
			}
		}
		o, n = o+oldStep, n+newStep
		p.old, p.new = append(p.old, o), append(p.new, n)
	}
	return p
}

// resolved is what a position resolves to, by looking at all pairs.
func (p pairs) resolved(old eventstore.Position) eventstore.Position {
	i, found := slices.BinarySearch(p.old, old)
	if found {
		return p.new[i]
	}
	if i == 0 {
		return 0
	}
	return p.new[i-1]
}

// write writes a map of a made-up source into a store, in records of random size.
func write(t *testing.T, rnd *rand.Rand, store eventstore.Store, source uuid.UUID, p pairs) {
	t.Helper()
	w, err := posmap.OpenWriter(t.Context(), store, source)
	require.NoError(t, err)
	require.False(t, w.Exists())
	require.NoError(t, w.Open(t.Context()))
	for i := range p.old {
		require.NoError(t, w.Add(p.old[i], p.new[i]))
		require.EqualValues(t, i+1, w.Records())
		switch rnd.IntN(60) {
		case 0:
			require.NoError(t, w.Flush(t.Context()))
		case 1:
			require.NoError(t, w.Complete(t.Context()))
		case 2:
			require.NoError(t, w.Flush(t.Context()))
			w, err = posmap.OpenWriter(t.Context(), store, source)
			require.NoError(t, err)
			require.EqualValues(t, i+1, w.Records())
		}
	}
	require.NoError(t, w.Complete(t.Context()))
	require.NoError(t, w.Complete(t.Context()), "once more does nothing")
	require.True(t, w.Origin().Complete)
}

func TestEveryPositionResolves(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	for range 4 {
		store, source := open(t), uuid.New()
		p := draw(rnd, 700)
		write(t, rnd, store, source, p)
		m, err := posmap.Load(t.Context(), store)
		require.NoError(t, err)
		last := len(p.old) - 1
		require.Equal(t, []posmap.Origin{{
			Source: source, Target: store.LogID(), Old: p.old[last], New: p.new[last], Records: uint64(len(p.old)), Complete: true,
		}}, m.Origins())
		for old := range p.old[last] + 3 {
			got, err := m.Resolve(t.Context(), source, old)
			require.NoError(t, err)
			require.Equal(t, p.resolved(old), got, "position %d", old)
		}
		own, err := m.Resolve(t.Context(), store.LogID(), 4711)
		require.NoError(t, err)
		require.EqualValues(t, 4711, own, "its own positions are as they are")
	}
}

func TestBehindTheEnd(t *testing.T) {
	t.Parallel()
	store, source := open(t), uuid.New()
	w, err := posmap.OpenWriter(t.Context(), store, source)
	require.NoError(t, err)
	require.NoError(t, w.Add(10, 20))
	require.NoError(t, w.Flush(t.Context()))

	m, err := posmap.Load(t.Context(), store)
	require.NoError(t, err)
	require.False(t, m.Origins()[0].Complete)
	for old, want := range map[eventstore.Position]eventstore.Position{0: 0, 9: 0, 10: 20} {
		got, err := m.Resolve(t.Context(), source, old)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	var unfinished *posmap.UnfinishedError
	_, err = m.Resolve(t.Context(), source, 11)
	require.ErrorAs(t, err, &unfinished)
	require.EqualValues(t, 11, unfinished.Position)
	_, err = m.Within(t.Context(), 21, 7)
	require.ErrorAs(t, err, &unfinished)

	require.NoError(t, w.Complete(t.Context()))
	m, err = posmap.Load(t.Context(), store)
	require.NoError(t, err)
	got, err := m.Resolve(t.Context(), source, 11)
	require.NoError(t, err)
	require.EqualValues(t, 20, got, "everything that was copied")
	var gone *posmap.NotCopiedError
	_, err = m.Strict(t.Context(), source, 11)
	require.ErrorAs(t, err, &gone)
	got, err = m.Strict(t.Context(), source, 10)
	require.NoError(t, err)
	require.EqualValues(t, 20, got)

	var unknown *posmap.UnknownLogError
	_, err = m.Resolve(t.Context(), uuid.New(), 1)
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, store.LogID(), unknown.Own)
}

func TestALogWithoutAnOrigin(t *testing.T) {
	t.Parallel()
	store := open(t)
	m, err := posmap.Load(t.Context(), store)
	require.NoError(t, err)
	require.Empty(t, m.Origins())
	var unknown *posmap.UnknownLogError
	_, err = m.Resolve(t.Context(), uuid.New(), 1)
	require.ErrorAs(t, err, &unknown)
	got, err := m.Within(t.Context(), 7, 3)
	require.NoError(t, err)
	require.EqualValues(t, 3, got)
}

// TestChain has a log that was moved twice; the records of the first map came along.
func TestChain(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	oldest, second, third := uuid.New(), open(t), open(t)
	first, then := draw(rnd, 300), draw(rnd, 400)
	// What was written to the second log itself is behind what was copied.
	first.new = slices.Clone(then.old[:300])
	write(t, rnd, second, oldest, first)
	for rec, err := range second.ReadStream(t.Context(), posmap.StreamOf(second.LogID()), eventstore.ReadStreamOptions{}) {
		require.NoError(t, err)
		_, err = third.Append(t.Context(), rec.Stream, rec.Revision-1, rec.NewRecord)
		require.NoError(t, err)
	}
	write(t, rnd, third, second.LogID(), then)

	m, err := posmap.Load(t.Context(), third)
	require.NoError(t, err)
	require.Len(t, m.Origins(), 2)
	for old := range first.old[299] + 2 {
		got, err := m.Resolve(t.Context(), oldest, old)
		require.NoError(t, err)
		require.Equal(t, then.resolved(first.resolved(old)), got, "position %d", old)
	}
	for i, at := range then.new {
		position := eventstore.Position(rnd.Uint64N(uint64(then.old[i]) + 1))
		want := then.resolved(position)
		if i < 300 { // written to the oldest log
			position = eventstore.Position(rnd.Uint64N(uint64(first.old[i]) + 1))
			want = then.resolved(first.resolved(position))
		}
		got, err := m.Within(t.Context(), at, position)
		require.NoError(t, err)
		require.Equal(t, want, got, "position %d in the record at %d", position, at)
	}
	got, err := m.Within(t.Context(), then.new[399]+1, 17)
	require.NoError(t, err)
	require.EqualValues(t, 17, got, "written since")
}

func TestOneSource(t *testing.T) {
	t.Parallel()
	store, source := open(t), uuid.New()
	w, err := posmap.OpenWriter(t.Context(), store, source)
	require.NoError(t, err)
	require.NoError(t, w.Open(t.Context()))
	other := uuid.New()
	var filled *posmap.OtherSourceError
	_, err = posmap.OpenWriter(t.Context(), store, other)
	require.ErrorAs(t, err, &filled)
	require.Equal(t, posmap.OtherSourceError{Target: store.LogID(), Filled: source, Source: other}, *filled)
}

func TestTwoWriters(t *testing.T) {
	t.Parallel()
	store, source := open(t), uuid.New()
	one, err := posmap.OpenWriter(t.Context(), store, source)
	require.NoError(t, err)
	other, err := posmap.OpenWriter(t.Context(), store, source)
	require.NoError(t, err)
	require.NoError(t, one.Open(t.Context()))
	require.NoError(t, other.Open(t.Context()), "the same is no conflict")
	require.NoError(t, one.Add(1, 5))
	require.NoError(t, other.Add(1, 6))
	require.NoError(t, one.Flush(t.Context()))
	require.ErrorIs(t, other.Flush(t.Context()), posmap.ErrTwoWriters)
}

func TestPositionsGrow(t *testing.T) {
	t.Parallel()
	w, err := posmap.OpenWriter(t.Context(), open(t), uuid.New())
	require.NoError(t, err)
	require.NoError(t, w.Add(5, 5))
	for _, p := range [][2]eventstore.Position{{5, 6}, {6, 5}, {4, 9}} {
		require.ErrorIs(t, w.Add(p[0], p[1]), eventstore.ErrCorrupt)
	}
}

func TestRecordsAreNoEvents(t *testing.T) {
	t.Parallel()
	store := open(t)
	w, err := posmap.OpenWriter(t.Context(), store, uuid.New())
	require.NoError(t, err)
	require.NoError(t, w.Add(1, 2))
	require.NoError(t, w.Complete(t.Context()))
	count := 0
	for rec, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		require.False(t, event.IsEvent(rec))
		require.Empty(t, event.TenantOf(rec.Stream))
		count++
	}
	require.Equal(t, 3, count)
}

// TestEvenLogsCostLittle holds the map of two dense logs to some bytes a record of it.
func TestEvenLogsCostLittle(t *testing.T) {
	t.Parallel()
	store := open(t)
	w, err := posmap.OpenWriter(t.Context(), store, uuid.New())
	require.NoError(t, err)
	const each, chunks = 4096, 5
	for i := range eventstore.Position(each * chunks) {
		require.NoError(t, w.Add(i+1, i+2+i/each))
		if w.Pending() == each {
			require.NoError(t, w.Flush(t.Context()))
		}
	}
	size := 0
	for rec, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		size += len(rec.Data)
	}
	require.Less(t, size, 1200)
}

// counting counts the reads of a map.
type counting struct {
	eventstore.Store
	mu    sync.Mutex
	reads int
}

func (c *counting) ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	return c.Store.ReadStream(ctx, stream, opts)
}

func TestReadsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	store := &counting{Store: open(t)}
	source := uuid.New()
	p := draw(rnd, 4000)
	w, err := posmap.OpenWriter(t.Context(), store, source)
	require.NoError(t, err)
	for i := range p.old {
		require.NoError(t, w.Add(p.old[i], p.new[i]))
		if w.Pending() == 10 {
			require.NoError(t, w.Flush(t.Context()))
		}
	}
	store.reads = 0
	m, err := posmap.Load(t.Context(), store)
	require.NoError(t, err)
	require.Equal(t, 1, store.reads)
	_, err = m.Resolve(t.Context(), source, p.old[17])
	require.NoError(t, err)
	require.LessOrEqual(t, store.reads, 13, "of 401 records")
	before := store.reads
	_, err = m.Resolve(t.Context(), source, p.old[18])
	require.NoError(t, err)
	require.Equal(t, before, store.reads, "of the same record of the map")

	var wg sync.WaitGroup
	for range 4 {
		at := make([]int, 500)
		for i := range at {
			at[i] = rnd.IntN(len(p.old))
		}
		wg.Go(func() {
			for _, i := range at {
				got, err := m.Resolve(context.Background(), source, p.old[i])
				if err != nil || got != p.new[i] {
					t.Errorf("position %d: %d, %v", p.old[i], got, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestDamage has maps that nobody wrote.
func TestDamage(t *testing.T) {
	t.Parallel()
	source := uuid.New()
	good := func(runs string) string {
		return fmt.Sprintf(`{"format":1,"source":%q,"old":9,"new":9,"records":9%s}`, source, runs)
	}
	for name, tc := range map[string]struct {
		typ, data string
		want      error
		resolves  bool // only resolving a position finds it
	}{
		"no JSON":        {"origin-positions", "{", eventstore.ErrCorrupt, false},
		"no source":      {"origin-positions", `{"format":1}`, eventstore.ErrCorrupt, false},
		"another type":   {"origin-lost", good(""), eventstore.ErrCorrupt, false},
		"newer":          {"origin-positions", `{"format":2}`, eventstore.ErrNewerFormat, false},
		"half":           {"origin-positions", fmt.Sprintf(`{"format":1,"source":%q,"old":9}`, source), eventstore.ErrCorrupt, false},
		"no runs":        {"origin-positions", good(""), eventstore.ErrCorrupt, true},
		"runs cut":       {"origin-positions", good(`,"runs":"AQEJAQ=="`), eventstore.ErrCorrupt, true},
		"runs of zero":   {"origin-positions", good(`,"runs":"AAEJ"`), eventstore.ErrCorrupt, true},
		"runs elsewhere": {"origin-positions", good(`,"runs":"AQEI"`), eventstore.ErrCorrupt, true},
		"sound":          {"origin-positions", good(`,"runs":"AQEJ"`), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			_, err := store.Append(t.Context(), posmap.StreamOf(store.LogID()), eventstore.NoStream, eventstore.NewRecord{
				ID: uuid.New(), Type: tc.typ, ContentType: eventstore.ContentJSON, Data: []byte(tc.data),
			})
			require.NoError(t, err)
			m, err := posmap.Load(t.Context(), store)
			if tc.resolves {
				require.NoError(t, err)
				_, err = m.Resolve(t.Context(), source, 5)
			}
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestCopiedFromItself(t *testing.T) {
	t.Parallel()
	store := open(t)
	w, err := posmap.OpenWriter(t.Context(), store, store.LogID())
	require.NoError(t, err)
	require.NoError(t, w.Open(t.Context()))
	_, err = posmap.Load(t.Context(), store)
	require.ErrorIs(t, err, eventstore.ErrCorrupt)
}
