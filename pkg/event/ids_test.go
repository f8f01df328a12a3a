package event_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
)

// These stand in logs for ever.
func TestIDsNeverChange(t *testing.T) {
	t.Parallel()
	id := event.DeterministicID("default", "web/dev", "message-1")
	require.Equal(t, "e04ad1e6-650d-85c0-a718-d8518fa1bf41", id.String())
	require.Equal(t, "d1106d11-d87b-86fa-b5a6-d080b6eab0a2", event.DerivedID(id, "link").String())
	require.Equal(t, "9f681f2597dd932773a5af41e9c564bdbe9417c5e8e62652c3914b61d16ab09e", hex.EncodeToString(event.ContentDigest([]byte("a"), nil, []byte("b"))))
}

func TestIDsTellEverythingApart(t *testing.T) {
	t.Parallel()
	cause := uuid.MustParse("0190b3a0-7c3e-7000-8000-00000000000a")
	seen := map[uuid.UUID]string{}
	for name, id := range map[string]uuid.UUID{
		"a":                event.DeterministicID("t", "s", "id"),
		"other tenant":     event.DeterministicID("u", "s", "id"),
		"other source":     event.DeterministicID("t", "r", "id"),
		"other id":         event.DeterministicID("t", "s", "id2"),
		"moved boundary":   event.DeterministicID("ts", "", "id"),
		"moved boundary 2": event.DeterministicID("t", "si", "d"),
		"derived":          event.DerivedID(cause, "s"),
		"other purpose":    event.DerivedID(cause, "id"),
		"other cause":      event.DerivedID(uuid.Nil, "s"),
	} {
		require.NotContains(t, seen, id, "%s and %s", name, seen[id])
		seen[id] = name
		require.Equal(t, uuid.Version(8), id.Version())
		require.Equal(t, uuid.RFC4122, id.Variant())
	}
}

func TestContentDigestSeesBoundaries(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, event.ContentDigest([]byte("ab")), event.ContentDigest([]byte("a"), []byte("b")))
	require.NotEqual(t, event.ContentDigest(), event.ContentDigest(nil))
	require.Len(t, event.ContentDigest([]byte(strings.Repeat("x", 1000))), 32)
}
