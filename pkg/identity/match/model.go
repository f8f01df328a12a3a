package match

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Model is what Fit has learnt: all that a score depends on. It is plain data,
// to be stored and compared. It must not be changed while it is used; reading
// it is safe from any number of goroutines.
type Model struct {
	// Version is ModelVersion of the code that fitted it: what a level means
	// may change between versions.
	Version uint32
	// Records is how many records it was learnt from, and Sampled how many of
	// them were compared.
	Records, Sampled uint64
	// Prior is the probability that two records picked at random are of one
	// person, above 0 and below 1.
	Prior float64
	// Household is the same for two people of one household, from 0 on.
	Household float64
	// Fields are those that at least one pair of records has, in ascending
	// order.
	Fields []FieldModel
	// Terms are about frequent values, in ascending order of their kind.
	Terms []TermTable
	// Rules are the kinds of blocking keys that any record has, in ascending
	// order.
	Rules []RuleModel
}

// ModelVersion is raised when a stored model would score differently.
const ModelVersion = 1

// FieldModel is about one field.
type FieldModel struct {
	Field Field
	// Levels has every level of the field once, but for LevelMissing.
	Levels []LevelModel
}

// LevelModel is about one level of a field.
type LevelModel struct {
	Level Level
	// M is the probability of the level where both records have the field and
	// are of one person, U that where they are of two. Both above 0.
	M, U float64
	// Weight is log2(M/U), levelled where a better level would weigh less than
	// a worse one; between −MaxWeight and MaxWeight.
	Weight float64
}

// MaxWeight bounds the weight of a level with its term, in bits.
const MaxWeight = 40

// Term is a kind of value whose frequency counts.
type Term uint8

// The terms.
const (
	TermGiven Term = iota
	TermFamily
	TermBirthDate
	TermNationalID
	TermPostcode
	TermCity
	TermStreet
	TermPhone
	TermEmail

	numTerms = int(TermEmail) + 1
)

var termNames = [...]string{"given", "family", "birth_date", "national_id", "postcode", "city", "street", "phone", "email"}

func (t Term) String() string {
	if int(t) < len(termNames) {
		return termNames[t]
	}
	return fmt.Sprintf("term %d", uint8(t))
}

// TermTable has the frequent values of a term. A frequency is the share of
// records of other people that have the value.
type TermTable struct {
	Term Term
	// Agreement is the frequency of the value that two people agree on, on
	// average: what U stands for.
	Agreement float64
	// Rest is the frequency of a value that is not in the table.
	Rest float64
	// Values are sorted by hash.
	Values []TermFrequency
}

// TermFrequency is the frequency of a value. The hash is no secret: who knows
// a value can look it up, which is why only values of many records are here.
type TermFrequency struct {
	Hash      uint64
	Frequency float64
}

// RuleModel is about one kind of blocking key.
type RuleModel struct {
	Rule Rule
	// Pairs is how many pairs share such a key, and Matches how many of these
	// are of one person; both estimated, among the sampled records.
	Pairs, Matches float64
}

// Score is what two records say about being of one person.
type Score struct {
	// Probability is above 0 and below 1.
	Probability float64
	// Weight is the evidence without the prior: log2 of the Bayes factor.
	Weight float64
	// Reasons add up to Weight, to a hundredth of a bit. They are in the order
	// of the fields and tell no values.
	Reasons []Reason
}

// Reason is what one field contributes.
type Reason struct {
	Field Field
	Level Level
	// Weight is in bits; below 0 it speaks against.
	Weight float64
}

// Score compares two records; the order does not matter.
func (m *Model) Score(a, b *Record) Score {
	var (
		fa, fb features
		v      vector
		t      terms
		w      [numFields]float64
	)
	fa.read(a)
	fb.read(b)
	compare(&fa, &fb, &v, &t)
	s := newScorer(m)
	weight, adjust := s.weigh(&v, &t, &w)
	return Score{Probability: s.probability(weight), Weight: weight, Reasons: reasons(&v, &w, adjust)}
}

// Uses says whether the key is of a rule that the model's records have.
func (m *Model) Uses(k Key) bool {
	_, ok := slices.BinarySearchFunc(m.Rules, k.Rule(), func(r RuleModel, rule Rule) int { return cmp.Compare(r.Rule, rule) })
	return ok
}

