package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/internal/broadcast"
)

// Options of a store. The zero value is a good one.
type Options struct {
	// FS is where the folder is. Defaults to the operating system's.
	FS vfs.FS
	// Logger gets warnings, and why the store failed. Defaults to none.
	Logger *slog.Logger
	// CacheBytes is the size of the cache of blocks. Defaults to 16 MiB: scans
	// pass it by and heads have a cache of their own.
	CacheBytes int64
	// MemTableBytes is how much is gathered in memory before it goes into a
	// table; up to four times as much is used while appends are many. Defaults
	// to 16 MiB.
	MemTableBytes int
	// MinFreeBytes of the disk are kept free: appends are refused before.
	// Flushes and compactions live on it. Defaults to 256 MiB; negative for
	// none.
	MinFreeBytes int64
	// BallastBytes is the room that is allocated on the disk and given back
	// when it is full nevertheless. Defaults to 16 MiB.
	BallastBytes int64
	// Now tells the recorded time. Defaults to time.Now.
	Now func() time.Time
	// NewLogID draws the id of a new log. Defaults to uuid.NewRandom.
	NewLogID func() (uuid.UUID, error)
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 16 << 20
	}
	if o.MemTableBytes <= 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = 256 << 20
	}
	if o.BallastBytes <= 0 {
		o.BallastBytes = 16 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewLogID == nil {
		o.NewLogID = uuid.NewRandom
	}
	return o
}

// Store is an eventstore.Store in a folder. Open makes one.
type Store struct {
	opts   Options
	log    *slog.Logger
	folder *folder
	space  *space
	who    identity

	// gate is held for reading while db is used, and for good by Close.
	gate sync.RWMutex
	db   *pebble.DB

	// head is the last position that is durable; nothing behind it is shown.
	head   atomic.Uint64
	news   broadcast.Broadcast
	queue  queue
	closed chan struct{}
	failed chan struct{}

	failure   atomic.Pointer[error]
	failOnce  sync.Once
	closeOnce sync.Once
	closeErr  error
	loops     sync.WaitGroup
	committer *committer

	// lastRecorded is when the last record was recorded, as of Open.
	lastRecorded time.Time
}

var _ eventstore.Store = (*Store)(nil)

// Open opens the store in a folder, or makes a new one in an empty folder or
// one that does not exist. It fails with eventstore.ErrInUse where the store
// is open already, with ErrNewerFormat where a newer version wrote it, with
// ErrInvalid where the folder holds something else, with ErrCorrupt, or with
// ErrFull where the disk has no room even to open it.
func Open(dir string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	folder, err := openFolder(opts.FS, dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts:   opts,
		log:    opts.Logger,
		folder: folder,
		closed: make(chan struct{}),
		failed: make(chan struct{}),
	}
	s.space = newSpace(folder.fs, folder.dir, opts.BallastBytes, uint64(max(opts.MinFreeBytes, 0)))
	s.queue.wake = make(chan struct{}, 1)
	if err := s.open(); err != nil {
		s.space.stop()
		if isFull(err) && !errors.Is(err, eventstore.ErrFull) {
			err = fmt.Errorf("%w: %w", eventstore.ErrFull, err)
		}
		if s.db != nil {
			err = errors.Join(err, s.db.Close())
		}
		return nil, errors.Join(err, folder.close())
	}
	s.committer = newCommitter(s)
	s.space.onStall = s.committer.stalled
	s.space.opening.Store(false)
	s.loops.Go(s.committer.gather)
	s.loops.Go(s.committer.finish)
	return s, nil
}

func (s *Store) open() error {
	who, err := s.folder.identify(s.opts.Now, s.opts.NewLogID)
	if err != nil {
		return err
	}
	s.who = who
	if err := s.space.makeBallast(); err != nil {
		return fmt.Errorf("open event store in %s: %w", s.folder.dir, err)
	}
	s.db, err = pebble.Open(s.folder.fs.PathJoin(s.folder.dir, logDir), s.pebbleOptions())
	if err == nil {
		err = s.failureCause()
	}
	if err != nil {
		return fmt.Errorf("open event store in %s: %w", s.folder.dir, classifyOpen(err, who.Ready))
	}
	if !who.Ready {
		s.who.Ready = true
		if err := s.folder.writeIdentity(s.who); err != nil {
			return fmt.Errorf("open event store in %s: %w", s.folder.dir, err)
		}
	}
	if err := s.recover(); err != nil {
		return fmt.Errorf("open event store in %s: find the head: %w", s.folder.dir, err)
	}
	return nil
}

