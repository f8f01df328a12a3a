package pebbleview

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleyhq/parley/pkg/view"
)

// disk stands between Pebble and the file system. Pebble tries a flush or a
// compaction that failed again at once, for ever: here every failure of a
// write takes a moment, so that it does not do so thousands of times a second.
type disk struct {
	vfs.FS
	closing chan struct{}
	once    sync.Once
}

// failureDelay is the moment.
const failureDelay = 50 * time.Millisecond

func newDisk(fs vfs.FS) *disk { return &disk{FS: fs, closing: make(chan struct{})} }

// hurry ends all delays: the store is being closed.
func (d *disk) hurry() { d.once.Do(func() { close(d.closing) }) }

func (d *disk) failed(err error) error {
	if err == nil {
		return nil
	}
	timer := time.NewTimer(failureDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.closing:
	}
	return err
}

// Create is vfs.FS's.
func (d *disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	if err != nil {
		return nil, d.failed(err)
	}
	return &diskFile{File: f, disk: d}, nil
}

// Unwrap is for Pebble to find out what is below.
func (d *disk) Unwrap() vfs.FS { return d.FS }

type diskFile struct {
	vfs.File
	disk *disk
}

// Write is vfs.File's.
func (f *diskFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.disk.failed(err)
}

// Sync is vfs.File's.
func (f *diskFile) Sync() error { return f.disk.failed(f.File.Sync()) }

// SyncData is vfs.File's.
func (f *diskFile) SyncData() error { return f.disk.failed(f.File.SyncData()) }

// health is what is known of Pebble's ability to write.
type health struct {
	// failure is final, background passes with the next flush that succeeds.
	failure, background atomic.Pointer[error]
}

// check says why nothing can be committed now.
func (h *health) check() error {
	if err := h.failure.Load(); err != nil {
		return *err
	}
	if err := h.background.Load(); err != nil {
		return *err
	}
	return nil
}

// stumbled notes that a flush or compaction failed, and will be tried again.
func (h *health) stumbled(cause error) {
	kind := view.ErrUnavailable
	if errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT) {
		kind = view.ErrFull
	}
	err := fmt.Errorf("%w: %w", kind, cause)
	h.background.Store(&err)
}

// backlog holds commits back that would gather faster than tables are written.
// Pebble does so itself, but then nobody could give up waiting.
type backlog struct {
	most int64

	mu    sync.Mutex
	bytes int64
	// wake is closed when there may be room, or no more hope.
	wake chan struct{}
}

func newBacklog(most int64) *backlog { return &backlog{most: most, wake: make(chan struct{})} }

func (b *backlog) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += int64(n)
}

// flushed begins to count anew: what was committed during the flush is left
// out, so there may be twice as much.
func (b *backlog) flushed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes = 0
	b.alarm()
}

func (b *backlog) stumbled() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarm()
}

func (b *backlog) alarm() {
	close(b.wake)
	b.wake = make(chan struct{})
}

// wait returns once there is room, or with what check says is wrong.
func (b *backlog) wait(ctx context.Context, check func() error) error {
	for {
		b.mu.Lock()
		full, wake := b.bytes > b.most, b.wake
		b.mu.Unlock()
		if err := check(); err != nil || !full {
			return err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fail notes what nothing goes on after; true for the first such thing.
func (h *health) fail(cause error) bool {
	err := fmt.Errorf("%w: %w", view.ErrFailed, cause)
	return h.failure.CompareAndSwap(nil, &err)
}
