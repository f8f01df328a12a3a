package match_test

import (
	"cmp"
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/identity/match"
)

func candidates(t testing.TB, l *labelled, m *match.Model, o match.Options) []match.Pair {
	t.Helper()
	var all []match.Pair
	for p, err := range match.Candidates(t.Context(), match.FromSlice(l.records), m, o) {
		require.NoError(t, err)
		all = append(all, p)
	}
	return all
}

func byID(pairs []match.Pair) []match.Pair {
	pairs = slices.Clone(pairs)
	slices.SortFunc(pairs, func(x, y match.Pair) int { return cmp.Or(cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B)) })
	return pairs
}

// Candidates are those pairs that share a key and score enough: the same as by
// comparing each with each.
func TestCandidatesAreAllThereAre(t *testing.T) {
	t.Parallel()
	m, l := usualModel(t)
	l = &labelled{records: l.records[:1200], person: l.person[:1200]}
	const threshold = 0.2
	var want []match.Pair
	keys := make([]map[match.Key]bool, len(l.records))
	for i := range l.records {
		keys[i] = map[match.Key]bool{}
		for _, k := range match.BlockingKeys(&l.records[i]) {
			keys[i][k] = true
		}
		for j := range i {
			a, b := &l.records[j], &l.records[i]
			shared := false
			for k := range keys[i] {
				shared = shared || keys[j][k] && m.Uses(k)
			}
			if s := m.Score(a, b); shared && s.Probability >= threshold {
				want = append(want, match.Pair{A: min(a.ID, b.ID), B: max(a.ID, b.ID), Score: s})
			}
		}
	}
	require.NotEmpty(t, want)
	want = byID(want)
	options := match.Options{Threshold: threshold, MaxPerRecord: -1, MaxBlock: 2000}
	require.Equal(t, want, byID(candidates(t, l, m, options)))

	options.Workers = 5
	require.Equal(t, want, byID(candidates(t, l, m, options)))

	// With little memory the source is read again and again.
	var last match.Progress
	options.MemoryBytes = 120_000
	options.Progress = func(p match.Progress) {
		require.GreaterOrEqual(t, p.Done, last.Done)
		last = p
	}
	require.Equal(t, want, byID(candidates(t, l, m, options)))
	require.Greater(t, last.Reads, uint64(5))
	require.InDelta(t, 1, last.Done, 1e-9)
	require.EqualValues(t, len(want), last.Found)
	require.EqualValues(t, len(l.records), last.Records)

	slices.Reverse(l.records)
	last = match.Progress{}
	require.Equal(t, want, byID(candidates(t, l, m, options)))

	// Less than that and a block does not fit.
	options.MemoryBytes, last = 200, match.Progress{}
	var memory *match.MemoryError
	for _, err := range match.Candidates(t.Context(), match.FromSlice(l.records), m, options) {
		require.ErrorAs(t, err, &memory)
	}
	require.NotNil(t, memory)
}

// Blocks too large are divided; hardly a pair is lost, and none comes twice.
func TestLargeBlocks(t *testing.T) {
	t.Parallel()
	m, l := usualModel(t)
	all := candidates(t, l, m, match.Options{Threshold: 0.9, MaxPerRecord: -1, MaxBlock: 100_000})
	var last match.Progress
	options := match.Options{Threshold: 0.9, MaxPerRecord: -1, MaxBlock: 5, Progress: func(p match.Progress) { last = p }}
	some := candidates(t, l, m, options)
	require.Positive(t, last.Divided)
	require.Positive(t, last.Wide)
	seen := map[[2]string]match.Score{}
	for _, p := range some {
		require.Less(t, p.A, p.B)
		require.NotContains(t, seen, [2]string{p.A, p.B})
		seen[[2]string{p.A, p.B}] = p.Score
	}
	kept := 0
	for _, p := range all {
		if s, ok := seen[[2]string{p.A, p.B}]; ok {
			require.Equal(t, p.Score, s)
			kept++
		}
	}
	require.Equal(t, len(some), kept)
	require.GreaterOrEqual(t, float64(kept), 0.95*float64(len(all)))

	options.MemoryBytes = 300_000
	require.Equal(t, byID(some), byID(candidates(t, l, m, options)))
}

func TestManyEqualRecords(t *testing.T) {
	t.Parallel()
	m, _ := usualModel(t)
	l := &labelled{}
	for i := range 3000 {
		r := match.Record{ID: recordID(itoa(i)), Given: "Quirin", Family: "Quisquilian", BirthDate: "1970-02-03", Emails: []string{"q7@zz.example"}}
		l.records = append(l.records, r)
	}
	var last match.Progress
	o := match.Options{MaxPerRecord: 4, Progress: func(p match.Progress) { last = p }}
	pairs := candidates(t, l, m, o)
	require.Less(t, last.Pairs, uint64(3000*100), "not each with each")
	count := map[string]int{}
	for _, p := range pairs {
		count[p.A]++
		count[p.B]++
	}
	require.NotEmpty(t, pairs)
	for id, n := range count {
		require.LessOrEqual(t, n, 4, id)
	}
}

func TestBestPairsOfEach(t *testing.T) {
	t.Parallel()
	l := generate(population{seed: 31, records: 2000, duplicates: 0.5})
	m, err := match.Fit(t.Context(), match.FromSlice(l.records), fitFast)
	require.NoError(t, err)
	all := candidates(t, l, m, match.Options{Threshold: 0.5, MaxPerRecord: -1})
	rank := func(x, y match.Pair) int {
		return cmp.Or(cmp.Compare(y.Score.Weight, x.Score.Weight), cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B))
	}
	slices.SortFunc(all, rank)
	for _, most := range []int{1, 2, 5, 1000} {
		place := map[string]int{}
		var want []match.Pair
		for _, p := range all {
			if place[p.A] < most && place[p.B] < most {
				want = append(want, p)
			}
			place[p.A]++
			place[p.B]++
		}
		require.Equal(t, want, candidates(t, l, m, match.Options{Threshold: 0.5, MaxPerRecord: most}), "at most %d", most)
	}
}

func TestStopEarly(t *testing.T) {
	t.Parallel()
	m, l := usualModel(t)
	for _, most := range []int{-1, 3} {
		n := 0
		for _, err := range match.Candidates(t.Context(), match.FromSlice(l.records), m, match.Options{MaxPerRecord: most}) {
			require.NoError(t, err)
			if n++; n == 3 {
				break
			}
		}
		require.Equal(t, 3, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var errs []error
	o := match.Options{MaxPerRecord: -1, Progress: func(p match.Progress) {
		if p.Pairs > 0 {
			cancel()
		}
	}}
	for _, err := range match.Candidates(ctx, match.FromSlice(l.records), m, o) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], context.Canceled)
}
