package match

import (
	"cmp"
	"math"
	"slices"
)

// estimatePriors is expectation and maximisation of how many pairs are of one
// person and of one household among all, from weights as they are. Pairs that
// share no block count as strangers. Where no record has a field that is not
// shared in a household, the two stay as they began, two to one.
func (e *estimate) estimatePriors() {
	type evidence struct{ match, household, count float64 }
	s := newScorer(e.model())
	seen := make([]evidence, 0, len(e.blocked))
	for i := range e.blocked {
		r := &e.blocked[i]
		own, shared := e.weigh(s, r)
		const most = 500 // bits, within float64
		seen = append(seen, evidence{
			match:     math.Exp2(clamp(own+shared, -most, most)),
			household: math.Exp2(clamp(shared, -most, most)),
			count:     r.weight,
		})
	}
	pairs := e.pairs() + assumedStrangers
	for range emSteps {
		var matches, households float64
		for i, r := range e.blocked {
			if r.owned {
				m, h := posterior(seen[i].match, seen[i].household, e.prior, e.household)
				matches += m * seen[i].count
				households += h * seen[i].count
			}
		}
		prior := max(matches, leastPairs) / pairs
		household := max(households, leastPairs) / pairs
		done := math.Abs(prior-e.prior) < e.prior*emEnough && math.Abs(household-e.household) < e.household*emEnough
		e.prior, e.household = min(prior, mostPrior), min(household, mostPrior)
		if done {
			break
		}
	}
	e.matchesOfRule = [numRules]float64{}
	e.strangersAgreeing = [numFields]float64{}
	for i := range e.blocked {
		r := &e.blocked[i]
		m, h := posterior(seen[i].match, seen[i].household, e.prior, e.household)
		e.matchesOfRule[r.rule] += m * r.weight
		if r.owned {
			for f, l := range r.levels {
				if l == LevelExact && r.terms[f] == termRest {
					e.strangersAgreeing[f] += max(0, 1-m-h) * r.weight
				}
			}
		}
	}
}

const (
	// leastPairs is how many pairs of one person there are taken to be at
	// least: with none, no evidence would ever be enough.
	leastPairs = 0.5
	mostPrior  = 0.4
	// assumedStrangers is how many pairs of strangers count beside those of
	// the data, so that a handful of records proves nothing.
	assumedStrangers = 100
)

// weigh is scorer.weigh for a sampled pair.
func (e *estimate) weigh(s *scorer, r *blockedRow) (own, shared float64) {
	for f, l := range r.levels {
		if l == LevelMissing {
			continue
		}
		weight := s.withAdjust(Field(f), l, e.adjust(Field(f), r))
		if specs[f].household {
			shared += weight
		} else {
			own += weight
		}
	}
	return own, shared
}

// adjust is as that of a term table.
func (e *estimate) adjust(f Field, r *blockedRow) float64 {
	term, ok := termOf(f, r.levels[f])
	if !ok || r.terms[f] == termNone {
		return 0
	}
	return e.tables[term].adjustAt(r.terms[f])
}

// model is the estimate as it stands.
func (e *estimate) model() *Model {
	m := &Model{
		Version: ModelVersion, Records: e.total, Sampled: uint64(len(e.records)),
		Prior: e.prior, Household: e.household,
	}
	for f := range specs {
		if !e.present[f] {
			continue
		}
		field := FieldModel{Field: Field(f)}
		for _, l := range specs[f].levels() {
			field.Levels = append(field.Levels, LevelModel{Level: l, M: e.m[f][l], U: e.u[f][l], Weight: e.weights[f][l]})
		}
		m.Fields = append(m.Fields, field)
	}
	for t := range e.tables {
		if table, ok := e.table(Term(t)); ok {
			m.Terms = append(m.Terms, table)
		}
	}
	for r, pairs := range e.pairsOfRule {
		if e.hasRule[r] {
			m.Rules = append(m.Rules, RuleModel{Rule: Rule(r), Pairs: pairs, Matches: e.matchesOfRule[r]})
		}
	}
	return m
}

func (e *estimate) table(t Term) (TermTable, bool) {
	counts, f := &e.terms[t], &e.tables[t]
	if counts.records == 0 || f.agreement <= 0 {
		return TermTable{}, false
	}
	out := TermTable{Term: t, Agreement: f.agreement, Rest: f.rest}
	for i, v := range counts.values {
		out.Values = append(out.Values, TermFrequency{Hash: v.hash, Frequency: f.of[i]})
	}
	slices.SortFunc(out.Values, func(x, y TermFrequency) int { return cmp.Compare(x.Hash, y.Hash) })
	return out, true
}
