package cli_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

func TestRules(t *testing.T) {
	t.Parallel()
	p := household()
	addr := p.serve(t)
	golden(t, "rules_get", runWith(t, "", addr, "identity", "rules", "get").stdout)

	whole := runWith(t, "", addr, "identity", "rules", "get", "-o", "json")
	require.Equal(t, cli.ExitDone, whole.code, whole.stderr)
	file := filepath.Join(t.TempDir(), "rules.json")
	require.NoError(t, os.WriteFile(file, []byte(whole.stdout), 0o600))
	set := []string{"identity", "rules", "set", "--file", file, "--reason", "Families share phones"}
	same := runWith(t, "", addr, append(set, "--yes")...)
	require.Equal(t, cli.ExitDone, same.code, same.stderr)
	require.Equal(t, "The rules are these already.\n", same.stdout)

	edited := &customerv1.GetIdentityRulesResponse{}
	require.NoError(t, protojson.Unmarshal([]byte(whole.stdout), edited))
	r := edited.GetRules()
	r.DefaultRegion, r.LinkProbability, r.MaxCustomerProfiles = "AT", 0.95, 500
	for _, k := range r.GetKinds() {
		if k.GetKind() == "phone" {
			k.Strength, k.Limit, k.SharedAbove = weak, 3, 2
		}
	}
	r.Kinds = slices.Delete(r.GetKinds(), 1, 2)
	r.Kinds = append(r.Kinds, &eventv1.KindRule{Kind: "loyalty", Strength: unique, Limit: 1, SharedAbove: 1})
	r.SharedLocalParts = append(slices.Clone(r.GetSharedLocalParts()[1:]), "frontdesk")
	r.Blocked = []*eventv1.BlockedIdentifier{{Kind: "email", Value: "test@example.com"}, {Kind: "phone", Value: "+4315550000"}}
	text, err := protojson.Marshal(edited)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))

	no := asking(t, addr, "no\n", set...)
	require.Equal(t, cli.ExitFailed, no.code)
	golden(t, "rules_set_asked", no.stderr)
	yes := asking(t, addr, "y\n", set...)
	require.Equal(t, cli.ExitDone, yes.code, yes.stderr)
	golden(t, "rules_set", yes.stdout)
	p.mu.Lock()
	require.Len(t, p.updates, 1)
	require.True(t, proto.Equal(r, p.updates[0].GetRules()))
	require.Equal(t, "Families share phones", p.updates[0].GetReason())
	p.rules.Time, p.rules.Actor = at(12, 9), &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: "bert"}
	p.mu.Unlock()
	golden(t, "rules_get_changed", runWith(t, "", append(addr, "COLUMNS=60"), "identity", "rules", "get").stdout)

	// The file was made of the rules before: whoever changed them is not overruled.
	stale := runWith(t, "", addr, append(set, "--yes")...)
	require.Equal(t, cli.ExitFailed, stale.code)
	require.Contains(t, stale.stderr, "made of other rules than those in force: those since 2026-03-12 09:07, by operator bert (event "+newEvent+")")

	// The rules alone follow upon whatever holds.
	text, err = protojson.Marshal(defaultRules())
	require.NoError(t, err)
	alone := runWith(t, string(text), addr, "identity", "rules", "set", "--file", "-", "--reason", "Back", "--yes", "-o", "json")
	require.Equal(t, cli.ExitDone, alone.code, alone.stderr)
	require.Contains(t, alone.stdout, `"eventId": "`+newEvent+`"`)
	p.mu.Lock()
	require.Len(t, p.updates, 2)
	require.Equal(t, newEvent, p.updates[1].GetFollowsEventId())
	p.mu.Unlock()

	for _, bad := range []string{"", "{}", "[]", "null", `{"rules":null}`, `{"rules":{"kind":[]}}`, `{"defaultRegion":7}`, "{", `{"rules":{}} x`, strings.Repeat(" ", 5<<20)} {
		r := runWith(t, bad, addr, "identity", "rules", "set", "--file", "-", "--reason", "r", "--yes")
		require.Equal(t, cli.ExitUsage, r.code, "%.40q: %s", bad, r.stderr)
		require.Contains(t, r.stderr, "--file -", "%.40q", bad)
	}

	p.mu.Lock()
	p.stale = 1 // between the reading and the setting
	p.mu.Unlock()
	text, err = protojson.Marshal(r)
	require.NoError(t, err)
	raced := runWith(t, string(text), addr, "identity", "rules", "set", "--file", "-", "--reason", "r", "--yes")
	require.Equal(t, cli.ExitFailed, raced.code)
	require.Contains(t, raced.stderr, "(CHANGED_SINCE)")
	require.Contains(t, raced.stderr, "Run it again")
}

func TestBlock(t *testing.T) {
	t.Parallel()
	p := household()
	p.stale = 3
	addr := p.serve(t)
	blocked := func() []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		var out []string
		for _, b := range p.rules.GetRules().GetBlocked() {
			out = append(out, b.GetKind()+":"+b.GetValue())
		}
		return out
	}
	block := []string{"identity", "block", "phone:+43 1 555-0000", "Team@Acme.example", "email:team@acme.example", "handle:telegram:@Bot", "--reason", "Shared"}
	r := runWith(t, "", addr, block...)
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	golden(t, "block", r.stdout)
	want := []string{"phone:+4315550000", "email:team@acme.example", "handle:telegram:bot"}
	require.Equal(t, want, blocked())
	p.mu.Lock()
	require.Len(t, p.updates, 1, "three that were overtaken came before it")
	require.Equal(t, "Shared", p.updates[0].GetReason())
	p.mu.Unlock()

	again := runWith(t, "", addr, block...)
	require.Equal(t, cli.ExitDone, again.code, again.stderr)
	require.Equal(t, "They are blocked already.\n", again.stdout)
	require.Equal(t, want, blocked())

	typo := runWith(t, "", addr, "identity", "unblock", "+4315550000", "phone:+4315550009", "--reason", "r")
	require.Equal(t, cli.ExitFailed, typo.code)
	require.Contains(t, typo.stderr, "not blocked: phone:+4315550009")
	require.Equal(t, want, blocked())
	free := runWith(t, "", addr, "identity", "unblock", "+4315550000", "TEAM@acme.example", "--reason", "r", "-o", "json")
	require.Equal(t, cli.ExitDone, free.code, free.stderr)
	require.Contains(t, free.stdout, newEvent)
	require.Equal(t, want[2:], blocked())

	p.mu.Lock()
	p.stale = 1000
	p.mu.Unlock()
	never := runWith(t, "", addr, "identity", "block", "user_id:test", "--reason", "r")
	require.Equal(t, cli.ExitFailed, never.code)
	require.Contains(t, never.stderr, "(CHANGED_SINCE)")
	p.mu.Lock()
	require.Equal(t, 1000-8, p.stale, "tries end")
	p.mu.Unlock()
}
