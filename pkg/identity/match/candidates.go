package match

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
)

// Options tune Candidates; the zero value is good.
type Options struct {
	// Threshold is the least probability of a pair. Defaults to 0.95.
	Threshold float64
	// MaxPerRecord is how many pairs a record is in at most: a pair is given
	// only where it is among the best of both its records. Defaults to 10;
	// below 0 there is no limit, and pairs come as they are found.
	MaxPerRecord int
	// MaxBlock is how many records a block may have before it is divided. Time
	// grows with it. Defaults to 100.
	MaxBlock int
	// MemoryBytes bounds what is kept of the records; where they need more,
	// the source is read several times. Defaults to 1 GiB. Pairs come in
	// addition, with about 150 bytes each, of those within MaxPerRecord.
	MemoryBytes int64
	// Workers is how many goroutines compare. Defaults to GOMAXPROCS.
	Workers int
	// Progress, where there is one, is called now and then, and never
	// concurrently.
	Progress func(Progress)
}

// Progress is how far Candidates has come.
type Progress struct {
	// Reads is how often the source was read or is being read, Records how
	// many records the first time gave.
	Reads, Records uint64
	// Done is the share of the blocking keys whose pairs are all compared,
	// from 0 to 1.
	Done float64
	// Pairs were compared and Found of them were above the threshold.
	Pairs, Found uint64
	// Divided is how many blocks were too large; Wide is how many of their
	// parts still were, so that a record was compared with its neighbours in
	// it only.
	Divided, Wide uint64
}

func (o Options) withDefaults() Options {
	const defaultThreshold, defaultMemory, defaultPerRecord = 0.95, 1 << 30, 10
	o.Threshold = orDefault(o.Threshold, defaultThreshold)
	if o.MaxPerRecord == 0 {
		o.MaxPerRecord = defaultPerRecord
	}
	o.MaxBlock = max(2, orDefault(o.MaxBlock, defaultMaxBlock))
	o.MemoryBytes = orDefault(o.MemoryBytes, defaultMemory)
	o.Workers = orDefault(o.Workers, runtime.GOMAXPROCS(0))
	return o
}

// Pair is two records that may be of one person.
type Pair struct {
	// A and B are their ids, the lower one first.
	A, B string
	// Score is what Model.Score says of them.
	Score Score
}

// MemoryError says that the records of one block alone need more than
// Options.MemoryBytes.
type MemoryError struct {
	Bytes int64
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("a block of records needs more than %d bytes", e.Bytes)
}

// Candidates gives the pairs that share a blocking key and score at least the
// threshold, each once, best first unless MaxPerRecord is below 0. Which pairs
// they are depends on model, records and options only. An error ends it:
// an InvalidModelError, a MemoryError, or what the source or the context say.
func Candidates(ctx context.Context, source Source, m *Model, options Options) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		if err := m.Validate(); err != nil {
			yield(Pair{}, err)
			return
		}
		s := &search{source: source, options: options.withDefaults(), scorer: newScorer(m)}
		var uses [numRules]bool
		for _, r := range m.Rules {
			uses[r.Rule] = true
		}
		s.blocking = newBlocking(s.options.MaxBlock, uses)
		if err := s.run(ctx, yield); err != nil {
			yield(Pair{}, err)
		}
	}
}

// search is one run of Candidates.
type search struct {
	source   Source
	options  Options
	scorer   *scorer
	blocking *blocking
	progress Progress
	memory   []packed // all records, where they fit
	complete bool     // memory has them all
	keys     int      // about how many there are, for one allocation
	stopped  bool     // whoever ranges over the pairs wants no more
}

const (
	// mostBits bounds how often a share is halved: 4,096 shares, each of which
	// takes one reading of the source.
	mostBits = 12
	// stepBits is by how much a share in memory is divided further, to have
	// few entries at a time.
	stepBits = 4
)

func (s *search) run(ctx context.Context, yield func(Pair, error) bool) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	var scratch []Key
	err := s.findLarge(ctx, share{}, s.blocking.big, func(f *features, keys []Key) []Key {
		return s.blocking.base(f, keys)
	})
	if err != nil {
		return err
	}
	if len(s.blocking.big) > 0 {
		err := s.findLarge(ctx, share{}, s.blocking.wide, func(f *features, keys []Key) []Key {
			scratch = s.blocking.base(f, scratch[:0])
			return s.blocking.parts(f, scratch, keys)
		})
		if err != nil {
			return err
		}
	}
	s.progress.Divided, s.progress.Wide = uint64(len(s.blocking.big)), uint64(len(s.blocking.wide))
	if s.options.MaxPerRecord < 0 {
		return s.compareShare(ctx, share{}, func(p *found) bool { return yield(p.pair(), nil) })
	}
	keep := newKeeper(s.options.MaxPerRecord)
	if err := s.compareShare(ctx, share{}, keep.add); err != nil {
		return err
	}
	for p := range keep.best() {
		if !yield(p.pair(), nil) {
			break
		}
	}
	return nil
}

