package identity

import (
	"testing"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

var testSecret = []byte("0123456789abcdef")

func newTestResolver(t testing.TB, change func(*Rules)) *Resolver {
	t.Helper()
	rules := DefaultRules()
	if change != nil {
		change(&rules)
	}
	r, err := NewResolver(rules, testSecret)
	require.NoError(t, err)
	return r
}

func ident(kind, value string) *eventv1.Identifier {
	return &eventv1.Identifier{Kind: kind, Value: value}
}

func TestProfileID(t *testing.T) {
	t.Parallel()
	id := ProfileID(testSecret, "acme", "email", "ada@example.com")
	require.Len(t, id, ProfileIDLen)
	require.Regexp(t, `^[a-z2-7]{26}$`, id)
	// Ids are for ever: a change here makes strangers of all customers.
	require.Equal(t, "h3sarukqwr5ub3oez3n6rprvre", id)
	for name, other := range map[string]string{
		"tenant": ProfileID(testSecret, "acm", "email", "ada@example.com"),
		"kind":   ProfileID(testSecret, "acme", "user_id", "ada@example.com"),
		"value":  ProfileID(testSecret, "acme", "email", "eda@example.com"),
		"secret": ProfileID([]byte("fedcba9876543210"), "acme", "email", "ada@example.com"),
		"seam":   ProfileID(testSecret, "acmee", "mail", "ada@example.com"),
	} {
		require.NotEqual(t, id, other, name)
	}
}

func TestStamp(t *testing.T) {
	t.Parallel()
	r := newTestResolver(t, func(rules *Rules) {
		rules.SharedValues = map[string][]string{"phone": {"+43 1 5550100"}}
	})
	ev := &eventv1.Event{Tenant: "acme", Identifiers: []*eventv1.Identifier{
		ident("anonymous_id", "a-1"),
		ident("email", "ADA@example.com"),
		ident("email", "ada@Example.com"),
		ident("user_id", "undefined"),
		ident("phone", "anonymous"),
		ident("phone", "+43 1 5550100"),
		{Kind: "user_id", Value: "agent-7", Role: eventv1.IdentifierRole_IDENTIFIER_ROLE_AGENT},
		ident("email", "Support+vip@example.com"),
		ident("loyalty_card", "77"),
	}}
	dropped := r.Stamp(ev)
	require.Len(t, dropped, 2)
	require.Equal(t, "user_id", dropped[0].Kind)
	require.ErrorIs(t, dropped[0].Err, ErrPlaceholder)
	require.Equal(t, "phone", dropped[1].Kind)

	got := map[string]eventv1.IdentifierStrength{}
	for _, id := range ev.GetIdentifiers() {
		got[id.GetKind()+" "+id.GetValue()] = id.GetStrength()
		require.Equal(t, ProfileID(testSecret, "acme", id.GetKind(), id.GetValue()), id.GetProfileId())
	}
	require.Equal(t, map[string]eventv1.IdentifierStrength{
		"anonymous_id a-1":              strengthWeak,
		"email ada@example.com":         strengthStrong,
		"phone +4315550100":             strengthShared,
		"user_id agent-7":               strengthUnique,
		"email support+vip@example.com": strengthShared,
		"loyalty_card 77":               strengthWeak,
	}, got)
	require.Equal(t, ProfileID(testSecret, "acme", "email", "ada@example.com"), ev.GetProfileId(), "the agent's user id is not the customer's")

	before := ev.GetProfileId()
	require.Empty(t, r.Stamp(ev), "stamping again drops nothing")
	require.Equal(t, before, ev.GetProfileId())
	require.Len(t, ev.GetIdentifiers(), len(got))
}

func TestStampSharedOnlyAndNobody(t *testing.T) {
	t.Parallel()
	r := newTestResolver(t, nil)
	ev := &eventv1.Event{Tenant: "acme", Identifiers: []*eventv1.Identifier{ident("email", "info@example.com")}}
	require.Empty(t, r.Stamp(ev))
	require.Equal(t, ProfileID(testSecret, "acme", "email", "info@example.com"), ev.GetProfileId(), "its history stays visible")

	ev = &eventv1.Event{Tenant: "acme", ProfileId: "forged", Identifiers: []*eventv1.Identifier{ident("phone", "anonymous")}}
	require.Len(t, r.Stamp(ev), 1)
	require.Empty(t, ev.GetProfileId())
	require.Empty(t, ev.GetIdentifiers())
}

func TestStrongest(t *testing.T) {
	t.Parallel()
	r := newTestResolver(t, nil)
	for _, c := range []struct {
		name string
		ids  []*eventv1.Identifier
		want string
	}{
		{"user id over e-mail", []*eventv1.Identifier{ident("email", "a@b.example"), ident("user_id", "7")}, "7"},
		{"e-mail over phone", []*eventv1.Identifier{ident("phone", "+14158675309"), ident("email", "a@b.example")}, "a@b.example"},
		{"first of two alike", []*eventv1.Identifier{ident("user_id", "8"), ident("user_id", "7")}, "8"},
		{"phone over handle over anonymous", []*eventv1.Identifier{ident("anonymous_id", "x"), ident("handle:slack", "U1"), ident("phone", "+14158675309")}, "+14158675309"},
		{"weak over shared", []*eventv1.Identifier{ident("email", "info@b.example"), ident("anonymous_id", "x")}, "x"},
	} {
		ev := &eventv1.Event{Tenant: "acme", Identifiers: c.ids}
		require.Empty(t, r.Stamp(ev), c.name)
		require.Equal(t, c.want, r.of(testTenant).strongest(ev.GetIdentifiers()).GetValue(), c.name)
	}
}

func TestRulesValidate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Rules){
		"limit":    func(r *Rules) { r.Kinds["email"] = Kind{Strength: strengthStrong} },
		"strength": func(r *Rules) { r.OtherKinds.Strength = strengthShared },
		"region":   func(r *Rules) { r.DefaultRegion = "AUT" },
		"size":     func(r *Rules) { r.MaxCustomerProfiles = maxCustomerProfiles + 1 },
		"shared":   func(r *Rules) { r.SharedValues = map[string][]string{"phone": {"nonsense"}} },
	} {
		rules := DefaultRules()
		change(&rules)
		_, err := NewResolver(rules, testSecret)
		require.ErrorIs(t, err, errRules, name)
	}
	_, err := NewResolver(DefaultRules(), []byte("short"))
	require.ErrorIs(t, err, errRules)
}
