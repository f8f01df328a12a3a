package cli

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]customerName{
		"rpc5dhk3vc5ztlabzqjb7j5cde":     {"", "rpc5dhk3vc5ztlabzqjb7j5cde"},
		" ada@example.com ":              {"email", "ada@example.com"},
		"+43 660 1234567":                {"phone", "+43 660 1234567"},
		"user_id:ada@example.com":        {"user_id", "ada@example.com"},
		"user-id:4711":                   {"user_id", "4711"},
		"handle:whatsapp:+43660":         {"handle:whatsapp", "+43660"},
		"handle:whatsapp:a:b":            {"handle:whatsapp", "a:b"},
		"loyalty:gold:7":                 {"loyalty", "gold:7"},
		"phone:+43 660 1234567;ext=4711": {"phone", "+43 660 1234567;ext=4711"},
	} {
		got, err := parseName(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "a", "a@b", "+43", "user_id:1", "handle:x:y", "handle:", ":", "A:b", "kind:\x00", "\xff:\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseName(text); err == nil {
			require.NotEmpty(t, n.value)
			require.True(t, n.kind == "" || kindPattern.MatchString(n.kind), n.kind)
			if strings.Contains(text, ":") {
				again, err := parseName(n.kind + ":" + n.value)
				require.NoError(t, err)
				require.Equal(t, customerName{n.kind, strings.TrimSpace(n.value)}, customerName{again.kind, strings.TrimSpace(again.value)})
			}
		}
		if n, err := parseIdentifier(text); err == nil {
			require.Regexp(t, kindPattern, n.kind, "what is blocked has a kind")
		}
	})
}

func FuzzRules(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"rules":{}}`, `{"rules":null}`, `{"defaultRegion":"AT","otherKinds":{"limit":1}}`, `{"rules":{"blocked":[{"kind":"email"}]},"eventId":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		resp, whole, err := parseRules(text)
		if err != nil {
			return
		}
		require.NotNil(t, resp.GetRules())
		require.True(t, whole || resp.GetEventId() == "")
		require.Empty(t, rulesDiff(resp.GetRules(), resp.GetRules()))
		added := &eventv1.IdentityRules{Blocked: []*eventv1.BlockedIdentifier{{Kind: "email", Value: "one@example.com"}}}
		out, changed, err := withBlocked(resp.GetRules(), blockedOf(added), true)
		require.NoError(t, err)
		back, undone, err := withBlocked(out, blockedOf(added), false)
		require.NoError(t, err)
		require.Len(t, undone, 1)
		if len(changed) == 1 {
			require.Empty(t, rulesDiff(resp.GetRules(), back), "unblocking undoes blocking")
		}
	})
}

// FuzzDrawing draws whatever an answer says, and draws every profile once.
func FuzzDrawing(f *testing.F) {
	add := func(m *customerv1.ExplainIdentityResponse) {
		raw, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(raw, uint8(0), uint8(20))
		f.Add(raw, uint8(80), uint8(1))
	}
	add(&customerv1.ExplainIdentityResponse{})
	ids := []string{"a", "b", "c", "d"}
	m := &customerv1.ExplainIdentityResponse{CustomerId: "a", Truncated: true}
	for i, id := range ids {
		m.Profiles = append(m.Profiles, &customerv1.ExplainedProfile{ProfileId: id, Kind: "email", Value: id + "\n\x1b\u202e", Shared: i == 3})
		m.Links = append(m.Links, &customerv1.ExplainedLink{ProfileId: id, OtherProfileId: ids[(i+1)%4], InForce: i != 2, OtherCustomerId: "z", Reason: "why"})
		m.Decisions = append(m.Decisions, &customerv1.IdentityDecision{
			Action: customerv1.IdentityAction(i + 1), Rule: eventv1.GroupingRule(i + 1), CustomerId: "a", OtherCustomerId: id, ProfileIds: []string{id}, EventId: "e",
		})
	}
	m.Claims = []*customerv1.CustomerClaim{{Kind: "email", Value: "a", CustomerId: "x"}}
	add(m)
	f.Fuzz(func(t *testing.T, raw []byte, width, limit uint8) {
		graph := &customerv1.ExplainIdentityResponse{}
		if proto.Unmarshal(raw, graph) != nil {
			return
		}
		distinct := map[string]bool{}
		for _, p := range graph.GetProfiles() {
			distinct[p.GetProfileId()] = true
		}
		tree := newIdentityTree(graph)
		require.Len(t, tree.nodes, len(distinct))
		if len(tree.nodes) > 0 {
			require.Equal(t, len(distinct), tree.nodes[0].size, "all hang on the root")
		}
		d := newDrawing(&App{Location: time.UTC}, graph, int(limit))
		d.width = int(width)
		if width > 0 {
			d.width = max(d.width, minWidth)
		}
		d.command = func(words ...string) string { return strings.Join(words, " ") }
		d.draw("name")
		text := d.b.String()
		require.True(t, utf8.ValidString(text))
		for _, r := range text {
			require.False(t, r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)), "%U", r)
		}
		for at := range graph.GetDecisions() {
			require.LessOrEqual(t, len(leavingWith(graph, at)), len(graph.GetProfiles()))
		}
	})
}

