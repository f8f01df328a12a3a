package projection_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
)

// sessions makes events as people cause them: sessions of 8 events, ten events
// a customer, three identifiers a customer of which two are stamped and all
// are linked.
func sessions(n int) []*eventv1.Event {
	random := rand.New(rand.NewPCG(1, 1))
	customers := n / 10
	linked := make([]bool, customers)
	events := make([]*eventv1.Event, 0, n+8)
	add := func(profile string, payload *eventv1.Payload) {
		at := projectiontest.Epoch.Add(time.Duration(len(events)) * time.Second)
		ev := projectiontest.NewEvent("acme", profile, len(events), at, payload)
		ev.Conversation = fmt.Sprintf("session-%d", len(events)/8)
		ev.Identifiers = []*eventv1.Identifier{{Kind: "anonymous_id", Value: "anonymous-" + profile, ProfileId: profile, Strength: eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_WEAK}}
		events = append(events, ev)
	}
	id := func(customer int, kind string) string { return fmt.Sprintf("%022d%s", customer*7919%customers, kind) }
	for len(events) < n {
		c := random.IntN(customers)
		profile := id(c, "anon")
		if linked[c] {
			profile = id(c, "user")
		}
		for i := range 8 {
			if i == 3 && !linked[c] {
				linked[c] = true
				for _, kind := range []string{"user", "mail"} {
					add("", &eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
						CustomerId: id(c, "anon"), AbsorbedCustomerId: id(c, kind), AbsorbedProfileIds: []string{id(c, kind)},
					}}})
				}
				profile = id(c, "user")
				add(profile, &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{Traits: []*eventv1.Trait{
					{Name: "firstName", ValueJson: `"Ada"`}, {Name: "lastName", ValueJson: fmt.Sprintf(`"Customer %d"`, c)},
					{Name: "email", ValueJson: fmt.Sprintf(`"customer.%d@example.com"`, c)},
				}}}})
				continue
			}
			add(profile, &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{
				Path: fmt.Sprintf("/products/%d", random.IntN(1000)), Title: "A product", Url: "https://shop.example.com/products?ref=home",
				UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
			}}})
		}
	}
	return events[:n]
}

// benchEvents is how many events are replayed: PARLEY_BENCH_EVENTS, else 200,000.
func benchEvents(b *testing.B) int {
	b.Helper()
	if s := os.Getenv("PARLEY_BENCH_EVENTS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(b, err)
		return n
	}
	return 200_000
}

func benchLog(b *testing.B) (eventstore.Store, int, eventstore.Position) {
	b.Helper()
	n := benchEvents(b)
	log, err := embedded.Open(b.TempDir(), embedded.Options{MinFreeBytes: -1})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, log.Close()) })
	return log, n, projectiontest.Append(b, log, sessions(n)...)
}

// BenchmarkReplay replays synthetic sessions into a small customer projection
// with one row for each page, beside reading and decoding the same log.
func BenchmarkReplay(b *testing.B) {
	log, n, last := benchLog(b)
	b.Run("yardstick: scan and decode", func(b *testing.B) {
		begin := cpuTime(b)
		for b.Loop() {
			codec, ev := event.NewCodec(), &eventv1.RecordedEvent{}
			for rec, err := range log.ReadAll(b.Context(), eventstore.ReadAllOptions{}) {
				if err == nil {
					err = codec.DecodeInto(rec, ev)
				}
				require.NoError(b, err)
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(cpuSince(b, begin)/float64(n)/float64(b.N), "cpu-µs/event")
	})
	b.Run("replay", func(b *testing.B) {
		begin := cpuTime(b)
		var peak uint64
		for b.Loop() {
			peak = max(peak, replay(b, log, last))
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(cpuSince(b, begin)/float64(n)/float64(b.N), "cpu-µs/event")
		b.ReportMetric(float64(peak)/(1<<20), "MiB-peak")
	})
}

// cpuTime is what the process has used so far, in microseconds: on a busy
// machine it says more than the clock.
func cpuTime(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
}

func cpuSince(b *testing.B, begin float64) float64 {
	b.Helper()
	return cpuTime(b) - begin
}

// resident is the memory of the process, in bytes.
func resident(b *testing.B) uint64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0 // not on this system
	}
	var size, pages uint64
	_, err = fmt.Sscan(string(data), &size, &pages)
	require.NoError(b, err)
	return pages * uint64(os.Getpagesize())
}

// replay into new views; returns the greatest memory in use that was seen.
func replay(b *testing.B, log eventstore.Store, last eventstore.Position) (peak uint64) {
	b.Helper()
	debug.FreeOSMemory()
	views, err := pebbleview.Open(b.TempDir(), pebbleview.Options{})
	require.NoError(b, err)
	e, stop := projectiontest.Start(b, visits(), log, views, projection.Options{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		projectiontest.WaitFor(b, e, last)
	}()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-time.After(50 * time.Millisecond):
		}
		peak = max(peak, resident(b))
	}
	stop()
	require.NoError(b, views.Close())
	return peak
}

// BenchmarkVisible is the time from an acknowledged append to its being readable.
func BenchmarkVisible(b *testing.B) {
	log, err := embedded.Open(b.TempDir(), embedded.Options{MinFreeBytes: -1})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, log.Close()) })
	views, err := pebbleview.Open(b.TempDir(), pebbleview.Options{})
	require.NoError(b, err)
	e, stop := projectiontest.Start(b, visits(), log, views, projection.Options{})
	events := sessions(100_000)
	n := 0
	var waited time.Duration
	for b.Loop() {
		last := projectiontest.Append(b, log, events[n%len(events)])
		n++
		begin := time.Now()
		projectiontest.WaitFor(b, e, last)
		waited += time.Since(begin)
	}
	b.ReportMetric(float64(waited.Microseconds())/float64(b.N), "µs-visible")
	stop()
	require.NoError(b, views.Close())
}
