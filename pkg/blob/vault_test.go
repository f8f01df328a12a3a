package blob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
)

var secret = []byte("0123456789abcdef")

func vault(t testing.TB, store blob.Store, secret []byte, opts blob.Options) *blob.Vault {
	t.Helper()
	v, err := blob.NewVault(store, secret, opts)
	require.NoError(t, err)
	return v
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	// A ChaCha8 never fails.
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func readAll(t testing.TB, v *blob.Vault, ref blob.Ref) ([]byte, error) {
	t.Helper()
	r, err := v.Open(t.Context(), "acme", ref)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	require.NoError(t, r.Close())
	if err == nil {
		require.EqualValues(t, len(b), r.Size())
	}
	return b, err
}

// References stand in events for ever, and objects in stores: neither may change.
func TestFormatNeverChanges(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{})
	for content, want := range map[string]struct{ ref, object string }{
		"":           {goldenEmptyRef, goldenEmptyObject},
		"dear madam": {goldenRef, goldenObject},
	} {
		ref, err := v.Put(t.Context(), "acme", strings.NewReader(content))
		require.NoError(t, err)
		require.Equal(t, want.ref, ref.Text())
		object := store.get(blob.Name("acme", ref.ID()))
		require.Equal(t, want.object, hex.EncodeToString(object))
	}
	ref, err := v.Put(t.Context(), "acme", bytes.NewReader(random(1, 200_000)))
	require.NoError(t, err)
	sum := sha256.Sum256(store.get(blob.Name("acme", ref.ID())))
	require.Equal(t, goldenLargeObject, hex.EncodeToString(sum[:]))
}

func TestWhatGoesInComesOut(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{})
	for _, size := range []int{0, 1, 2, 65_534, 65_535, 65_536, 65_537, 131_071, 131_072, 1 << 20} {
		content := random(2, size)
		ref, err := v.Put(t.Context(), "acme", bytes.NewReader(content))
		require.NoError(t, err)
		for _, wrap := range []func(io.Reader) io.Reader{nil, iotest.HalfReader, iotest.DataErrReader} {
			store.wrap = wrap
			got, err := readAll(t, v, ref)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got), "%d bytes", size)
		}
		store.wrap = nil
		parsed, err := blob.ParseRef(ref.Text())
		require.NoError(t, err)
		require.Equal(t, ref, parsed)
		r, err := v.Open(t.Context(), "acme", parsed)
		require.NoError(t, err)
		require.NoError(t, iotest.TestReader(r, content))
	}
}

func TestTheSameContentIsTheSameBlob(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{})
	mail := random(3, 20_000)
	put := func(v *blob.Vault, tenant string, content []byte) blob.Ref {
		ref, err := v.Put(t.Context(), tenant, bytes.NewReader(content))
		require.NoError(t, err)
		return ref
	}
	first := put(v, "acme", mail)
	object := store.get(blob.Name("acme", first.ID()))
	require.Equal(t, first, put(v, "acme", mail))
	require.Equal(t, first, put(vault(t, newMemory(), secret, blob.Options{}), "acme", mail), "in another process too")
	require.Len(t, store.objects, 1)
	require.Equal(t, object, store.get(blob.Name("acme", first.ID())))

	changed := bytes.Clone(mail)
	changed[len(changed)-1]++
	for what, other := range map[string]blob.Ref{
		"content": put(v, "acme", changed),
		"tenant":  put(v, "acme2", mail),
		"secret":  put(vault(t, store, []byte("another secret!!"), blob.Options{}), "acme", mail),
	} {
		require.NotEqual(t, first.ID(), other.ID(), what)
		require.NotEqual(t, keyOf(first), keyOf(other), what)
	}
	got, err := readAll(t, vault(t, store, []byte("another secret!!"), blob.Options{}), first)
	require.NoError(t, err, "reading needs no secret")
	require.Equal(t, mail, got)
	_, err = v.Open(t.Context(), "acme2", first)
	require.ErrorIs(t, err, blob.ErrNotFound, "another tenant has it not")
}

func keyOf(r blob.Ref) string { return r.Text()[strings.LastIndexByte(r.Text(), '.')+1:] }

func TestTheStoreSeesNothing(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{})
	content := []byte(strings.Repeat("strictly confidential ", 10_000))
	ref, err := v.Put(t.Context(), "acme", bytes.NewReader(content))
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	for name, object := range store.objects {
		require.NotContains(t, string(object), "confidential")
		require.NotContains(t, name, hex.EncodeToString(sum[:8]))
		require.NotContains(t, name, keyOf(ref))
	}
}

