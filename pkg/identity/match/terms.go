package match

import (
	"cmp"
	"math"
	"slices"
)

// termCounts is how often the values of a term occur in the sample.
type termCounts struct {
	records float64 // that have a value
	values  []termCount
	// Of the values that are not among them: how many records have one, and
	// how many pairs of records, each counted twice, have the same one.
	restRecords, restPairs float64
}

type termCount struct {
	hash  uint64
	count float64
}

// frequencies are those of a term among other people, as far as is known.
type frequencies struct {
	agreement, rest float64
	of              []float64 // of termCounts.values
}

// isIdentifier: its values are one person's, or few people's. Which of them
// are frequent is nobody's business unless many share one.
func (t Term) isIdentifier() bool { return t == TermNationalID || t == TermPhone || t == TermEmail }

// field is the one whose agreement a term is about.
func (t Term) field() Field {
	switch t {
	case TermGiven:
		return FieldGiven
	case TermFamily:
		return FieldFamily
	case TermBirthDate:
		return FieldBirthDate
	case TermNationalID:
		return FieldNationalID
	case TermPostcode, TermCity:
		return FieldPlace
	case TermStreet:
		return FieldStreet
	case TermPhone:
		return FieldPhone
	default:
		return FieldEmail
	}
}

func (t Term) valuesOf(f *features, visit func(string)) {
	var all []string
	switch t {
	case TermNationalID:
		all = f.ids.all()
	case TermPhone:
		all = f.phones.all()
	case TermEmail:
		all = f.emails.all()
	default:
		if v := t.valueOf(f); v != "" {
			visit(v)
		}
		return
	}
	for _, v := range all {
		visit(v)
	}
}

func (t Term) valueOf(f *features) string {
	switch t {
	case TermGiven:
		return f.given
	case TermFamily:
		return f.family
	case TermBirthDate:
		return f.birth
	case TermPostcode:
		return f.postcode
	case TermCity:
		return f.city
	case TermStreet:
		return f.street
	default:
		return ""
	}
}

// countTerms finds the frequent values of each term.
func (e *estimate) countTerms() {
	hashes := make([]uint64, 0, len(e.records))
	var f features
	for t := range numTerms {
		term, counts := Term(t), &e.terms[t]
		hashes = hashes[:0]
		for _, p := range e.records {
			f.unpack(p)
			before := len(hashes)
			term.valuesOf(&f, func(v string) { hashes = append(hashes, termHash(term, v)) })
			if len(hashes) > before {
				counts.records++
			}
		}
		least := float64(e.options.MinTermRecords)
		if term.isIdentifier() {
			least *= 2
		}
		counts.count(hashes, least, e.options.MaxTerms)
	}
}

func (c *termCounts) count(hashes []uint64, least float64, most int) {
	slices.Sort(hashes)
	rest := func(n float64) {
		c.restRecords += n
		c.restPairs += n * (n - 1)
	}
	for i := 0; i < len(hashes); {
		j := i + 1
		for j < len(hashes) && hashes[j] == hashes[i] {
			j++
		}
		if n := float64(j - i); n >= least {
			c.values = append(c.values, termCount{hash: hashes[i], count: n})
		} else {
			rest(n)
		}
		i = j
	}
	slices.SortFunc(c.values, func(x, y termCount) int {
		if d := cmp.Compare(y.count, x.count); d != 0 {
			return d
		}
		return cmp.Compare(x.hash, y.hash)
	})
	if len(c.values) > most {
		for _, v := range c.values[most:] {
			rest(v.count)
		}
		c.values = slices.Clone(c.values[:most])
	}
	slices.SortFunc(c.values, func(x, y termCount) int { return cmp.Compare(x.hash, y.hash) })
}

// lookUp finds the places of the values that a pair agrees on.
func (e *estimate) lookUp(r *blockedRow, t *terms) {
	for f, l := range r.levels {
		r.terms[f] = termNone
		term, ok := termOf(Field(f), l)
		if !ok || l == LevelMissing || t[f][0] == "" {
			continue
		}
		one := e.terms[term].find(termHash(term, t[f][0]))
		if t[f][0] != t[f][1] {
			other := e.terms[term].find(termHash(term, t[f][1]))
			one = e.terms[term].moreFrequent(one, other)
		}
		r.terms[f] = one
	}
}

func (c *termCounts) find(hash uint64) uint16 {
	i, ok := slices.BinarySearchFunc(c.values, hash, func(v termCount, h uint64) int { return cmp.Compare(v.hash, h) })
	if !ok {
		return termRest
	}
	return uint16(i)
}

func (c *termCounts) moreFrequent(x, y uint16) uint16 {
	if x == termRest || y != termRest && c.values[y].count > c.values[x].count {
		return y
	}
	return x
}

// estimateTerms takes the record itself and its expected duplicates off the
// records that have a value: what is left are other people.
func (e *estimate) estimateTerms() {
	for t := range e.terms {
		term, counts, out := Term(t), &e.terms[t], &e.tables[t]
		out.of = make([]float64, len(counts.values))
		if counts.records < 2 {
			continue
		}
		field := term.field()
		duplicates := e.prior * (counts.records - 1) * e.m[field][LevelExact]
		if term == TermCity {
			duplicates = e.prior * (counts.records - 1) * (e.m[field][LevelExact] + e.m[field][LevelPartial])
		}
		const least = 0.5 // of a record
		frequency := func(others float64) float64 {
			return min(1, max(others-duplicates, least)/(counts.records-1))
		}
		if term.isIdentifier() {
			e.estimateIdentifier(term, field, frequency)
			continue
		}
		if counts.restRecords > 0 {
			out.rest = frequency(counts.restPairs / counts.restRecords)
		} else {
			out.rest = frequency(0)
		}
		sum, n := counts.restRecords*out.rest, counts.restRecords
		for i, v := range counts.values {
			out.of[i] = frequency(v.count - 1)
			sum += v.count * out.of[i]
			n += v.count
		}
		out.agreement = sum / n
	}
}

// estimateIdentifier: a value of few records weighs as on average, a shared one
// by its frequency.
func (e *estimate) estimateIdentifier(t Term, f Field, frequency func(float64) float64) {
	counts, out := &e.terms[t], &e.tables[t]
	out.agreement = e.u[f][LevelExact]
	out.rest = min(out.agreement, e.chanceAgreement(f))
	for i, v := range counts.values {
		out.of[i] = out.rest
		if others := frequency(v.count - 1); others*(counts.records-1) >= (v.count-1)/2 {
			out.of[i] = math.Max(out.rest, others)
		}
	}
}

// adjustAt is TermTable.adjust for a place in the counts.
func (f *frequencies) adjustAt(place uint16) float64 {
	if !(f.agreement > 0) {
		return 0
	}
	if place == termRest {
		return math.Log2(f.agreement / f.rest)
	}
	return math.Log2(f.agreement / f.of[place])
}
