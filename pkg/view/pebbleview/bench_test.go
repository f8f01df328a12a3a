package pebbleview_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
)

// syllables make names that look like names.
var syllables = []string{"an", "ber", "ca", "dor", "el", "fi", "gran", "hel", "is", "jo", "ka", "lin", "mar", "na", "or", "pe", "qui", "ro", "sten", "ta", "ul", "vi", "wen", "xa", "yo", "zel"}

func madeUpName(random *rand.Rand) string {
	name := ""
	for range 2 + random.IntN(3) {
		name += syllables[random.IntN(len(syllables))]
	}
	return name
}

// BenchmarkSearch searches PARLEY_BENCH_CUSTOMERS (100,000) names with an
// e-mail address and a phone number each, for what few, many and none have.
func BenchmarkSearch(b *testing.B) {
	many := 100_000
	if s := os.Getenv("PARLEY_BENCH_CUSTOMERS"); s != "" {
		var err error
		many, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	s, err := pebbleview.Open(b.TempDir(), pebbleview.Options{})
	require.NoError(b, err)
	w := newWriter(b, s)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range many {
		first, last := madeUpName(random), madeUpName(random)
		w.put(fmt.Sprintf("%026d", i), fmt.Sprintf("%s %s %s.%s%d@example.com +49%010d order-%d", first, last, first, last, i%100, random.Uint64N(1e10), 1e6+i))
		if i%5000 == 4999 {
			require.NoError(b, w.commit())
		}
	}
	require.NoError(b, w.commit())
	for name, query := range map[string]string{
		"one": fmt.Sprintf("order-%d", int(1e6)+many-7), "few": "granzel helsten", "many": "example", "none": "granzelhelstenqui", "two letters": "xa",
		"four digits": "4711",
	} {
		b.Run(name, func(b *testing.B) {
			pages := 0
			for b.Loop() {
				q := view.Search{Tenant: "acme", Index: "text", Text: query, Limit: 20}
				for found := 0; found < q.Limit; {
					page, err := w.gen.Search(b.Context(), "texts", q)
					require.NoError(b, err)
					pages++
					found += len(page.Entries)
					if q.Cursor = page.Next; q.Cursor == nil {
						break
					}
				}
			}
			b.ReportMetric(float64(pages)/float64(b.N), "calls")
		})
	}
	require.NoError(b, w.gen.Close())
	require.NoError(b, s.Close())
}
