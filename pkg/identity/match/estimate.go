package match

import (
	"math"
)

// estimate is a model while it is learnt. The classes of pairs are three:
// of one person (M), strangers (U), and two people of one household, for whom
// the fields that a household shares are distributed as in M and all others as
// in U.
type estimate struct {
	options *FitOptions
	records []packed
	total   uint64

	random      []row
	blocked     []blockedRow
	sessions    [numRules][]row
	hasRule     [numRules]bool // some record has a key of it
	pairsOfRule [numRules]float64
	terms       [numTerms]termCounts

	m, u             [numFields][numLevels]float64
	weights          [numFields][numLevels]float64
	present          [numFields]bool
	tables           [numTerms]frequencies
	prior, household float64
	matchesOfRule    [numRules]float64
	sessionPrior     [numRules]float64
	sessionHousehold [numRules]float64
	// strangersAgreeing on a value that few have.
	strangersAgreeing [numFields]float64
}

// row is how often a vector of levels was met.
type row struct {
	levels vector
	count  float64
}

// blockedRow is a pair that shares a key of a rule.
type blockedRow struct {
	levels vector
	terms  [numFields]uint16 // places in termCounts.values, or termRest, termNone
	rule   Rule
	part   bool    // of a block too large, so that the rule is not all they share
	owned  bool    // this is the first of all blocks that the two share
	weight float64 // how many such pairs there are for one that was compared
}

const (
	termNone = math.MaxUint16
	termRest = math.MaxUint16 - 1
)

const (
	// estimateRounds is how often m, u, frequencies and prior are estimated
	// one from the other. Each round starts where the last one ended.
	estimateRounds = 8
	// emSteps bounds the steps of expectation and maximisation in a round, and
	// emEnough is the change of m below which it stops.
	emSteps  = 100
	emEnough = 1e-6
	// assumedMatches is how many pairs of one person the assumptions about M
	// count for beside those of the data.
	assumedMatches = 5
	// fewPairs is how many pairs are too few to estimate u from them alone.
	fewPairs = 10
)

// assumed is what M is taken for before there is data: levels agree.
var assumed = [numLevels]float64{
	LevelExact: 0.8, LevelClose: 0.06, LevelVariant: 0.03, LevelSwapped: 0.02,
	LevelPartial: 0.03, LevelSimilar: 0.03, LevelRegion: 0.01, LevelDifferent: 0.05,
}

func newEstimate(records []packed, total uint64, o *FitOptions) *estimate {
	e := &estimate{options: o, records: records, total: total}
	e.countTerms()
	for f := range specs {
		sum := 0.0
		for _, l := range specs[f].levels() {
			sum += assumed[l]
		}
		for _, l := range specs[f].levels() {
			e.m[f][l] = assumed[l] / sum
		}
	}
	// One duplicate among ten records, and half as many in households.
	e.prior = 0.1 / float64(len(records))
	e.household = e.prior / 2
	for r := range numRules {
		e.sessionPrior[r], e.sessionHousehold[r] = 0.2, 0.05
	}
	return e
}

// sessionsOf counts the vectors of each rule.
func sessionsOf(rows []blockedRow) [numRules][]row {
	var counts [numRules]map[vector]int
	for i := range rows {
		r := &rows[i]
		if r.part {
			continue
		}
		if counts[r.rule] == nil {
			counts[r.rule] = map[vector]int{}
		}
		counts[r.rule][r.levels]++
	}
	var sessions [numRules][]row
	for r, c := range counts {
		sessions[r] = sortedRows(c)
	}
	return sessions
}

// round estimates everything once, each from what the others are by now.
func (e *estimate) round() {
	e.estimateU()
	e.estimateM()
	e.estimateTerms()
	e.level()
	e.estimatePriors()
}

// pairs is how many there are of the sampled records.
func (e *estimate) pairs() float64 {
	n := float64(len(e.records))
	return n * (n - 1) / 2
}

// ratios are the likelihoods of M and of a household over that of U.
func (e *estimate) ratios(levels *vector, without fieldSet) (match, household float64) {
	match, household = 1, 1
	for f, l := range levels {
		if l == LevelMissing || without.has(Field(f)) {
			continue
		}
		ratio := e.m[f][l] / e.u[f][l]
		match *= ratio
		if specs[f].household {
			household *= ratio
		}
	}
	return match, household
}

// posterior gives the probabilities of M and of a household.
func posterior(match, household, prior, householdPrior float64) (m, h float64) {
	match *= prior
	household *= householdPrior
	sum := match + household + max(0, 1-prior-householdPrior)
	if !(sum > 0) || math.IsInf(sum, 0) {
		return 0, 0
	}
	return match / sum, household / sum
}

