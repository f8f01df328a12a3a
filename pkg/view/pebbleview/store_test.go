package pebbleview_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/parleyhq/parley/pkg/testkit/testseed"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
)

var ns = view.Namespace{Projection: "test", Version: 1, Generation: 1}

// texts are documents of one string each, searchable.
func texts() view.Collection {
	return view.Collection{
		Name: "texts", New: func() proto.Message { return &wrapperspb.StringValue{} },
		Indexes: []view.Index{{Name: "text", Kind: view.Text, Extract: func(doc proto.Message) []view.Tuple {
			s, ok := doc.(*wrapperspb.StringValue)
			if !ok {
				panic("not a text")
			}
			return []view.Tuple{{view.String(s.GetValue())}}
		}}},
	}
}

type writer struct {
	t   testing.TB
	gen view.Generation
	at  view.Checkpoint
	b   view.Batch
}

func newWriter(t testing.TB, s view.Store) *writer {
	t.Helper()
	gen, err := s.Open(t.Context(), ns, texts())
	require.NoError(t, err)
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	c, err := gen.Checkpoint(t.Context())
	require.NoError(t, err)
	return &writer{t: t, gen: gen, at: view.Checkpoint{Namespace: ns, Token: token, LogID: uuid.UUID{1}, Position: c.Position}}
}

func (w *writer) put(id, text string) {
	w.t.Helper()
	c := texts()
	require.NoError(w.t, w.b.Put(&c, view.Key{Tenant: "acme", ID: id}, wrapperspb.String(text)))
}

func (w *writer) commit() error {
	w.at.Position++
	w.b.Checkpoint = w.at
	err := w.gen.Commit(w.t.Context(), &w.b)
	w.b.Reset()
	return err
}

func (w *writer) search(text string) []string {
	w.t.Helper()
	page, err := w.gen.Search(w.t.Context(), "texts", view.Search{Tenant: "acme", Index: "text", Text: text, Limit: 1000})
	require.NoError(w.t, err)
	require.Nil(w.t, page.Next)
	var ids []string
	for _, e := range page.Entries {
		ids = append(ids, e.Key.ID)
	}
	return ids
}

