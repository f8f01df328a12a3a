package embedded_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

const patience = 30 * time.Second

// smallDisk is a file system with so many bytes of room. What is beyond is
// ENOSPC, in the middle of a write too.
type smallDisk struct {
	vfs.FS
	// tells: GetDiskUsage is supported.
	tells bool
	// keeps: what is removed does not come back as room, as if another took
	// it at once.
	keeps atomic.Bool

	mu       sync.Mutex
	capacity int64
	used     int64
	files    map[string]*usage
	refused  int
}

type usage struct{ size, reserved int64 }

func newSmallDisk(capacity int64) *smallDisk {
	return &smallDisk{FS: vfs.NewMem(), capacity: capacity, files: map[string]*usage{}}
}

func (d *smallDisk) setCapacity(capacity int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = capacity
}

func (d *smallDisk) refusals() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
}

// fill leaves so many bytes.
func (d *smallDisk) fill(left int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = d.used + left
}

func (d *smallDisk) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	if !d.tells {
		return d.FS.GetDiskUsage(path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return vfs.DiskUsage{AvailBytes: uint64(max(d.capacity-d.used, 0)), TotalBytes: uint64(d.capacity), UsedBytes: uint64(d.used)}, nil
}

// take takes up to n bytes.
func (d *smallDisk) take(n int64, all bool) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	room := max(d.capacity-d.used, 0)
	if n > room {
		d.refused++
		if all {
			return 0
		}
		n = room
	}
	d.used += n
	return n
}

func (d *smallDisk) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.files[name]
	delete(d.files, name)
	if u == nil {
		return
	}
	d.used -= max(u.size, u.reserved)
	if d.keeps.Load() {
		d.capacity -= max(u.size, u.reserved)
	}
}

func (d *smallDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	d.forget(name)
	f, err := d.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u := &usage{}
	d.files[name] = u
	return &smallFile{File: f, disk: d, usage: u}, nil
}

func (d *smallDisk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.files[oldname]
	delete(d.files, oldname)
	// It is written from its beginning on again.
	u.reserved, u.size = max(u.reserved, u.size), 0
	d.files[newname] = u
	return &smallFile{File: f, disk: d, usage: u}, nil
}

func (d *smallDisk) Remove(name string) error {
	if err := d.FS.Remove(name); err != nil {
		return err
	}
	d.forget(name)
	return nil
}

func (d *smallDisk) Rename(oldname, newname string) error {
	if err := d.FS.Rename(oldname, newname); err != nil {
		return err
	}
	d.forget(newname)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[newname] = d.files[oldname]
	delete(d.files, oldname)
	return nil
}

type smallFile struct {
	vfs.File
	disk  *smallDisk
	usage *usage
}

func (f *smallFile) Write(p []byte) (int, error) {
	// Only one goroutine writes to a file.
	need := max(f.usage.size+int64(len(p))-max(f.usage.size, f.usage.reserved), 0)
	free := int64(len(p)) - need
	got := f.disk.take(need, false)
	n, err := f.File.Write(p[:free+got])
	f.disk.mu.Lock()
	f.usage.size += int64(n)
	f.disk.mu.Unlock()
	if err == nil && n < len(p) {
		err = fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return n, err
}

func (f *smallFile) Preallocate(offset, length int64) error {
	f.disk.mu.Lock()
	have := max(f.usage.size, f.usage.reserved)
	f.disk.mu.Unlock()
	need := offset + length - have
	if need <= 0 {
		return nil
	}
	if f.disk.take(need, true) < need {
		return fmt.Errorf("preallocate: %w", syscall.ENOSPC)
	}
	f.disk.mu.Lock()
	f.usage.reserved = offset + length
	f.disk.mu.Unlock()
	return nil
}

func smallOptions(fs vfs.FS) embedded.Options {
	return embedded.Options{FS: fs, MemTableBytes: 256 << 10, MinFreeBytes: -1, BallastBytes: 1 << 20}
}

// writer appends to one stream of its own after another, and remembers.
type writer struct {
	t     *testing.T
	store *embedded.Store
	name  string
	n     int
	acks  []ack
}

func (w *writer) append(ctx context.Context) error {
	w.n++
	stream := fmt.Sprintf("%s-%d", w.name, w.n)
	records, ids := audited(4)
	for i := range records {
		records[i].Data = append(records[i].Data, incompressible(2000)...)
	}
	place, err := w.store.Append(ctx, stream, eventstore.NoStream, records...)
	if err == nil {
		w.acks = append(w.acks, ack{stream: stream, ids: ids, place: place})
	}
	return err
}

// untilError appends until it fails and returns why.
func (w *writer) untilError() error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		if err := w.append(ctx); err != nil {
			require.NoError(w.t, ctx.Err(), "it never failed")
			return err
		}
	}
}

