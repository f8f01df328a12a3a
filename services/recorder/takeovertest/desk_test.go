package takeovertest

import (
	"fmt"
	"math/rand/v2"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// desk is where people decide who is who, one command after the other, about
// customers of whom nobody else speaks in between. What is carried out and what
// is refused stands in the log: so each command has one right outcome, however
// often it comes, also where by then another one could be had.
type desk struct {
	*load
	tenant string
	rng    *rand.Rand
	made   int // events and commands
	rules  string
}

const deskSource = "desk"

func (d *desk) run() {
	for people := 0; !d.over(); people++ {
		name := func(who string) string { return fmt.Sprintf("desk-%d-%s", people, who) }
		a, b, c := d.profile(name("a")), d.profile(name("b")), d.profile(name("c"))
		d.see(name("a"), name("shared"))
		d.see(name("b"), "")
		d.see(name("c"), name("own"))
		d.do(&interactionv1.IdentityCommand{Kind: mergeOf(a, b)}, none)
		d.do(&interactionv1.IdentityCommand{Kind: mergeOf(d.address(name("own")), c)}, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER)
		d.see(name("b"), name("shared"))
		d.do(&interactionv1.IdentityCommand{Kind: splitOf(a, b)}, none)
		d.do(&interactionv1.IdentityCommand{Kind: splitOf(b, c)}, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOT_A_PROFILE)
		d.do(&interactionv1.IdentityCommand{Kind: mergeOf(a, d.profile(name("nobody")))}, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER)
		d.do(&interactionv1.IdentityCommand{Kind: mergeOf(a, d.profile(name("later")))}, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER)
		d.see(name("later"), "")
		// The decision forbids it; that it was refused stands in the log.
		d.do(&interactionv1.IdentityCommand{Kind: &interactionv1.IdentityCommand_Link{Link: &interactionv1.IdentityCommand_LinkProfiles{
			ProfileId: a, OtherProfileId: b, Probability: 0.99,
		}}}, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES)
		if d.rng.IntN(2) == 0 {
			d.do(&interactionv1.IdentityCommand{Kind: mergeOf(b, a)}, none)
		}
		d.changeRules(people)
	}
}

const none = interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNSPECIFIED

func mergeOf(a, b string) *interactionv1.IdentityCommand_Merge {
	return &interactionv1.IdentityCommand_Merge{Merge: &interactionv1.IdentityCommand_MergeCustomers{CustomerId: a, OtherCustomerId: b}}
}

func splitOf(a string, moved ...string) *interactionv1.IdentityCommand_Split {
	return &interactionv1.IdentityCommand_Split{Split: &interactionv1.IdentityCommand_SplitCustomer{CustomerId: a, ProfileIds: moved}}
}

func (d *desk) profile(user string) string {
	return identity.ProfileID(secret, d.tenant, identity.KindUserID, user)
}

func (d *desk) address(name string) string {
	return identity.ProfileID(secret, d.tenant, identity.KindEmail, name+"@customers.example")
}

// changeRules has one of the traffic's addresses blocked in place of the one
// before, and numbers read in another region.
func (d *desk) changeRules(n int) {
	rules := identity.DefaultRules()
	rules.SharedValues = map[string][]string{"email": {fmt.Sprintf("person%d@customers.example", d.rng.IntN(40))}}
	rules.DefaultRegion = [...]string{"US", "DE"}[n%2]
	kind := func(follows string) *interactionv1.IdentityCommand_ChangeRules {
		return &interactionv1.IdentityCommand_ChangeRules{ChangeRules: &interactionv1.IdentityCommand_ChangeIdentityRules{
			Rules: rules.Proto(), FollowsEventId: follows,
		}}
	}
	if result := d.do(&interactionv1.IdentityCommand{Kind: kind(d.rules)}, none); result != nil {
		d.rules = result.GetEventId()
	}
	d.do(&interactionv1.IdentityCommand{Kind: kind("not these")}, interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES)
}

func (d *desk) next() (number int, at *timestamppb.Timestamp) {
	d.made++
	return d.made, timestamppb.New(begun.AddDate(0, 0, 1).Add(timeOf(d.made)))
}

// see records that a user was there, perhaps with an address.
func (d *desk) see(user, address string) {
	if d.t.Failed() {
		return
	}
	number, at := d.next()
	ev := envelope(d.tenant, "web/"+deskSource, number, at.AsTime())
	ev.Identifiers = []*eventv1.Identifier{identifier("user_id", "%s", user)}
	if address != "" {
		ev.Identifiers = append(ev.Identifiers, identifier("email", "%s@customers.example", address))
	}
	ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/", Url: "https://shop.example/"}}}
	event.Stamp(ev)
	d.expect([]*eventv1.Event{ev}, 0)
	if reply := d.ask(d.tenant, "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{ev}}); reply != nil {
		d.mu.Lock()
		d.answers = append(d.answers, reply.GetResults()...)
		d.mu.Unlock()
	}
}

// do gives a command and waits until it is carried out, or refused as it must be.
func (d *desk) do(c *interactionv1.IdentityCommand, want interactionv1.IdentityRefusal) *interactionv1.IdentityResult {
	if d.t.Failed() {
		return nil
	}
	number, at := d.next()
	c.Id, c.Time, c.Source, c.Reason = event.DeterministicID(d.tenant, deskSource, fmt.Sprint(number)).String(), at, deskSource, "told on the phone"
	c.Actor = &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: "kim"}
	reply := d.ask(d.tenant, "mixed", &interactionv1.IngressBatch{Command: c})
	if reply == nil {
		return nil
	}
	result := reply.GetCommand()
	if result.GetRefusal() != want {
		d.t.Errorf("command %v was answered with %v", c, result)
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commands[c.GetId()] = &command{c, d.tenant, result}
	return result
}
