package match_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/identity/match"
)

// evaluation is what a model makes of records whose persons are known.
type evaluation struct {
	model *match.Model
	// pairs are those with a probability of 0.001 at least, best first.
	pairs []judged
	// truePairs is how many pairs are of one person, blocked how many of these
	// share a blocking key.
	truePairs, blocked int
	person             map[string]string
}

type judged struct {
	match.Pair
	right bool
}

func evaluate(t testing.TB, l *labelled, o match.FitOptions) *evaluation {
	t.Helper()
	m, err := match.Fit(t.Context(), match.FromSlice(l.records), o)
	require.NoError(t, err)
	require.NoError(t, m.Validate())
	e := &evaluation{model: m, truePairs: l.truePairs(), person: map[string]string{}}
	for i := range l.records {
		e.person[l.records[i].ID] = l.person[i]
	}
	options := match.Options{Threshold: 0.001, MaxPerRecord: -1}
	for p, err := range match.Candidates(t.Context(), match.FromSlice(l.records), m, options) {
		require.NoError(t, err)
		e.pairs = append(e.pairs, judged{Pair: p, right: e.person[p.A] == e.person[p.B]})
	}
	slices.SortFunc(e.pairs, func(x, y judged) int {
		return cmp.Or(cmp.Compare(y.Score.Probability, x.Score.Probability), cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B))
	})
	e.blocked = blockedPairs(l, m)
	return e
}

func blockedPairs(l *labelled, m *match.Model) int {
	byPerson := map[string][]int{}
	keys := make([]map[match.Key]bool, len(l.records))
	for i := range l.records {
		byPerson[l.person[i]] = append(byPerson[l.person[i]], i)
		keys[i] = map[match.Key]bool{}
		for _, k := range match.BlockingKeys(&l.records[i]) {
			if m.Uses(k) {
				keys[i][k] = true
			}
		}
	}
	blocked := 0
	for _, of := range byPerson {
		for n, i := range of {
			for _, j := range of[:n] {
				for k := range keys[i] {
					if keys[j][k] {
						blocked++
						break
					}
				}
			}
		}
	}
	return blocked
}

// at counts the pairs from a threshold up.
func (e *evaluation) at(threshold float64) (given, right int) {
	for _, p := range e.pairs {
		if p.Score.Probability < threshold {
			break
		}
		given++
		if p.right {
			right++
		}
	}
	return given, right
}

func (e *evaluation) precision(threshold float64) float64 {
	given, right := e.at(threshold)
	if given == 0 {
		return math.NaN()
	}
	return float64(right) / float64(given)
}

func (e *evaluation) recall(threshold float64) float64 {
	_, right := e.at(threshold)
	return float64(right) / float64(e.truePairs)
}

// best is the highest F1 of any threshold, over pairs.
func (e *evaluation) best() (f1, threshold float64) {
	right := 0
	for i, p := range e.pairs {
		if p.right {
			right++
		}
		last := i+1 == len(e.pairs) || e.pairs[i+1].Score.Probability < p.Score.Probability
		if f := 2 * float64(right) / float64(e.truePairs+i+1); last && f > f1 {
			f1, threshold = f, p.Score.Probability
		}
	}
	return f1, threshold
}

// clustered is F1 over the pairs of the components that links from a threshold
// up make.
func (e *evaluation) clustered(threshold float64) float64 {
	parent := map[string]string{}
	var root func(string) string
	root = func(id string) string {
		if p, ok := parent[id]; ok && p != id {
			r := root(p)
			parent[id] = r
			return r
		}
		return id
	}
	for _, p := range e.pairs {
		if p.Score.Probability >= threshold {
			parent[root(p.A)] = root(p.B)
		}
	}
	sizes, shared := map[string]int{}, map[[2]string]int{}
	for id, person := range e.person {
		sizes[root(id)]++
		shared[[2]string{root(id), person}]++
	}
	given, right := 0, 0
	for _, n := range sizes {
		given += n * (n - 1) / 2
	}
	for _, n := range shared {
		right += n * (n - 1) / 2
	}
	return 2 * float64(right) / float64(given+e.truePairs)
}

