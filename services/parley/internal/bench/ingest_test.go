package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/testkit/workload"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/parley/internal/load"
	"github.com/parleyhq/parley/services/parley/internal/process"
	"github.com/parleyhq/parley/services/web"
)

// ingestWorkers is how many requests are in flight at once.
const ingestWorkers = 64

// BenchmarkIngest sends the workload in batches of 20 to the front door of a
// process of its own and counts until the last of it is visible in the customer
// 360, beside the synchronous publish of the same messages to NATS alone.
func BenchmarkIngest(b *testing.B) {
	calls := sized(300_000)
	for b.Loop() {
		yardstick := publishOnly(b, calls)
		p := process.Start(b, b.TempDir())
		conn := dial(b, p)
		sender := load.NewSender(p.Addresses.HTTP, ingestWorkers)
		source := load.NewSource(workload.Options{Customers: calls / 10, Concurrent: 1000})

		profiled := profile(b, p, "ingest")
		begun := time.Now()
		var taken atomic.Int64
		failed := load.Run(b.Context(), sender, source, ingestWorkers, calls, func(batch load.Batch) { taken.Add(int64(len(batch.IDs))) })
		accepted := time.Since(begun)
		require.Zero(b, failed)
		require.EqualValues(b, calls, taken.Load())
		waitVisible(b, conn)
		visible := time.Since(begun)

		sender.Close()
		rate := perSecond(calls, visible)
		b.ReportMetric(rate, "calls/s")
		b.ReportMetric(perSecond(calls, accepted), "accepted/s")
		b.ReportMetric(yardstick, "publish-calls/s")
		report(row{
			what:      "ingest, front door → NATS → store → 360 visible, 64 requests of 20 in flight",
			figure:    thousands(rate),
			yardstick: "sync-always publish of the same messages: " + thousands(yardstick),
			ratio:     ratio(rate / yardstick),
			floor:     "15k/s; 30k/s",
		})
		profiled()
		_, peak, err := p.Memory()
		require.NoError(b, err)
		b.ReportMetric(float64(peak>>20), "server-peak-MiB")
		require.NoError(b, p.Stop(b.Context()))
		b.ReportMetric(float64(p.CPU().Microseconds())/float64(calls), "server-cpu-µs/call")
	}
}

// recordLast records one more interaction, behind everything that was
// accepted, reads it from the 360 and returns its position.
func recordLast(ctx context.Context, b *testing.B, conn *grpc.ClientConn) int {
	b.Helper()
	recorded, err := interactionv1.NewInteractionServiceClient(conn).Record(ctx, &interactionv1.RecordRequest{
		Interaction: &interactionv1.Interaction{
			Channel:     "in_person",
			Identifiers: []*eventv1.Identifier{{Kind: "user_id", Value: "the-last-one"}},
			Payload: &eventv1.Payload{Kind: &eventv1.Payload_ActivityLogged{
				ActivityLogged: &eventv1.ActivityLogged{Activity: "visit"},
			}},
		},
	})
	require.NoError(b, err)
	found, err := customerv1.NewCustomerServiceClient(conn).LookupCustomer(ctx, &customerv1.LookupCustomerRequest{
		Kind: "user_id", Value: "the-last-one", ConsistencyToken: recorded.GetConsistencyToken(),
	})
	require.NoError(b, err)
	require.Len(b, found.GetMatches(), 1)
	return int(recorded.GetResult().GetPosition())
}

// waitVisible returns once everything that was accepted is in the 360.
func waitVisible(b *testing.B, conn *grpc.ClientConn) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	recordLast(ctx, b, conn)
}

// publishOnly is the yardstick: the same messages to NATS, synchronously, by as
// many workers.
func publishOnly(b *testing.B, calls int) float64 {
	b.Helper()
	transport, err := bus.Open(b.Context(), bus.Config{Listen: "127.0.0.1:0", DataDir: b.TempDir()})
	require.NoError(b, err)
	defer func() { require.NoError(b, transport.Close()) }()
	mapper, err := web.NewMapper(web.MapperConfig{})
	require.NoError(b, err)
	gen := workload.New(workload.Options{Customers: calls / 10, Concurrent: 1000})
	batches := make([]*interactionv1.IngressBatch, calls/20)
	for i := range batches {
		batches[i] = &interactionv1.IngressBatch{}
		require.NoError(b, proto.Unmarshal(ingressBatch(b, mapper, gen, 20), batches[i]))
	}
	publisher := transport.Publisher()
	var next atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for range ingestWorkers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(batches) {
					return
				}
				if err := publisher.Publish(b.Context(), "default", "web", batches[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return perSecond(calls, time.Since(begun))
}

// BenchmarkVisible sends a thousand single calls a second for a while and
// measures, for one in ten, how long after its acknowledgement it is in the 360.
func BenchmarkVisible(b *testing.B) {
	const rate, sampled = 1000, 10
	calls := sized(20_000)
	for b.Loop() {
		p := process.Start(b, b.TempDir())
		conn := dial(b, p)
		customers := customerv1.NewCustomerServiceClient(conn)
		sender := load.NewSender(p.Addresses.HTTP, 32)
		gen := workload.New(workload.Options{Customers: calls / 10, Concurrent: 200})

		var mu sync.Mutex
		var delays []time.Duration
		jobs := make(chan int, calls)
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for i := range jobs {
					var body []byte
					if i%sampled == 0 {
						body = probe(i)
					} else {
						mu.Lock()
						body = gen.AppendBatch(nil, 1)
						mu.Unlock()
					}
					if err := sender.Send(b.Context(), body); err != nil {
						b.Error(err)
						return
					}
					if i%sampled != 0 {
						continue
					}
					delay, err := untilVisible(b.Context(), customers, i)
					if err != nil {
						b.Error(err)
						return
					}
					mu.Lock()
					delays = append(delays, delay)
					mu.Unlock()
				}
			})
		}
		// Every call has its time on the clock, whether the ones before it are
		// done or not.
		ticker := time.NewTicker(time.Millisecond)
		begun := time.Now()
		for sent := 0; sent < calls; {
			<-ticker.C
			for due := int(time.Since(begun).Seconds() * rate); sent < min(due, calls); sent++ {
				jobs <- sent
			}
		}
		ticker.Stop()
		close(jobs)
		wg.Wait()
		sender.Close()

		slices.Sort(delays)
		require.NotEmpty(b, delays)
		p50, p99 := delays[len(delays)/2], delays[len(delays)*99/100]
		b.ReportMetric(float64(p50.Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
		report(row{
			what:      "accepted → visible over gRPC, at 1,000/s",
			figure:    "p50 " + p50.Round(100*time.Microsecond).String() + ", p99 " + p99.Round(100*time.Microsecond).String(),
			yardstick: "–", ratio: "–", floor: "p99 50 ms; 15 ms",
		})
		require.NoError(b, p.Stop(b.Context()))
	}
}