// untilAppended appends until it goes again.
func (w *writer) untilAppended() {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := w.append(w.t.Context())
		if err == nil {
			return
		}
		require.True(w.t, time.Now().Before(deadline), "appends still fail: %v", err)
		require.True(w.t, errors.Is(err, eventstore.ErrFull) || errors.Is(err, eventstore.ErrUnavailable), "%v", err)
	}
}

func incompressible(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rand.Uint64())
	}
	return b[:n]
}

func requireAlive(t *testing.T, store *embedded.Store) {
	t.Helper()
	select {
	case <-store.Failed():
		t.Fatal(store.Failure())
	default:
	}
}

func TestFullDiskRefusesBeforeItIsFull(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(12 << 20)
	disk.tells = true
	opts := smallOptions(disk)
	opts.MinFreeBytes = 6 << 20
	store := open(t, "store", opts)
	w := &writer{t: t, store: store, name: "a"}
	err := w.untilError()
	require.ErrorIs(t, err, eventstore.ErrFull)
	require.NotErrorIs(t, err, eventstore.ErrUnavailable)
	require.NotEmpty(t, w.acks)
	require.Zero(t, disk.refusals(), "the disk was really full")
	audit(t, store, w.acks)
	// What is there already may be said again.
	disk.setCapacity(64 << 20)
	w.untilAppended()
	audit(t, store, w.acks)
	requireAlive(t, store)
}

func TestRepeatedAppendOnFullDisk(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(64 << 20)
	disk.tells = true
	opts := smallOptions(disk)
	opts.MinFreeBytes = 1 << 20
	store := open(t, "store", opts)
	records, _ := audited(2)
	first, err := store.Append(t.Context(), "a", eventstore.NoStream, records...)
	require.NoError(t, err)
	disk.fill(0)
	w := &writer{t: t, store: store, name: "b"}
	require.ErrorIs(t, w.untilError(), eventstore.ErrFull)
	again, err := store.Append(t.Context(), "a", eventstore.NoStream, records...)
	require.NoError(t, err)
	require.Equal(t, eventstore.Appended{Revision: first.Revision, Position: first.Position, Repeated: true}, again)
}

// The file system says nothing before it is full; the ballast saves the write
// that finds out.
func TestFullDiskGivesBackTheBallast(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(12 << 20)
	store := open(t, "store", smallOptions(disk))
	w := &writer{t: t, store: store, name: "a"}
	err := w.untilError()
	require.ErrorIs(t, err, eventstore.ErrFull)
	require.NotErrorIs(t, err, eventstore.ErrUnavailable)
	require.NotZero(t, disk.refusals())
	audit(t, store, w.acks)
	requireAlive(t, store)

	disk.setCapacity(64 << 20)
	for range 200 {
		w.untilAppended()
	}
	audit(t, store, w.acks)
	requireAlive(t, store)
	require.NoError(t, store.Close())
	audit(t, open(t, "store", smallOptions(disk)), w.acks)
}

// Neither is there a warning nor does the ballast help: writes wait.
func TestFullDiskWaitsForSpace(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(8 << 20)
	store := open(t, "store", smallOptions(disk))
	w := &writer{t: t, store: store, name: "a"}
	for range 20 {
		require.NoError(t, w.append(t.Context()))
	}
	disk.keeps.Store(true)
	disk.fill(1000)
	err := w.untilError()
	require.ErrorIs(t, err, eventstore.ErrUnavailable, "its outcome is open")
	require.ErrorIs(t, w.append(t.Context()), eventstore.ErrFull)
	requireAlive(t, store)
	audit(t, store, w.acks)

	disk.setCapacity(64 << 20)
	w.untilAppended()
	audit(t, store, w.acks)
	requireAlive(t, store)
}

