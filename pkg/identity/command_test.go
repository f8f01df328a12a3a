package identity

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func requireRefused(t *testing.T, want Refusal, err error) {
	t.Helper()
	var r *RefusedError
	require.ErrorAs(t, err, &r)
	require.Equal(t, want, r.Refusal, r.Reason)
}

func TestSplitStaysSplit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("anonymous_id=a")
	w.record("user_id=7 anonymous_id=a")
	w.record("user_id=7 email=ada@b.example")
	said, err := w.split("user_id=7", "user_id=7", "email=ada@b.example")
	require.NoError(t, err)
	require.Equal(t, "anonymous_id=a > user_id=7 2", said)
	require.Equal(t, []string{"anonymous_id=a", "email=ada@b.example user_id=7"}, w.customers())
	require.Equal(t, "user_id=7", w.customer("email=ada@b.example"))
	require.Empty(t, w.record("user_id=7 anonymous_id=a"), "a person decided it")
	require.Equal(t, "email=ada@b.example | anonymous_id=a DECIDED", w.record("email=ada@b.example anonymous_id=a"))
	w.record("email=ada@b.example anonymous_id=b")
	require.Equal(t, []string{"anonymous_id=a", "anonymous_id=b email=ada@b.example user_id=7"}, w.customers())

	// The user id went with the split, so the visitor may become somebody else.
	require.Equal(t, "user_id=8 ~ anonymous_id=a; anonymous_id=a < user_id=8 1", w.record("user_id=8 anonymous_id=a"))
	w.requireReplayAgrees()

	// And all of it joined again, two user ids or not.
	said, err = w.merge("anonymous_id=b", "user_id=8")
	require.NoError(t, err)
	require.Equal(t, "anonymous_id=a < user_id=7 3", said)
	require.Equal(t, []string{"anonymous_id=a anonymous_id=b email=ada@b.example user_id=7 user_id=8"}, w.customers())
	w.record("user_id=8 email=new@b.example")
	require.Equal(t, w.customer("user_id=7"), w.customer("email=new@b.example"))
	w.requireReplayAgrees()
}

func TestSplitKeepsTheNameWhereItsProfileIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("anonymous_id=a")
	w.record("user_id=7 anonymous_id=a")
	said, err := w.split("user_id=7", "anonymous_id=a")
	require.NoError(t, err)
	require.Equal(t, "anonymous_id=a > user_id=7 1", said, "the other side leaves")
	w.requireReplayAgrees()
}

// What links said before against a limit is true once the limit is met no more.
func TestRefusedPairIsLinkedOnceItMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7 anonymous_id=a")
	require.Equal(t, "user_id=8 | anonymous_id=a TWO_USER_IDS", w.record("user_id=8 anonymous_id=a"))
	said, err := w.split("user_id=7", "anonymous_id=a")
	require.NoError(t, err)
	require.Equal(t, "user_id=7 > anonymous_id=a 1; user_id=8 ~ anonymous_id=a; anonymous_id=a < user_id=8 1", said)
	require.Equal(t, []string{"anonymous_id=a user_id=8", "user_id=7"}, w.customers())
	w.requireReplayAgrees()
}

func TestCommandsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7 anonymous_id=a")
	w.record("user_id=8")
	for _, c := range []struct {
		name string
		do   func() (string, error)
		want Refusal
	}{
		{"merge with oneself", func() (string, error) { return w.merge("user_id=7", "user_id=7") }, RefusedSame},
		{"merge with one's own profile", func() (string, error) { return w.merge("user_id=7", "anonymous_id=a") }, RefusedSame},
		{"merge with nobody", func() (string, error) { return w.merge("user_id=7", "user_id=nobody") }, RefusedUnknown},
		{"split of nobody", func() (string, error) { return w.split("user_id=nobody", "user_id=7") }, RefusedUnknown},
		{"split of what was never joined", func() (string, error) { return w.split("user_id=7", "user_id=8") }, RefusedNotAProfile},
		{"split of a single profile", func() (string, error) { return w.split("user_id=8", "user_id=8") }, RefusedNothingToSplit},
		{"split of all", func() (string, error) { return w.split("user_id=7", "user_id=7", "anonymous_id=a") }, RefusedNothingToSplit},
	} {
		said, err := c.do()
		require.Empty(t, said, c.name)
		requireRefused(t, c.want, err)
	}
	require.Equal(t, []string{"anonymous_id=a user_id=7", "user_id=8"}, w.customers())
	w.requireReplayAgrees()
}

func TestAcrossTenantsNobodyIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7")
	w.record("user_id=8")
	c := w.command()
	c.Tenant = "other"
	_, err := w.graph.Merge(c, w.profileID("user_id=7"), w.profileID("user_id=8"))
	requireRefused(t, RefusedUnknown, err)
}

func TestMergeTooLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(r *Rules) {
		r.Kinds[KindAnonymousID] = Kind{Strength: strengthWeak, Rank: 4, Limit: maxCustomerProfiles, SharedAbove: 5}
	})
	// Two by two, then four by four, and so on: one by one would take long.
	const browsers = maxCustomerProfiles - 2
	for step := 1; step < browsers; step *= 2 {
		for i := 0; i+step < browsers; i += 2 * step {
			w.record(fmt.Sprintf("anonymous_id=a%d anonymous_id=a%d", i, i+step))
		}
	}
	w.record("user_id=7 anonymous_id=a0")
	w.record("user_id=8 anonymous_id=b")
	_, err := w.merge("user_id=7", "user_id=8")
	requireRefused(t, RefusedTooLarge, err)
}

