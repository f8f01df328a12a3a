package event_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
)

func TestReservedTypes(t *testing.T) {
	t.Parallel()
	var reserved []string
	for _, typ := range event.Types() {
		if reason, ok := event.ReservedType(typ); ok {
			require.NotEmpty(t, reason, typ)
			reserved = append(reserved, typ)
		}
	}
	require.Equal(t, []string{
		"parley.customers.merged", "parley.customers.split", "parley.dead_letter.skipped", "parley.decision.refused",
		"parley.identifier.shared", "parley.identity_rules.changed", "parley.link.asserted", "parley.link.refused",
		"parley.model.fitted", "parley.projection.operated",
	}, reserved)
	for _, typ := range []string{"", "parley", "parley.page.viewed", "parley.hologram.shown", "parley.projection", "PARLEY.MODEL.FITTED"} {
		reason, ok := event.ReservedType(typ)
		require.False(t, ok, typ)
		require.Empty(t, reason)
	}
}
