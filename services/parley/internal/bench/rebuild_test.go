package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/testkit/workload"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/parley/internal/load"
)

// BenchmarkRebuild rebuilds the customer 360 beside the one that serves, while
// customers are read at a thousand a second and calls come at five hundred, and
// compares the latency of the reads with that before. The reads go on through
// the switch and back: none may fail.
func BenchmarkRebuild(b *testing.B) {
	// A number of its own: what is written meanwhile stays in the log.
	dir := logOf(b, sized(400_000)+20)
	for b.Loop() {
		p := startOver(b, dir)
		conn := dial(b, p)
		waitVisible(b, conn)
		customers := customerv1.NewCustomerServiceClient(conn)
		ops := opsv1.NewProjectionServiceClient(conn)
		live := startLive(b, customers, p.Addresses.HTTP)
		live.during(b, measured())
		before := live.take()

		profiled := profile(b, p, "rebuild")
		begun := time.Now()
		_, err := ops.RebuildProjections(b.Context(), &opsv1.RebuildProjectionsRequest{Projections: []string{"customer"}, SwitchWhenReady: true})
		require.NoError(b, err)
		events := awaitServing(b, ops)
		took := time.Since(begun)
		meanwhile := live.take()
		profiled()
		_, err = ops.Rollback(b.Context(), &opsv1.RollbackRequest{Projection: "customer"})
		require.NoError(b, err)
		live.during(b, measured()/4)
		reads := live.stop(b)

		b.ReportMetric(before.Seconds()*1000, "p99-before-ms")
		b.ReportMetric(meanwhile.Seconds()*1000, "p99-during-ms")
		b.ReportMetric(perSecond(events, took), "events/s")
		report(row{
			what: fmt.Sprintf("GetCustomer p99 during a rebuild of %d events at %s, 1,000 reads/s and 500 calls/s, %d reads, none failed",
				events, thousands(perSecond(events, took)), reads),
			figure:    meanwhile.Round(10 * time.Microsecond).String(),
			yardstick: "before the rebuild: " + before.Round(10*time.Microsecond).String(),
			ratio:     ratio(meanwhile.Seconds() / before.Seconds()),
			floor:     "2",
		})
		require.NoError(b, p.Stop(b.Context()))
	}
}

// measured is how long the latency is looked at.
func measured() time.Duration {
	return max(time.Second, min(time.Duration(10*scale*float64(time.Second)), 10*time.Second))
}

// awaitServing waits until the newest generation of the customer 360 serves, and says
// how many events it holds.
func awaitServing(b *testing.B, ops opsv1.ProjectionServiceClient) int {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		answer, err := ops.GetProjection(ctx, &opsv1.GetProjectionRequest{Projection: "customer"})
		require.NoError(b, err)
		all := answer.GetProjection().GetGenerations()
		serving := all[0]
		newest := slices.MaxFunc(all, func(a, b *opsv1.Generation) int { return int(a.GetGeneration()) - int(b.GetGeneration()) })
		if serving.GetGeneration() == newest.GetGeneration() && len(all) > 1 {
			return int(serving.GetPosition())
		}
		<-ticker.C
	}
}

// live reads and writes at a steady rate until it is stopped.
type live struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	failed atomic.Int64
	reads  atomic.Int64

	mu    sync.Mutex
	times []time.Duration
}

const (
	liveReads = 1000 // a second
	liveCalls = 500  // a second
)

func startLive(b *testing.B, customers customerv1.CustomerServiceClient, gateway string) *live {
	b.Helper()
	gen := workload.New(workload.Options{})
	var ids []string
	for i := range 200 {
		found, err := customers.LookupCustomer(b.Context(), &customerv1.LookupCustomerRequest{Kind: "user_id", Value: gen.UserID(i)})
		require.NoError(b, err)
		if len(found.GetMatches()) > 0 {
			ids = append(ids, found.GetMatches()[0].GetCustomer().GetCustomerId())
		}
	}
	require.NotEmpty(b, ids)
	l := &live{}
	ctx, cancel := context.WithCancel(b.Context())
	l.cancel = cancel
	l.done.Go(func() {
		l.every(ctx, time.Second/liveReads, func(n int) {
			l.done.Go(func() {
				begun := time.Now()
				_, err := customers.GetCustomer(ctx, &customerv1.GetCustomerRequest{CustomerId: ids[n%len(ids)]})
				if err != nil && ctx.Err() == nil {
					l.failed.Add(1)
					b.Error(err)
				}
				l.reads.Add(1)
				l.mu.Lock()
				l.times = append(l.times, time.Since(begun))
				l.mu.Unlock()
			})
		})
	})
	l.done.Go(func() {
		sender := load.NewSender(gateway, 8)
		defer sender.Close()
		// Other people than those in the log already.
		source := load.NewSource(workload.Options{Seed: 77, Customers: 1000, Concurrent: 100})
		var batch load.Batch
		l.every(ctx, time.Second*load.BatchSize/liveCalls, func(int) {
			batch = source.Next(batch)
			if err := sender.Send(ctx, batch.Body); err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		})
	})
	return l
}

// every does something again and again, at a rate that does not depend on how
// long it takes.
func (l *live) every(ctx context.Context, interval time.Duration, do func(n int)) {
	begun := time.Now()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for due := int(time.Since(begun) / interval); n < due && ctx.Err() == nil; n++ {
			do(n)
		}
	}
}

// during lets time pass.
func (l *live) during(b *testing.B, d time.Duration) {
	b.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.Context().Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	require.NotEmpty(b, l.times)
}

// take gives the 99th percentile of the reads since the last time.
func (l *live) take() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := l.times
	l.times = nil
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)*99/100]
}

// stop ends it and gives the number of reads.
func (l *live) stop(b *testing.B) int64 {
	b.Helper()
	l.cancel()
	l.done.Wait()
	require.Zero(b, l.failed.Load())
	return l.reads.Load()
}