// compareShare compares the pairs of the blocks of a share, in halves if its
// records do not fit.
func (s *search) compareShare(ctx context.Context, part share, hand func(*found) bool) error {
	set, err := s.loadShare(ctx, part)
	if err == nil {
		for _, step := range part.divide(stepBits) {
			set.collect(step)
			if err := s.compareBlocks(ctx, set, step, hand); err != nil || s.stopped {
				return err
			}
		}
		return nil
	}
	if !errors.Is(err, errShareTooLarge) {
		return err
	}
	if part.bits == mostBits {
		return &MemoryError{Bytes: s.options.MemoryBytes}
	}
	for _, half := range part.divide(1) {
		if err := s.compareShare(ctx, half, hand); err != nil || s.stopped {
			return err
		}
	}
	return nil
}

// loadShare gives the records that have a key in the share.
func (s *search) loadShare(ctx context.Context, part share) (*blocks, error) {
	var (
		set       = &blocks{}
		scratch   []Key
		effective []Key
		buf       []byte
		bytes     int64
		budget    = s.options.MemoryBytes
	)
	if s.complete {
		budget /= 2
	}
	if s.complete {
		n := len(s.memory)
		set.records, set.ends, set.keys = make([]packed, 0, n), make([]uint32, 0, n), make([]Key, 0, s.keys+s.keys/8)
	}
	err := s.each(ctx, func(f *features, p packed) error {
		effective = s.blocking.effective(f, &scratch, effective[:0])
		entries := 0
		for _, k := range effective {
			if part.has(k) {
				entries++
			}
		}
		if entries == 0 {
			return nil
		}
		if p == "" {
			buf = f.pack(buf[:0])
			p = packed(buf)
			bytes += int64(len(p))
		}
		if bytes += recordOverhead + int64(len(effective))*keyBytes + int64(entries)*entryBytes>>stepBits; bytes > budget {
			return errShareTooLarge
		}
		set.add(p, effective)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return set, nil
}

// task is some neighbouring blocks: entries[from:to].
type task struct {
	from, to int
	pairs    uint64
	found    []found
}

// taskPairs is about how many pairs a task has.
const taskPairs = 1 << 16

// compareBlocks compares in batches of tasks and hands on what they found in
// the order of the blocks.
func (s *search) compareBlocks(ctx context.Context, set *blocks, part share, hand func(*found) bool) error {
	tasks := make([]task, 0, s.options.Workers*4)
	doneBefore := s.progress.Done
	for i := 0; i < len(set.entries); {
		tasks = tasks[:0]
		for len(tasks) < cap(tasks) && i < len(set.entries) {
			t := task{from: i}
			for i < len(set.entries) && t.pairs < taskPairs {
				j := set.next(i)
				t.pairs += uint64(blockPairs(set.entries[i].key, j-i))
				i = j
			}
			t.to, t.pairs = i, 0
			tasks = append(tasks, t)
		}
		err := inParallel(ctx, s.options.Workers, len(tasks), func(n int) { s.compareTask(ctx, set, &tasks[n]) })
		if err != nil {
			return fmt.Errorf("compare pairs: %w", err)
		}
		for n := range tasks {
			s.progress.Pairs += tasks[n].pairs
			s.progress.Found += uint64(len(tasks[n].found))
			for k := range tasks[n].found {
				if !hand(&tasks[n].found[k]) {
					s.stopped = true
					return nil
				}
			}
		}
		s.progress.Done = doneBefore + float64(i)/float64(len(set.entries))/float64(uint64(1)<<part.bits)
		s.report()
	}
	s.progress.Done = doneBefore + 1/float64(uint64(1)<<part.bits)
	s.report()
	return nil
}

func (s *search) compareTask(ctx context.Context, set *blocks, t *task) {
	var (
		members []member
		p       found
		values  terms
	)
	for i := t.from; i < t.to && ctx.Err() == nil; {
		j := set.next(i)
		key := set.entries[i].key
		if j-i > 1 {
			set.pairs(i, j, &members, func(x, y *member) {
				if set.owner(x.rec, y.rec) != key || x.features.id == y.features.id {
					return
				}
				t.pairs++
				compare(&x.features, &y.features, &p.levels, &values)
				p.weight, p.adjust = s.scorer.weigh(&p.levels, &values, &p.weights)
				if p.probability = s.scorer.probability(p.weight); p.probability < s.options.Threshold {
					return
				}
				p.a, p.b = x.features.id, y.features.id
				if p.b < p.a {
					p.a, p.b = p.b, p.a
				}
				t.found = append(t.found, p)
			})
		}
		i = j
	}
}
