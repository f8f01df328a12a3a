package pebbleview

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/internal/guard"
	"github.com/parleyhq/parley/pkg/view/internal/wake"
)

// Options set up a store. The zero value is right for a process of its own.
type Options struct {
	// FS is the file system. Defaults to the operating system's.
	FS vfs.FS
	// CacheBytes is the size of the block cache, which may also use what the
	// memory tables do not need. Defaults to 16 MiB.
	CacheBytes int64
	// MemTableBytes is the most that is kept in memory before it is written to
	// a table; while much is written there may be three times as much. Defaults to 32 MiB.
	MemTableBytes int
	// MinFreeBytes is the space on the disk below which commits are refused. Defaults to 64 MiB.
	MinFreeBytes uint64
	// Logger. Defaults to none.
	Logger *slog.Logger
	// Now is asked how long ago the free space was looked up. Defaults to time.Now.
	Now func() time.Time
}

// Store is a view.Store on Pebble.
type Store struct {
	dir    string
	disk   *disk
	log    *slog.Logger
	now    func() time.Time
	free   uint64
	lock   io.Closer
	db     *pebble.DB
	cache  *pebble.Cache
	guard  *guard.Guard
	health health
	// backlog is what was committed and is not in tables.
	backlog *backlog
	wake    wake.Hub
	// flushedAt is when the memory table was last written out, by flushEvery.
	flushedAt atomic.Int64
	// opening says that Open has not returned yet.
	opening atomic.Bool

	// controlMu is held from reading a control record to replacing it.
	controlMu sync.Mutex

	mu          sync.Mutex
	generations map[view.Namespace]*shared

	spaceMu      sync.Mutex
	spaceChecked time.Time
	spaceFree    uint64
}

var _ view.Store = (*Store)(nil)

// shared is what all handles of one generation have in common.
type shared struct {
	ns      view.Namespace
	number  uint32
	schema  string
	handles int // under Store.mu

	// commits happen one after the other.
	commit sync.Mutex
	token  uint64
	// next number of a document by text index and tenant.
	numbers map[numberKey]uint32
	scratch commitScratch
}

type numberKey struct {
	collection, index uint8
	tenant            string
}

