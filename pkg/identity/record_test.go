package identity

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func fullProfile() Profile {
	return Profile{
		First: 77, Customer: "c", Kind: "email", Shared: SharedBlocked,
		Group: Mark{uuid.UUID{1}, 1}, Apart: []Mark{{uuid.UUID{1}, 1}, {uuid.UUID{2}, 0}},
		Links: []Link{
			{Other: "x", Order: Order{-5, 999, uuid.UUID{3}, 63}, Rule: eventv1.LinkRule_LINK_RULE_STATED, Unique: true},
			{Other: "y", Order: Order{1 << 40, 0, uuid.UUID{4}, 0}, Rule: eventv1.LinkRule_LINK_RULE_PROBABILISTIC},
		},
	}
}

func fullCustomer() Customer {
	return Customer{
		First: 1, Members: []string{"a", "b"}, Kinds: []KindCount{{"email", 2}},
		Apart: []Mark{{uuid.UUID{2}, 1}}, Last: Order{7, 8, uuid.UUID{9}, 10}, Refused: true,
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, p := range []Profile{{}, {First: 77, Customer: "c", Kind: "email"}, fullProfile()} {
		data, err := p.AppendBinary(nil)
		require.NoError(t, err)
		var got Profile
		require.NoError(t, got.UnmarshalBinary(data))
		require.Equal(t, p, got)
		require.ErrorIs(t, got.UnmarshalBinary(data[:len(data)-1]), errRecord)
		require.ErrorIs(t, got.UnmarshalBinary(append(data, 0)), errRecord)
	}
	for _, c := range []Customer{{}, fullCustomer()} {
		data, err := c.AppendBinary(nil)
		require.NoError(t, err)
		var got Customer
		require.NoError(t, got.UnmarshalBinary(data))
		require.Equal(t, c, got)
		require.ErrorIs(t, got.UnmarshalBinary(data[:len(data)-1]), errRecord)
		require.ErrorIs(t, got.UnmarshalBinary(append(data, 0)), errRecord)
	}
}

func FuzzRecords(f *testing.F) {
	data, err := fullCustomer().AppendBinary(nil)
	require.NoError(f, err)
	f.Add(data)
	data, err = fullProfile().AppendBinary(nil)
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Customer
		if c.UnmarshalBinary(data) == nil {
			again, err := c.AppendBinary(nil)
			require.NoError(t, err)
			var c2 Customer
			require.NoError(t, c2.UnmarshalBinary(again))
			require.Equal(t, c, c2)
		}
		var p Profile
		if p.UnmarshalBinary(data) == nil {
			again, err := p.AppendBinary(nil)
			require.NoError(t, err)
			var p2 Profile
			require.NoError(t, p2.UnmarshalBinary(again))
			require.Equal(t, p, p2)
		}
	})
}