func (e *evaluation) String() string {
	var b strings.Builder
	all := float64(e.model.Sampled) * float64(e.model.Sampled-1) / 2
	f1, at := e.best()
	fmt.Fprintf(&b, "%d records, %d true pairs; estimated %.0f, and %.0f of households\n",
		e.model.Records, e.truePairs, e.model.Prior*all, e.model.Household*all)
	fmt.Fprintf(&b, "best F1 %.4f at %.4f; blocks keep %d of the true pairs (%.4f)\n", f1, at, e.blocked, float64(e.blocked)/float64(e.truePairs))
	fmt.Fprintln(&b, "threshold   pairs  precision  recall      F1  F1 clustered")
	for _, threshold := range []float64{0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999} {
		given, _ := e.at(threshold)
		p, r := e.precision(threshold), e.recall(threshold)
		fmt.Fprintf(&b, "%9.3f %7d %10.4f %7.4f %7.4f %13.4f\n", threshold, given, p, r, 2*p*r/(p+r), e.clustered(threshold))
	}
	return b.String()
}

// With public data the parameters come from the records alone; who is who only
// serves to count.
func TestPublicData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		load func(testing.TB) *labelled
		// Floors: best F1, F1 of clusters at 0.95, recall and precision at
		// 0.95, share of true pairs with a blocking key in common.
		f1, clustered, recall, precision, blocked float64
	}{
		{name: "splink_fake_1000", load: splinkFake, f1: 0.97, clustered: 0.96, recall: 0.94, precision: 0.99, blocked: 0.97},
		{name: "febrl1", load: febrl, f1: 0.995, clustered: 0.99, recall: 0.99, precision: 0.995, blocked: 0.998},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := evaluate(t, c.load(t), match.FitOptions{Seed: 1})
			t.Log(e)
			f1, _ := e.best()
			require.GreaterOrEqual(t, f1, c.f1)
			require.GreaterOrEqual(t, e.clustered(0.95), c.clustered)
			require.GreaterOrEqual(t, e.recall(0.95), c.recall)
			require.GreaterOrEqual(t, e.precision(0.95), c.precision)
			require.GreaterOrEqual(t, float64(e.blocked)/float64(e.truePairs), c.blocked)
		})
	}
}

// fitFast is enough for a few thousand records.
var fitFast = match.FitOptions{Seed: 1, RandomPairs: 200_000, PairsPerRule: 30_000}

func TestPopulations(t *testing.T) {
	t.Parallel()
	const records = 5000
	for _, c := range []struct {
		name string
		of   population
		// Floors: best F1, precision at 0.95, recall at 0.5.
		f1, precision, recall float64
	}{
		{"one duplicate in twenty", population{seed: 1, duplicates: 0.05, mates: 0.3}, 0.93, 0.95, 0.88},
		{"one in three", population{seed: 2, duplicates: 0.3, mates: 0.3}, 0.93, 0.97, 0.85},
		{"no households", population{seed: 3, duplicates: 0.05}, 0.93, 0.95, 0.88},
		{"no birth date", population{seed: 4, duplicates: 0.05, mates: 0.3, without: []string{"birth", "id"}}, 0.82, 0.85, 0.7},
		{"no address", population{seed: 5, duplicates: 0.05, mates: 0.3, without: []string{"street", "postcode", "city"}}, 0.85, 0.9, 0.7},
		{"e-mail and name", population{seed: 6, duplicates: 0.05, without: []string{"birth", "id", "street", "postcode", "city", "phone"}}, 0.6, 0.85, 0.4},
		{"name and birth date", population{seed: 7, duplicates: 0.05, without: []string{"email", "id", "street", "postcode", "city", "phone"}}, 0.75, 0.85, 0.6},
		{"bad quality", population{seed: 8, duplicates: 0.1, mates: 0.3, noise: 2}, 0.7, 0.9, 0.55},
		{"placeholders", population{seed: 9, duplicates: 0.05, mates: 0.3, shared: 0.1, defaultBirth: 0.1}, 0.88, 0.95, 0.8},
		{"unsplit names", population{seed: 10, duplicates: 0.05, mates: 0.3, fullName: true}, 0.93, 0.95, 0.88},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.of.records = records
			e := evaluate(t, generate(c.of), fitFast)
			t.Log(e)
			f1, _ := e.best()
			require.GreaterOrEqual(t, f1, c.f1)
			require.GreaterOrEqual(t, e.precision(0.95), c.precision)
			require.GreaterOrEqual(t, e.recall(0.5), c.recall)
		})
	}
}