func reasons(v *vector, w *[numFields]float64, adjust float64) []Reason {
	out := make([]Reason, 0, numFields+1)
	for f, level := range v {
		if level != LevelMissing && w[f] != 0 {
			out = append(out, Reason{Field: Field(f), Level: level, Weight: w[f]})
		}
	}
	const least = 0.005 // bits; less is rounding
	if math.Abs(adjust) >= least {
		out = append(out, Reason{Field: FieldHousehold, Level: LevelExact, Weight: adjust})
	}
	return out
}

// scorer is a model laid out for look-ups.
type scorer struct {
	weights   [numFields][numLevels]float64
	tables    [numTerms]*TermTable
	prior     float64 // log2 of the odds
	household float64
	model     *Model
}

func newScorer(m *Model) *scorer {
	s := &scorer{prior: math.Log2(m.Prior / (1 - m.Prior)), household: m.Household, model: m}
	for i := range m.Fields {
		f := &m.Fields[i]
		for _, l := range f.Levels {
			s.weights[f.Field][l.Level] = l.Weight
		}
	}
	for i := range m.Terms {
		s.tables[m.Terms[i].Term] = &m.Terms[i]
	}
	return s
}

// weigh gives the weight of a pair: those of its fields, by field, and what is
// taken off because a household shares some of them.
func (s *scorer) weigh(v *vector, t *terms, w *[numFields]float64) (total, adjust float64) {
	var own, shared float64
	for f := range v {
		w[f] = s.field(Field(f), v[f], &t[f])
		if specs[f].household {
			shared += w[f]
		} else {
			own += w[f]
		}
	}
	adjust = saturate(shared, s.household) - shared
	return own + shared + adjust, adjust
}

// saturate is log2 of what a Bayes factor of 2^w against strangers is against
// everybody, households being one of 1/h pairs: never above log2(1/h).
func saturate(w, h float64) float64 {
	if h <= 0 {
		return w
	}
	return -math.Log2((1-h)*math.Exp2(-w) + h)
}

// field is the weight of a level with what the frequency of the value adds.
func (s *scorer) field(f Field, l Level, values *[2]string) float64 {
	if l == LevelMissing {
		return 0
	}
	weight := s.weights[f][l]
	term, ok := termOf(f, l)
	if !ok || s.tables[term] == nil {
		return weight
	}
	return s.withAdjust(f, l, s.tables[term].adjustOf(values))
}

// withAdjust is the weight of a level when a value's frequency adds adjust.
func (s *scorer) withAdjust(f Field, l Level, adjust float64) float64 {
	weight := s.weights[f][l]
	switch {
	case adjust == 0:
		return weight
	case l == LevelExact, l == LevelPartial:
		// Agreement on a value that everybody has is still worth no less than
		// nothing.
		return clamp(weight+adjust, min(weight, 0), MaxWeight)
	}
	// Of two values that are only alike the more frequent one counts, and a
	// rare one adds nothing: it may be rare for being misspelt.
	return max(weight+min(0, adjust), min(weight, s.weights[f][LevelDifferent]))
}

// adjustOf is that of the more frequent of two values.
func (t *TermTable) adjustOf(values *[2]string) float64 {
	adjust := t.adjust(values[0])
	if values[1] != values[0] {
		adjust = min(adjust, t.adjust(values[1]))
	}
	return adjust
}

// adjust is what agreement on the value weighs more than on average.
func (t *TermTable) adjust(value string) float64 {
	if value == "" {
		return 0
	}
	frequency := t.Rest
	if i, ok := slices.BinarySearchFunc(t.Values, termHash(t.Term, value), func(v TermFrequency, h uint64) int { return cmp.Compare(v.Hash, h) }); ok {
		frequency = t.Values[i].Frequency
	}
	return math.Log2(t.Agreement / frequency)
}

func termHash(t Term, value string) uint64 {
	const seed = 0x7465726d // apart from the blocking keys
	return newStringHash(seed + uint64(t)).add(value).sum()
}