func TestInUse(t *testing.T) {
	t.Parallel()
	for name, fs := range map[string]vfs.FS{"disk": vfs.Default, "memory": vfs.NewMem()} {
		dir := t.TempDir()
		s, err := pebbleview.Open(dir, pebbleview.Options{FS: fs, MinFreeBytes: 1})
		require.NoError(t, err, name)
		_, err = pebbleview.Open(dir, pebbleview.Options{FS: fs, MinFreeBytes: 1})
		require.ErrorIs(t, err, view.ErrInUse, name)
		require.NoError(t, s.Close())
		s, err = pebbleview.Open(dir, pebbleview.Options{FS: fs, MinFreeBytes: 1})
		require.NoError(t, err, name)
		require.NoError(t, s.Close())
	}
	_, err := pebbleview.Open("", pebbleview.Options{})
	require.ErrorIs(t, err, view.ErrInvalid)
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]error{
		`{"kind":"parley views","format":2}`:       view.ErrNewerFormat,
		`{"kind":"parley event store","format":1}`: view.ErrCorrupt,
		`garbage`: view.ErrCorrupt,
		``:        view.ErrCorrupt,
	} {
		fs := vfs.NewMem()
		require.NoError(t, fs.MkdirAll("views", 0o755))
		f, err := fs.Create("views/VIEWS", vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = io.WriteString(f, content)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		_, err = pebbleview.Open("views", pebbleview.Options{FS: fs})
		require.ErrorIs(t, err, want, content)
		// Refused, it is not locked.
		require.NoError(t, fs.Remove("views/VIEWS"))
		s, err := pebbleview.Open("views", pebbleview.Options{FS: fs})
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
}

// TestCrash cuts the power after random commits: some first ones of them are there,
// each whole, with their checkpoint. A control record that was saved is there, and
// so are all commits before it.
func TestCrash(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	random := rand.New(rand.NewPCG(seed, 2))
	for range 30 {
		fs := vfs.NewCrashableMem()
		s, err := pebbleview.Open("views", pebbleview.Options{FS: fs, MemTableBytes: 32 << 10})
		require.NoError(t, err)
		w := newWriter(t, s)
		n := random.IntN(60)
		var control view.Control
		atLeast := 0 // commits before the record was saved last
		for i := range n {
			// Each commit changes the one document and adds another.
			w.put("one", fmt.Sprintf("round %04d", i))
			w.put(fmt.Sprintf("d%04d", i), fmt.Sprintf("%s word%04d", strings.Repeat("filler ", random.IntN(200)), i))
			require.NoError(t, w.commit())
			if random.IntN(20) == 0 {
				control.Data = fmt.Append(nil, i)
				control.Revision, err = s.SaveControl(t.Context(), "test", control)
				require.NoError(t, err)
				atLeast = i + 1
			}
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: rand.New(rand.NewPCG(seed, uint64(n)))})
		require.NoError(t, w.gen.Close())
		require.NoError(t, s.Close())

		s, err = pebbleview.Open("views", pebbleview.Options{FS: crashed})
		require.NoError(t, err)
		after := newWriter(t, s)
		require.Greater(t, after.at.Token, w.at.Token, "a token is never given out again")
		kept := int(after.at.Position)
		require.LessOrEqual(t, kept, n)
		require.GreaterOrEqual(t, kept, atLeast)
		saved, err := s.Control(t.Context(), "test")
		require.NoError(t, err)
		require.Equal(t, control.Revision, saved.Revision)
		require.Equal(t, string(control.Data), string(saved.Data))
		require.Len(t, after.search("word"), kept)
		if kept > 0 {
			require.Equal(t, []string{"one"}, after.search(fmt.Sprintf("round %04d", kept-1)))
		}
		if kept < n {
			require.Empty(t, after.search(fmt.Sprintf("word%04d", kept)))
		}
		require.NoError(t, after.gen.Close())
		require.NoError(t, s.Close())
	}
}

// TestBrokenDisk has a disk that fails writes for a while: commits say so, reads
// go on, and so do commits once it is mended.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]error{errorfs.ErrInjected: view.ErrUnavailable, syscall.ENOSPC: view.ErrFull} {
		var broken atomic.Bool
		mem := vfs.NewMem()
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && strings.HasSuffix(op.Path, ".sst") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				return cause
			}
			return nil
		}))
		s, err := pebbleview.Open("views", pebbleview.Options{FS: fs, MemTableBytes: 64 << 10})
		require.NoError(t, err)
		w := newWriter(t, s)
		w.put("before", "was there before")
		require.NoError(t, w.commit())
		broken.Store(true)
		failing := func(i int) error {
			w.put(fmt.Sprint(i), strings.Repeat(fmt.Sprint("text ", i), 1000))
			return w.commit()
		}
		n := 0
		require.Eventually(t, func() bool { n++; err = failing(n); return err != nil }, time.Minute, time.Millisecond)
		require.ErrorIs(t, err, want)
		require.NoError(t, s.Failed())
		require.Equal(t, []string{"before"}, w.search("before"))
		_, err = w.gen.Fence(t.Context())
		require.ErrorIs(t, err, want)
		_, err = s.SaveControl(t.Context(), "test", view.Control{})
		require.ErrorIs(t, err, want)
		broken.Store(false)
		require.Eventually(t, func() bool { _, err := w.gen.Fence(t.Context()); return err == nil }, time.Minute, time.Millisecond)
		require.NoError(t, w.gen.Close())
		w = newWriter(t, s)
		w.put("after", "was there after")
		require.NoError(t, w.commit())
		require.NoError(t, w.gen.Close())
		require.NoError(t, s.Close())
		s, err = pebbleview.Open("views", pebbleview.Options{FS: mem})
		require.NoError(t, err)
		w = newWriter(t, s)
		require.Equal(t, []string{"before", "after"}, w.search("was there"))
		require.NoError(t, w.gen.Close())
		require.NoError(t, s.Close())
	}
}

