package bus_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
)

// The sizes of one event by itself, and of a batch of twenty.
var sizes = []int{300, 6000}

// publishers is how many callers publish at once; each waits for its
// acknowledgement before the next.
const publishers = 64

// BenchmarkSyncedWrite is the yardstick: what the disk takes of writes of the
// same sizes, each written through before the next, with no NATS around it.
func BenchmarkSyncedWrite(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "data"))
			require.NoError(b, err)
			data := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := f.Write(data); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			require.NoError(b, f.Close())
		})
	}
}

// BenchmarkPublish is sync-always: every message is on the disk when its
// acknowledgement comes. It is the yardstick of ingest.
func BenchmarkPublish(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			bb := open(b, embedded(b))
			sent := batch(size-80, "a")
			b.SetBytes(int64(size))
			b.SetParallelism(publishers / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := bb.Publisher().Publish(b.Context(), "default", "web", sent); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkPublishToConsume publishes and consumes at the same time; the
// handler does nothing.
func BenchmarkPublishToConsume(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			bb := open(b, embedded(b))
			done := counting(b, bb, b.N)
			sent := batch(size-80, "a")
			b.SetBytes(int64(size))
			b.SetParallelism(publishers / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := bb.Publisher().Publish(b.Context(), "default", "web", sent); err != nil {
						b.Error(err)
						return
					}
				}
			})
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkConsume takes a backlog that is there already, with
// acknowledgements, taking over before it and the last purge behind it.
func BenchmarkConsume(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			const backlog = 4000
			bb := open(b, embedded(b))
			sent := batch(size-80, "a")
			b.SetBytes(int64(size) * backlog)
			for b.Loop() {
				b.StopTimer()
				var wg sync.WaitGroup
				for range publishers {
					wg.Go(func() {
						for range backlog / publishers {
							if err := bb.Publisher().Publish(b.Context(), "default", "web", sent); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StartTimer()
				<-counting(b, bb, backlog/publishers*publishers)
			}
			b.ReportMetric(float64(b.N*backlog)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkLatency is one message at a time, from Publish to the handler, with
// nothing else going on.
func BenchmarkLatency(b *testing.B) {
	bb := open(b, embedded(b))
	arrived := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- bb.Consume(ctx, bus.ConsumeOptions{}, func(context.Context, []bus.Message) error {
			arrived <- struct{}{}
			return nil
		})
	}()
	sent := batch(220, "a")
	for b.Loop() {
		require.NoError(b, bb.Publisher().Publish(b.Context(), "default", "web", sent))
		<-arrived
	}
	cancel()
	require.NoError(b, <-ended)
}

// counting consumes n messages.
func counting(b *testing.B, bb *bus.Bus, n int) <-chan struct{} {
	b.Helper()
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(b.Context())
	var seen atomic.Int64
	go func() {
		defer close(done)
		defer cancel()
		err := bb.Consume(ctx, bus.ConsumeOptions{}, func(_ context.Context, messages []bus.Message) error {
			if seen.Add(int64(len(messages))) >= int64(n) {
				cancel()
			}
			return nil
		})
		if err != nil {
			b.Error(err)
		}
	}()
	timeout := time.AfterFunc(5*time.Minute, cancel)
	b.Cleanup(func() { timeout.Stop() })
	return done
}
