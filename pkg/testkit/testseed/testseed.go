// Package testseed makes random tests repeatable: each run draws its seed anew and
// prints it, and PARLEY_TEST_SEED repeats one.
package testseed

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

const variable = "PARLEY_TEST_SEED"

// Of is the seed of a test's run, which it prints.
func Of(t testing.TB) uint64 {
	t.Helper()
	s, given := Given(t)
	if !given {
		s = rand.Uint64()
	}
	Print(t, s)
	return s
}

// Rand draws from the seed of a test's run, which it prints.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Of(t), 1))
}

// Given is the seed that a run is to repeat, if there is one, for a test that
// else runs with many.
func Given(t testing.TB) (s uint64, given bool) {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return 0, false
	}
	s, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, variable)
	return s, true
}

// Print says how to repeat a run.
func Print(t testing.TB, s uint64) {
	t.Helper()
	t.Logf("%s=%d repeats this run", variable, s)
}