func classifyOpen(err error, ready bool) error {
	switch {
	case isNewerPebble(err):
		return fmt.Errorf("%w: %w", eventstore.ErrNewerFormat, err)
	case ready && errors.Is(err, pebble.ErrDBDoesNotExist):
		return fmt.Errorf("its log is gone: %w: %w", eventstore.ErrCorrupt, err)
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err)
	default:
		return err
	}
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS: s.space,
		// Pebble takes its memory tables off the cache.
		CacheSize: s.opts.CacheBytes + 3*int64(s.opts.MemTableBytes),
		// Pinned, so that an upgrade of Pebble does not by itself make the
		// store unreadable for the version before.
		FormatMajorVersion: pebble.FormatTableFormatV6,
		MemTableSize:       uint64(s.opts.MemTableBytes),
		// A flush that fails for want of space is noticed well before this
		// many are waiting, so appends are refused rather than stuck.
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		Logger:                      pebbleLogger{log: s.log, fail: s.fail},
		ErrorIfNotExists:            s.who.Ready,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { s.log.Warn("pebble: background work failed", "error", err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.log.Error("pebble: corrupt file", "path", info.Path, "error", info.Details)
			},
		},
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 8 << 10
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What is flushed is soon compacted: compressing it twice is work for nothing.
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	o.TargetFileSizes[0] = 4 << 20
	return o
}

// LogID is eventstore.Store's.
func (s *Store) LogID() uuid.UUID { return s.who.LogID }

// Capabilities is eventstore.Store's: all.
func (s *Store) Capabilities() eventstore.Capabilities {
	return eventstore.Capabilities{
		BatchAppend:    eventstore.Capability{Supported: true},
		DensePositions: eventstore.Capability{Supported: true},
	}
}

// Head is eventstore.Store's.
func (s *Store) Head(ctx context.Context) (eventstore.Position, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("read head: %w", err)
	}
	if s.isClosed() {
		return 0, fmt.Errorf("read head: %w", eventstore.ErrClosed)
	}
	return s.durable(), nil
}

func (s *Store) durable() eventstore.Position { return eventstore.Position(s.head.Load()) }

// Failed is closed when the store can append no more, and never will before it
// is opened again. Failure says why. Reads may still go on; the process should
// stop.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Failure is why the store failed, wrapping eventstore.ErrUnavailable, or nil.
func (s *Store) Failure() error {
	if cause := s.failureCause(); cause != nil {
		return fmt.Errorf("event store failed: %w: %w", eventstore.ErrUnavailable, cause)
	}
	return nil
}

func (s *Store) failureCause() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *Store) fail(cause error) {
	s.failOnce.Do(func() {
		s.failure.Store(&cause)
		s.log.Error("event store failed", "error", cause)
		close(s.failed)
	})
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// closePatience is how long Close waits for Pebble to let go where the store
// failed: it may be stuck for ever behind what it calls fatal.
const closePatience = 5 * time.Second

// Close is eventstore.Store's.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	close(s.closed)
	s.queue.close()
	// Writes that wait for space get none any more.
	s.space.stop()
	s.loops.Wait()
	s.gate.Lock()
	defer s.gate.Unlock()
	err := s.closePebble()
	s.db = nil
	if err != nil {
		err = fmt.Errorf("close event store in %s: %w", s.folder.dir, err)
	}
	return errors.Join(err, s.folder.close())
}

func (s *Store) closePebble() error {
	if s.failureCause() == nil {
		// The next start then finds nothing to replay.
		if !s.space.full.Load() {
			if err := s.db.Flush(); err != nil {
				s.log.Warn("flush before close", "error", err)
			}
		}
		return s.db.Close()
	}
	done := make(chan error, 1)
	db := s.db
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("pebble: %v", r)
			}
		}()
		done <- db.Close()
	}()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case err := <-done:
		// What it finds wrong now is what made the store fail.
		s.log.Debug("pebble closed after a failure", "error", err)
		return nil
	case <-timer.C:
		return errors.New("pebble does not let go after its failure")
	}
}
