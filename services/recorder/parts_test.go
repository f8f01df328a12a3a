package recorder

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// threaded is a mail from ada, in a conversation of its own name where it has one.
func threaded(name, conversation string, m *eventv1.EmailReceived) *eventv1.Event {
	ev := page(name, "email=ada@example.com")
	ev.Channel, ev.Conversation = "email", conversation
	ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: m}}
	event.Stamp(ev)
	return ev
}

// call is one in a conversation of its own name.
func call(name, identifiers string) *eventv1.Event {
	ev := page(name, identifiers)
	ev.Channel, ev.Conversation = "phone", name
	ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_CallAnswered{CallAnswered: &eventv1.CallAnswered{CallId: name}}}
	event.Stamp(ev)
	return ev
}

// again is more of a call.
func again(name, identifiers string) *eventv1.Event {
	ev := page(name+" again", identifiers)
	ev.Channel, ev.Conversation, ev.Payload = "phone", name, call(name, "").GetPayload()
	event.Stamp(ev)
	return ev
}

// planned are the parts of a plan of events, and which streams each is behind,
// also by way of others.
func planned(g *rig, events ...*eventv1.Event) (s *parts, behind map[string][]string) {
	g.t.Helper()
	m := g.message("acme", events...)
	items := g.checker.items(nil, &m)
	n, p, err := g.prepare(items)
	require.NoError(g.t, err)
	require.Len(g.t, items, n)
	behind = map[string][]string{}
	var above func(i, depth int) []string
	above = func(i, depth int) []string {
		require.Less(g.t, depth, len(p.parts.list), "no two wait for each other")
		var all []string
		for _, j := range p.parts.list[i].after {
			all = append(append(all, above(j, depth+1)...), p.parts.list[j].Stream)
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	for i, part := range p.parts.list {
		behind[part.Stream] = above(i, 0)
	}
	g.index.discard()
	return p.parts, behind
}

func TestWhatWaitsForWhat(t *testing.T) {
	t.Parallel()
	const a, b, c = "acme.phone-a", "acme.phone-b", "acme.phone-c"
	for name, test := range map[string]struct {
		inOrder bool
		known   []*eventv1.Event // recorded before
		events  []*eventv1.Event
		behind  map[string][]string
	}{
		"nothing for others of whom all is known": {
			known:  []*eventv1.Event{call("1", "user_id=7"), call("2", "user_id=8")},
			events: []*eventv1.Event{call("a", "user_id=7"), call("b", "user_id=8"), call("c", "")},
			behind: map[string][]string{a: nil, b: nil, c: nil},
		},
		"nothing for newcomers": {
			events: []*eventv1.Event{call("a", "user_id=7"), call("b", "user_id=8"), call("c", "user_id=7")},
			behind: map[string][]string{a: nil, b: nil, c: nil},
		},
		"whom the log gets to know, in order": {
			inOrder: true,
			events:  []*eventv1.Event{call("a", "user_id=7"), call("b", "user_id=8"), call("c", "")},
			behind:  map[string][]string{a: nil, b: {a}, c: nil},
		},
		"all about somebody for what the log knows him by": {
			inOrder: true,
			events:  []*eventv1.Event{call("a", "user_id=7"), call("b", "user_id=8"), call("c", "user_id=7")},
			behind:  map[string][]string{a: nil, b: {a}, c: {a}},
		},
		"an interaction for what it shows, and for what was decided before": {
			known:  []*eventv1.Event{call("1", "user_id=9")},
			events: []*eventv1.Event{call("a", "user_id=7"), call("b", "user_id=7 anonymous_id=x"), call("c", "user_id=9")},
			behind: map[string][]string{a: nil, identityStream: nil, b: {identityStream}, c: {identityStream}},
		},
		"the same with newcomers in order": {
			inOrder: true,
			known:   []*eventv1.Event{call("1", "user_id=9")},
			events:  []*eventv1.Event{call("a", "user_id=7"), call("b", "user_id=7 anonymous_id=x"), call("c", "user_id=9")},
			behind:  map[string][]string{a: nil, identityStream: {a}, b: {identityStream, a}, c: {identityStream, a}},
		},
		"decisions go together": {
			events: []*eventv1.Event{call("a", "user_id=7 anonymous_id=x"), call("b", "user_id=8 anonymous_id=y")},
			behind: map[string][]string{identityStream: nil, a: {identityStream}, b: {identityStream}},
		},
		"all of a stream for what its last shows": {
			events: []*eventv1.Event{call("a", "user_id=7"), call("b", "user_id=8"), again("a", "user_id=7 anonymous_id=x"), again("b", "")},
			behind: map[string][]string{identityStream: nil, a: {identityStream}, b: {identityStream}},
		},
		"a mail for one that names the same": {
			known: []*eventv1.Event{threaded("0", "z", &eventv1.EmailReceived{})},
			events: []*eventv1.Event{
				threaded("1", "x", &eventv1.EmailReceived{MessageId: "1@x", References: []string{"0@x"}}),
				threaded("2", "y", &eventv1.EmailReceived{MessageId: "2@x", InReplyTo: "0@x"}),
				threaded("3", "z", &eventv1.EmailReceived{MessageId: "3@x"}),
			},
			behind: map[string][]string{"acme.email-x": nil, "acme.email-y": {"acme.email-x"}, "acme.email-z": nil},
		},
		"a conversation for the mail that it was too late for": {
			known: []*eventv1.Event{threaded("0", "z", &eventv1.EmailReceived{})},
			events: []*eventv1.Event{
				threaded("1", "x", &eventv1.EmailReceived{MessageId: "1@x", AddressConversation: "y"}),
				threaded("2", "y", &eventv1.EmailReceived{MessageId: "2@x"}),
			},
			behind: map[string][]string{"acme.email-x": nil, "acme.email-y": {"acme.email-x"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t, &remote{Store: openLog(t)})
			g.deps.NewcomersInOrder = test.inOrder
			if len(test.known) > 0 {
				g.recordEvents(test.known...)
			}
			_, behind := planned(g, test.events...)
			require.Equal(t, test.behind, behind)
		})
	}
}

// What follows in one stream goes into one append while nothing has to stand
// between, as far as a server takes it.
func TestPartsOfOneStreamGoTogether(t *testing.T) {
	t.Parallel()
	g := newRig(t, &remote{Store: openLog(t)})
	var many []*eventv1.Event
	for i := range 120 {
		many = append(many, page(fmt.Sprint("small ", i), "anonymous_id=a"))
	}
	s, _ := planned(g, many...)
	require.Len(t, s.list, 1)
	require.Len(t, s.list[0].Records, len(many))

	for i := range many {
		many[i].ContextJson = `{"note":"` + strings.Repeat("x", 30_000) + `"}`
	}
	s, _ = planned(g, many...)
	require.Greater(t, len(s.list), 3)
	expected := eventstore.NoStream
	for i := range s.list {
		p := &s.list[i]
		require.Equal(t, expected, p.Expected, "one behind the other")
		require.LessOrEqual(t, p.bytes, maxPartBytes)
		expected += eventstore.Revision(len(p.Records))
	}
	g.recordEvents(many...)
	require.Len(t, g.stored(), len(many))
	g.requireIndexIsLog()
}

// What a command comes to cannot be cut in two. One that is too large for the
// store is refused and kept, and does not stand in anybody's way.
func TestDecisionsTooLargeForTheStore(t *testing.T) {
	t.Parallel()
	g := newRig(t, &remote{Store: openLog(t)})
	const n = 2000
	rules := identity.DefaultRules()
	rules.SharedValues = map[string][]string{}
	var seen []*eventv1.Event
	for i := range n {
		address := fmt.Sprintf("p%d@customers.example", i)
		rules.SharedValues["email"] = append(rules.SharedValues["email"], address)
		seen = append(seen, call(fmt.Sprint(i), fmt.Sprintf("user_id=%d email=%s", i, address)))
	}
	for chunk := range slices.Chunk(seen, 500) {
		g.recordEvents(chunk...)
	}
	for range 2 { // also when it comes again
		replies := g.record(g.commandMessage(rulesCommand(1, "", rules)), g.message("acme", call("behind it", "user_id=7")))
		require.Equal(t, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_INVALID, replies[0].GetCommand().GetRefusal())
		require.Contains(t, replies[0].GetCommand().GetReason(), codeStoreRefused+": what it shows", "seen before anything is appended")
		require.Len(t, replies[1].GetResults(), 1)
		require.Len(t, g.quarantined(), 1)
		require.Equal(t, codeStoreRefused, g.quarantined()[0].GetCode())
	}
	for _, line := range g.lines() {
		require.NotContains(t, line, "identity_rules", "nothing of it is there")
		require.NotContains(t, line, "shared")
	}
	require.Len(t, g.stored(), n+1)
	g.requireIndexIsLog()
}