// termOf is the kind of value that a level of a field agrees on.
func termOf(f Field, l Level) (Term, bool) {
	exact := l == LevelExact
	alike := exact || l == LevelClose || l == LevelSimilar
	switch f {
	case FieldGiven:
		return TermGiven, alike
	case FieldFamily:
		return TermFamily, alike
	case FieldBirthDate:
		return TermBirthDate, exact
	case FieldNationalID:
		return TermNationalID, exact
	case FieldPlace:
		if exact {
			return TermPostcode, true
		}
		return TermCity, l == LevelPartial || l == LevelSimilar
	case FieldStreet:
		return TermStreet, exact || l == LevelPartial
	case FieldPhone:
		return TermPhone, exact
	case FieldEmail:
		return TermEmail, exact
	default:
		return 0, false
	}
}

// probability of a weight, kept off 0 and 1.
func (s *scorer) probability(weight float64) float64 {
	const most = 50 // bits: what a float64 still tells from 1
	odds := math.Exp2(clamp(s.prior+weight, -most*10, most))
	return odds / (1 + odds)
}

func clamp(x, low, high float64) float64 { return max(low, min(x, high)) }

// InvalidModelError is about a model that Fit cannot have made.
type InvalidModelError struct {
	Reason string
}

func (e *InvalidModelError) Error() string { return "not a valid match model: " + e.Reason }

// Validate says whether the model can be scored with: an InvalidModelError, or
// nil. To be called on a model that comes from elsewhere.
func (m *Model) Validate() error {
	bad := func(format string, args ...any) error {
		return &InvalidModelError{Reason: fmt.Sprintf(format, args...)}
	}
	if m.Version != ModelVersion {
		return bad("version %d, this is %d", m.Version, ModelVersion)
	}
	if !(m.Prior > 0 && m.Prior < 1) || !(m.Household >= 0 && m.Household < 1) {
		return bad("prior %v, household %v", m.Prior, m.Household)
	}
	for i := range m.Fields {
		f := &m.Fields[i]
		if int(f.Field) >= numFields || i > 0 && f.Field <= m.Fields[i-1].Field {
			return bad("%v is unknown or out of order", f.Field)
		}
		if err := f.validate(); err != nil {
			return err
		}
	}
	for i := range m.Terms {
		t := &m.Terms[i]
		if int(t.Term) >= numTerms || i > 0 && t.Term <= m.Terms[i-1].Term {
			return bad("terms of %v are unknown or out of order", t.Term)
		}
		if !isProbability(t.Agreement) || !isProbability(t.Rest) {
			return bad("terms of %v: agreement %v, rest %v", t.Term, t.Agreement, t.Rest)
		}
		for j, v := range t.Values {
			if !isProbability(v.Frequency) || j > 0 && v.Hash <= t.Values[j-1].Hash {
				return bad("terms of %v: value %d has frequency %v or is out of order", t.Term, j, v.Frequency)
			}
		}
	}
	for i, r := range m.Rules {
		if int(r.Rule) >= numRules || i > 0 && r.Rule <= m.Rules[i-1].Rule {
			return bad("%v is unknown or out of order", r.Rule)
		}
		if !(r.Pairs >= 0) || !(r.Matches >= 0) || math.IsInf(r.Pairs, 0) || math.IsInf(r.Matches, 0) {
			return bad("%v: %v pairs, %v matches", r.Rule, r.Pairs, r.Matches)
		}
	}
	return nil
}

func (f *FieldModel) validate() error {
	var seen [numLevels]bool
	levels := specs[f.Field].levels()
	for _, l := range f.Levels {
		if !slices.Contains(levels, l.Level) || seen[l.Level] {
			return &InvalidModelError{Reason: fmt.Sprintf("%v: %v is unknown or there twice", f.Field, l.Level)}
		}
		seen[l.Level] = true
		if !isProbability(l.M) || !isProbability(l.U) || !(math.Abs(l.Weight) <= MaxWeight) {
			return &InvalidModelError{Reason: fmt.Sprintf("%v: %v has m %v, u %v, weight %v", f.Field, l.Level, l.M, l.U, l.Weight)}
		}
	}
	if len(f.Levels) != len(levels) {
		return &InvalidModelError{Reason: fmt.Sprintf("%v: %d of %d levels", f.Field, len(f.Levels), len(levels))}
	}
	return nil
}

// isProbability excludes 0: it would weigh infinitely much.
func isProbability(p float64) bool { return p > 0 && p <= 1 }