// TestUndoneMerge: who came later goes where his links lead.
func TestUndoneMerge(t *testing.T) {
	t.Parallel()
	const merged = customerv1.IdentityAction_IDENTITY_ACTION_MERGED
	profile := func(id string) *customerv1.ExplainedProfile { return &customerv1.ExplainedProfile{ProfileId: id} }
	link := func(a, b string, inForce bool) *customerv1.ExplainedLink {
		return &customerv1.ExplainedLink{ProfileId: a, OtherProfileId: b, InForce: inForce}
	}
	graph := &customerv1.ExplainIdentityResponse{
		CustomerId: "a",
		Profiles: []*customerv1.ExplainedProfile{
			profile("a"), profile("a2"), profile("b"), profile("b2"), profile("tob"), profile("behind"), profile("toa"), profile("alone"), profile("loose"),
		},
		Decisions: []*customerv1.IdentityDecision{
			{Action: merged, CustomerId: "a", OtherCustomerId: "b", ProfileIds: []string{"b", "b2", "gone"}},
			{Action: merged, CustomerId: "a", OtherCustomerId: "tob", ProfileIds: []string{"tob", "behind"}},
			{Action: merged, CustomerId: "a", OtherCustomerId: "toa", ProfileIds: []string{"toa"}},
			{Action: merged, CustomerId: "a", OtherCustomerId: "alone", ProfileIds: []string{"alone"}},
			{Action: customerv1.IdentityAction_IDENTITY_ACTION_SPLIT, CustomerId: "a", OtherCustomerId: "gone", ProfileIds: []string{"gone", "a2"}},
			{Action: merged, CustomerId: "a", OtherCustomerId: "loose", ProfileIds: []string{"loose", "a"}},
		},
		Links: []*customerv1.ExplainedLink{
			link("behind", "tob", true), link("b2", "tob", true), link("tob", "a", true), link("a", "toa", true), link("b", "loose", false),
		},
	}
	require.Equal(t, []string{"b", "b2", "tob", "behind"}, leavingWith(graph, 0))
	require.Equal(t, []string{"tob", "behind"}, leavingWith(graph, 1))
	require.Equal(t, []string{"alone"}, leavingWith(graph, 3))
}

func TestColumns(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "abc": 3, "ü": 1, "u\u0308": 1, "山田": 4, "├──": 3, "👍": 2, "한글": 4, "ｶﾅ": 2} {
		require.Equal(t, want, columns(text), text)
	}
	require.Equal(t, "山…", fitTo("山田太", 4, "…"))
	require.Equal(t, "abc", fitTo("abc", 3, "…"))
	require.Equal(t, "a...", fitTo("abcde", 4, "..."))
}

func TestShellWords(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"plain-1.2:3/x@y": "plain-1.2:3/x@y", "": `""`, "two words": `"two words"`, "a$b": "'a$b'", "it's $5": `'it'\''s $5'`, `a"b`: `'a"b'`,
	} {
		require.Equal(t, want, shellWord(word))
	}
}
