package embedded

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// space watches over the room that the store has on its disk. It stands
// between Pebble and the file system and keeps Pebble from ever seeing "no
// space" where that would be its end: in its log and manifest. There the
// ballast is given back and the write tried again; and if that does not help,
// the write waits. Table files may fail: Pebble tries flushes and compactions
// again.
//
// Once anything met a full disk the store is full until there is room for a
// new ballast and the reserve.
type space struct {
	vfs.FS
	dir          string
	ballastName  string
	probeName    string
	ballastBytes int64
	minFree      uint64
	// onStall is told once each time a write begins to wait.
	onStall func(error)

	full    atomic.Bool
	stalled atomic.Int32 // number of writes that wait
	// opening: nothing waits yet, and table files get the ballast too, so
	// that a store with a full disk can at least be read.
	opening atomic.Bool
	closing chan struct{}
	closed  sync.Once

	mu         sync.Mutex
	ballast    bool // is there
	checked    time.Time
	uncheckedN int64 // bytes appended since
}

const (
	// fullRetry is how often a waiting write is tried again, how long a
	// failing table file is slowed (Pebble tries again at once), and how often
	// a full store looks for space.
	fullRetry = 100 * time.Millisecond
	// The free space is asked for this often or after so many bytes appended.
	checkEvery      = 50 * time.Millisecond
	checkEveryBytes = 4 << 20
	// probeBytes is what must be writable before a full store takes appends.
	probeBytes = 1 << 20
)

func newSpace(fs vfs.FS, dir string, ballastBytes int64, minFree uint64) *space {
	s := &space{
		FS:           fs,
		dir:          dir,
		ballastName:  fs.PathJoin(dir, ballastFile),
		probeName:    fs.PathJoin(dir, probeFile),
		ballastBytes: ballastBytes,
		minFree:      minFree,
		closing:      make(chan struct{}),
		onStall:      func(error) {},
	}
	s.opening.Store(true)
	return s
}

// makeBallast puts the ballast in place. A disk too full for it is no error,
// but makes the store full.
func (s *space) makeBallast() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.Stat(s.ballastName); err == nil {
		s.ballast = true
		return nil
	}
	err := s.reserve(s.ballastName, 0)
	switch {
	case err == nil:
		s.ballast = true
		return nil
	case isFull(err):
		s.full.Store(true)
		return nil
	default:
		return err
	}
}

// reserve makes a file that holds the ballast's room, and really writes some
// bytes of it. The room of a ballast is allocated, not written: where the
// platform has no such call there is none, and the reserve alone stands guard.
func (s *space) reserve(name string, write int) (err error) {
	f, err := s.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, s.Remove(name))
		}
	}()
	if err := f.Preallocate(0, s.ballastBytes); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
		return fmt.Errorf("reserve %d bytes in %s: %w", s.ballastBytes, name, err)
	}
	if write > 0 {
		if _, err := f.Write(make([]byte, write)); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", name, err)
		}
	}
	return nil
}

// giveBack frees the ballast. It answers whether there was one.
func (s *space) giveBack() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ballast {
		return false
	}
	s.ballast = false
	return s.Remove(s.ballastName) == nil
}

