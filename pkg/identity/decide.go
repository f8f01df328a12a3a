package identity

import (
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Decision is an identity event that an interaction or a command causes. What an interaction
// causes stands before it in the log.
type Decision struct {
	// ID of the event.
	ID string
	// Type of the event.
	Type string
	// ProfileID that the event is stamped with.
	ProfileID string
	// Payload of the event.
	Payload *eventv1.Payload
	// Identifiers that were linked or not; none with a merge.
	Identifiers []*eventv1.Identifier
}

// Derive makes an event's id from that of its cause and a purpose. The same
// purpose is never asked for twice.
type Derive func(purpose string) string

// Decide says what a stamped interaction shows about who is who, and folds it:
// its strongest identifier is linked with each of the customer's others. The
// first decision will stand at position, the others behind it and the
// interaction itself after the last.
//
// Evidence about two profiles counts by its earliest. What arrives late is judged
// where it belongs, and what was decided against it is taken back.
func (g *Graph) Decide(ev *eventv1.Event, position uint64, derive Derive) ([]Decision, error) {
	d := newDecider(g, ev.GetTenant(), position, derive)
	d.cause, d.at = ev.GetId(), ev
	if err := d.interaction(ev); err != nil {
		return nil, err
	}
	return d.out, g.See(ev.GetTenant(), ev.GetProfileId(), ev.GetProfileKind(), position+uint64(len(d.out)))
}

// decider makes decisions and folds each, just as it will be folded from the
// log.
type decider struct {
	g        *Graph
	tenant   string
	rules    *Rules
	position uint64
	derive   Derive
	cause    string         // id of the event or command
	at       *eventv1.Event // with its times
	out      []Decision
	purposes map[string]int
}

func newDecider(g *Graph, tenant string, position uint64, derive Derive) *decider {
	return &decider{g: g, tenant: tenant, rules: g.rules(tenant), position: position, derive: derive}
}

func (d *decider) interaction(ev *eventv1.Event) error {
	strongest := d.strongest(ev)
	if strongest == nil {
		return nil
	}
	rule := eventv1.LinkRule_LINK_RULE_SAME_EVENT
	if _, ok := ev.GetPayload().GetKind().(*eventv1.Payload_IdentityStated); ok {
		rule = eventv1.LinkRule_LINK_RULE_STATED
	}
	at := event.Time(ev)
	for i, id := range ev.GetIdentifiers() {
		if !links(id) || id.GetProfileId() == strongest.GetProfileId() {
			continue
		}
		if err := d.evidence(evidence{a: strongest, b: id, Link: Link{Rule: rule, Order: orderOf(at, ev.GetId(), uint32(i))}}); err != nil {
			return err
		}
	}
	return nil
}

func (d *decider) strongest(ev *eventv1.Event) *eventv1.Identifier {
	for _, id := range ev.GetIdentifiers() {
		if id.GetProfileId() == ev.GetProfileId() && links(id) {
			return id
		}
	}
	return nil
}

// links says that an identifier may be linked at all.
func links(id *eventv1.Identifier) bool {
	return isCustomers(id) && id.GetStrength() > strengthShared &&
		id.GetAssurance() == eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNSPECIFIED
}

// evidence is what speaks for two profiles being one person.
type evidence struct {
	a, b *eventv1.Identifier
	Link
	probability float64
}

// evidence takes evidence about two profiles, if it is new or earlier than what is known.
func (d *decider) evidence(e evidence) error {
	a, b := e.a.GetProfileId(), e.b.GetProfileId()
	pa, _, err := d.g.profile(d.tenant, a)
	if err != nil {
		return err
	}
	// Nearly always it says nothing new, and nothing else has to be looked at.
	known, there := pa.link(b)
	if pa.Shared != 0 || there && known.Order.compare(e.Order) <= 0 {
		return nil
	}
	pb, _, err := d.g.profile(d.tenant, b)
	if err != nil || pb.Shared != 0 {
		return err
	}
	if !there {
		if len(pa.Links) >= maxLinks || len(pb.Links) >= maxLinks {
			return nil
		}
		if shared := d.overShared(e.a, e.b, &pa, &pb); shared != nil {
			return d.share(shared.GetProfileId(), shared.GetKind(), eventv1.SharingRule_SHARING_RULE_COUNTED,
				fmt.Sprintf("Seen with more than %d different people.", d.rules.Kind(shared.GetKind()).SharedAbove))
		}
		// Whatever comes of it, an event will name the two from here on.
		if err := d.introduce(e.a, e.b); err != nil {
			return err
		}
	}
	return d.link(e)
}

// overShared is the identifier that the evidence shows to be shared, if it
// does: one that is not unique itself and was seen with too many that are.
func (d *decider) overShared(a, b *eventv1.Identifier, pa, pb *Profile) *eventv1.Identifier {
	over := func(id, other *eventv1.Identifier, p *Profile) bool {
		return other.GetStrength() == strengthUnique && id.GetStrength() < strengthUnique &&
			p.uniques()+1 > d.rules.Kind(id.GetKind()).SharedAbove
	}
	switch {
	case over(a, b, pa):
		return a
	case over(b, a, pb):
		return b
	default:
		return nil
	}
}

func (d *decider) introduce(a, b *eventv1.Identifier) error {
	first := d.next() << 1
	if err := d.g.see(d.tenant, a.GetProfileId(), first); err != nil {
		return err
	}
	if err := d.g.see(d.tenant, b.GetProfileId(), first|1); err != nil {
		return err
	}
	if err := d.g.learnKind(d.tenant, a.GetProfileId(), a.GetKind()); err != nil {
		return err
	}
	return d.g.learnKind(d.tenant, b.GetProfileId(), b.GetKind())
}

// link judges evidence. What is the youngest about both customers is judged
// against them as they are; what is late, with all around it.
func (d *decider) link(e evidence) error {
	a, b := e.a.GetProfileId(), e.b.GetProfileId()
	idA, err := d.g.CustomerOf(d.tenant, a)
	if err != nil {
		return err
	}
	idB, err := d.g.CustomerOf(d.tenant, b)
	if err != nil {
		return err
	}
	ca, err := d.g.component(d.tenant, idA)
	if err != nil {
		return err
	}
	cb := ca
	if idA != idB {
		if cb, err = d.g.component(d.tenant, idB); err != nil {
			return err
		}
	}
	inOrder := e.Order.compare(ca.Last) >= 0 && e.Order.compare(cb.Last) >= 0
	// Where nothing was ever refused, and nothing is now, the order is all the
	// same: customers that are within the limits as they are were so at any time.
	inOrder = inOrder || !ca.Refused && !cb.Refused && (idA == idB || !judge(d.rules, sideOf(&ca), sideOf(&cb)).refused())
	if !inOrder {
		done, err := d.late(e, idA, idB)
		if done || err != nil {
			return err
		}
	}
	if idA == idB {
		_, err := d.assert(e)
		return err
	}
	if no := judge(d.rules, sideOf(&ca), sideOf(&cb)); no.refused() {
		return d.refuse(e, no)
	}
	linkID, err := d.assert(e)
	if err != nil {
		return err
	}
	if cb.First < ca.First || cb.First == ca.First && idB < idA {
		idA, idB, cb = idB, idA, ca
	}
	return d.merge(idA, idB, cb.Members, linkID, eventv1.GroupingRule_GROUPING_RULE_LINKED)
}

// late judges evidence together with what came after it in its order. It is
// not done where that would be too much; then the evidence is judged as if it had come last.
func (d *decider) late(e evidence, customers ...string) (bool, error) {
	a, b := e.a.GetProfileId(), e.b.GetProfileId()
	link := e.Link
	if err := d.g.addLink(d.tenant, a, b, link, e.a.GetStrength() == strengthUnique, e.b.GetStrength() == strengthUnique); err != nil {
		return false, err
	}
	r, ok, err := d.g.regroup(d.tenant, customers...)
	if err != nil || !ok {
		return false, err
	}
	linkID := ""
	if r.together(a, b) {
		linkID, err = d.assert(e)
	} else {
		err = d.refuse(e, r.refusalOf(a, b))
	}
	if err != nil {
		return false, err
	}
	return true, d.follow(r, linkID, eventv1.GroupingRule_GROUPING_RULE_LATE_EVIDENCE, PairOf(a, b))
}

// follow brings the customers of a region to what was judged: links whose
// outcome has changed, but for the one that is told already, then who leaves, then who joins.
func (d *decider) follow(r *region, linkID string, rule eventv1.GroupingRule, told Pair) error {
	for _, c := range r.changed() {
		if PairOf(c.a, c.b) == told {
			continue
		}
		var err error
		if c.together {
			err = d.assertAgain(c)
		} else {
			err = d.refuseAgain(c)
		}
		if err != nil {
			return err
		}
	}
	parts := r.parts()
	for i := range parts {
		p := &parts[i]
		if i == 0 || parts[i-1].customer != p.customer {
			continue
		}
		if err := d.split(p.customer, p.oldest, p.members, rule); err != nil {
			return err
		}
	}
	return d.join(parts, linkID, rule)
}

// join merges parts that belong to one customer now.
func (d *decider) join(parts []part, linkID string, rule eventv1.GroupingRule) error {
	whole := map[int]string{} // who has the profiles of a root so far
	for i := range parts {
		p := &parts[i]
		name := p.oldest
		if i == 0 || parts[i-1].customer != p.customer {
			name = p.customer
		}
		survivor, there := whole[p.root]
		if !there {
			whole[p.root] = name
			continue
		}
		s, err := d.g.component(d.tenant, survivor)
		if err != nil {
			return err
		}
		c, err := d.g.component(d.tenant, name)
		if err != nil {
			return err
		}
		if c.First < s.First || c.First == s.First && name < survivor {
			survivor, name, c = name, survivor, s
		}
		if err := d.merge(survivor, name, c.Members, linkID, rule); err != nil {
			return err
		}
		whole[p.root] = survivor
	}
	return nil
}

// share notes that an identifier is shared and takes it out of its customer.
func (d *decider) share(profile, kind string, rule eventv1.SharingRule, reason string) error {
	if _, err := d.emit("share:"+profile, TypeIdentifierShared, profile, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_IdentifierShared{IdentifierShared: &eventv1.IdentifierShared{
			ProfileId: profile, Kind: kind, Shared: true, Rule: rule, Reason: reason,
		}}}); err != nil {
		return err
	}
	return d.again(profile, eventv1.GroupingRule_GROUPING_RULE_SHARED)
}

// again judges everything around a profile anew.
func (d *decider) again(profile string, rule eventv1.GroupingRule) error {
	c, err := d.g.CustomerOf(d.tenant, profile)
	if err != nil {
		return err
	}
	r, ok, err := d.g.regroup(d.tenant, c)
	if err != nil || !ok {
		return err
	}
	return d.follow(r, "", rule, Pair{})
}

// evidenceTime is how an order's time stands in an event; UUIDs and indexes
// stand beside it.
func evidenceTime(o Order) *timestamppb.Timestamp { return timestamppb.New(o.time()) }
