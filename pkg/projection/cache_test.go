package projection

import (
	"fmt"
	"runtime"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view"
)

// Whoever still has an evicted customer in hand does not keep all that were
// evicted after him: else a long replay ends with everybody in memory.
func TestEvictedCustomersAreLetGo(t *testing.T) {
	t.Parallel()
	const n = 100
	c := newCache()
	first := newCustomer(view.Key{Tenant: "acme", ID: "first"}, 1)
	first.changed = false
	c.add(first)
	others := make([]weak.Pointer[customer], n)
	for i := range others {
		x := newCustomer(view.Key{Tenant: "acme", ID: fmt.Sprint(i)}, uint64(i))
		x.changed = false
		c.add(x)
		others[i] = weak.Make(x)
	}
	c.evict(0, 0)
	require.Empty(t, c.customers)
	require.Empty(t, c.profiles)
	require.Zero(t, c.size)
	runtime.GC()
	for i := range others {
		require.Nil(t, others[i].Value(), i)
	}
	runtime.KeepAlive(first)
	runtime.KeepAlive(c)
}