func TestCloseWhileADiskIsFull(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(8 << 20)
	store, err := embedded.Open("store", smallOptions(disk))
	require.NoError(t, err)
	w := &writer{t: t, store: store, name: "a"}
	for range 20 {
		require.NoError(t, w.append(t.Context()))
	}
	disk.keeps.Store(true)
	disk.fill(0)
	require.Error(t, w.untilError())
	closed := make(chan error, 1)
	go func() { closed <- store.Close() }()
	select {
	case err := <-closed:
		t.Log("closed in the midst of a write:", err)
	case <-time.After(patience):
		t.Fatal("close waits for ever")
	}
	disk.setCapacity(64 << 20)
	reopened := open(t, "store", smallOptions(disk))
	audit(t, reopened, w.acks)
	w.store = reopened
	w.untilAppended()
}

func TestFullDiskAtStart(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(64 << 20)
	store, err := embedded.Open("store", smallOptions(disk))
	require.NoError(t, err)
	w := &writer{t: t, store: store, name: "a"}
	for range 50 {
		require.NoError(t, w.append(t.Context()))
	}
	require.NoError(t, store.Close())
	disk.fill(0)

	// The ballast makes it readable.
	store, err = embedded.Open("store", smallOptions(disk))
	require.NoError(t, err)
	audit(t, store, w.acks)
	w.store = store
	disk.fill(0)
	require.Error(t, w.untilError())
	audit(t, store, w.acks)
	disk.setCapacity(64 << 20)
	w.untilAppended()
	require.NoError(t, store.Close())

	// A new store on a full disk says why there is none.
	full := newSmallDisk(10)
	_, err = embedded.Open("store", smallOptions(full))
	require.ErrorIs(t, err, eventstore.ErrFull)
	full.setCapacity(64 << 20)
	require.NoError(t, open(t, "store", smallOptions(full)).Close())
}

// brokenFS fails writes or syncs of Pebble's log once told to.
type brokenFS struct {
	vfs.FS
	failWrite, failSync atomic.Bool
}

var errBroken = errors.New("input/output error")

func (b *brokenFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := b.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &brokenFile{File: f, fs: b}, nil
}

func (b *brokenFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := b.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, err
	}
	return &brokenFile{File: f, fs: b}, nil
}

type brokenFile struct {
	vfs.File
	fs *brokenFS
}

func (f *brokenFile) Write(p []byte) (int, error) {
	if f.fs.failWrite.Load() {
		return 0, errBroken
	}
	return f.File.Write(p)
}

func (f *brokenFile) Sync() error {
	if f.fs.failSync.Load() {
		return errBroken
	}
	return f.File.Sync()
}

func (f *brokenFile) SyncData() error {
	if f.fs.failSync.Load() {
		return errBroken
	}
	return f.File.SyncData()
}

func TestBrokenLogFailsTheStore(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*brokenFS, bool){
		"write": func(b *brokenFS, on bool) { b.failWrite.Store(on) },
		"sync":  func(b *brokenFS, on bool) { b.failSync.Store(on) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := &brokenFS{FS: vfs.NewMem()}
			store, err := embedded.Open("store", crashOptions(fs))
			require.NoError(t, err)
			w := &writer{t: t, store: store, name: "a"}
			for range 100 {
				require.NoError(t, w.append(t.Context()))
			}
			require.NoError(t, store.Failure())
			fail(fs, true)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					records, _ := audited(3)
					if _, err := store.Append(t.Context(), fmt.Sprintf("b-%d", i), eventstore.NoStream, records...); !errors.Is(err, eventstore.ErrUnavailable) {
						t.Errorf("an append behind a broken log: %v", err)
					}
				})
			}
			wg.Wait()
			select {
			case <-store.Failed():
			case <-time.After(patience):
				t.Fatal("it has not failed")
			}
			require.ErrorIs(t, store.Failure(), eventstore.ErrUnavailable)
			require.ErrorContains(t, store.Failure(), errBroken.Error())
			fail(fs, false)
			require.ErrorIs(t, w.append(t.Context()), eventstore.ErrUnavailable, "it stays failed")
			// Nothing unacknowledged is shown, all else is.
			audit(t, store, w.acks)
			head, err := store.Head(t.Context())
			require.NoError(t, err)
			require.Equal(t, w.acks[len(w.acks)-1].place.Position, head)
			require.NoError(t, store.Close())

			reopened := open(t, "store", crashOptions(fs))
			audit(t, reopened, w.acks)
			w.store = reopened
			require.NoError(t, w.append(t.Context()))
		})
	}
}
