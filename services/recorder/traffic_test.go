package recorder

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// traffic makes messages of two tenants whose customers, conversations and
// commands have much to do with each other.
type traffic struct {
	rng      *rand.Rand
	made     int
	commands int
	rules    map[string]string // the event that brought them last, by tenant
	rig      rig               // makes messages
}

func newTraffic(t *testing.T, rng *rand.Rand) *traffic {
	return &traffic{rng: rng, rules: map[string]string{}, rig: rig{t: t}}
}

func (f *traffic) messages(n int) []bus.Message {
	messages := make([]bus.Message, n)
	for i := range messages {
		tenant := [...]string{"acme", "acme", "other"}[f.rng.IntN(3)]
		if f.rng.IntN(8) == 0 {
			messages[i] = f.rig.batchMessage(tenant, &interactionv1.IngressBatch{Command: f.command(tenant)})
			continue
		}
		var events []*eventv1.Event
		for range 1 + f.rng.IntN(6) {
			events = append(events, forTenant(f.event(), tenant))
		}
		messages[i] = f.rig.message(tenant, events...)
	}
	return messages
}

const people = 7

func (f *traffic) identifier() string {
	n := f.rng.IntN(people)
	return [...]string{
		fmt.Sprint("anonymous_id=device-", n), fmt.Sprint("anonymous_id=device-", 10+n), fmt.Sprint("user_id=", n),
		fmt.Sprintf("email=p%d@customers.example", n), fmt.Sprint("phone=+1415867530", n),
	}[f.rng.IntN(5)]
}

func (f *traffic) event() *eventv1.Event {
	f.made++
	number := f.made
	if f.rng.IntN(12) == 0 {
		number = 1 + f.rng.IntN(f.made) // again, perhaps with other content
	}
	var ids []string
	for range f.rng.IntN(4) {
		ids = append(ids, f.identifier())
	}
	// What occurred first need not come first.
	ev := after(time.Duration(f.rng.IntN(1000))*time.Second, page(fmt.Sprint(number), strings.Join(ids, " ")))
	if number != f.made && f.rng.IntN(2) == 0 {
		ev.ContentDigest = event.ContentDigest(fmt.Append(nil, f.made))
	}
	mail := func() string { return fmt.Sprintf("m%d@x", f.rng.IntN(40)) }
	switch f.rng.IntN(8) {
	case 0:
		ev.Channel = "ticket" // which is refused
	case 1:
		ev.Channel = "phone"
		ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_CallAnswered{CallAnswered: &eventv1.CallAnswered{CallId: fmt.Sprint("call-", f.rng.IntN(9))}}}
	case 2, 3:
		received := &eventv1.EmailReceived{MessageId: mail()}
		for range f.rng.IntN(3) {
			received.References = append(received.References, mail())
		}
		if f.rng.IntN(3) == 0 {
			received.InReplyTo = mail()
		}
		if f.rng.IntN(3) == 0 {
			received.AddressConversation = fmt.Sprint("order-", f.rng.IntN(4))
		}
		if f.rng.IntN(6) == 0 {
			ev.Conversation = fmt.Sprint("order-", f.rng.IntN(4))
		}
		ev.Channel = "email"
		ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: received}}
	default:
	}
	event.Stamp(ev)
	return ev
}

// command of a person or a model about anybody.
func (f *traffic) command(tenant string) *interactionv1.IdentityCommand {
	f.commands++
	number := f.commands
	if f.rng.IntN(5) == 0 {
		number = 1 + f.rng.IntN(f.commands)
	}
	// The same number is the same command.
	rng := rand.New(rand.NewPCG(uint64(number), uint64(len(tenant))))
	f.rng, rng = rng, f.rng
	defer func() { f.rng = rng }()
	c := command(number)
	profile := func() string {
		kind, value, _ := strings.Cut(f.identifier(), "=")
		return profileOf(tenant, kind+"="+value)
	}
	a, b := profile(), profile()
	switch f.rng.IntN(6) {
	case 0, 1:
		c.Kind = &interactionv1.IdentityCommand_Merge{Merge: &interactionv1.IdentityCommand_MergeCustomers{CustomerId: a, OtherCustomerId: b}}
	case 2:
		c.Kind = &interactionv1.IdentityCommand_Split{Split: &interactionv1.IdentityCommand_SplitCustomer{CustomerId: a, ProfileIds: []string{a}}}
	case 3:
		c.Kind = &interactionv1.IdentityCommand_KeepApart_{KeepApart: &interactionv1.IdentityCommand_KeepApart{CustomerId: a, OtherCustomerId: b}}
	case 4:
		c.Kind = &interactionv1.IdentityCommand_Link{Link: &interactionv1.IdentityCommand_LinkProfiles{ProfileId: a, OtherProfileId: b, Probability: 0.9}}
	default:
		rules := identity.DefaultRules()
		rules.SharedValues = map[string][]string{"email": {fmt.Sprintf("p%d@customers.example", f.rng.IntN(people))}}
		c.Kind = &interactionv1.IdentityCommand_ChangeRules{ChangeRules: &interactionv1.IdentityCommand_ChangeIdentityRules{
			Rules: rules.Proto(), FollowsEventId: f.rules[tenant],
		}}
		f.rules[tenant] = event.DerivedID(uuid.MustParse(c.GetId()), "rules").String()
	}
	return c
}