// A browser that many people use is found out, and joins nobody any more.
func TestSharedBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=1 anonymous_id=kiosk")
	w.record("user_id=1 anonymous_id=own")
	w.record("email=ada@b.example anonymous_id=kiosk")
	require.Equal(t, []string{"anonymous_id=kiosk anonymous_id=own email=ada@b.example user_id=1"}, w.customers())
	for n := 2; n <= sharedAbove; n++ {
		require.Equal(t, fmt.Sprintf("user_id=%d | anonymous_id=kiosk TWO_USER_IDS", n), w.record(fmt.Sprintf("user_id=%d anonymous_id=kiosk", n)))
	}
	said := w.record(fmt.Sprintf("user_id=%d anonymous_id=kiosk", sharedAbove+1))
	require.Equal(t, "shared anonymous_id=kiosk; user_id=1 > anonymous_id=kiosk 1; user_id=1 > email=ada@b.example 1", said)
	require.Equal(t, []string{
		"anonymous_id=kiosk", "anonymous_id=own user_id=1", "email=ada@b.example",
		"user_id=2", "user_id=3", "user_id=4", "user_id=5",
	}, w.customersWithout(fmt.Sprintf("user_id=%d", sharedAbove+1)))
	require.Empty(t, w.record("user_id=1 anonymous_id=kiosk"))
	require.Empty(t, w.record("user_id=99 anonymous_id=kiosk"))
	w.requireReplayAgrees()
}

// customersWithout are the customers but one that is a single profile.
func (w *world) customersWithout(name string) []string {
	var out []string
	for _, c := range w.customers() {
		if c != name {
			out = append(out, c)
		}
	}
	return out
}

func TestBlockedValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7 email=family@b.example")
	w.record("anonymous_id=a email=family@b.example")
	require.Len(t, w.customers(), 1)
	change := func(blocked ...string) string {
		rules := DefaultRules()
		rules.SharedValues = map[string][]string{KindEmail: blocked}
		now, err := w.resolver.Blocked(testTenant, rules)
		require.NoError(t, err)
		before, err := w.resolver.Blocked(testTenant, *w.resolver.Rules(testTenant))
		require.NoError(t, err)
		require.NoError(t, w.resolver.SetRules(testTenant, rules))
		c := w.command()
		out, err := w.graph.ChangeRules(c, rules.Proto(), now, before)
		require.NoError(t, err)
		require.Equal(t, rules.Proto().String(), w.resolver.Rules(testTenant).Proto().String())
		return w.append(c.At, out.Decisions)
	}
	require.Equal(t, "*eventv1.Payload_IdentityRulesChanged; shared email=family@b.example; "+
		"user_id=7 > email=family@b.example 1; user_id=7 > anonymous_id=a 1", change("FAMILY@b.example", "never-seen@b.example"))
	require.Equal(t, []string{"anonymous_id=a", "email=family@b.example", "user_id=7"}, w.customers())
	require.Empty(t, w.record("user_id=7 email=family@b.example"))
	w.requireReplayAgrees()
	require.Equal(t, "*eventv1.Payload_IdentityRulesChanged; not shared email=family@b.example; user_id=7 ~ email=family@b.example; "+
		"email=family@b.example ~ anonymous_id=a; user_id=7 < email=family@b.example 1; user_id=7 < anonymous_id=a 1", change())
	require.Len(t, w.customers(), 1)
	w.requireReplayAgrees()
}

func TestKeepApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7 anonymous_id=a")
	w.record("email=ada@b.example")
	c := w.command()
	out, err := w.graph.KeepApart(c, w.profileID("anonymous_id=a"), w.profileID("email=ada@b.example"))
	require.NoError(t, err)
	w.append(c.At, out.Decisions)
	require.Equal(t, []string{"anonymous_id=a user_id=7", "email=ada@b.example"}, w.customers())
	require.Equal(t, "user_id=7 | email=ada@b.example DECIDED", w.record("user_id=7 email=ada@b.example"))
	_, err = w.graph.KeepApart(w.command(), w.profileID("anonymous_id=a"), w.profileID("user_id=7"))
	requireRefused(t, RefusedSame, err)
	w.requireReplayAgrees()
	_, err = w.merge("user_id=7", "email=ada@b.example")
	require.NoError(t, err, "a later decision stands")
	w.requireReplayAgrees()
}

func TestLinkOfAModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.record("user_id=7 email=ada@b.example")
	w.record("anonymous_id=a email=a.lovelace@c.example")
	w.record("user_id=8")
	link := func(a, b string) (string, error) {
		c := w.command()
		out, err := w.graph.Link(c, w.profileID(a), w.profileID(b), 0.997)
		return w.append(c.At, out.Decisions), err
	}
	said, err := link("anonymous_id=a", "user_id=7")
	require.NoError(t, err)
	require.Equal(t, "anonymous_id=a ~ user_id=7; user_id=7 < email=a.lovelace@c.example 2", said)
	require.Contains(t, w.log[len(w.log)-2].GetPayload().GetLinkAsserted().GetReason(), "0.9970")
	said, err = link("anonymous_id=a", "user_id=8")
	requireRefused(t, RefusedByRules, err)
	require.Equal(t, "anonymous_id=a | user_id=8 TWO_USER_IDS", said)
	_, err = link("anonymous_id=a", "user_id=7")
	requireRefused(t, RefusedSame, err)
	w.requireReplayAgrees()
}