// TestClosedWhileBroken does not hang, and what was stored before is there.
func TestClosedWhileBroken(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	mem := vfs.NewMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".sst") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
	s, err := pebbleview.Open("views", pebbleview.Options{FS: fs})
	require.NoError(t, err)
	w := newWriter(t, s)
	w.put("before", "was there before")
	require.NoError(t, w.commit())
	_, err = w.gen.Fence(t.Context())
	require.NoError(t, err)
	w = newWriter(t, s)
	broken.Store(true)
	w.put("lost", "was never written")
	require.NoError(t, w.commit())
	require.ErrorIs(t, s.Close(), view.ErrUnavailable)
	s, err = pebbleview.Open("views", pebbleview.Options{FS: mem})
	require.NoError(t, err)
	w = newWriter(t, s)
	require.Equal(t, uint64(1), w.at.Position)
	require.Equal(t, []string{"before"}, w.search("was"))
	require.NoError(t, w.gen.Close())
	require.NoError(t, s.Close())
}

// TestBrokenManifest fails the store for good, without ending the process.
func TestBrokenManifest(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.Contains(op.Path, "MANIFEST") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
	s, err := pebbleview.Open("views", pebbleview.Options{FS: fs})
	require.NoError(t, err)
	w := newWriter(t, s)
	w.put("before", "was there before")
	require.NoError(t, w.commit())
	broken.Store(true)
	_, err = w.gen.Fence(t.Context())
	require.Error(t, err)
	require.Eventually(t, func() bool { return s.Failed() != nil }, time.Minute, time.Millisecond)
	require.ErrorIs(t, s.Failed(), view.ErrFailed)
	require.ErrorIs(t, w.commit(), view.ErrFailed)
	require.Equal(t, []string{"before"}, w.search("before"))
	require.NoError(t, w.gen.Close())
	require.ErrorIs(t, s.Close(), view.ErrFailed)
}

