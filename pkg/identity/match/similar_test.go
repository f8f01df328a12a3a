package match

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The values are those of Winkler's papers and of Knuth's book.
func TestSimilarity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"martha", "marhta", 0.961},
		{"dixon", "dicksonx", 0.813},
		{"dwayne", "duane", 0.84},
		{"jones", "johnson", 0.832},
		{"abroms", "abrams", 0.922},
		{"abc", "xyz", 0},
		{"", "a", 0},
		{"иванова", "иванвоа", 0.971},
	} {
		require.InDelta(t, c.want, jaroWinkler(c.a, c.b), 0.0006, "%s %s", c.a, c.b)
		require.InDelta(t, c.want, jaroWinkler(c.b, c.a), 0.0006, "%s %s", c.b, c.a)
	}
	for word, code := range map[string]string{
		"robert": "r163", "rupert": "r163", "tymczak": "t522", "pfister": "p236", "honeyman": "h555", "ashcraft": "a261",
		"euler": "e460", "gauss": "g200", "knuth": "k530", "lloyd": "l300", "de la cruz": "c620", "ли": "ли", "": "",
	} {
		require.Equal(t, code, soundex(word), word)
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"abcd", "abcd", true}, {"abcd", "abd", true}, {"abcd", "abxcd", true}, {"abcd", "abxd", true}, {"abcd", "abdc", true},
		{"abcd", "badc", false}, {"abcd", "ab", false}, {"abcd", "dbca", false}, {"", "a", true}, {"", "", true},
	} {
		require.Equal(t, c.want, oneEdit(c.a, c.b), "%s %s", c.a, c.b)
		require.Equal(t, c.want, oneEdit(c.b, c.a), "%s %s", c.b, c.a)
	}
}

// Both ways of assigning letters are one, and folding twice is folding once.
func FuzzSimilar(f *testing.F) {
	f.Add("martha", "marhta")
	f.Add(strings.Repeat("ab", 40), strings.Repeat("ba", 40))
	f.Add("Ǆ\u0345ẞ", "\u1e9b\u0323")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, s := range []string{a, b} {
			folded := fold(s)
			require.LessOrEqual(t, len(folded), maxValue)
			require.Equal(t, folded, fold(folded))
		}
		a, b = fold(a), fold(b)
		similarity := jaroWinkler(a, b)
		require.Equal(t, math.Float64bits(similarity), math.Float64bits(jaroWinkler(b, a)))
		require.GreaterOrEqual(t, similarity, 0.0)
		require.LessOrEqual(t, similarity, 1.0)
		if isASCII(a) && isASCII(b) {
			var bufA, bufB [maxValue]rune
			common, moved := assignBytes(a, b)
			wantCommon, wantMoved := assignRunes(runes(a, &bufA), runes(b, &bufB))
			require.Equal(t, wantCommon, common)
			require.Equal(t, wantMoved, moved)
		}
		require.Equal(t, oneEdit(a, b), oneEdit(b, a))
	})
}