// estimateU counts levels among random pairs, each as far as it is of
// strangers.
func (e *estimate) estimateU() {
	first := e.u[0][LevelExact] == 0
	var counts [numFields][numLevels]float64
	for i := range e.random {
		r := &e.random[i]
		weight := r.count
		if !first {
			m, h := e.ratios(&r.levels, 0)
			m, h = posterior(m, h, e.prior, e.household)
			weight *= max(0, 1-m-h)
		}
		for f, l := range r.levels {
			counts[f][l] += weight
		}
	}
	for f := range counts {
		sum := 0.0
		levels := specs[f].levels()
		for _, l := range levels {
			sum += counts[f][l]
		}
		e.present[f] = e.present[f] || sum > 0
		const half = 0.5 // of a pair, for a level that was not met
		for _, l := range levels {
			e.u[f][l] = (counts[f][l] + half) / (sum + half*float64(len(levels)))
		}
		if exact := counts[f][LevelExact]; exact < fewPairs && !first {
			e.u[f][LevelExact] = e.rareAgreement(Field(f), (exact+1)/(sum+1))
		}
	}
}

// rareAgreement is u of exact agreement where random pairs are too few to see
// it. Pairs that agree on an identifier share a block, so those of strangers
// can be counted there; of other fields the frequencies of values tell. most
// is what the random pairs allow.
func (e *estimate) rareAgreement(f Field, most float64) float64 {
	switch f {
	case FieldNationalID, FieldPhone, FieldEmail:
		return min(most, e.chanceAgreement(f))
	case FieldGiven, FieldFamily, FieldBirthDate:
		term, _ := termOf(f, LevelExact)
		if agreement := e.tables[term].agreement; agreement > 0 {
			return min(most, agreement)
		}
	default:
	}
	return most
}

// chanceAgreement is u of exact agreement on an identifier that few have.
func (e *estimate) chanceAgreement(f Field) float64 { return (e.strangersAgreeing[f] + 1) / e.pairs() }

// estimateM is expectation and maximisation over all rules at once: M is the
// same for all, how many pairs are of one person is not. The fields of a
// rule's key are left out of its pairs.
func (e *estimate) estimateM() {
	for range emSteps {
		var counts [numFields][numLevels]float64
		for r, rows := range e.sessions {
			without := Rule(r).learnWithout()
			var all, matches, households float64
			for i := range rows {
				m, h := e.ratios(&rows[i].levels, without)
				m, h = posterior(m, h, e.sessionPrior[r], e.sessionHousehold[r])
				m, h = m*rows[i].count, h*rows[i].count
				all, matches, households = all+rows[i].count, matches+m, households+h
				for f, l := range rows[i].levels {
					if !without.has(Field(f)) {
						counts[f][l] += m
					}
				}
			}
			if all > 0 {
				// One pair more of each class, so that none dies out.
				e.sessionPrior[r] = (matches + 1) / (all + 3)
				e.sessionHousehold[r] = (households + 1) / (all + 3)
			}
		}
		if e.maximise(&counts) < emEnough {
			return
		}
	}
}

// maximise sets m from counts and says how far it moved at most. Where there
// are hardly any pairs of one person, something else would take the place of
// M: two people with the same given name, say. So M must agree, in most of its
// pairs, on what does not change in a life.
func (e *estimate) maximise(counts *[numFields][numLevels]float64) float64 {
	moved := 0.0
	for f := range counts {
		var sum, assumedSum float64
		levels := specs[f].levels()
		for _, l := range levels {
			sum += counts[f][l]
			assumedSum += assumed[l]
		}
		differ := (counts[f][LevelDifferent] + assumedMatches*assumed[LevelDifferent]/assumedSum) / (sum + assumedMatches)
		scale := 1.0
		if most := specs[f].mostDiffer; differ > most {
			scale, differ = (1-most)/(1-differ), most
		}
		for _, l := range levels {
			m := scale * (counts[f][l] + assumedMatches*assumed[l]/assumedSum) / (sum + assumedMatches)
			if l == LevelDifferent {
				m = differ
			}
			moved = max(moved, math.Abs(m-e.m[f][l]))
			e.m[f][l] = m
		}
	}
	return moved
}

// level makes weights of m and u that fall along the chain of a field: where
// they would not, neighbours are pooled (pool adjacent violators: Ayer et al.
// 1955).
func (e *estimate) level() {
	for f := range specs {
		s := &specs[f]
		type pool struct {
			m, u float64
			n    int
		}
		var pools []pool
		for _, l := range s.chain {
			pools = append(pools, pool{m: e.m[f][l], u: e.u[f][l], n: 1})
			for n := len(pools); n > 1 && pools[n-1].m/pools[n-1].u > pools[n-2].m/pools[n-2].u; n = len(pools) {
				pools[n-2].m += pools[n-1].m
				pools[n-2].u += pools[n-1].u
				pools[n-2].n += pools[n-1].n
				pools = pools[:n-1]
			}
		}
		i := 0
		for _, p := range pools {
			for range p.n {
				e.weights[f][s.chain[i]] = clamp(math.Log2(p.m/p.u), -MaxWeight, MaxWeight)
				i++
			}
		}
		// Equality never speaks against, nor its opposite for it.
		best, worst := s.chain[0], s.chain[len(s.chain)-1]
		e.weights[f][best] = max(0, e.weights[f][best])
		e.weights[f][worst] = min(0, e.weights[f][worst])
		for _, l := range s.side {
			e.weights[f][l] = clamp(math.Log2(e.m[f][l]/e.u[f][l]), e.weights[f][worst], e.weights[f][best])
		}
	}
}