// admit says whether there is room for an append of n bytes.
func (s *space) admit(n int64) error {
	if s.stalled.Load() > 0 {
		return errDiskFull
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uncheckedN += n
	if s.full.Load() {
		if time.Since(s.checked) < fullRetry {
			return errDiskFull
		}
		return s.recover()
	}
	if s.uncheckedN < checkEveryBytes && time.Since(s.checked) < checkEvery {
		return nil
	}
	return s.checkReserve()
}

var errDiskFull = errors.New("no space left on the disk")

func (s *space) checkReserve() error {
	s.checked, s.uncheckedN = time.Now(), 0
	// Where the file system does not tell, the ballast alone stands guard.
	if usage, err := s.GetDiskUsage(s.dir); err == nil && usage.AvailBytes < s.minFree {
		s.full.Store(true)
		return fmt.Errorf("%d bytes are left on the disk, %d are kept free: %w", usage.AvailBytes, s.minFree, errDiskFull)
	}
	return nil
}

// recover looks whether a full store has room again.
func (s *space) recover() error {
	if err := s.checkReserve(); err != nil {
		return err
	}
	if err := s.reserve(s.probeName, probeBytes); err != nil {
		return fmt.Errorf("%w: %w", errDiskFull, err)
	}
	if s.ballast {
		if err := s.Remove(s.probeName); err != nil {
			return fmt.Errorf("remove %s: %w", s.probeName, err)
		}
	} else {
		if err := s.FS.Rename(s.probeName, s.ballastName); err != nil {
			return fmt.Errorf("rename %s: %w", s.probeName, err)
		}
		s.ballast = true
	}
	s.full.Store(false)
	return nil
}

// stop ends all waiting: writes that wait fail.
func (s *space) stop() { s.closed.Do(func() { close(s.closing) }) }

// attempt does a write that may find the disk full. vital ones are tried until
// there is space.
func (s *space) attempt(vital bool, write func() error) error {
	err := write()
	if err == nil || !isFull(err) {
		return err
	}
	s.full.Store(true)
	opening := s.opening.Load()
	if vital || opening {
		if s.giveBack() {
			if err = write(); err == nil || !isFull(err) {
				return err
			}
		}
		if opening {
			return err
		}
	}
	if !vital {
		s.pause()
		return err
	}
	if s.stalled.Add(1) == 1 {
		s.onStall(err)
	}
	defer s.stalled.Add(-1)
	for s.pause() {
		if err = write(); err == nil || !isFull(err) {
			return err
		}
	}
	return err
}

// pause waits a little. It answers false once the store closes.
func (s *space) pause() bool {
	t := time.NewTimer(fullRetry)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.closing:
		return false
	}
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isVital says whether Pebble cannot go on without this file.
func isVital(name string) bool {
	return !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".blob")
}

// Unwrap is for vfs.Root.
func (s *space) Unwrap() vfs.FS { return s.FS }

// Create, and the methods below, are vfs.FS's.
func (s *space) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return s.openWith(name, func() (vfs.File, error) { return s.FS.Create(name, category) })
}

// ReuseForWrite is vfs.FS's.
func (s *space) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return s.openWith(newname, func() (vfs.File, error) { return s.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenReadWrite is vfs.FS's.
func (s *space) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.openWith(name, func() (vfs.File, error) { return s.FS.OpenReadWrite(name, category, opts...) })
}

func (s *space) openWith(name string, open func() (vfs.File, error)) (vfs.File, error) {
	vital := isVital(name)
	var f vfs.File
	err := s.attempt(vital, func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &spaceFile{File: f, space: s, vital: vital}, nil
}

// Link is vfs.FS's.
func (s *space) Link(oldname, newname string) error {
	return s.attempt(isVital(newname), func() error { return s.FS.Link(oldname, newname) })
}

// Rename is vfs.FS's.
func (s *space) Rename(oldname, newname string) error {
	return s.attempt(isVital(newname), func() error { return s.FS.Rename(oldname, newname) })
}

type spaceFile struct {
	vfs.File
	space *space
	vital bool
}

func (f *spaceFile) Write(p []byte) (int, error) {
	written := 0
	err := f.space.attempt(f.vital, func() error {
		n, err := f.File.Write(p[written:])
		written += n
		return err
	})
	return written, err
}

func (f *spaceFile) WriteAt(p []byte, off int64) (int, error) {
	written := 0
	err := f.space.attempt(f.vital, func() error {
		n, err := f.File.WriteAt(p[written:], off+int64(written))
		written += n
		return err
	})
	return written, err
}

// Preallocate only makes later writes cheaper: where there is no space for it,
// those say so.
func (f *spaceFile) Preallocate(offset, length int64) error {
	if err := f.File.Preallocate(offset, length); err != nil && !isFull(err) {
		return err
	}
	return nil
}