func TestAnyDamageIsSeen(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{})
	content := random(4, 150_000) // three chunks
	ref, err := v.Put(t.Context(), "acme", bytes.NewReader(content))
	require.NoError(t, err)
	other, err := v.Put(t.Context(), "acme", bytes.NewReader(random(5, 150_000)))
	require.NoError(t, err)
	empty, err := v.Put(t.Context(), "acme", strings.NewReader(""))
	require.NoError(t, err)
	name := blob.Name("acme", ref.ID())
	object := store.get(name)
	const chunk = 16 + 65_536 + 16
	damaged := map[string][]byte{
		"nothing left":          {},
		"another blob's":        store.get(blob.Name("acme", other.ID())),
		"an empty blob's":       store.get(blob.Name("acme", empty.ID())),
		"chunk missing":         append(bytes.Clone(object[:chunk]), object[2*chunk:]...),
		"first chunk missing":   object[chunk:],
		"chunks swapped":        append(append(bytes.Clone(object[chunk:2*chunk]), object[:chunk]...), object[2*chunk:]...),
		"chunk twice":           append(bytes.Clone(object[:chunk]), object...),
		"last chunk twice":      append(bytes.Clone(object), object[2*chunk:]...),
		"one byte more":         append(bytes.Clone(object), 0),
		"zeros":                 make([]byte, len(object)),
		"all of it twice":       append(bytes.Clone(object), object...),
		"cut at a chunk":        object[:2*chunk],
		"cut at the first one":  object[:chunk],
		"cut in a header":       object[:chunk+7],
		"only a header":         object[:16],
		"less than a header":    object[:3],
		"no content in the end": object[:2*chunk+32],
	}
	for i := 0; i < len(object); i += 1237 {
		damaged[fmt.Sprintf("bit at %d", i)] = flip(object, i)
		damaged[fmt.Sprintf("cut at %d", i)] = object[:i]
	}
	for i := range 32 {
		damaged[fmt.Sprintf("bit at %d", i)] = flip(object, i)
		damaged[fmt.Sprintf("bit at %d from the end", i)] = flip(object, len(object)-1-i)
	}
	for what, b := range damaged {
		store.set(name, b)
		got, err := readAll(t, v, ref)
		require.ErrorIs(t, err, blob.ErrCorrupt, what)
		require.True(t, bytes.HasPrefix(content, got), "%s: what was handed out is genuine", what)
	}
	store.set(name, object)
	got, err := readAll(t, v, ref)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))

	// Another key.
	wrong, err := blob.ParseRef(ref.Text()[:len(ref.Text())-43] + keyOf(other))
	require.NoError(t, err)
	_, err = v.Open(t.Context(), "acme", wrong)
	require.ErrorIs(t, err, blob.ErrCorrupt)
	require.NotContains(t, err.Error(), keyOf(other))
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

var errStore = errors.New("store broke")

func TestFailuresOfTheStoreAreNoDamage(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{})
	ref, err := v.Put(t.Context(), "acme", bytes.NewReader(random(6, 150_000)))
	require.NoError(t, err)
	for _, failing := range []error{errStore, io.ErrUnexpectedEOF, context.DeadlineExceeded} {
		for _, after := range []int64{0, 1, 16, 60_000, 65_568, 100_000, 150_000} {
			store.wrap = func(r io.Reader) io.Reader {
				return io.MultiReader(io.LimitReader(r, after), iotest.ErrReader(failing))
			}
			_, err := readAll(t, v, ref)
			require.ErrorIs(t, err, failing, "after %d", after)
			require.NotErrorIs(t, err, blob.ErrCorrupt)
		}
	}
	store.wrap = nil
	store.err = fmt.Errorf("down: %w", blob.ErrUnavailable)
	_, err = v.Open(t.Context(), "acme", ref)
	require.ErrorIs(t, err, blob.ErrUnavailable)
	_, err = v.Put(t.Context(), "acme", strings.NewReader("x"))
	require.ErrorIs(t, err, blob.ErrUnavailable)
}

func TestErrorsStay(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{})
	ref, err := v.Put(t.Context(), "acme", bytes.NewReader(random(7, 150_000)))
	require.NoError(t, err)
	name := blob.Name("acme", ref.ID())
	store.set(name, flip(store.get(name), 70_000))
	r, err := v.Open(t.Context(), "acme", ref)
	require.NoError(t, err)
	_, first := io.Copy(io.Discard, r)
	require.ErrorIs(t, first, blob.ErrCorrupt)
	for range 3 {
		n, again := r.Read(make([]byte, 100_000))
		require.Zero(t, n)
		require.Equal(t, first, again)
	}
}

