package embedded_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

// The benchmarks count records: records/s is the figure to look at. Each has a
// yardstick beside it that does the same to a bare Pebble: one key with 300
// bytes for each record, the same batches, the same syncs.

const (
	benchRecordBytes = 300
	benchScanRecords = 1_000_000
	benchSession     = 8 // records a stream
)

func benchPayload(rng *rand.Rand, size int) []byte {
	// About half of it compresses, as protobuf with ids and texts does.
	data := make([]byte, size)
	for i := range data {
		if i/8%2 == 0 {
			data[i] = byte(rng.Uint32())
		} else {
			data[i] = "customer"[i%8]
		}
	}
	return data
}

// measure is called before what is measured; the function it returns reports
// records a second, and the processor time of the whole process for each, which
// says more on a machine that others use too.
func measure(b *testing.B) func(count int) {
	b.Helper()
	b.ResetTimer()
	before := processorTime(b)
	return func(count int) {
		b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "records/s")
		b.ReportMetric(float64(processorTime(b)-before)/float64(count), "cpu-ns/record")
		b.ReportMetric(0, "ns/op")
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func newRecords(rng *rand.Rand, count int) []eventstore.NewRecord {
	all := make([]eventstore.NewRecord, count)
	for i := range all {
		all[i] = eventstore.NewRecord{
			ID:   newID(rng),
			Type: benchTypes[i%len(benchTypes)],
			Data: benchPayload(rng, benchRecordBytes),
		}
	}
	return all
}

var benchTypes = []string{"web.page_viewed.v1", "web.tracked.v1", "email.received.v1", "phone.call_ended.v1"}

func newID(rng *rand.Rand) uuid.UUID {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], rng.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rng.Uint64()|1)
	return id
}

func openBare(b *testing.B) *pebble.DB {
	b.Helper()
	db, err := pebble.Open(b.TempDir(), &pebble.Options{Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest, MemTableSize: 16 << 20, MemTableStopWritesThreshold: 4})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return db
}

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func bareKey(position uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'r'}, position) }

func BenchmarkAppend512(b *testing.B) {
	const batch = 512
	rng := rand.New(rand.NewPCG(1, 1))
	b.Run("one stream", func(b *testing.B) {
		store := open(b, b.TempDir(), embedded.Options{})
		all := newRecords(rng, batch)
		n := 0
		report := measure(b)
		for b.Loop() {
			for i := range all {
				binary.LittleEndian.PutUint64(all[i].ID[:], uint64(n*batch+i))
			}
			_, err := store.Append(context.Background(), fmt.Sprintf("acme.web-%d", n), eventstore.NoStream, all...)
			require.NoError(b, err)
			n++
		}
		report(n * batch)
	})
	b.Run("64 sessions", func(b *testing.B) {
		store := open(b, b.TempDir(), embedded.Options{})
		all := newRecords(rng, batch)
		n := 0
		report := measure(b)
		for b.Loop() {
			parts := make([]eventstore.StreamAppend, 0, batch/benchSession)
			for i := 0; i < batch; i += benchSession {
				parts = append(parts, eventstore.StreamAppend{
					Stream: fmt.Sprintf("acme.web-%016x", rng.Uint64()), Expected: eventstore.NoStream, Records: all[i : i+benchSession],
				})
			}
			_, err := store.AppendBatch(context.Background(), parts)
			require.NoError(b, err)
			n++
		}
		report(n * batch)
	})
	b.Run("512 streams", func(b *testing.B) {
		store := open(b, b.TempDir(), embedded.Options{})
		all := newRecords(rng, batch)
		n := 0
		report := measure(b)
		for b.Loop() {
			parts := make([]eventstore.StreamAppend, 0, batch)
			for i := range batch {
				parts = append(parts, eventstore.StreamAppend{
					Stream: fmt.Sprintf("acme.web-%016x", rng.Uint64()), Expected: eventstore.NoStream, Records: all[i : i+1],
				})
			}
			_, err := store.AppendBatch(context.Background(), parts)
			require.NoError(b, err)
			n++
		}
		report(n * batch)
	})
	b.Run("yardstick pebble", func(b *testing.B) {
		db := openBare(b)
		data := benchPayload(rng, benchRecordBytes)
		n := 0
		report := measure(b)
		for b.Loop() {
			wb := db.NewBatch()
			for range batch {
				n++
				if err := wb.Set(bareKey(uint64(n)), data, nil); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, wb.Commit(pebble.Sync))
		}
		report(n)
	})
}

