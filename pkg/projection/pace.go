package projection

import (
	"context"
	"math"
	runtimemetrics "runtime/metrics"
	"sync/atomic"
	"time"
)

// pace slows a generation down that nobody reads yet, so that the reads of the
// one that serves keep their latency. While there are reads it works for a
// moment and rests, the longer the later goroutines get their turn; without any
// it goes as fast as it can. The moments are short because nobody takes a
// processor from a goroutine that works for 10 milliseconds, and a runtime all
// of whose processors are taken does not even look for what has come in.
type pace struct {
	// limit is the largest number of events a second; 0 for none.
	limit atomic.Uint32
	// reads counts the reads of the generation that serves; nil where this one need not mind them.
	reads atomic.Pointer[atomic.Int64]

	now func() time.Time

	// shared is share in thousandths, for who decodes.
	shared atomic.Int32

	// Of the session's goroutine.
	due      time.Time // when the next event may be folded, by limit
	began    time.Time // of the portion at hand
	looked   time.Time
	seen     int64
	busy     time.Time // when reads were last seen
	share    float64   // of the time that is worked
	sample   []runtimemetrics.Sample
	previous []uint64
}

const (
	// gentleStretch is how long is worked between two rests.
	gentleStretch = 250 * time.Microsecond
	// gentlePortion is how many events are taken between two looks at the limit,
	// gentleCommit how many are committed at once: a commit is written at a stretch.
	gentlePortion = 128
	gentleCommit  = 128
	// paceEvery is how often the share is set anew.
	paceEvery = 20 * time.Millisecond
	// readsLinger is how long reads count as going on after the last.
	readsLinger = 500 * time.Millisecond
	// lateTurn is how late a goroutine may get its turn, at the 99th
	// percentile, before there is less work.
	lateTurn = 150 * time.Microsecond
	// leastShare of the time is worked in any case, that it comes to an end.
	leastShare = 0.05
	// longestRest keeps a generation that was slow once from sleeping long.
	longestRest = 50 * time.Millisecond

	schedulerLatency = "/sched/latencies:seconds"
)

// portion is how many events may be folded before the next pause.
func (p *pace) portion() int {
	if p.reads.Load() == nil && p.limit.Load() == 0 {
		return math.MaxInt
	}
	return gentlePortion
}

// gives says that it gives way to reads at the moment.
func (p *pace) gives() bool {
	return p.reads.Load() != nil && !p.busy.IsZero() && p.now().Sub(p.busy) <= readsLinger
}

// pause rests after n events.
func (p *pace) pause(ctx context.Context, n int) error {
	if p.portion() == math.MaxInt {
		return nil
	}
	now := p.now()
	rest := time.Duration(0)
	if limit := p.limit.Load(); limit > 0 {
		p.due = p.due.Add(time.Duration(n) * time.Second / time.Duration(limit))
		if behind := now.Sub(p.due); behind > time.Second {
			p.due = now
		}
		rest = p.due.Sub(now)
	}
	if reads := p.reads.Load(); reads != nil {
		rest = max(rest, p.gentle(now, reads.Load()))
	}
	if rest <= 0 {
		return nil
	}
	if !sleep(ctx, rest) {
		return ctx.Err()
	}
	p.began = p.now()
	return nil
}

// breathe rests for the sake of reads, if it is time to.
func (p *pace) breathe(ctx context.Context) {
	reads := p.reads.Load()
	if reads == nil {
		return
	}
	if rest := p.gentle(p.now(), reads.Load()); rest > 0 {
		sleep(ctx, rest)
		p.began = p.now()
	}
}

// gentle is how long to rest for the sake of reads.
func (p *pace) gentle(now time.Time, reads int64) time.Duration {
	if reads != p.seen {
		p.seen, p.busy = reads, now
	}
	if p.busy.IsZero() || now.Sub(p.busy) > readsLinger {
		p.share, p.began = 1, now
		p.shared.Store(0)
		return 0
	}
	if p.share == 0 {
		p.share = 1
	}
	if now.Sub(p.looked) >= paceEvery {
		p.looked = now
		if p.turnsLate() {
			p.share = max(p.share*0.7, leastShare)
		} else {
			p.share = min(p.share+0.03, 1)
		}
	}
	p.shared.Store(int32(1000 * p.share))
	worked := now.Sub(p.began)
	if worked < gentleStretch {
		return 0
	}
	return min(time.Duration(float64(worked)*(1/p.share-1)), longestRest)
}

// gentleDecode is how many records are decoded between two rests.
const gentleDecode = 32

// restDecoding rests after having decoded since began.
func (p *pace) restDecoding(ctx context.Context, began time.Time) {
	if share := p.shared.Load(); share > 0 && share < 1000 {
		sleep(ctx, min(p.now().Sub(began)*time.Duration(1000-share)/time.Duration(share), longestRest))
	}
}

// turnsLate says whether goroutines waited long for their turn since it was
// last asked.
func (p *pace) turnsLate() bool {
	if p.sample == nil {
		p.sample = []runtimemetrics.Sample{{Name: schedulerLatency}}
	}
	runtimemetrics.Read(p.sample)
	if p.sample[0].Value.Kind() != runtimemetrics.KindFloat64Histogram {
		return false
	}
	h := p.sample[0].Value.Float64Histogram()
	if len(p.previous) != len(h.Counts) {
		p.previous = append(p.previous[:0], h.Counts...)
		return false
	}
	var all, late uint64
	for i, n := range h.Counts {
		n, p.previous[i] = n-p.previous[i], n
		all += n
		if h.Buckets[i] >= lateTurn.Seconds() {
			late += n
		}
	}
	return late*100 > all
}
