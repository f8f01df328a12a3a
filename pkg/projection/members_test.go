package projection

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view"
)

func FuzzParseMembers(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{membersVersion, placeCustomer, 0, 3})
	f.Add([]byte{membersVersion, placeMeta, 1, 'p', 5, 2, 'x', 'y', 0, 4})
	f.Add([]byte{membersVersion, placeMeta, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		stored, place, err := parseMembers(b, "customer")
		if err != nil {
			require.ErrorIs(t, err, view.ErrCorrupt)
			return
		}
		members := make([]*member, len(stored))
		for i := range stored {
			members[i] = &member{key: view.Key{ID: stored[i].profile}, storedMember: stored[i]}
		}
		again, againPlace, err := parseMembers(appendMembers(nil, place, members, "customer"), "customer")
		require.NoError(t, err)
		require.Equal(t, place, againPlace)
		require.Len(t, again, len(stored))
		for i := range stored {
			require.Equal(t, stored[i].profile, again[i].profile)
			require.Equal(t, stored[i].first, again[i].first)
			require.Equal(t, stored[i].has, again[i].has)
			require.Equal(t, string(stored[i].data), string(again[i].data))
		}
	})
}

func TestSeen(t *testing.T) {
	t.Parallel()
	s := newSeen()
	const many = 200_000
	key := func(i int) view.Key { return view.Key{Tenant: "acme", ID: strconv.Itoa(i)} }
	for i := range many {
		s.add(key(i))
	}
	wrong := 0
	for i := range many {
		require.True(t, s.has(key(i)))
		if s.has(key(-i - 1)) {
			wrong++
		}
	}
	require.Less(t, wrong, many/20)
	t.Logf("%d of %d wrong", wrong, many)
	require.True(t, (*seen)(nil).has(key(1)))
}
