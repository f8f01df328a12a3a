package viewtest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

func sortBy[T any](s []T, compare func(a, b T) int) { slices.SortFunc(s, compare) }

// reversed is s, from behind if so asked.
func reversed(s []string, reverse bool) []string {
	if reverse {
		s = slices.Clone(s)
		slices.Reverse(s)
	}
	return s
}

// testShared opens a store twice, as two processes do. Of a store that only
// one process may have open the driver's own tests show the refusal.
func testShared(t *testing.T, b Backend) {
	one := open(t, b)
	if !one.store.Shared() {
		t.Skip("one process at a time has such a store open")
	}
	two := open(t, b)
	require.Greater(t, two.token, one.token)

	// The older writer is fenced off, in the middle of whatever it did.
	one.put("acme", person("c1", "Stale", 1))
	one.batch.Checkpoint = checkpoint(one.token, 1)
	require.ErrorIs(t, one.Commit(t.Context(), &one.batch), view.ErrFenced)
	one.batch.Reset()
	wake, stop := one.store.Wake("suite")
	defer stop()
	two.put("acme", person("c1", "Ada", 1), person("c2", "Grace", 2))
	two.commit()
	awake(t, wake)
	got, err := view.GetDocument(t.Context(), one, "customers", key("acme", "c1"), &customerv1.Customer{})
	require.NoError(t, err)
	require.Equal(t, "Ada", got.GetDisplayName(), "every process reads what any has written")
	c, err := one.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, checkpoint(two.token, 1), c)

	// And back: the first one takes over, with numbers of texts and all.
	one.token, err = one.Fence(t.Context())
	require.NoError(t, err)
	one.position = c.Position
	one.put("acme", person("c3", "Ada too", 3))
	one.commit()
	two.put("acme", person("c3", "Stale", 1))
	two.batch.Checkpoint = checkpoint(two.token, 9)
	require.ErrorIs(t, two.Commit(t.Context(), &two.batch), view.ErrFenced)
	two.batch.Reset()
	require.Equal(t, []string{"c1", "c3"}, two.search("ada", 10))

	// Control records.
	_, err = one.store.SaveControl(t.Context(), "suite", view.Control{Data: []byte("one")})
	require.NoError(t, err)
	_, err = two.store.SaveControl(t.Context(), "suite", view.Control{Data: []byte("two")})
	require.ErrorIs(t, err, view.ErrConflict)
	// Nothing more comes of the commits, at the latest with the second record.
	for i := range uint64(2) {
		for len(wake) > 0 {
			<-wake
		}
		_, err = two.store.SaveControl(t.Context(), "suite", view.Control{Revision: 1 + i, Data: []byte("two")})
		require.NoError(t, err)
		awake(t, wake)
	}
	control, err := one.store.Control(t.Context(), "suite")
	require.NoError(t, err)
	require.Equal(t, view.Control{Revision: 3, Data: []byte("two")}, control)
}

// testDroppedElsewhere drops a generation that another process has open.
func testDroppedElsewhere(t *testing.T, b Backend) {
	one := open(t, b)
	if !one.store.Shared() {
		t.Skip("one process at a time has such a store open")
	}
	one.put("acme", person("c1", "Ada", 1))
	one.commit()
	other := b.Open(t)
	require.NoError(t, other.Drop(t.Context(), theNamespace))
	gone := func() {
		_, err := one.Get(t.Context(), "customers", key("acme", "c1"))
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.Load(t.Context(), "customers", key("acme", "c1"))
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.GetMany(t.Context(), "customers", []view.Key{key("acme", "c1")})
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.Query(t.Context(), "customers", view.Query{Tenant: "acme", Index: "last_seen", Limit: 1})
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.Search(t.Context(), "customers", view.Search{Tenant: "acme", Index: "text", Text: "ada", Limit: 1})
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.Checkpoint(t.Context())
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.Snapshot(t.Context())
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.Digest(t.Context())
		require.ErrorIs(t, err, view.ErrDropped)
		_, err = one.Fence(t.Context())
		require.ErrorIs(t, err, view.ErrDropped)
		for _, err := range one.Scan(t.Context(), "customers", "") {
			require.ErrorIs(t, err, view.ErrDropped)
		}
		one.put("acme", person("c1", "Ada", 2))
		one.batch.Checkpoint = checkpoint(one.token, 2)
		require.ErrorIs(t, one.Commit(t.Context(), &one.batch), view.ErrDropped)
		one.batch.Reset()
	}
	gone()
	// Also where another one of the same name took its place.
	gen, err := other.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	gone()
	again, err := one.store.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	_, err = again.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrNotFound)
	require.ErrorIs(t, one.store.Drop(t.Context(), theNamespace), view.ErrInUse)
	require.NoError(t, again.Close())
	require.NoError(t, gen.Close())
	require.NoError(t, other.Close())
}