func BenchmarkAppendConcurrent(b *testing.B) {
	const writers = 64
	b.Run("64 writers", func(b *testing.B) {
		store := open(b, b.TempDir(), embedded.Options{})
		var writer atomic.Int64
		b.SetParallelism(writers / 2)
		report := measure(b)
		b.RunParallel(func(pb *testing.PB) {
			w := writer.Add(1)
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			r := newRecords(rng, 1)[0]
			stream, at := "", eventstore.NoStream
			for n := 0; pb.Next(); n++ {
				if n%benchSession == 0 {
					stream, at = fmt.Sprintf("acme.web-%d-%d", w, n), eventstore.NoStream
				}
				binary.LittleEndian.PutUint64(r.ID[:], uint64(n))
				appended, err := store.Append(context.Background(), stream, at, r)
				if err != nil {
					b.Error(err)
					return
				}
				at = appended.Revision
			}
		})
		report(b.N)
	})
	b.Run("yardstick pebble", func(b *testing.B) {
		db := openBare(b)
		var position atomic.Uint64
		data := benchPayload(rand.New(rand.NewPCG(1, 1)), benchRecordBytes)
		b.SetParallelism(writers / 2)
		report := measure(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := db.Set(bareKey(position.Add(1)), data, pebble.Sync); err != nil {
					b.Error(err)
					return
				}
			}
		})
		report(b.N)
	})
}

// filled is a store with benchScanRecords records in sessions of which 64 are
// written at a time.
func filled(b *testing.B, count int) *embedded.Store {
	b.Helper()
	store := open(b, b.TempDir(), embedded.Options{})
	rng := rand.New(rand.NewPCG(7, 7))
	all := newRecords(rng, 512)
	for n := 0; n < count; n += len(all) {
		parts := make([]eventstore.StreamAppend, 0, len(all))
		for i := range all {
			all[i].ID = newID(rng)
			session := n/len(all)/benchSession*len(all) + i
			parts = append(parts, eventstore.StreamAppend{
				Stream: fmt.Sprintf("acme.web-%016x", session), Expected: eventstore.Revision(n/len(all)%benchSession - 1), Records: all[i : i+1],
			})
		}
		_, err := store.AppendBatch(context.Background(), parts)
		require.NoError(b, err)
	}
	return store
}

func BenchmarkScan(b *testing.B) {
	b.Run("store", func(b *testing.B) {
		store := filled(b, benchScanRecords)
		b.Run("ReadAll", func(b *testing.B) {
			b.ReportAllocs()
			count := 0
			report := measure(b)
			for b.Loop() {
				for _, err := range store.ReadAll(context.Background(), eventstore.ReadAllOptions{}) {
					if err != nil {
						b.Fatal(err)
					}
					count++
				}
			}
			report(count)
		})
		b.Run("ReadAll filtered", func(b *testing.B) {
			count := 0
			head, err := store.Head(context.Background())
			require.NoError(b, err)
			report := measure(b)
			for b.Loop() {
				for _, err := range store.ReadAll(context.Background(), eventstore.ReadAllOptions{Filter: eventstore.Filter{Types: []string{"none"}}}) {
					require.NoError(b, err)
				}
				count += int(head)
			}
			report(count)
		})
		b.Run("Subscribe", func(b *testing.B) {
			b.ReportAllocs()
			count := 0
			report := measure(b)
			for b.Loop() {
				sub, err := store.Subscribe(context.Background(), eventstore.SubscribeOptions{})
				require.NoError(b, err)
				for caughtUp := false; !caughtUp; {
					batch, err := sub.Next(context.Background())
					require.NoError(b, err)
					count += len(batch.Records)
					caughtUp = batch.CaughtUp
				}
				require.NoError(b, sub.Close())
			}
			report(count)
		})
		b.Run("ReadStream", func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			count := 0
			report := measure(b)
			for b.Loop() {
				stream := fmt.Sprintf("acme.web-%016x", rng.IntN(benchScanRecords/benchSession))
				for _, err := range store.ReadStream(context.Background(), stream, eventstore.ReadStreamOptions{}) {
					require.NoError(b, err)
					count++
				}
			}
			report(count)
		})
	})
	b.Run("yardstick pebble", func(b *testing.B) {
		db := openBare(b)
		data := benchPayload(rand.New(rand.NewPCG(7, 7)), benchRecordBytes)
		for n := 0; n < benchScanRecords; {
			wb := db.NewBatch()
			for range 512 {
				require.NoError(b, wb.Set(bareKey(uint64(n)), data, nil))
				n++
			}
			require.NoError(b, wb.Commit(pebble.Sync))
		}
		count := 0
		report := measure(b)
		for b.Loop() {
			it, err := db.NewIter(nil)
			require.NoError(b, err)
			for valid := it.First(); valid; valid = it.Next() {
				if len(it.Value()) == benchRecordBytes {
					count++
				}
			}
			require.NoError(b, it.Close())
		}
		report(count)
	})
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	store, err := embedded.Open(dir, embedded.Options{})
	require.NoError(b, err)
	rng := rand.New(rand.NewPCG(1, 1))
	all := newRecords(rng, 1000)
	for n := range 1000 {
		for i := range all {
			all[i].ID = newID(rng)
		}
		_, err := store.Append(context.Background(), fmt.Sprintf("acme.web-%d", n), eventstore.NoStream, all...)
		require.NoError(b, err)
	}
	require.NoError(b, store.Close())
	var took time.Duration
	for b.Loop() {
		start := time.Now()
		store, err := embedded.Open(dir, embedded.Options{})
		took += time.Since(start)
		require.NoError(b, err)
		require.NoError(b, store.Close())
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/open")
}
