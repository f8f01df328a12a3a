package credential_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/tenant"
)

func TestGeneratedKeyIdentifies(t *testing.T) {
	t.Parallel()
	key, hash, err := credential.Generate(rand.Reader)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(key, credential.Prefix))
	require.NotContains(t, hash, key)

	keys, err := credential.NewKeys([]credential.Key{
		{Name: "shop", Hash: hash, Tenant: "acme", Scopes: []string{"record", "read"}},
		{Name: "ops", Hash: credential.Hash("other"), Tenant: "acme", Source: "console", Scopes: []string{"ops"}},
	})
	require.NoError(t, err)
	require.False(t, keys.Empty())

	id, ok := keys.Identify(key)
	require.True(t, ok)
	require.Equal(t, tenant.Identity{Tenant: "acme", Source: "shop", Scopes: tenant.Record | tenant.Read, Credential: "shop"}, id)
	id, ok = keys.Identify("other")
	require.True(t, ok)
	require.Equal(t, "console", id.Source)

	for _, wrong := range []string{"", key + "x", key[:len(key)-1], hash, strings.Repeat("x", credential.MaxBytes+1)} {
		_, ok := keys.Identify(wrong)
		require.False(t, ok, "%q", wrong)
	}
	var none *credential.Keys
	require.True(t, none.Empty())
	_, ok = none.Identify(key)
	require.False(t, ok)
}

func TestGenerateIsAFunctionOfItsRandomness(t *testing.T) {
	t.Parallel()
	seed := bytes.Repeat([]byte{7}, 32)
	a, _, err := credential.Generate(bytes.NewReader(seed))
	require.NoError(t, err)
	b, _, err := credential.Generate(bytes.NewReader(seed))
	require.NoError(t, err)
	require.Equal(t, a, b)
	_, _, err = credential.Generate(iotest.ErrReader(errors.New("no entropy")))
	require.ErrorContains(t, err, "no entropy")
}

func TestNewKeysSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := credential.Key{Name: "a", Hash: credential.Hash("a"), Tenant: "t", Scopes: []string{"read"}}
	for name, tc := range map[string]struct {
		change func(*credential.Key)
		want   string
	}{
		"name":    {func(k *credential.Key) { k.Name = "no spaces" }, "name: want"},
		"no hash": {func(k *credential.Key) { k.Hash = "" }, "hash: want"},
		"short":   {func(k *credential.Key) { k.Hash = "sha256:abcd" }, "hash: want"},
		"clear":   {func(k *credential.Key) { k.Hash = "parley_abc" }, "parley key new"},
		"tenant":  {func(k *credential.Key) { k.Tenant = "No-Hyphens" }, "tenant"},
		"quarantine": {
			func(k *credential.Key) { k.Tenant = "quarantine" }, `tenant "quarantine": is kept for what comes in without one`,
		},
		"operations": {
			func(k *credential.Key) { k.Tenant = "operations" }, `tenant "operations": is kept for what operators do across tenants`,
		},
		"source":    {func(k *credential.Key) { k.Source = "a b" }, "source"},
		"scope":     {func(k *credential.Key) { k.Scopes = []string{"root"} }, `scope "root"`},
		"no scopes": {func(k *credential.Key) { k.Scopes = nil }, "no scopes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := good
			tc.change(&k)
			_, err := credential.NewKeys([]credential.Key{k})
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "API key 1")
		})
	}
	for _, scope := range tenant.All.Names() {
		k := good
		k.Tenant, k.Scopes = "operations", []string{scope}
		_, err := credential.NewKeys([]credential.Key{k})
		require.ErrorContains(t, err, "is kept for", "also for %s alone", scope)
	}
	sameName := good
	sameName.Hash = credential.Hash("b")
	_, err := credential.NewKeys([]credential.Key{good, sameName})
	require.ErrorContains(t, err, "another key has this name")
	sameHash := good
	sameHash.Name = "b"
	_, err = credential.NewKeys([]credential.Key{good, sameHash})
	require.ErrorContains(t, err, "another key has this hash")
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"Bearer abc": "abc", "bearer  abc ": "abc", "BEARER a": "a",
		"": "", "Bearer": "", "Bearer ": "", "Basic abc": "", "abc": "",
	} {
		got, ok := credential.Bearer(header)
		require.Equal(t, want, got, "%q", header)
		require.Equal(t, want != "", ok, "%q", header)
	}
}
