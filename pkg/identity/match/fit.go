package match

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
)

// FitOptions tune Fit; the zero value is good.
type FitOptions struct {
	// Seed chooses the sample and the random pairs.
	Seed uint64
	// MaxRecords is how many records are learnt from at most; of more, a
	// random share is. Defaults to 300,000. A record takes about 600 bytes.
	MaxRecords int
	// RandomPairs is how many pairs U is estimated from. Defaults to
	// 1,000,000; where there are no more than that, all are.
	RandomPairs int
	// PairsPerRule is how many pairs with a blocking key in common M is
	// estimated from, for each kind of key. Defaults to 100,000.
	PairsPerRule int
	// MaxBlock is as in Options. Defaults to 100.
	MaxBlock int
	// MinTermRecords is how many records a value must have for its frequency
	// to be in the model. Defaults to 10. For e-mail addresses, phone numbers
	// and national ids it is twice that, and they must be shared by more
	// strangers than duplicates explain.
	MinTermRecords int
	// MaxTerms is how many values there are of a term at most, the most
	// frequent ones. Defaults to 4,096, at most 60,000.
	MaxTerms int
	// Workers is how many goroutines compare. Defaults to GOMAXPROCS.
	Workers int
}

func (o FitOptions) withDefaults() FitOptions {
	o.MaxRecords = orDefault(o.MaxRecords, 300_000)
	o.RandomPairs = orDefault(o.RandomPairs, 1_000_000)
	o.PairsPerRule = orDefault(o.PairsPerRule, 100_000)
	o.MaxBlock = max(2, orDefault(o.MaxBlock, defaultMaxBlock))
	o.MinTermRecords = max(2, orDefault(o.MinTermRecords, 10))
	o.MaxTerms = min(orDefault(o.MaxTerms, 4096), maxTerms)
	o.Workers = orDefault(o.Workers, runtime.GOMAXPROCS(0))
	return o
}

const (
	defaultMaxBlock = 100
	maxTerms        = 60_000
)

func orDefault[T cmp.Ordered](v, otherwise T) T {
	var zero T
	if v > zero {
		return v
	}
	return otherwise // also for a number that is none
}

// Fit learns a model from all records of a source, which it reads once. It
// gives a TooFewError or a DuplicateIDError, or what the source or the context
// say.
func Fit(ctx context.Context, source Source, options FitOptions) (*Model, error) {
	o := options.withDefaults()
	records, total, err := sample(ctx, source, &o)
	if err != nil {
		return nil, err
	}
	if len(records) < 2 {
		return nil, &TooFewError{Records: len(records)}
	}
	e := newEstimate(records, total, &o)
	if err := e.comparePairs(ctx); err != nil {
		return nil, fmt.Errorf("compare sampled pairs: %w", err)
	}
	for range estimateRounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e.round()
	}
	return e.model(), nil
}

// sample reads the records whose hashed id is low enough, in the order of
// these hashes: the order of the source plays no part.
func sample(ctx context.Context, source Source, o *FitOptions) ([]packed, uint64, error) {
	type candidate struct {
		hash uint64
		rec  packed
	}
	var (
		kept  []candidate
		total uint64
		limit = uint64(math.MaxUint64)
		f     features
		buf   []byte
	)
	for r, err := range source(ctx) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read records: %w", err)
		}
		total++
		h := newStringHash(o.Seed).add(r.ID).sum()
		if h > limit {
			continue
		}
		f.read(r)
		buf = f.pack(buf[:0])
		kept = append(kept, candidate{hash: h, rec: packed(buf)})
		for len(kept) > o.MaxRecords {
			limit /= 2
			kept = slices.DeleteFunc(kept, func(c candidate) bool { return c.hash > limit })
		}
	}
	slices.SortFunc(kept, func(x, y candidate) int {
		if c := cmp.Compare(x.hash, y.hash); c != 0 {
			return c
		}
		return cmp.Compare(packedID(x.rec), packedID(y.rec))
	})
	records := make([]packed, len(kept))
	for i, c := range kept {
		records[i] = c.rec
		if i > 0 && packedID(c.rec) == packedID(records[i-1]) {
			return nil, 0, &DuplicateIDError{ID: packedID(c.rec)}
		}
	}
	return records, total, nil
}

// comparePairs fills the rows of the estimate: random pairs, and pairs with a
// key in common.
func (e *estimate) comparePairs(ctx context.Context) error {
	if err := e.compareRandom(ctx); err != nil {
		return err
	}
	return e.compareBlocked(ctx)
}

