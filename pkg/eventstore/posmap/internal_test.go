package posmap

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
)

func FuzzRuns(f *testing.F) {
	f.Add(uint64(0), uint64(0), []byte{1, 1, 9}, uint64(5))
	f.Add(uint64(1), uint64(7), appendRun(appendRun(nil, run{step: pair{3, 400}, count: 2}), run{step: pair{1 << 40, 1}, count: 5}), uint64(12))
	f.Add(uint64(1<<63), uint64(1), appendRun(nil, run{step: pair{1 << 62, 1}, count: 9}), uint64(1<<63))
	f.Fuzz(func(t *testing.T, old, position uint64, b []byte, ask uint64) {
		after := pair{eventstore.Position(old), eventstore.Position(position)}
		c, err := decodeChunk(after, b)
		if err != nil {
			require.ErrorIs(t, err, errRuns)
			return
		}
		last := after
		var again []byte
		for _, r := range c.runs {
			require.Greater(t, r.first.old, last.old)
			require.Greater(t, r.first.new, last.new)
			last = r.last()
			require.GreaterOrEqual(t, last.old, r.first.old)
			require.GreaterOrEqual(t, last.new, r.first.new)
			again = appendRun(again, r)
		}
		require.Equal(t, last, c.last)
		same, err := decodeChunk(after, again)
		require.NoError(t, err)
		require.Equal(t, c, same)
		if at := eventstore.Position(ask); at >= after.old {
			p := c.forwards(at)
			require.LessOrEqual(t, p.old, at)
			require.Equal(t, p, c.backwards(p.new))
			require.Equal(t, p, c.forwards(p.old))
		}
	})
}
