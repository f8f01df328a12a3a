package fsblob_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/fsblob"
)

var name = blob.Name("acme", strings.Repeat("ab", 20))

// temporary files that are there.
func temporary(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, ".tmp"))
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestNobodyElseReads(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "on the", "way")
	s := open(t, dir)
	require.NoError(t, s.Put(t.Context(), name, strings.NewReader("x"), 1))
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		require.Equal(t, want, info.Mode().Perm(), path)
		return nil
	}))
	require.Empty(t, temporary(t, dir))
}

// What a crash leaves: files half written, of which nobody has the lock.
func TestLeftoversAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Put(t.Context(), name, strings.NewReader("kept"), 4))
	for _, left := range []string{"1-1", "4711-12", "strange"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".tmp", left), []byte("half"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".tmp", "folder"), 0o700))

	var during []string
	content := &hook{Reader: strings.NewReader("0123456789"), do: func() {
		open(t, dir)
		during = temporary(t, dir)
	}}
	other := blob.Name("acme", strings.Repeat("cd", 20))
	require.NoError(t, s.Put(t.Context(), other, content, 10), "what is being written stays")
	require.Len(t, during, 2, "that, and what is no file: %v", during)
	require.Equal(t, []string{"folder"}, temporary(t, dir))
	var found []string
	for info, err := range s.List(t.Context(), "", "") {
		require.NoError(t, err)
		found = append(found, info.Name)
	}
	require.Equal(t, []string{name, other}, found)
}

// hook does something once it is read.
type hook struct {
	io.Reader
	do func()
}

func (h *hook) Read(p []byte) (int, error) {
	if h.do != nil {
		h.do()
		h.do = nil
	}
	return h.Reader.Read(p)
}

// Stores that open all the time take nothing away from those that write.
func TestOpeningWhileOthersWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	content := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			other, err := fsblob.Open(dir)
			if err == nil {
				err = other.Close()
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for range 200 {
		require.NoError(t, s.Put(t.Context(), name, bytes.NewReader(content), int64(len(content))))
	}
	close(stop)
	require.NoError(t, <-done)
	require.Empty(t, temporary(t, dir))
}

func TestFilesThatAreNoBlobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Put(t.Context(), name, strings.NewReader("x"), 1))
	outside := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	link := blob.Name("acme", strings.Repeat("ac", 20))
	folder := blob.Name("acme", strings.Repeat("ad", 20))
	for _, d := range []string{filepath.Dir(link), folder, "acme/zz", "lost+found", "other"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, link)))
	require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(dir, "evil")))
	for _, f := range []string{"README", "acme/README", "acme/ab/README", name + ".bak", "acme/ab/" + strings.Repeat("ac", 20)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
	}
	var found []string
	for info, err := range s.List(t.Context(), "", "") {
		require.NoError(t, err)
		found = append(found, info.Name)
	}
	require.Equal(t, []string{name}, found)
	for what, n := range map[string]string{"a link out": link, "a folder": folder} {
		_, _, err := s.Open(t.Context(), n)
		require.ErrorIs(t, err, blob.ErrUnavailable, what)
	}
	err := s.Put(t.Context(), blob.Name("evil", strings.Repeat("ab", 20)), strings.NewReader("x"), 1)
	require.ErrorIs(t, err, blob.ErrUnavailable, "a tenant that leads out of the folder")
	entries, err := os.ReadDir(filepath.Dir(outside))
	require.NoError(t, err)
	require.Len(t, entries, 1)

	// A put replaces a link and does not write through it.
	require.NoError(t, s.Put(t.Context(), link, strings.NewReader("x"), 1))
	b, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "secret", string(b))
}

func TestFoldersThatGoAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Put(t.Context(), name, strings.NewReader("x"), 1))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "acme")))
	require.ErrorIs(t, s.Put(t.Context(), name, strings.NewReader("x"), 1), blob.ErrUnavailable)
	require.NoError(t, s.Put(t.Context(), name, strings.NewReader("x"), 1), "trying again helps")
	require.Empty(t, temporary(t, dir))
}

func TestFoldersThatCannotBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := fsblob.Open(file)
	require.ErrorIs(t, err, blob.ErrUnavailable)
	_, err = fsblob.Open(filepath.Join(file, "below"))
	require.ErrorIs(t, err, blob.ErrUnavailable)
	_, err = fsblob.Open("")
	require.ErrorIs(t, err, blob.ErrInvalid)
	if os.Getuid() == 0 {
		t.Skip("root may do everything")
	}
	denied := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.Mkdir(denied, 0o500))
	_, err = fsblob.Open(denied)
	require.ErrorIs(t, err, blob.ErrDenied)
}

// Every descriptor that a put takes it gives back, also where it fails.
func TestDescriptorsAreGivenBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	before := descriptors(t)
	for range 100 {
		require.NoError(t, s.Put(t.Context(), name, strings.NewReader("x"), 1))
		require.Error(t, s.Put(t.Context(), name, strings.NewReader("x"), 2))
		_, _, err := s.Open(t.Context(), blob.Name("acme", strings.Repeat("00", 20)))
		require.ErrorIs(t, err, blob.ErrNotFound)
		for _, err := range s.List(t.Context(), "", "") {
			require.NoError(t, err)
		}
		require.NoError(t, s.Delete(t.Context(), name))
	}
	require.LessOrEqual(t, descriptors(t), before+5)
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTSUP) {
		t.Skip("the platform does not tell")
	}
	require.NoError(t, err)
	return len(entries)
}