// Open opens the store in a folder, which it makes where there is none. It
// fails with view.ErrInUse and view.ErrNewerFormat.
func Open(dir string, opts Options) (*Store, error) {
	s := &Store{
		dir: dir, log: opts.Logger, now: opts.Now,
		free: cmp.Or(opts.MinFreeBytes, 64<<20), generations: map[view.Namespace]*shared{}, guard: guard.New(),
	}
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	s.disk = newDisk(opts.FS)
	opts.MemTableBytes = cmp.Or(max(opts.MemTableBytes, 0), 32<<20)
	s.backlog = newBacklog(2 * int64(opts.MemTableBytes))
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.open(opts); err != nil {
		return nil, fmt.Errorf("open views in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open(opts Options) (err error) {
	if s.lock, err = openFolder(s.disk, s.dir); err != nil {
		return err
	}
	// Pebble takes its memory tables off the cache.
	s.cache = pebble.NewCache(cmp.Or(opts.CacheBytes, 16<<20) + 3*int64(opts.MemTableBytes))
	s.opening.Store(true)
	s.db, err = pebble.Open(s.disk.PathJoin(s.dir, dbDir), s.options(opts))
	s.opening.Store(false)
	if err == nil && s.Failed() != nil {
		err = errors.Join(s.Failed(), s.db.Close())
	}
	if err != nil {
		s.cache.Unref()
		return errors.Join(err, s.lock.Close())
	}
	return nil
}

func (s *Store) options(opts Options) *pebble.Options {
	o := &pebble.Options{
		FS:    s.disk,
		Cache: s.cache,
		// Pinned, so that an upgrade of Pebble does not by itself make the
		// store unreadable for the version before.
		FormatMajorVersion: pebble.FormatTableFormatV6,
		Merger:             postingMerger,
		// The log of events is the only one that is needed: what was not yet
		// written to tables is folded again.
		DisableWAL:   true,
		MemTableSize: uint64(opts.MemTableBytes),
		// Stopping is backlog's task.
		MemTableStopWritesThreshold: 100,
		// Much is gathered before it is compacted, since documents are mostly
		// overwritten soon, and a small base level keeps what is compacted into
		// it small: measured on a log of 14 million events.
		L0CompactionThreshold: 24,
		L0StopWritesThreshold: 60,
		LBaseMaxBytes:         64 << 20,
		Logger:                pebbleLogger{log: s.log, fail: s.fail},
		EventListener: &pebble.EventListener{
			BackgroundError: s.stumbled,
			FlushEnd: func(info pebble.FlushInfo) {
				if info.Err == nil {
					s.health.background.Store(nil)
					s.backlog.flushed()
				}
			},
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.log.Error("pebble: corrupt file", "path", info.Path, "error", info.Details)
			},
		},
	}
	// Pebble's Open waits for compactions that it begins itself, and to compact
	// what was gathered takes seconds. Until it returns there are none, unless so much
	// was gathered that the next flush would wait for one; then one at a time,
	// beginning with the first flush, which a session's Fence is.
	o.CompactionConcurrencyRange = func() (least, most int) {
		if s.opening.Load() {
			return 0, 1
		}
		return 1, 1
	}
	o.Experimental.L0CompactionConcurrency = o.L0StopWritesThreshold
	o.Experimental.CompactionDebtConcurrency = math.MaxInt64
	o.Experimental.CompactionGarbageFractionForMaxConcurrency = func() float64 { return 0 }
	for i := range o.Levels {
		o.Levels[i].BlockSize = 8 << 10
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What is flushed is soon compacted: compressing it twice is work for nothing.
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	o.TargetFileSizes[0] = 8 << 20
	return o
}

// pebbleLogger takes what Pebble says. What it calls fatal fails the store
// instead of ending the process from within a library.
type pebbleLogger struct {
	log  *slog.Logger
	fail func(error)
}

// Infof drops everyday news: each would be formatted for nobody.
func (pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fail(fmt.Errorf(format, args...))
}

// fail is told what the store cannot go on after.
func (s *Store) fail(cause error) {
	failed := s.health.fail(cause)
	s.backlog.stumbled()
	if failed {
		s.log.Error("views failed; restart the process", "path", s.dir, "error", cause)
	}
}

// stumbled is told what Pebble is going to try again.
func (s *Store) stumbled(err error) {
	s.health.stumbled(err)
	s.backlog.stumbled()
	s.log.Warn("views cannot be written, trying again", "path", s.dir, "error", err)
}

// Failed is view.Store's.
func (s *Store) Failed() error {
	if err := s.health.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Open is view.Store's.
func (s *Store) Open(ctx context.Context, ns view.Namespace, collections ...view.Collection) (view.Generation, error) {
	g, err := s.openGeneration(ctx, ns, collections)
	if err != nil {
		return nil, fmt.Errorf("open generation %s: %w", ns, err)
	}
	return g, nil
}

func (s *Store) openGeneration(ctx context.Context, ns view.Namespace, collections []view.Collection) (*generation, error) {
	if err := errors.Join(ns.Validate(), view.ValidateCollections(collections)); err != nil {
		return nil, err
	}
	if err := s.guard.Enter(ctx); err != nil {
		return nil, err
	}
	defer s.guard.Leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	schema := view.Schema(collections)
	sh := s.generations[ns]
	if sh == nil {
		var err error
		if sh, err = s.loadGeneration(ctx, ns, schema); err != nil {
			return nil, err
		}
	}
	if sh.schema != schema {
		return nil, fmt.Errorf("%w: raise the version of projection %s; filled with\n%sdeclared are\n%s", view.ErrSchema, ns.Projection, sh.schema, schema)
	}
	s.generations[ns] = sh
	sh.handles++
	return newGeneration(s, sh, collections), nil
}

// loadGeneration reads what is known of a generation, or makes a new one.
func (s *Store) loadGeneration(ctx context.Context, ns view.Namespace, schema string) (*shared, error) {
	sh := &shared{ns: ns, schema: schema, numbers: map[numberKey]uint32{}}
	data, closer, err := s.db.Get(namespaceKey(ns))
	if err == nil {
		sh.number, sh.token, sh.schema, err = parseGeneration(data)
		return sh, errors.Join(err, closer.Close())
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("read generation: %w", err)
	}
	number, err := s.nextNumber()
	if err != nil {
		return nil, err
	}
	sh.number = number
	batch := s.db.NewBatch()
	err = errors.Join(
		batch.Set([]byte{kindNext}, binary.BigEndian.AppendUint32(nil, number+1), nil),
		batch.Set(namespaceKey(ns), formatGeneration(sh), nil))
	return sh, errors.Join(err, s.apply(ctx, batch), batch.Close())
}

func (s *Store) nextNumber() (uint32, error) {
	data, closer, err := s.db.Get([]byte{kindNext})
	if errors.Is(err, pebble.ErrNotFound) {
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read next generation number: %w", err)
	}
	defer func() { _ = closer.Close() }() // never fails
	if len(data) != 4 {
		return 0, fmt.Errorf("next generation number: %w", view.ErrCorrupt)
	}
	return binary.BigEndian.Uint32(data), nil
}

// apply commits a batch, which stays the caller's.
func (s *Store) apply(ctx context.Context, batch *pebble.Batch) error {
	if err := errors.Join(s.backlog.wait(ctx, s.health.check), s.checkSpace()); err != nil {
		return err
	}
	s.backlog.add(batch.Len())
	if err := batch.Commit(pebble.NoSync); err != nil {
		s.fail(err)
	}
	return s.Failed()
}

// flushEvery is how old a commit gets at most before the next one has it
// written to a table: so much is folded again after a crash.
const flushEvery = 30 * time.Second

// flushOld writes the memory table out in the background if it is old.
func (s *Store) flushOld() error {
	now := s.now().UnixNano()
	last := s.flushedAt.Load()
	if last == 0 {
		s.flushedAt.CompareAndSwap(0, now)
		return nil
	}
	if time.Duration(now-last) < flushEvery || !s.flushedAt.CompareAndSwap(last, now) {
		return nil
	}
	if _, err := s.db.AsyncFlush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// flush makes everything that was committed survive a crash.
func (s *Store) flush(ctx context.Context) error {
	done, err := s.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	ticker := time.NewTicker(failureDelay)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			// Pebble tries for ever, nobody has to wait for that.
			if err := s.health.check(); err != nil {
				return err
			}
		}
	}
}

// spaceEvery is how often the free space is looked up.
const spaceEvery = 50 * time.Millisecond

func (s *Store) checkSpace() error {
	s.spaceMu.Lock()
	defer s.spaceMu.Unlock()
	if now := s.now(); s.spaceChecked.IsZero() || now.Sub(s.spaceChecked) >= spaceEvery || s.spaceFree < s.free {
		usage, err := s.disk.GetDiskUsage(s.dir)
		switch {
		case errors.Is(err, vfs.ErrUnsupported):
			usage.AvailBytes = s.free
		case err != nil:
			return fmt.Errorf("look up free space in %s: %w", s.dir, err)
		}
		s.spaceChecked, s.spaceFree = now, usage.AvailBytes
	}
	if s.spaceFree < s.free {
		return fmt.Errorf("%w: %d bytes free in %s, at least %d are needed", view.ErrFull, s.spaceFree, s.dir, s.free)
	}
	return nil
}

// Namespaces is view.Store's.
func (s *Store) Namespaces(ctx context.Context) ([]view.Namespace, error) {
	if err := s.guard.Enter(ctx); err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	defer s.guard.Leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindGeneration}, UpperBound: []byte{kindGeneration + 1}})
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	var all []view.Namespace
	for it.First(); it.Valid(); it.Next() {
		ns, err := parseNamespaceKey(it.Key())
		if err != nil {
			return nil, fmt.Errorf("list generations: %w", errors.Join(err, it.Close()))
		}
		all = append(all, ns)
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	return all, nil
}

