package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
)

var errContent = errors.New("the content broke")

var failureTests = map[string]func(*harness){
	"what is not there": func(h *harness) {
		h.missing(h.name("aa"))
		h.put(h.name("aa"), []byte("x"))
		h.missing(h.name("ab"))
		h.missing(h.name("aaa"))
	},
	"malformed names are refused": func(h *harness) {
		for what, name := range malformed() {
			require.ErrorIs(h, h.store.Put(h.Context(), name, strings.NewReader("x"), 1), blob.ErrInvalid, what)
			_, _, err := h.store.Open(h.Context(), name)
			require.ErrorIs(h, err, blob.ErrInvalid, what)
			require.ErrorIs(h, h.store.Delete(h.Context(), name), blob.ErrInvalid, what)
			if name != "" {
				h.refusedListing("", name, what)
			}
		}
	},
	"content of another size": func(h *harness) {
		for _, size := range []int{1, 1000, 6 << 20, 9 << 20} {
			content := random(1, size)
			for _, said := range []int64{0, int64(size) - 1, int64(size) + 1, int64(size) * 3, -1, -1 << 62} {
				if said == int64(size) {
					continue
				}
				err := h.store.Put(h.Context(), h.name("aa"), bytes.NewReader(content), said)
				require.ErrorIs(h, err, blob.ErrInvalid, "%d said to be %d", size, said)
			}
		}
		require.ErrorIs(h, h.store.Put(h.Context(), h.name("aa"), strings.NewReader(""), 1), blob.ErrInvalid)
		h.nothing()
	},
	"content that fails": func(h *harness) {
		for _, failing := range []error{errContent, io.ErrUnexpectedEOF, io.ErrClosedPipe} {
			for _, size := range []int{0, 1, 20_000, 6 << 20, 17 << 20} {
				for _, said := range []int{size, size + 1, 2 * size} {
					src := io.MultiReader(bytes.NewReader(random(1, size)), iotest.ErrReader(failing))
					err := h.store.Put(h.Context(), h.name("aa"), src, int64(said))
					require.ErrorIs(h, err, failing, "%d of %d", size, said)
					require.NotErrorIs(h, err, blob.ErrUnavailable, "it was not the store")
				}
			}
		}
		h.nothing()
	},
	"a failed put leaves what was there": func(h *harness) {
		name, content := h.name("aa"), random(1, 20_000)
		h.put(name, content)
		src := io.MultiReader(bytes.NewReader(content[:10_000]), iotest.ErrReader(errContent))
		require.ErrorIs(h, h.store.Put(h.Context(), name, src, int64(len(content))), errContent)
		require.Equal(h, content, h.read(name))
	},
	"cancelled before": func(h *harness) {
		h.put(h.name("bb"), []byte("x"))
		ctx, cancel := context.WithCancel(h.Context())
		cancel()
		require.ErrorIs(h, h.store.Put(ctx, h.name("aa"), strings.NewReader("x"), 1), context.Canceled)
		_, _, err := h.store.Open(ctx, h.name("bb"))
		require.ErrorIs(h, err, context.Canceled)
		require.ErrorIs(h, h.store.Delete(ctx, h.name("bb")), context.Canceled)
		var last error
		for _, err := range h.store.List(ctx, h.tenant+"/", "") {
			last = err
		}
		require.ErrorIs(h, last, context.Canceled)
		require.Equal(h, []byte("x"), h.read(h.name("bb")))
		h.missing(h.name("aa"))
	},
	"cancelled in the middle": func(h *harness) {
		for _, size := range []int{2, 20_000, 6 << 20, 17 << 20} {
			ctx, cancel := context.WithCancel(h.Context())
			src := &canceller{src: bytes.NewReader(random(1, size)), left: size / 2, cancel: cancel}
			// Little at a time, so that there is a middle.
			err := h.store.Put(ctx, h.name("aa"), &pieces{src: src, most: max(size/4, 1)}, int64(size))
			require.ErrorIs(h, err, context.Canceled, "%d bytes", size)
			cancel()
		}
		h.nothing()
	},
	"cancelled while it is read": func(h *harness) {
		name := h.name("aa")
		h.put(name, random(1, 17<<20))
		ctx, cancel := context.WithCancel(h.Context())
		defer cancel()
		r, _, err := h.store.Open(ctx, name)
		require.NoError(h, err)
		_, err = io.ReadFull(r, make([]byte, 1000))
		require.NoError(h, err)
		cancel()
		_, err = io.Copy(io.Discard, r)
		require.ErrorIs(h, err, context.Canceled)
		require.NoError(h, r.Close())
	},
}

// pieces gives at most so many bytes at a time.
type pieces struct {
	src  io.Reader
	most int
}

func (s *pieces) Read(p []byte) (int, error) { return s.src.Read(p[:min(len(p), s.most)]) }

// nothing says that the failures left no object.
func (h *harness) nothing() {
	h.Helper()
	h.missing(h.name("aa"))
	require.Empty(h, h.list(h.tenant+"/", ""))
}

func (h *harness) refusedListing(prefix, after, what string) {
	h.Helper()
	count := 0
	for _, err := range h.store.List(h.Context(), prefix, after) {
		require.ErrorIs(h, err, blob.ErrInvalid, what)
		count++
	}
	require.Equal(h, 1, count, what)
}

var deleteTests = map[string]func(*harness){
	"it is gone, alone": func(h *harness) {
		h.put(h.name("aa"), []byte("a"))
		h.put(h.name("aab"), []byte("b"))
		require.NoError(h, h.store.Delete(h.Context(), h.name("aa")))
		h.missing(h.name("aa"))
		require.Equal(h, []byte("b"), h.read(h.name("aab")))
		require.Equal(h, []string{h.name("aab")}, names(h.list(h.tenant+"/", "")))
		h.put(h.name("aa"), []byte("a"))
		require.Equal(h, []byte("a"), h.read(h.name("aa")))
	},
	"what is not there": func(h *harness) {
		require.NoError(h, h.store.Delete(h.Context(), h.name("aa")))
		h.put(h.name("aa"), nil)
		require.NoError(h, h.store.Delete(h.Context(), h.name("aa")))
		require.NoError(h, h.store.Delete(h.Context(), h.name("aa")))
		require.NoError(h, h.store.Delete(h.Context(), h.name("aab")))
	},
}
