package match_test

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/identity/match"
)

// Sizes of the benchmarks: 100,000 records, and a million where PARLEY_BENCH_1M
// is set.
func benchSizes() []int {
	if os.Getenv("PARLEY_BENCH_1M") != "" {
		return []int{100_000, 1_000_000}
	}
	return []int{100_000}
}

var benchData sync.Map

func benchPopulation(size int) *labelled {
	if l, ok := benchData.Load(size); ok {
		return l.(*labelled)
	}
	l := generate(population{seed: 99, records: size, duplicates: 0.05, mates: 0.3})
	benchData.Store(size, l)
	return l
}

// peak samples the heap in use while do runs and gives by how much it rose at
// most.
func peak(do func()) uint64 {
	// The records of the benchmark itself are on the heap too: with the usual
	// setting as much garbage again would be counted.
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	debug.FreeOSMemory()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	highest := before.HeapInuse
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				highest = max(highest, now.HeapInuse)
			}
		}
	}()
	do()
	close(stop)
	<-stopped
	return highest - before.HeapInuse
}

func BenchmarkFit(b *testing.B) {
	for _, size := range benchSizes() {
		b.Run(itoa(size), func(b *testing.B) {
			l := benchPopulation(size)
			b.ResetTimer()
			for b.Loop() {
				bytes := peak(func() {
					_, err := match.Fit(b.Context(), match.FromSlice(l.records), match.FitOptions{Seed: 1})
					require.NoError(b, err)
				})
				b.ReportMetric(float64(bytes)/(1<<20), "MiB-peak")
			}
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkCandidates(b *testing.B) {
	for _, size := range benchSizes() {
		for _, memory := range []int64{0, int64(size) * 200} {
			name := itoa(size) + "/memory=default"
			if memory > 0 {
				name = itoa(size) + "/memory=" + itoa(int(memory>>20)) + "MiB"
			}
			b.Run(name, func(b *testing.B) {
				l := benchPopulation(size)
				m, err := match.Fit(b.Context(), match.FromSlice(l.records), match.FitOptions{Seed: 1})
				require.NoError(b, err)
				person := map[string]string{}
				for i := range l.records {
					person[l.records[i].ID] = l.person[i]
				}
				var last match.Progress
				options := match.Options{Threshold: 0.5, MemoryBytes: memory, Progress: func(p match.Progress) { last = p }}
				right, wrong := 0, 0
				b.ResetTimer()
				for b.Loop() {
					right, wrong = 0, 0
					bytes := peak(func() {
						for p, err := range match.Candidates(b.Context(), match.FromSlice(l.records), m, options) {
							require.NoError(b, err)
							if person[p.A] == person[p.B] {
								right++
							} else {
								wrong++
							}
						}
					})
					b.ReportMetric(float64(bytes)/(1<<20), "MiB-peak")
				}
				b.ReportMetric(float64(last.Pairs)*float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
				b.ReportMetric(float64(last.Pairs), "pairs")
				b.ReportMetric(float64(last.Reads), "reads")
				b.ReportMetric(float64(last.Wide), "wide-blocks")
				b.ReportMetric(float64(right)/float64(l.truePairs()), "recall")
				b.ReportMetric(float64(right)/float64(right+wrong), "precision")
			})
		}
	}
}

func BenchmarkScore(b *testing.B) {
	l := generate(population{seed: 98, records: 5000, duplicates: 0.2})
	m, err := match.Fit(b.Context(), match.FromSlice(l.records), match.FitOptions{Seed: 1})
	require.NoError(b, err)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		m.Score(&l.records[i%5000], &l.records[(i*7+1)%5000])
		i++
	}
}

func BenchmarkBlockingKeys(b *testing.B) {
	l := generate(population{seed: 97, records: 5000})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		match.BlockingKeys(&l.records[i%5000])
		i++
	}
}
