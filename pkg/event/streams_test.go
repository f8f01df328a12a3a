package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
)

func TestStreams(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"CA123":                  "acme.phone-CA123",
		"":                       "acme.phone-",
		"a b-c.d/e":              "acme.phone-a b-c.d/e",
		"ä€😀":                    "acme.phone-ä€😀",
		"50%":                    "acme.phone-50%25",
		"a\nb\x7f\u0085":         "acme.phone-a%0Ab%7F%C2%85",
		"\xff\xfe":               "acme.phone-%FF%FE",
		"\uFFFD":                 "acme.phone-\uFFFD",
		"%sha256-":               "acme.phone-%25sha256-",
		strings.Repeat("k", 400): "acme.phone-" + strings.Repeat("k", 400),
	} {
		got := event.InteractionStream("acme", "phone", key)
		require.Equal(t, want, got)
		require.NoError(t, eventstore.ValidateStream(got))
		require.Equal(t, "acme", event.TenantOf(got))
	}
	require.Equal(t, "acme.identity", event.IdentityStream("acme"))
	require.Equal(t, "acme.quarantine", event.QuarantineStream("acme"))
	require.Equal(t, "acme", event.TenantOf(event.QuarantineStream("acme")))
	require.Equal(t, "operations.projections", event.OperationsStream())
	require.Equal(t, event.OperationsTenant, event.TenantOf(event.OperationsStream()))
	require.NoError(t, eventstore.ValidateStream(event.OperationsStream()))
	for _, foreign := range []string{"", "orders-1", "Acme.web-1", ".web-1", "a-b.web-1", "$ce-x", "_a.identity"} {
		require.Empty(t, event.TenantOf(foreign), foreign)
	}
}

func TestLongKeysAreReplacedByTheirDigest(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 401)
	got := event.InteractionStream(strings.Repeat("t", 40), strings.Repeat("c", 32), long)
	require.NoError(t, eventstore.ValidateStream(got))
	require.Contains(t, got, "-%sha256-")
	require.NotEqual(t, got, event.InteractionStream(strings.Repeat("t", 40), strings.Repeat("c", 32), long+"k"))
}

func TestValidTenant(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"default": true, "a": true, "4711": true, "a_b_": true, strings.Repeat("a", 40): true,
		"": false, "_a": false, "A": false, "a-b": false, "a.b": false, "ä": false, "a\n": false, strings.Repeat("a", 41): false,
	} {
		require.Equal(t, want, event.ValidTenant(name), "%q", name)
	}
}

func TestReservedTenants(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"quarantine", "operations"} {
		reason, reserved := event.ReservedTenant(name)
		require.True(t, reserved, name)
		require.Regexp(t, "^is kept for ", reason)
		require.True(t, event.ValidTenant(name), "it is a tenant's name as others are: %s", name)
	}
	for _, name := range []string{"", "default", "operation", "operations_", "Operations"} {
		reason, reserved := event.ReservedTenant(name)
		require.False(t, reserved, name)
		require.Empty(t, reason)
	}
}

// Two conversations never share a stream, whatever their keys.
func FuzzStreamNames(f *testing.F) {
	f.Add("default", "web", "key", "kez")
	f.Add("operations", "projections", "", "-")
	f.Add("a_b", "email", "<x@y>", "%3Cx@y%3E")
	f.Add("a", "web", "\xff", "%FF")
	f.Add("a", "web", strings.Repeat("%", 500), strings.Repeat("%25", 500))
	f.Fuzz(func(t *testing.T, tenant, channel, key, other string) {
		if !event.ValidTenant(tenant) || len(channel) > 32 || strings.ContainsFunc(channel, func(r rune) bool { return r < 'a' || r > 'z' }) {
			t.Skip()
		}
		name := event.InteractionStream(tenant, channel, key)
		require.NoError(t, eventstore.ValidateStream(name))
		require.Equal(t, tenant, event.TenantOf(name))
		require.Equal(t, key == other, name == event.InteractionStream(tenant, channel, other))
		require.NotEqual(t, event.IdentityStream(tenant), name)
		require.NotEqual(t, event.QuarantineStream(tenant), name)
		require.NotEqual(t, event.OperationsStream(), name)
	})
}
