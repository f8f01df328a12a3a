package recorder

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func openTable(t *testing.T, fs vfs.FS) *table {
	t.Helper()
	db, err := pebble.Open("index", &pebble.Options{FS: fs, DisableWAL: true, FormatMajorVersion: pebble.FormatTableFormatV6})
	require.NoError(t, err)
	table := newTable(db)
	// Small enough that layers come and go all the time.
	table.full, table.most = 4<<10, 8<<10
	return table
}

func (t *table) lookup(tb testing.TB, key string) (string, bool) {
	tb.Helper()
	var value string
	found, err := t.get([]byte(key), func(v []byte) error {
		value = string(v)
		return nil
	})
	require.NoError(tb, err)
	return value, found
}

// A table does what a map does, across layers, restarts and what was discarded.
func TestTableIsAMap(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	fs := vfs.NewMem()
	table, model := openTable(t, fs), map[string]string{}
	const keys = 500
	for range 2000 {
		staged := maps.Clone(model)
		for range r.IntN(20) {
			key := strconv.Itoa(r.IntN(keys))
			if r.IntN(4) == 0 {
				table.delete([]byte(key))
				delete(staged, key)
			} else {
				value := fmt.Sprint(r.Uint64())[:r.IntN(12)]
				table.set([]byte(key), []byte(value))
				staged[key] = value
			}
		}
		switch r.IntN(10) {
		case 0:
			table.discard()
		default:
			require.NoError(t, table.commit(t.Context()))
			model = staged
		}
		for range 10 {
			key := strconv.Itoa(r.IntN(keys))
			want, there := model[key]
			got, found := table.lookup(t, key)
			require.Equal(t, there, found, key)
			require.Equal(t, want, got, key)
		}
		if r.IntN(200) == 0 {
			require.NoError(t, table.close())
			table = openTable(t, fs)
		}
	}
	require.NoError(t, table.close())
}

// A crash takes the last commits, and never a part of one.
func TestTableAfterACrash(t *testing.T) {
	t.Parallel()
	survived := 0
	for seed := range uint64(20) {
		fs := vfs.NewCrashableMem()
		table := openTable(t, fs)
		r := rand.New(rand.NewPCG(seed, 3))
		commits := 100 + r.IntN(400)
		for n := 1; n <= commits; n++ {
			// Every commit gives all of its keys its own number.
			for key := range 8 {
				table.set([]byte{'k', byte(key)}, []byte(strconv.Itoa(n)))
			}
			table.set([]byte("M"), []byte(strconv.Itoa(n)))
			require.NoError(t, table.commit(t.Context()))
		}
		crashed := openTable(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r}))
		require.NoError(t, table.close())
		at, found := crashed.lookup(t, "M")
		if found {
			survived++
		}
		for key := range 8 {
			value, there := crashed.lookup(t, string([]byte{'k', byte(key)}))
			require.Equal(t, found, there)
			require.Equal(t, at, value)
		}
		require.NoError(t, crashed.close())
	}
	require.Positive(t, survived, "no crash came late enough to test anything")
}
