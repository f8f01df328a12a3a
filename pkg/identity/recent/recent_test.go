package recent_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/identity/recent"
)

func TestForgetsOnlyTheOld(t *testing.T) {
	t.Parallel()
	m := recent.New[int, int](100)
	for i := range 1000 {
		m.Put(i, i)
		v, ok := m.Get(0)
		require.True(t, ok, "what is used stays")
		require.Equal(t, 0, v)
		require.LessOrEqual(t, m.Len(), 200)
	}
	_, ok := m.Get(1)
	require.False(t, ok)
	_, ok = m.Get(999)
	require.True(t, ok)
}

func TestPutAndDelete(t *testing.T) {
	t.Parallel()
	m := recent.New[string, int](2)
	m.Put("a", 1)
	m.Put("b", 2)
	m.Put("a", 3)
	m.Put("c", 4) // a and b are old now
	v, ok := m.Get("a")
	require.True(t, ok)
	require.Equal(t, 3, v, "the latest value, also of what moved on")
	m.Delete("a")
	_, ok = m.Get("a")
	require.False(t, ok)
	v, ok = m.Get("b")
	require.True(t, ok)
	require.Equal(t, 2, v)
}
