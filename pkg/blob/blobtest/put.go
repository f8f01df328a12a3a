package blobtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
)

// Sizes around what drivers do differently: nothing, one buffer, S3's least
// part, the parts of several drivers.
var sizes = []int{0, 1, 20_000, 256<<10 + 1, 5 << 20, 5<<20 + 1, 8 << 20, 8<<20 + 1, 17<<20 + 3}

var putTests = map[string]func(*harness){
	"every size comes back": func(h *harness) {
		for i, size := range sizes {
			name, content := h.name(fmt.Sprintf("%02x", i)), random(uint64(i), size)
			h.put(name, content)
			require.True(h, bytes.Equal(content, h.read(name)), "%d bytes", size)
		}
		require.Len(h, h.list(h.tenant+"/", ""), len(sizes))
	},
	"readers that give little at a time": func(h *harness) {
		content := random(1, 70_000)
		for i, r := range []io.Reader{
			iotest.OneByteReader(bytes.NewReader(content)),
			iotest.HalfReader(bytes.NewReader(content)),
			iotest.DataErrReader(bytes.NewReader(content)),
		} {
			name := h.name(fmt.Sprintf("%02x", i))
			require.NoError(h, h.store.Put(h.Context(), name, r, int64(len(content))))
			require.True(h, bytes.Equal(content, h.read(name)))
		}
	},
	"again is harmless and renews": func(h *harness) {
		name, content := h.name("aa"), random(1, 20_000)
		h.put(name, content)
		before := h.list(h.tenant+"/", "")
		require.Len(h, before, 1)
		for range 3 {
			h.put(name, content)
		}
		after := h.list(h.tenant+"/", "")
		require.Len(h, after, 1)
		require.Equal(h, name, after[0].Name)
		require.EqualValues(h, len(content), after[0].Size)
		require.False(h, after[0].Modified.Before(before[0].Modified))
		require.Equal(h, content, h.read(name))
	},
	"an object being read is not disturbed": func(h *harness) {
		name, content := h.name("aa"), random(1, 3<<20)
		h.put(name, content)
		r, _, err := h.store.Open(h.Context(), name)
		require.NoError(h, err)
		first := make([]byte, 1000)
		_, err = io.ReadFull(r, first)
		require.NoError(h, err)
		h.put(name, content)
		rest, err := io.ReadAll(r)
		require.NoError(h, err)
		require.True(h, bytes.Equal(content, bytes.Join([][]byte{first, rest}, nil)))
		require.NoError(h, r.Close())
	},
	"sixteen at once put the same": func(h *harness) {
		for _, size := range []int{20_000, 6 << 20} {
			name, content := h.name(fmt.Sprintf("%02x", size&0xff)), random(uint64(size), size)
			h.together(16, func() error {
				if err := h.store.Put(h.Context(), name, bytes.NewReader(content), int64(size)); err != nil {
					return err
				}
				// Whoever put it sees it whole, however many still put.
				return h.whole(name, content)
			})
		}
		require.Len(h, h.list(h.tenant+"/", ""), 2)
	},
	"sixteen at once put into new folders": func(h *harness) {
		var mu sync.Mutex
		next := 0
		h.together(16, func() error {
			mu.Lock()
			next++
			i := next
			mu.Unlock()
			content := random(uint64(i), 1000*i)
			name := h.name(fmt.Sprintf("ab%02x", i))
			if err := h.store.Put(h.Context(), name, bytes.NewReader(content), int64(len(content))); err != nil {
				return err
			}
			return h.whole(name, content)
		})
		require.Len(h, h.list(h.tenant+"/ab/", ""), 16)
	},
	"nobody sees half": func(h *harness) {
		name, content := h.name("aa"), random(1, 6<<20)
		reached, release := make(chan struct{}), make(chan struct{})
		done := make(chan error, 1)
		go func() {
			src := &gate{src: bytes.NewReader(content), after: 3 << 20, reached: reached, release: release}
			done <- h.store.Put(h.Context(), name, src, int64(len(content)))
		}()
		<-reached
		h.missing(name)
		require.Empty(h, h.list(h.tenant+"/", ""))
		close(release)
		require.NoError(h, <-done)
		require.True(h, bytes.Equal(content, h.read(name)))
	},
}

