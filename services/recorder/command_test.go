package recorder

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// command is one by its number; the kind is the caller's to set.
func command(n int) *interactionv1.IdentityCommand {
	return &interactionv1.IdentityCommand{
		Id: fmt.Sprintf("00000000-0000-7000-8000-%012d", n), Time: timestamppb.New(testStart.Add(time.Duration(n) * time.Second)),
		Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: "kim"}, Reason: "told on the phone", Source: "desk",
	}
}

func mergeCommand(n int, a, b string) *interactionv1.IdentityCommand {
	c := command(n)
	c.Kind = &interactionv1.IdentityCommand_Merge{Merge: &interactionv1.IdentityCommand_MergeCustomers{
		CustomerId: profileOf("acme", a), OtherCustomerId: profileOf("acme", b),
	}}
	return c
}

func splitCommand(n int, customer string, profiles ...string) *interactionv1.IdentityCommand {
	c := command(n)
	split := &interactionv1.IdentityCommand_SplitCustomer{CustomerId: profileOf("acme", customer)}
	for _, p := range profiles {
		split.ProfileIds = append(split.ProfileIds, profileOf("acme", p))
	}
	c.Kind = &interactionv1.IdentityCommand_Split{Split: split}
	return c
}

func rulesCommand(n int, follows string, rules identity.Rules) *interactionv1.IdentityCommand {
	c := command(n)
	c.Kind = &interactionv1.IdentityCommand_ChangeRules{ChangeRules: &interactionv1.IdentityCommand_ChangeIdentityRules{
		Rules: rules.Proto(), FollowsEventId: follows,
	}}
	return c
}

func (g *rig) commandMessage(c *interactionv1.IdentityCommand) bus.Message {
	g.t.Helper()
	return g.batchMessage("acme", &interactionv1.IngressBatch{Command: c})
}

func (g *rig) do(c *interactionv1.IdentityCommand) *interactionv1.IdentityResult {
	g.t.Helper()
	reply := g.record(g.commandMessage(c))[0]
	require.Empty(g.t, reply.GetResults())
	require.NotNil(g.t, reply.GetCommand())
	return reply.GetCommand()
}

func TestMergeAndSplitByCommand(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"), page("2", "user_id=8"))

	merged := g.do(mergeCommand(1, "user_id=8", "user_id=7"))
	require.Equal(t, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNSPECIFIED, merged.GetRefusal(), merged.GetReason())
	require.Equal(t, profileOf("acme", "user_id=7"), merged.GetCustomerId(), "the older one goes on")
	require.Equal(t, profileOf("acme", "user_id=8"), merged.GetOtherCustomerId())

	last := g.records()[len(g.records())-1]
	require.Equal(t, identityStream, last.Stream)
	ev, err := g.deps.Codec.Decode(last)
	require.NoError(t, err)
	require.Equal(t, merged.GetEventId(), ev.GetEvent().GetId())
	require.Equal(t, "kim", ev.GetEvent().GetActor().GetId())
	require.Equal(t, "desk", ev.GetEvent().GetSource())
	require.Equal(t, "told on the phone", ev.GetEvent().GetPayload().GetCustomersMerged().GetReason())
	require.Equal(t, command(1).GetId(), ev.GetEvent().GetCausationId())

	split := g.do(splitCommand(2, "user_id=7", "user_id=8"))
	require.Equal(t, profileOf("acme", "user_id=8"), split.GetOtherCustomerId())
	g.requireIndexIsLog()
}

// A command that comes again does nothing and is answered as before, also after
// a restart with the index dropped.
func TestCommandOnce(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"), page("2", "user_id=8"), page("3", "user_id=9"))
	merge, split := mergeCommand(1, "user_id=7", "user_id=8"), splitCommand(2, "user_id=7", "user_id=8")
	rules := rulesCommand(3, "", identity.DefaultRules())
	commands := []*interactionv1.IdentityCommand{merge, split, rules}
	var first []*interactionv1.IdentityResult
	for _, c := range commands {
		first = append(first, g.do(c))
		require.False(t, first[len(first)-1].GetRepeated())
	}
	lines := g.lines()
	for _, drop := range []bool{false, true} {
		g.reopen(drop)
		for i, c := range commands {
			again := g.do(c)
			require.True(t, again.GetRepeated())
			require.Equal(t, first[i].GetCustomerId(), again.GetCustomerId())
			require.Equal(t, first[i].GetOtherCustomerId(), again.GetOtherCustomerId())
			require.Equal(t, first[i].GetEventId(), again.GetEventId())
		}
		require.Equal(t, lines, g.lines())
	}
	g.requireIndexIsLog()
}

func TestCommandsRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7 anonymous_id=a"), page("2", "user_id=8"))
	before := len(g.lines())
	empty := command(20)
	for _, c := range []struct {
		command *interactionv1.IdentityCommand
		want    interactionv1.IdentityRefusal
	}{
		{mergeCommand(10, "user_id=7", "anonymous_id=a"), interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER},
		{mergeCommand(11, "user_id=7", "user_id=nobody"), interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER},
		{splitCommand(12, "user_id=7", "user_id=8"), interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOT_A_PROFILE},
		{splitCommand(13, "user_id=8", "user_id=8"), interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOTHING_TO_SPLIT},
		{rulesCommand(14, "no such event", identity.DefaultRules()), interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES},
		{rulesCommand(15, "", identity.Rules{}), interactionv1.IdentityRefusal_IDENTITY_REFUSAL_INVALID},
		{empty, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_INVALID},
	} {
		got := g.do(c.command)
		require.Equal(t, c.want, got.GetRefusal(), "%v", c.command)
		require.NotEmpty(t, got.GetReason())
	}
	for _, line := range g.lines()[before:] {
		require.Equal(t, identityStream+" parley.decision.refused", line)
	}
	g.requireIndexIsLog()
}

