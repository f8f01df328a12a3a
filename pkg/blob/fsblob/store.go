package fsblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/parleyhq/parley/pkg/blob"
)

// Store is a folder of blobs. See blob.Store.
type Store struct {
	path string
	root *os.Root
	seq  atomic.Uint64 // of temporary files

	mu   sync.Mutex
	dirs map[string]struct{} // folders that survive a power cut: at most 256 a tenant
}

var _ blob.Store = (*Store)(nil)

const (
	dirMode  = 0o700
	fileMode = 0o600
	// tmpDir holds files being written. No tenant is named like this.
	tmpDir = ".tmp"
	// copyBuffer is how many bytes are written at a time: some chunks of the
	// encryption.
	copyBuffer = 256 << 10
)

// Open opens the folder, made where there is none, and removes what a crash
// left half written.
func Open(dir string) (_ *Store, err error) {
	if dir == "" {
		return nil, fmt.Errorf("open blobs: no folder: %w", blob.ErrInvalid)
	}
	if err := makeAll(dir); err != nil {
		return nil, classify("open blobs in "+dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, classify("open blobs in "+dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	s := &Store{path: dir, root: root, dirs: map[string]struct{}{}}
	if err := s.makeDir(tmpDir); err != nil {
		return nil, classify("open blobs in "+dir, err)
	}
	if err := s.sweep(); err != nil {
		return nil, classify("remove what was left half written in "+dir, err)
	}
	return s, nil
}

// Close is blob.Store's.
func (s *Store) Close() error {
	if err := s.root.Close(); err != nil {
		return classify("close blobs in "+s.path, err)
	}
	return nil
}

// Put is blob.Store's.
func (s *Store) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	if err := blob.CheckName(name); err != nil {
		return fmt.Errorf("put blob: %w", err)
	}
	src := blob.NewContent(ctx, content, size)
	var err error
	if src.Err() == nil {
		err = s.put(name, src, size)
	}
	if src.Err() != nil {
		return fmt.Errorf("put blob %s: %w", name, src.Err())
	}
	return classify("put blob "+name, err)
}

func (s *Store) put(name string, src *blob.Content, size int64) (err error) {
	tmp, err := s.createTemp()
	if err != nil {
		return err
	}
	renamed := false
	defer func() {
		// Closing unlocks, so that it comes last.
		if !renamed {
			err = errors.Join(err, s.root.Remove(tmp.Name()))
		}
		err = errors.Join(err, tmp.Close())
	}()
	// The file's own ReadFrom would choose a smaller buffer.
	to := struct{ io.Writer }{tmp.File}
	if _, err := io.CopyBuffer(to, src, make([]byte, max(1, min(size, copyBuffer)))); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := s.makeDirs(path.Dir(name)); err != nil {
		return err
	}
	if err := s.root.Rename(tmp.Name(), name); err != nil {
		// Somebody removed the folder: the next attempt makes it again.
		s.forget(path.Dir(name))
		return err
	}
	renamed = true
	return s.syncDir(path.Dir(name))
}

// Open is blob.Store's.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if err := errors.Join(blob.CheckName(name), ctx.Err()); err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("open blob %s: %w", name, blob.ErrNotFound)
	}
	if err != nil {
		return nil, 0, classify("open blob "+name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is no file")
	}
	if err != nil {
		return nil, 0, classify("open blob "+name, errors.Join(err, f.Close()))
	}
	return &object{ended: ctx.Err, name: name, file: f}, info.Size(), nil
}

// object is a file being read.
type object struct {
	ended func() error // why the context ended, nil while it goes on
	name  string
	file  *os.File
}

func (o *object) Read(p []byte) (int, error) {
	if err := o.ended(); err != nil {
		return 0, fmt.Errorf("read blob %s: %w", o.name, err)
	}
	n, err := o.file.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, classify("read blob "+o.name, err)
	}
	return n, err
}

func (o *object) Close() error { return classify("close blob "+o.name, o.file.Close()) }

// Delete is blob.Store's.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := errors.Join(blob.CheckName(name), ctx.Err()); err != nil {
		return fmt.Errorf("delete blob: %w", err)
	}
	err := s.root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.syncDir(path.Dir(name))
	}
	return classify("delete blob "+name, err)
}

// makeAll makes a folder and those above it so that they survive a power cut.
func makeAll(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var parents []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil || filepath.Dir(at) == at {
			break
		}
		parents = append(parents, filepath.Dir(at))
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for _, p := range parents {
		d, err := os.Open(p)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// makeDirs makes `<tenant>/<2 hex>`. A folder counts as there only once its
// entry above was synced: another Put may have made it a moment ago.
func (s *Store) makeDirs(dir string) error {
	s.mu.Lock()
	_, ok := s.dirs[dir]
	s.mu.Unlock()
	if ok {
		return nil
	}
	if err := s.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err := s.makeDir(dir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs[dir] = struct{}{}
	return nil
}

func (s *Store) makeDir(dir string) error {
	if err := s.root.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncDir(path.Dir(dir))
}

func (s *Store) forget(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dirs, dir)
}

func (s *Store) syncDir(dir string) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