// TestOldCommitsAreWritten checks that a crash takes back half a minute's commits at most.
func TestOldCommitsAreWritten(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	var now atomic.Int64
	now.Store(time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	s, err := pebbleview.Open("views", pebbleview.Options{FS: fs, Now: func() time.Time { return time.Unix(0, now.Load()) }})
	require.NoError(t, err)
	w := newWriter(t, s)
	w.put("1", "first text")
	require.NoError(t, w.commit())
	now.Add(int64(31 * time.Second))
	w.put("2", "second text")
	require.NoError(t, w.commit())
	require.Eventually(t, func() bool {
		crashed, err := pebbleview.Open("views", pebbleview.Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
		require.NoError(t, err)
		after := newWriter(t, crashed)
		kept := len(after.search("text"))
		require.NoError(t, after.gen.Close())
		require.NoError(t, crashed.Close())
		return kept == 2
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, w.gen.Close())
	require.NoError(t, s.Close())
}

// TestCloseWaits closes while calls are under way.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	s, err := pebbleview.Open("views", pebbleview.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	w := newWriter(t, s)
	for i := range 200 {
		w.put(fmt.Sprint(i), "some text")
	}
	require.NoError(t, w.commit())
	started := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for first := true; ; first = false {
				_, err := w.gen.Search(context.Background(), "texts", view.Search{Tenant: "acme", Index: "text", Text: "some", Limit: 100})
				if err != nil {
					require.ErrorIs(t, err, view.ErrClosed)
					return
				}
				if first {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	require.NoError(t, s.Close())
	wg.Wait()
	require.NoError(t, w.gen.Close())
}

// TestBoundedSearch looks for what many documents seem to have and none has:
// each call ends soon, and together they end.
func TestBoundedSearch(t *testing.T) {
	t.Parallel()
	s, err := pebbleview.Open("views", pebbleview.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	w := newWriter(t, s)
	const many = 25_000
	for i := range many {
		w.put(fmt.Sprintf("%06d", i), "abc bcd cde def") // has all triples of abcdef
		if i%5000 == 4999 {
			require.NoError(t, w.commit())
		}
	}
	q := view.Search{Tenant: "acme", Index: "text", Text: "abcdef", Limit: 10}
	pages := 0
	for {
		page, err := w.gen.Search(t.Context(), "texts", q)
		require.NoError(t, err)
		require.Empty(t, page.Entries)
		pages++
		if page.Next == nil {
			break
		}
		q.Cursor = page.Next
	}
	require.Equal(t, 3, pages, "10,000 candidates a call")
	require.NoError(t, w.gen.Close())
	require.NoError(t, s.Close())
}

// TestIndexlessMessages stores any message.
func TestIndexlessMessages(t *testing.T) {
	t.Parallel()
	s, err := pebbleview.Open("views", pebbleview.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	c := view.Collection{Name: "maps", New: func() proto.Message { return &structpb.Struct{} }}
	gen, err := s.Open(t.Context(), ns, c)
	require.NoError(t, err)
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	fields := map[string]any{}
	for i := range 50 {
		fields[fmt.Sprint(i)] = float64(i)
	}
	var digests []string
	for range 3 {
		doc, err := structpb.NewStruct(fields)
		require.NoError(t, err)
		var b view.Batch
		require.NoError(t, b.Put(&c, view.Key{Tenant: "acme", ID: "1"}, doc))
		b.Checkpoint = view.Checkpoint{Namespace: ns, Token: token, LogID: uuid.UUID{1}, Position: 1}
		require.NoError(t, gen.Commit(t.Context(), &b))
		d, err := gen.Digest(t.Context())
		require.NoError(t, err)
		digests = append(digests, d.String())
	}
	require.Equal(t, digests[0], digests[1], "the order of a map says nothing")
	require.Equal(t, digests[0], digests[2])
	require.NoError(t, gen.Close())
	require.NoError(t, s.Close())
}

// The block cache has room beside the memory tables, which Pebble takes off it:
// what was read once is not read again from the disk.
func TestReadAgainFromTheCache(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	counting := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt {
			reads.Add(1)
		}
		return nil
	})
	fs := vfs.NewMem()
	s, err := pebbleview.Open("views", pebbleview.Options{FS: fs, MinFreeBytes: 1})
	require.NoError(t, err)
	w := newWriter(t, s)
	for i := range 2000 {
		w.put(fmt.Sprint(i), strings.Repeat("text ", 100))
	}
	require.NoError(t, w.commit())
	require.NoError(t, w.gen.Close())
	require.NoError(t, s.Close())

	s, err = pebbleview.Open("views", pebbleview.Options{FS: errorfs.Wrap(fs, counting), MinFreeBytes: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	w = newWriter(t, s)
	// As after some time of writing: the memory table has its full size.
	for range 5 {
		for i := range 2000 {
			w.put(fmt.Sprintf("more %d", i), strings.Repeat("x", 4000))
		}
		require.NoError(t, w.commit())
	}
	all := func() int64 {
		before := reads.Load()
		for i := range 2000 {
			_, err := w.gen.Get(t.Context(), "texts", view.Key{Tenant: "acme", ID: fmt.Sprint(i)})
			require.NoError(t, err)
		}
		return reads.Load() - before
	}
	require.Positive(t, all())
	// Pebble may read a little of its own in the background; without room in the
	// cache every look-up takes several reads.
	require.Less(t, all(), int64(200))
	require.NoError(t, w.gen.Close())
}