// gate gives some bytes, says so, and waits before it gives the rest.
type gate struct {
	src              io.Reader
	after            int
	reached, release chan struct{}
}

func (g *gate) Read(p []byte) (int, error) {
	if g.after <= 0 && g.reached != nil {
		close(g.reached)
		g.reached = nil
		<-g.release
	}
	n, err := g.src.Read(p)
	g.after -= n
	return n, err
}

func (h *harness) together(n int, do func() error) {
	h.Helper()
	errs := make(chan error, n)
	for range n {
		go func() { errs <- do() }()
	}
	var all []error
	for range n {
		all = append(all, <-errs)
	}
	require.NoError(h, errors.Join(all...))
}

// whole is read for other goroutines than the test's.
func (h *harness) whole(name string, want []byte) error {
	r, size, err := h.store.Open(h.Context(), name)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if size != int64(len(want)) || !bytes.Equal(got, want) {
		return fmt.Errorf("%s: %d of %d bytes, or others", name, len(got), len(want))
	}
	return nil
}

const (
	largeBytes = 96 << 20
	// maxHeld is how much more memory may be in use while a large object goes
	// through: buffers and parts, not the object.
	maxHeld = 48 << 20
	// watchEvery is how many bytes go by between two looks at the memory.
	watchEvery = 8 << 20
)

// testMemory streams a large object in and out.
func testMemory(h *harness) {
	name := h.name("aa")
	base := heap()
	in := &watched{src: io.LimitReader(pattern{}, largeBytes)}
	require.NoError(h, h.store.Put(h.Context(), name, in, largeBytes))
	require.Less(h, int64(in.most)-int64(base), int64(maxHeld), "while it was put")

	r, size, err := h.store.Open(h.Context(), name)
	require.NoError(h, err)
	require.EqualValues(h, largeBytes, size)
	out := &watched{src: r}
	n, err := io.Copy(io.Discard, struct{ io.Reader }{out})
	require.NoError(h, err)
	require.EqualValues(h, largeBytes, n)
	require.NoError(h, r.Close())
	require.Less(h, int64(out.most)-int64(base), int64(maxHeld), "while it was read")
}

// heap is the memory in use, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

type watched struct {
	src  io.Reader
	seen int
	most uint64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.src.Read(p)
	before := w.seen / watchEvery
	if w.seen += n; w.seen/watchEvery > before {
		w.most = max(w.most, heap())
	}
	return n, err
}

// pattern is an endless content.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		rest = rest[copy(rest, patternText):]
	}
	return len(p), nil
}

var patternText = strings.Repeat("0123456789abcdef", 4096)

var closeTests = map[string]func(*harness){
	"a closed store says so": func(h *harness) {
		name := h.name("aa")
		h.put(name, []byte("x"))
		require.NoError(h, h.store.Close())
		require.ErrorIs(h, h.store.Put(h.Context(), name, strings.NewReader("x"), 1), blob.ErrClosed)
		_, _, err := h.store.Open(h.Context(), name)
		require.ErrorIs(h, err, blob.ErrClosed)
		require.ErrorIs(h, h.store.Delete(h.Context(), name), blob.ErrClosed)
		for _, err := range h.store.List(h.Context(), "", "") {
			require.ErrorIs(h, err, blob.ErrClosed)
		}
		require.NoError(h, h.store.Close())
	},
	"what is open may be read": func(h *harness) {
		name, content := h.name("aa"), random(1, 2<<20)
		h.put(name, content)
		r, _, err := h.store.Open(h.Context(), name)
		require.NoError(h, err)
		require.NoError(h, h.store.Close())
		got, err := io.ReadAll(r)
		require.NoError(h, err)
		require.True(h, bytes.Equal(content, got))
		require.NoError(h, r.Close())
	},
}