func (e *estimate) compareRandom(ctx context.Context) error {
	n := len(e.records)
	all := n*(n-1)/2 <= e.options.RandomPairs
	const perChunk = 1 << 14 // pairs
	chunks := (e.options.RandomPairs + perChunk - 1) / perChunk
	if all {
		chunks = n
	}
	counts := make([]map[vector]int, chunks)
	err := inParallel(ctx, e.options.Workers, chunks, func(chunk int) {
		var (
			a, b features
			v    vector
			t    terms
		)
		found := map[vector]int{}
		if all {
			a.unpack(e.records[chunk])
			for j := chunk + 1; j < n; j++ {
				b.unpack(e.records[j])
				compare(&a, &b, &v, &t)
				found[v]++
			}
		} else {
			random := rand.New(rand.NewPCG(e.options.Seed, uint64(chunk)))
			for range perChunk {
				i, j := random.IntN(n), random.IntN(n-1)
				if j >= i {
					j++
				}
				a.unpack(e.records[i])
				b.unpack(e.records[j])
				compare(&a, &b, &v, &t)
				found[v]++
			}
		}
		counts[chunk] = found
	})
	if err != nil {
		return err
	}
	sum := map[vector]int{}
	for _, found := range counts {
		for v, c := range found {
			sum[v] += c
		}
	}
	e.random = sortedRows(sum)
	return nil
}

func sortedRows(counts map[vector]int) []row {
	rows := make([]row, 0, len(counts))
	for v, c := range counts {
		rows = append(rows, row{levels: v, count: float64(c)})
	}
	slices.SortFunc(rows, func(x, y row) int { return slices.Compare(x.levels[:], y.levels[:]) })
	return rows
}

// compareBlocked compares, of each rule, the pairs of a random share of its
// blocks.
func (e *estimate) compareBlocked(ctx context.Context) error {
	var uses [numRules]bool
	for r := range uses {
		uses[r] = true
	}
	set := inMemory(e.records, newBlocking(e.options.MaxBlock, uses))
	var pairs [numRules]float64
	for i := 0; i < len(set.entries); {
		j := set.next(i)
		e.hasRule[set.entries[i].key.Rule()] = true
		pairs[set.entries[i].key.Rule()] += float64(blockPairs(set.entries[i].key, j-i))
		i = j
	}
	var share [numRules]float64
	for r := range share {
		share[r] = min(1, float64(e.options.PairsPerRule)/max(1, pairs[r]))
	}
	type span struct{ from, to int }
	var chosen []span
	for i := 0; i < len(set.entries); {
		j := set.next(i)
		key := set.entries[i].key
		if j-i > 1 && float64(newStringHash(e.options.Seed^uint64(key)).sum())/math.MaxUint64 <= share[key.Rule()] {
			chosen = append(chosen, span{i, j})
		}
		i = j
	}
	found := make([][]blockedRow, len(chosen))
	err := inParallel(ctx, e.options.Workers, len(chosen), func(n int) {
		var (
			members []member
			t       terms
		)
		s := chosen[n]
		key := set.entries[s.from].key
		set.pairs(s.from, s.to, &members, func(x, y *member) {
			r := blockedRow{rule: key.Rule(), part: key&subBit != 0, weight: 1 / share[key.Rule()]}
			r.owned = set.owner(x.rec, y.rec) == key
			compare(&x.features, &y.features, &r.levels, &t)
			e.lookUp(&r, &t)
			found[n] = append(found[n], r)
		})
	})
	if err != nil {
		return err
	}
	e.blocked = slices.Concat(found...)
	e.sessions = sessionsOf(e.blocked)
	e.pairsOfRule = pairs
	return nil
}

// inMemory makes the blocks of records that are all in memory.
func inMemory(records []packed, b *blocking) *blocks {
	var (
		f             features
		base, parts   []Key
		scratch, keys []Key
	)
	for _, p := range records {
		f.unpack(p)
		base = b.base(&f, base)
	}
	addLarge(b.big, base, b.max)
	if len(b.big) > 0 {
		for _, p := range records {
			f.unpack(p)
			scratch = b.base(&f, scratch[:0])
			parts = b.parts(&f, scratch, parts)
		}
		addLarge(b.wide, parts, b.max)
	}
	set := &blocks{records: make([]packed, 0, len(records)), keys: make([]Key, 0, len(base))}
	for _, p := range records {
		f.unpack(p)
		keys = b.effective(&f, &scratch, keys[:0])
		set.add(p, keys)
	}
	set.collect(share{})
	return set
}