func TestContentThatChanges(t *testing.T) {
	t.Parallel()
	a, b := random(8, 100_000), random(9, 100_000)
	for what, second := range map[string][]byte{
		"others": b, "one bit at the end": flip(a, len(a)-1), "fewer": a[:99_999], "none": nil, "more": append(bytes.Clone(a), 0),
	} {
		store := newMemory()
		v := vault(t, store, secret, blob.Options{})
		_, err := v.Put(t.Context(), "acme", &rereader{readings: [][]byte{a, second}})
		require.ErrorIs(t, err, blob.ErrInvalid, what)
		require.Empty(t, store.objects, what)
	}
	store := newMemory()
	_, err := vault(t, store, secret, blob.Options{}).Put(t.Context(), "acme", &rereader{readings: [][]byte{{}, {1}}})
	require.ErrorIs(t, err, blob.ErrInvalid, "nothing, then something")
	require.Empty(t, store.objects)
}

// rereader gives another content each time it is rewound.
type rereader struct {
	readings [][]byte
	at       int
	src      io.Reader
	failing  error // in place of the end of the last reading
	seekErr  error
}

func (r *rereader) Seek(int64, int) (int64, error) {
	if r.seekErr != nil {
		return 0, r.seekErr
	}
	r.src = bytes.NewReader(r.readings[r.at])
	if r.at++; r.at == len(r.readings) && r.failing != nil {
		r.src = io.MultiReader(r.src, iotest.ErrReader(r.failing))
	}
	return 0, nil
}

func (r *rereader) Read(p []byte) (int, error) { return r.src.Read(p) }

func TestContentThatFails(t *testing.T) {
	t.Parallel()
	a := random(10, 100_000)
	// The second is what the encryption would take for the content's end.
	for _, failing := range []error{errStore, io.ErrUnexpectedEOF} {
		for what, c := range map[string]*rereader{
			"measured":   {readings: [][]byte{a}, failing: failing},
			"encrypted":  {readings: [][]byte{a, a[:50_000]}, failing: failing},
			"at the end": {readings: [][]byte{a, a}, failing: failing},
			"rewound":    {seekErr: failing},
		} {
			store := newMemory()
			_, err := vault(t, store, secret, blob.Options{}).Put(t.Context(), "acme", c)
			require.ErrorIs(t, err, failing, what)
			require.Empty(t, store.objects, what)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	store := newMemory()
	v := vault(t, store, secret, blob.Options{MaxBytes: 1000})
	require.EqualValues(t, 1000, v.MaxBytes())
	ref, err := v.Put(t.Context(), "acme", bytes.NewReader(random(1, 1000)))
	require.NoError(t, err)
	_, err = v.Put(t.Context(), "acme", bytes.NewReader(random(1, 1001)))
	require.ErrorIs(t, err, blob.ErrTooLarge)
	require.Equal(t, 1, store.puts)
	_, err = readAll(t, vault(t, store, secret, blob.Options{MaxBytes: 10}), ref)
	require.NoError(t, err, "what is kept stays readable")
	require.EqualValues(t, 64<<20, vault(t, store, secret, blob.Options{}).MaxBytes())

	_, err = blob.NewVault(store, secret[:15], blob.Options{})
	require.ErrorIs(t, err, blob.ErrInvalid)
	_, err = blob.NewVault(store, secret, blob.Options{MaxBytes: -1})
	require.ErrorIs(t, err, blob.ErrInvalid)

	for _, tenant := range []string{"", "Acme", "a/b", "..", "a-b", strings.Repeat("a", 41), "a\x00b"} {
		_, err = v.Put(t.Context(), tenant, strings.NewReader("x"))
		require.ErrorIs(t, err, blob.ErrInvalid, tenant)
		_, err = v.Open(t.Context(), tenant, ref)
		require.ErrorIs(t, err, blob.ErrInvalid, tenant)
	}
	_, err = v.Open(t.Context(), "acme", blob.Ref{})
	require.ErrorIs(t, err, blob.ErrInvalid)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = v.Put(ctx, "acme", strings.NewReader("x"))
	require.ErrorIs(t, err, context.Canceled)
}

// Whatever a store answers, reading ends with an error or with the content.
func FuzzOpen(f *testing.F) {
	store := newMemory()
	v := vault(f, store, secret, blob.Options{})
	content := random(11, 70_000)
	ref, err := v.Put(f.Context(), "acme", bytes.NewReader(content))
	require.NoError(f, err)
	object := store.get(blob.Name("acme", ref.ID()))
	f.Add(object, 0, byte(0))
	f.Add(object[:100], 4, byte(0x80))
	f.Add([]byte{0x20, 0, 0xff, 0xff, 0x80}, 1, byte(1))
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at int, xor byte) {
		if len(b) > 0 {
			b = bytes.Clone(b)
			b[uint(at)%uint(len(b))] ^= xor
		}
		store := newMemory()
		store.set(blob.Name("acme", ref.ID()), b)
		v := vault(t, store, secret, blob.Options{})
		got, err := readAll(t, v, ref)
		if err != nil {
			require.ErrorIs(t, err, blob.ErrCorrupt)
			return
		}
		require.True(t, bytes.Equal(content, got))
	})
}
