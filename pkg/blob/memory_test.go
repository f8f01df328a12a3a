package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/parleyhq/parley/pkg/blob"
)

// memory is a store whose objects a test can look into and change.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	puts    int
	// wrap changes how objects are read.
	wrap func(io.Reader) io.Reader
	err  error // of every call
}

func newMemory() *memory { return &memory{objects: map[string][]byte{}} }

func (m *memory) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	if err := errors.Join(blob.CheckName(name), m.err); err != nil {
		return err
	}
	src := blob.NewContent(ctx, content, size)
	b, err := io.ReadAll(src)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[name] = b
	m.puts++
	return nil
}

func (m *memory) Open(_ context.Context, name string) (io.ReadCloser, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[name]
	if m.err != nil {
		return nil, 0, m.err
	}
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", name, blob.ErrNotFound)
	}
	var r io.Reader = bytes.NewReader(b)
	if m.wrap != nil {
		r = m.wrap(r)
	}
	return io.NopCloser(r), int64(len(b)), nil
}

func (*memory) Delete(context.Context, string) error { return errors.ErrUnsupported }

func (*memory) List(context.Context, string, string) iter.Seq2[blob.Info, error] {
	return func(func(blob.Info, error) bool) {}
}

func (*memory) Close() error { return nil }

func (m *memory) get(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.objects[name])
}

func (m *memory) set(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[name] = b
}
