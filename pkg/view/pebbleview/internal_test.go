package pebbleview

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view"
)

// TestOpensBeforeItCompacts leaves a store with much to compact: it is open before
// that begins, and then it does. Where so much was gathered that nothing could
// be written before, opening begins it.
func TestOpensBeforeItCompacts(t *testing.T) {
	t.Parallel()
	const stopped = 60
	for _, sublevels := range []int{40, stopped, stopped + 20} {
		fs, notes := vfs.NewMem(), view.Collection{Name: "notes"}
		ns := view.Namespace{Projection: "notes", Version: 1, Generation: 1}
		open := func() (*Store, view.Generation) {
			s, err := Open("views", Options{FS: fs, MinFreeBytes: 1})
			require.NoError(t, err)
			g, err := s.Open(t.Context(), ns, notes)
			require.NoError(t, err)
			return s, g
		}
		s, g := open()
		require.NoError(t, g.Close())
		require.NoError(t, s.Close())
		gather(t, s, fs, sublevels)

		s, g = open()
		if sublevels < stopped {
			metrics := s.db.Metrics()
			require.Zero(t, metrics.Compact.Count)
			require.Zero(t, metrics.Compact.NumInProgress)
		}
		fenced := make(chan error, 1)
		go func() {
			_, err := g.Fence(t.Context())
			fenced <- err
		}()
		const patience = 30 * time.Second
		select {
		case err := <-fenced:
			require.NoError(t, err)
		case <-time.After(patience):
			require.FailNow(t, "nothing can be written")
		}
		require.Eventually(t, func() bool { return s.db.Metrics().Levels[0].Sublevels < 3 }, patience, time.Millisecond)
		require.NoError(t, g.Close())
		require.NoError(t, s.Close())
	}
}

// gather adds tables to a closed store that all have the same key, as if it had
// been killed before it came to compact them.
func gather(t *testing.T, s *Store, fs vfs.FS, tables int) {
	t.Helper()
	o := s.options(Options{MemTableBytes: 1 << 20})
	o.FS, o.Cache, o.EventListener = fs, nil, nil
	o.DisableAutomaticCompactions, o.L0StopWritesThreshold = true, 1000
	db, err := pebble.Open(fs.PathJoin("views", dbDir), o)
	require.NoError(t, err)
	for range tables {
		require.NoError(t, db.Set([]byte{0xff}, nil, pebble.NoSync))
		require.NoError(t, db.Flush())
	}
	require.NoError(t, db.Close())
}

// TestPostingMerge merges random changes in every way in which Pebble may, and
// compares with a map.
func TestPostingMerge(t *testing.T) {
	t.Parallel()
	for round := range 300 {
		random := rand.New(rand.NewPCG(uint64(round), 1))
		span := 1 + random.IntN(blockSize)
		var values [][]byte
		want := map[uint16]bool{}
		for range 1 + random.IntN(6) {
			var p posting
			for range random.IntN(600) {
				n := uint16(random.IntN(span))
				if random.IntN(3) > 0 {
					p.in.add(n)
					p.out.remove(n)
				} else {
					p.out.add(n)
					p.in.remove(n)
				}
			}
			for n := range uint16(span) {
				if p.in.has(n) {
					want[n] = true
				} else if p.out.has(n) {
					delete(want, n)
				}
			}
			values = append(values, p.append(nil))
		}
		// Neighbours become one, partially, until one is left.
		for len(values) > 1 {
			i := random.IntN(len(values) - 1)
			values = slices.Concat(values[:i], [][]byte{mergeTwo(t, values[i], values[i+1], random.IntN(2) == 0, i == 0)}, values[i+2:])
		}
		var p posting
		require.NoError(t, p.parse(values[0]))
		require.Equal(t, len(want), p.in.len())
		for n := range want {
			require.True(t, p.in.has(n))
		}
	}
}

func mergeTwo(t *testing.T, older, newer []byte, forwards, base bool) []byte {
	t.Helper()
	first, second := newer, older
	if forwards {
		first, second = older, newer
	}
	m, err := postingMerger.Merge(nil, first)
	require.NoError(t, err)
	if forwards {
		require.NoError(t, m.MergeNewer(second))
	} else {
		require.NoError(t, m.MergeOlder(second))
	}
	out, closer, err := m.Finish(base)
	require.NoError(t, err)
	require.Nil(t, closer)
	return out
}

func FuzzPosting(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{formList, 1, 0, 2, 0})
	f.Add([]byte{formChange, 1, 0, 1, 0, 2, 0})
	f.Add(append([]byte{formBitmap}, make([]byte, blockSize/8)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, again posting
		if err := p.parse(b); err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
			return
		}
		require.NoError(t, again.parse(p.append(nil)))
		require.Equal(t, p.in, again.in)
		require.Equal(t, p.out, again.out)
	})
}

func FuzzRow(f *testing.F) {
	f.Add([]byte{0, 0, 0})
	f.Add(appendRow(nil, &view.Row{Data: []byte("data"), Meta: []byte("meta")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		row, err := parseRow(b)
		data, err2 := rowData(b)
		if err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
			return
		}
		require.NoError(t, err2)
		require.Equal(t, row.Data, data)
		again, err := parseRow(appendRow(nil, &row))
		require.NoError(t, err)
		require.Equal(t, string(row.Data), string(again.Data))
		require.Equal(t, string(row.Meta), string(again.Meta))
	})
}

func FuzzControl(f *testing.F) {
	f.Add([]byte("1234567"))
	f.Add(appendControl(nil, view.Control{Revision: 3, Data: []byte("data")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseControl(b)
		if err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
			return
		}
		require.Equal(t, b, appendControl(nil, c))
	})
}

func FuzzText(f *testing.F) {
	f.Add([]byte{1, 'a', 'b'})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, text, err := parseText(b)
		if err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
			return
		}
		require.LessOrEqual(t, len(id)+len(text), len(b))
	})
}

func FuzzFolderFormat(f *testing.F) {
	f.Add([]byte(`{"kind":"parley views","format":1}`))
	f.Add([]byte(`{"kind":"parley views","format":7}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = parseFormat(b) // must not panic
	})
}

func FuzzNamespaceKey(f *testing.F) {
	f.Add("customer", uint32(3), uint32(1))
	f.Fuzz(func(t *testing.T, name string, version, generation uint32) {
		ns := view.Namespace{Projection: name, Version: version, Generation: generation}
		got, err := parseNamespaceKey(namespaceKey(ns))
		require.NoError(t, err)
		require.Equal(t, ns, got)
	})
}

// TestGrams checks that a text has the grams of every word within it.
func TestGrams(t *testing.T) {
	t.Parallel()
	var text, word gramSet
	text.reset()
	text.addText("ada lovelace\nmüller 李小龙")
	for _, part := range []string{"ada", "da", "love", "velac", "üll", "李小", "小龙", "a"} {
		word.reset()
		word.addWord(part)
		for _, gram := range word.list {
			require.True(t, text.has(gram), part)
			require.Less(t, int(gram), gramSpan)
		}
		require.Equal(t, part == "a", len(word.list) == 0)
	}
}

func TestSuccessor(t *testing.T) {
	t.Parallel()
	require.Equal(t, []byte{1, 3}, successor([]byte{1, 2}))
	require.Equal(t, []byte{2}, successor([]byte{1, 0xff}))
	require.Nil(t, successor([]byte{0xff, 0xff}))
}
