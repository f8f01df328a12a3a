package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

// In a process with this variable the test binary writes to the store in the
// folder that it names until it is killed.
const childVariable = "PARLEY_EVENTSTORE_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func writeUntilKilled(dir string) error {
	store, err := embedded.Open(dir, crashOptions(nil))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	write(context.Background(), store, fmt.Sprintf("r%d", os.Getpid()), func(a ack) {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintln(out, a)
		if err = errors.Join(err, out.Flush()); err != nil {
			// Nobody listens any more.
			os.Exit(1)
		}
	})
	return store.Close()
}

// crashOptions make memory tables small, so that flushes and compactions are
// among what is cut.
func crashOptions(fs vfs.FS) embedded.Options {
	return embedded.Options{FS: fs, MemTableBytes: 256 << 10, MinFreeBytes: -1, BallastBytes: 1 << 20}
}

// write appends from several goroutines, single streams and batches of them,
// until the store does not take more.
func write(ctx context.Context, store *embedded.Store, name string, acked func(ack)) {
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			heads := [3]eventstore.Revision{eventstore.NoStream, eventstore.NoStream, eventstore.NoStream}
			for i := 0; ; i++ {
				n := i % 3
				stream := fmt.Sprintf("%s-%d-%d", name, w, n)
				records, ids := audited(i%5 + 1)
				if i%7 == 0 {
					other := fmt.Sprintf("%s-%d-batch-%d", name, w, i)
					otherRecords, otherIDs := audited(i%4 + 1)
					places, err := store.AppendBatch(ctx, []eventstore.StreamAppend{
						{Stream: stream, Expected: heads[n], Records: records},
						{Stream: other, Expected: eventstore.NoStream, Records: otherRecords},
					})
					if err != nil {
						return
					}
					heads[n] = places[0].Revision
					acked(ack{stream: stream, ids: ids, place: places[0]})
					acked(ack{stream: other, ids: otherIDs, place: places[1]})
					continue
				}
				place, err := store.Append(ctx, stream, heads[n], records...)
				if err != nil {
					return
				}
				heads[n] = place.Revision
				acked(ack{stream: stream, ids: ids, place: place})
			}
		})
	}
	wg.Wait()
}

func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acks []ack
	for round := range 12 {
		acks = append(acks, killedRound(t, dir, rand.IntN(400)+round)...)
		store, err := embedded.Open(dir, crashOptions(nil))
		require.NoError(t, err)
		audit(t, store, acks)
		require.NoError(t, store.Close())
	}
	require.NotEmpty(t, acks)
}

// killedRound starts a process that writes, kills it after so many
// acknowledgements and returns all that it sent.
func killedRound(t *testing.T, dir string, after int) []ack {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	var acks []ack
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			// What follows the last newline was being written when it died.
			require.ErrorIs(t, err, io.EOF)
			break
		}
		a, err := parseAck(line)
		require.NoError(t, err)
		acks = append(acks, a)
		if len(acks) == after+1 {
			require.NoError(t, child.Process.Kill())
		}
	}
	require.Error(t, child.Wait(), "the process ended by itself")
	return acks
}

// cutFS calls back before one of its operations that change something.
type cutFS struct {
	vfs.FS
	left atomic.Int64
	cut  func()
}

func (c *cutFS) step() {
	if c.left.Add(-1) == 0 {
		c.cut()
	}
}

func (c *cutFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &cutFile{File: f, fs: c}, nil
}

func (c *cutFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	c.step()
	return c.wrap(c.FS.Create(name, category))
}

func (c *cutFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	c.step()
	return c.wrap(c.FS.ReuseForWrite(oldname, newname, category))
}

func (c *cutFS) OpenDir(name string) (vfs.File, error) { return c.wrap(c.FS.OpenDir(name)) }

func (c *cutFS) Rename(oldname, newname string) error {
	c.step()
	return c.FS.Rename(oldname, newname)
}

func (c *cutFS) Remove(name string) error {
	c.step()
	return c.FS.Remove(name)
}

type cutFile struct {
	vfs.File
	fs *cutFS
}

func (f *cutFile) Write(p []byte) (int, error) {
	f.fs.step()
	return f.File.Write(p)
}

func (f *cutFile) Sync() error {
	f.fs.step()
	return f.File.Sync()
}

func (f *cutFile) SyncData() error {
	f.fs.step()
	return f.File.SyncData()
}

// After a power cut at any write there is everything that was acknowledged
// before it, whatever of the rest reached the disk.
func TestPowerCutLosesNothing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	disk := vfs.NewCrashableMem()
	var acks []ack
	for round := range 60 {
		var after *vfs.MemFS
		disk, after = cutRound(t, rng, disk, round, &acks)
		store, err := embedded.Open("store", crashOptions(after))
		require.NoError(t, err, "round %d", round)
		audit(t, store, acks)
		require.NoError(t, store.Close())
	}
	require.NotEmpty(t, acks)
}

// cutRound writes until a random write and returns two equal disks as after
// the cut.
func cutRound(t *testing.T, rng *rand.Rand, disk *vfs.MemFS, round int, acks *[]ack) (next, copied *vfs.MemFS) {
	t.Helper()
	var mu sync.Mutex
	var acked, kept []ack
	var after *vfs.MemFS
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fs := &cutFS{FS: disk}
	percent := rng.IntN(101)
	chance := rand.New(rand.NewPCG(rng.Uint64(), 0))
	fs.cut = func() {
		mu.Lock()
		kept = append([]ack(nil), acked...)
		mu.Unlock()
		after = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: chance})
		cancel()
	}
	// Early rounds are cut while the store is made, later ones while writing.
	fs.left.Store(1 + rng.Int64N(40) + rng.Int64N(int64(1+round*4)))
	store, err := embedded.Open("store", crashOptions(fs))
	require.NoError(t, err, "round %d", round)
	write(ctx, store, fmt.Sprintf("r%d", round), func(a ack) {
		mu.Lock()
		defer mu.Unlock()
		acked = append(acked, a)
	})
	require.NoError(t, store.Close())
	if after == nil {
		t.Fatal("it was never cut")
	}
	*acks = append(*acks, kept...)
	return after, after.CrashClone(vfs.CrashCloneCfg{})
}