// Where there are no duplicates there must be hardly any suggestions: what EM
// finds instead must not pass for people.
func TestNoDuplicates(t *testing.T) {
	t.Parallel()
	for _, of := range []population{
		{seed: 11, records: 5000},
		{seed: 12, records: 5000, mates: 0.3},
		{seed: 13, records: 300, mates: 0.3},
		{seed: 14, records: 5000, without: []string{"birth", "id", "street", "postcode", "city", "phone"}},
		{seed: 15, records: 5000, mates: 0.5, without: []string{"given", "birth", "id"}},
		{seed: 16, records: 5000, without: []string{"email", "id", "street", "postcode", "city", "phone", "birth"}},
	} {
		t.Run(fmt.Sprintf("%d %v %v", of.records, of.mates, of.without), func(t *testing.T) {
			t.Parallel()
			e := evaluate(t, generate(of), fitFast)
			half, _ := e.at(0.5)
			most, _ := e.at(0.95)
			all := float64(e.model.Sampled) * float64(e.model.Sampled-1) / 2
			t.Logf("estimated %.1f pairs of one person and %.1f of a household; %d pairs above 0.5, %d above 0.95",
				e.model.Prior*all, e.model.Household*all, half, most)
			require.LessOrEqual(t, most, of.records/1000)
			if !slices.Contains(of.without, "given") {
				// Without, nothing tells a person from a household.
				require.LessOrEqual(t, half, of.records/250)
			}
		})
	}
}

func TestHardlyAnyRecords(t *testing.T) {
	t.Parallel()
	r := match.Record{Given: "Ada", Family: "Lovelace", BirthDate: "1815-12-10", Emails: []string{"ada@example.com"}}
	same := func(n int) []match.Record {
		var all []match.Record
		for i := range n {
			c := r
			c.ID = recordID(itoa(i))
			all = append(all, c)
		}
		return all
	}
	for n := range 2 {
		_, err := match.Fit(t.Context(), match.FromSlice(same(n)), fitFast)
		var few *match.TooFewError
		require.ErrorAs(t, err, &few)
		require.Equal(t, n, few.Records)
	}
	for _, n := range []int{2, 3, 50, 1500} {
		// Where all are equal, equality says nothing.
		e := evaluate(t, &labelled{records: same(n), person: make([]string, n)}, fitFast)
		given, _ := e.at(0.5)
		t.Logf("%d equal records: prior %.3g, %d pairs above 0.5", n, e.model.Prior, given)
		require.Zero(t, given)
	}
	nothing := []match.Record{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	m, err := match.Fit(t.Context(), match.FromSlice(nothing), fitFast)
	require.NoError(t, err)
	require.NoError(t, m.Validate())
	require.Empty(t, m.Fields)
	require.Less(t, m.Score(&r, &r).Probability, 0.5)

	_, err = match.Fit(t.Context(), match.FromSlice([]match.Record{{ID: "a"}, {ID: "b"}, {ID: "a"}}), fitFast)
	var twice *match.DuplicateIDError
	require.ErrorAs(t, err, &twice)
	require.Equal(t, "a", twice.ID)
}