// What was refused stays refused when it comes again, even if it could be done by
// then; a request of its own is decided anew.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7"))
	first := g.do(mergeCommand(1, "user_id=7", "user_id=8"))
	require.Equal(t, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER, first.GetRefusal())
	g.recordEvents(page("2", "user_id=8"))
	for _, drop := range []bool{false, true} {
		g.reopen(drop)
		again := g.do(mergeCommand(1, "user_id=7", "user_id=8"))
		require.Equal(t, first.GetRefusal(), again.GetRefusal())
		require.Equal(t, first.GetReason(), again.GetReason())
		require.NotEqual(t, g.customerOf("user_id=7"), g.customerOf("user_id=8"))
	}
	require.Empty(t, g.do(mergeCommand(2, "user_id=7", "user_id=8")).GetReason())
	require.Equal(t, g.customerOf("user_id=7"), g.customerOf("user_id=8"))
}

// Rules hold for what follows them, in the same batch, after a restart and with
// the index dropped; and at once for what they block.
func TestRulesByCommand(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.recordEvents(page("1", "user_id=7 email=family@example.com"), page("2", "anonymous_id=a email=family@example.com"))
	require.Equal(t, g.customerOf("user_id=7"), g.customerOf("anonymous_id=a"))

	rules := identity.DefaultRules()
	rules.SharedValues = map[string][]string{"email": {"Family@Example.com"}}
	rules.DefaultRegion = "DE"
	replies := g.record(
		g.commandMessage(rulesCommand(1, "", rules)),
		g.message("acme", page("3", "phone=030/901820"), page("4", "user_id=9 email=family@example.com")),
	)
	require.Empty(t, replies[0].GetCommand().GetReason())
	require.NotEqual(t, g.customerOf("user_id=7"), g.customerOf("anonymous_id=a"))
	require.NotEqual(t, g.customerOf("user_id=7"), g.customerOf("email=family@example.com"))
	require.NotEqual(t, g.customerOf("user_id=9"), g.customerOf("email=family@example.com"))
	all := g.stored()
	require.Equal(t, "+4930901820", all[len(all)-2].GetEvent().GetIdentifiers()[0].GetValue(), "read in the new region")
	g.requireIndexIsLog()

	for _, drop := range []bool{false, true} {
		g.reopen(drop)
		g.recordEvents(page(fmt.Sprint("again", drop), "phone=030/901820"))
		all = g.stored()
		require.Equal(t, "+4930901820", all[len(all)-1].GetEvent().GetIdentifiers()[0].GetValue())
	}
	// Another tenant has its own.
	g.record(g.message("other", func() *eventv1.Event {
		ev := page("5", "phone=030/901820")
		ev.Tenant = "other"
		return ev
	}()))
	all = g.stored()
	require.Empty(t, all[len(all)-1].GetEvent().GetIdentifiers(), "no number of the default region")
	require.Equal(t, "other", all[len(all)-1].GetEvent().GetTenant())

	stale := g.do(rulesCommand(2, "", identity.DefaultRules()))
	require.Equal(t, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES, stale.GetRefusal())
	back := g.do(rulesCommand(3, replies[0].GetCommand().GetEventId(), identity.DefaultRules()))
	require.Empty(t, back.GetReason())
	require.Equal(t, g.customerOf("user_id=7"), g.customerOf("anonymous_id=a"), "the links are back")
	g.requireIndexIsLog()
}

func (g *rig) customerOf(name string) string {
	g.t.Helper()
	c, err := g.index.graph.CustomerOf("acme", profileOf("acme", name))
	require.NoError(g.t, err)
	return c
}

// A mail that answers none that is known goes where its address says, if there
// is such a conversation by mail.
func TestThreadByAddress(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	mail := func(name, messageID, parent, address string) *eventv1.Event {
		ev := page(name, "email=ada@example.com")
		ev.Channel = "email"
		ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: &eventv1.EmailReceived{
			MessageId: messageID, InReplyTo: parent, AddressConversation: address,
		}}}
		event.Stamp(ev)
		return ev
	}
	g.recordEvents(mail("1", "first@x", "", ""), mail("2", "other@x", "", ""))
	all := g.stored()
	first, other := all[0].GetEvent().GetConversation(), all[1].GetEvent().GetConversation()
	require.NotEqual(t, first, other)
	g.recordEvents(
		mail("3", "third@x", "", first),
		mail("4", "fourth@x", "other@x", first),
		mail("5", "fifth@x", "never-seen@x", first),
		mail("6", "sixth@x", "", "no-such-conversation"),
	)
	all = g.stored()[2:]
	require.Equal(t, first, all[0].GetEvent().GetConversation())
	require.Equal(t, other, all[1].GetEvent().GetConversation(), "the headers know better")
	require.Equal(t, first, all[2].GetEvent().GetConversation())
	require.NotEqual(t, "no-such-conversation", all[3].GetEvent().GetConversation())
	g.requireIndexIsLog()
}
