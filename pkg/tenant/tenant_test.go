package tenant_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/tenant"
)

func TestContextCarriesTheIdentity(t *testing.T) {
	t.Parallel()
	_, ok := tenant.From(context.Background())
	require.False(t, ok, "a fresh context belongs to nobody")

	want := tenant.Identity{Tenant: "acme", Source: "shop", Scopes: tenant.Record | tenant.Read, Credential: "shop-backend"}
	got, ok := tenant.From(tenant.NewContext(t.Context(), want))
	require.True(t, ok)
	require.Equal(t, want, got)
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names []string
		want  tenant.Scopes
		text  string
	}{
		{nil, tenant.None, "none"},
		{[]string{"record"}, tenant.Record, "record"},
		{[]string{"ops", " read"}, tenant.Read | tenant.Ops, "read,ops"},
		{[]string{"record", "read", "ops", "read"}, tenant.All, "record,read,ops"},
	} {
		got, err := tenant.ParseScopes(tc.names)
		require.NoError(t, err)
		require.Equal(t, tc.want, got)
		require.Equal(t, tc.text, got.String())
	}

	_, err := tenant.ParseScopes([]string{"read", "admin"})
	require.ErrorContains(t, err, `"admin"`)
	require.ErrorContains(t, err, "record, read, ops")

	require.True(t, tenant.All.Has(tenant.Record|tenant.Ops))
	require.False(t, tenant.Read.Has(tenant.Record))
	require.False(t, tenant.Read.Has(tenant.Read|tenant.Record))
	require.True(t, tenant.None.Has(tenant.None))
}