// Drop is view.Store's.
func (s *Store) Drop(ctx context.Context, ns view.Namespace) error {
	if err := ns.Validate(); err != nil {
		return fmt.Errorf("drop generation: %w", err)
	}
	if err := s.guard.Enter(ctx); err != nil {
		return fmt.Errorf("drop generation %s: %w", ns, err)
	}
	defer s.guard.Leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.drop(ctx, ns); err != nil {
		return fmt.Errorf("drop generation %s: %w", ns, err)
	}
	return nil
}

func (s *Store) drop(ctx context.Context, ns view.Namespace) error {
	if sh := s.generations[ns]; sh != nil {
		return view.ErrInUse
	}
	data, closer, err := s.db.Get(namespaceKey(ns))
	if errors.Is(err, pebble.ErrNotFound) {
		return view.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read generation: %w", err)
	}
	number, _, _, err := parseGeneration(data)
	if err = errors.Join(err, closer.Close()); err != nil {
		return err
	}
	rows := binary.BigEndian.AppendUint32([]byte{kindRows}, number)
	batch := s.db.NewBatch()
	err = errors.Join(
		batch.Delete(namespaceKey(ns), nil),
		batch.Delete(binary.BigEndian.AppendUint32([]byte{kindCheckpoint}, number), nil),
		batch.DeleteRange(rows, binary.BigEndian.AppendUint32([]byte{kindRows}, number+1), nil))
	if err := errors.Join(err, s.apply(ctx, batch), batch.Close()); err != nil {
		return err
	}
	return s.flush(ctx)
}

// closeWait is how long Close waits for a Pebble that has failed: it may hold
// locks that nobody will ever give back.
const closeWait = 2 * time.Second

// Close is view.Store's. It waits for reads that are under way, open snapshots
// among them, and makes all commits survive a crash.
func (s *Store) Close() error {
	if !s.guard.Close() {
		return nil
	}
	<-s.guard.Idle()
	err := s.Failed()
	if err == nil {
		err = s.flush(context.Background())
	}
	s.disk.hurry()
	err = errors.Join(err, s.closeDB(err != nil))
	s.cache.Unref()
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("close views in %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) closeDB(failed bool) error {
	closed := make(chan error, 1)
	go func() { closed <- s.db.Close() }()
	if !failed {
		return <-closed
	}
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err
	case <-timer.C:
		return nil
	}
}

// release gives up a handle of a generation.
func (s *Store) release(sh *shared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.handles--; sh.handles == 0 {
		delete(s.generations, sh.ns)
	}
}
