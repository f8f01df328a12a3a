package projection

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/view"
)

func FuzzParseMembers(f *testing.F) {
	document := []byte("\x0a\x14twenty bytes of text\x12\x02of")
	f.Add([]byte{}, document)
	f.Add([]byte{membersVersion, placeCustomer, 0, 3}, document)
	f.Add([]byte{membersWholeVersion, placeMeta, 1, 'p', 5, 2, 'x', 'y', 0, 4}, document)
	f.Add([]byte{membersVersion, placeProfiles, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, document)
	f.Add(new(excerpter).appendMembers(nil, placeMeta, []*member{
		{storedMember: storedMember{has: true, data: document[:22]}, key: view.Key{ID: "p"}},
		{storedMember: storedMember{has: true, data: []byte("other")}, key: view.Key{ID: "customer"}},
	}, "customer", document), document)
	f.Fuzz(func(t *testing.T, b, document []byte) {
		stored, place, err := parseMembers(b, "customer", document)
		if err != nil {
			require.True(t, errors.Is(err, view.ErrCorrupt) || errors.Is(err, view.ErrNewerFormat), "%v", err)
			return
		}
		members, size := make([]*member, len(stored)), 0
		for i := range stored {
			size += len(stored[i].data)
			members[i] = &member{key: view.Key{ID: stored[i].profile}, storedMember: stored[i]}
		}
		if size > maxMetaDocuments {
			return // they would lie elsewhere
		}
		again, againPlace, err := parseMembers(new(excerpter).appendMembers(nil, place, members, "customer", document), "customer", document)
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

// TestMembersOfBefore are those of the first version: they say the same.
func TestMembersOfBefore(t *testing.T) {
	t.Parallel()
	document := []byte("\x0a\x14twenty bytes of text")
	whole := []byte{membersWholeVersion, placeMeta, 0, 3, 22}
	whole = append(append(whole, document...), 1, 'p', 5, 1, 'x')
	stored, place, err := parseMembers(whole, "customer", document)
	require.NoError(t, err)
	require.Equal(t, []storedMember{{profile: "customer", first: 1, has: true, data: document}, {profile: "p", first: 2, has: true, data: []byte("x")}}, stored)
	members := make([]*member, len(stored))
	for i := range stored {
		members[i] = &member{key: view.Key{ID: stored[i].profile}, storedMember: stored[i]}
	}
	again := new(excerpter).appendMembers(nil, place, members, "customer", document)
	one, err := canonicalMembers(whole, "customer", document)
	require.NoError(t, err)
	other, err := canonicalMembers(again, "customer", document)
	require.NoError(t, err)
	require.Equal(t, one, other)

	again[0] = membersVersion + 1
	_, err = canonicalMembers(again, "customer", document)
	require.ErrorIs(t, err, view.ErrNewerFormat)
}

// TestAnotherDocument has a customer's document changed behind the engine's back.
func TestAnotherDocument(t *testing.T) {
	t.Parallel()
	document := []byte("\x0a\x14twenty bytes of text")
	m := &member{storedMember: storedMember{has: true, data: document}, key: view.Key{ID: "p"}}
	b := new(excerpter).appendMembers(nil, placeMeta, []*member{m}, "customer", document)
	_, _, err := parseMembers(b, "customer", bytes.ToUpper(document))
	require.ErrorIs(t, err, view.ErrCorrupt)
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
