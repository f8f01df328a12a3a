package identity

import (
	"fmt"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Decision is an identity event that an interaction causes. It stands before
// the interaction in the log.
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

// Decide says what a stamped interaction shows about who is who, and folds it:
// its strongest identifier is linked with each of the customer's others. The
// first decision will stand at position, the others behind it and the
// interaction itself after the last. derive makes an event's id from the
// interaction's and a purpose.
//
// A pair is decided once. It is looked at again where it was refused and new
// evidence comes: then what stood in the way may be gone. A pair that a person
// told apart stays apart.
func (g *Graph) Decide(ev *eventv1.Event, position uint64, derive func(purpose string) string) ([]Decision, error) {
	d := decider{g: g, ev: ev, position: position, derive: derive}
	if err := d.run(); err != nil {
		return nil, err
	}
	return d.out, g.See(ev.GetTenant(), ev.GetProfileId(), position+uint64(len(d.out)))
}

type decider struct {
	g        *Graph
	ev       *eventv1.Event
	position uint64
	derive   func(string) string
	out      []Decision
}

func (d *decider) run() error {
	strongest := d.strongest()
	if strongest == nil {
		return nil
	}
	for _, id := range d.ev.GetIdentifiers() {
		if !links(id) || id.GetProfileId() == strongest.GetProfileId() {
			continue
		}
		if err := d.pair(strongest, id); err != nil {
			return err
		}
	}
	return nil
}

func (d *decider) strongest() *eventv1.Identifier {
	for _, id := range d.ev.GetIdentifiers() {
		if id.GetProfileId() == d.ev.GetProfileId() && links(id) {
			return id
		}
	}
	return nil
}

// links says that an identifier may be linked at all.
func links(id *eventv1.Identifier) bool {
	return isCustomers(id) && id.GetStrength() > strengthShared
}

func (d *decider) pair(a, b *eventv1.Identifier) error {
	tenant := d.ev.GetTenant()
	e, known, err := d.g.edge(tenant, PairOf(a.GetProfileId(), b.GetProfileId()))
	if err != nil {
		return err
	}
	if known && (e.Refused == eventv1.LinkRefusal_LINK_REFUSAL_UNSPECIFIED || e.Refused == eventv1.LinkRefusal_LINK_REFUSAL_DECIDED) {
		return nil
	}
	if !known {
		// Whatever comes of it, an event will name the two from here on.
		if err := d.introduce(a, b); err != nil {
			return err
		}
	}
	v, err := d.g.judge(tenant, a.GetProfileId(), b.GetProfileId())
	if err != nil {
		return err
	}
	if v.refusal != eventv1.LinkRefusal_LINK_REFUSAL_UNSPECIFIED {
		if known {
			return nil
		}
		return d.refuse(a, b, v)
	}
	return d.link(a, b, v)
}

func (d *decider) introduce(a, b *eventv1.Identifier) error {
	tenant, first := d.ev.GetTenant(), d.next()<<1
	if err := d.g.see(tenant, a.GetProfileId(), first); err != nil {
		return err
	}
	if err := d.g.see(tenant, b.GetProfileId(), first|1); err != nil {
		return err
	}
	if err := d.g.learnKind(tenant, a.GetProfileId(), a.GetKind()); err != nil {
		return err
	}
	return d.g.learnKind(tenant, b.GetProfileId(), b.GetKind())
}

func (d *decider) link(a, b *eventv1.Identifier, v verdict) error {
	rule := eventv1.LinkRule_LINK_RULE_SAME_EVENT
	reason := fmt.Sprintf("One event named both as the customer's: %s and %s.", a.GetKind(), b.GetKind())
	if _, ok := d.ev.GetPayload().GetKind().(*eventv1.Payload_IdentityStated); ok {
		rule = eventv1.LinkRule_LINK_RULE_STATED
		reason = fmt.Sprintf("The source stated that they are one person: %s and %s.", a.GetKind(), b.GetKind())
	}
	id, err := d.emit("link:", b.GetProfileId(), TypeLinkAsserted, a.GetProfileId(), []*eventv1.Identifier{a, b},
		&eventv1.Payload{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{
			ProfileId: a.GetProfileId(), OtherProfileId: b.GetProfileId(),
			Rule: rule, EvidenceEventId: d.ev.GetId(), Reason: reason,
		}}})
	if err != nil || v.together {
		return err
	}
	_, err = d.emit("merge:", v.absorbed, TypeCustomersMerged, v.survivor, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
			CustomerId: v.survivor, AbsorbedCustomerId: v.absorbed,
			AbsorbedProfileIds: v.profiles, LinkEventId: id,
		}}})
	return err
}

func (d *decider) refuse(a, b *eventv1.Identifier, v verdict) error {
	_, err := d.emit("refuse:", b.GetProfileId(), TypeLinkRefused, a.GetProfileId(), []*eventv1.Identifier{a, b},
		&eventv1.Payload{Kind: &eventv1.Payload_LinkRefused{LinkRefused: &eventv1.LinkRefused{
			ProfileId: a.GetProfileId(), OtherProfileId: b.GetProfileId(),
			Refusal: v.refusal, EvidenceEventId: d.ev.GetId(), Reason: v.reason,
		}}})
	return err
}

// next is the position of the next decision.
func (d *decider) next() uint64 { return d.position + uint64(len(d.out)) }

// emit adds a decision and folds it, just as it will be folded from the log.
func (d *decider) emit(purpose, about, eventType, profileID string, ids []*eventv1.Identifier, payload *eventv1.Payload) (string, error) {
	id := d.derive(purpose + about)
	if err := d.g.apply(d.ev.GetTenant(), profileID, payload, ids, d.next()); err != nil {
		return "", err
	}
	d.out = append(d.out, Decision{ID: id, Type: eventType, ProfileID: profileID, Payload: payload, Identifiers: ids})
	return id, nil
}

// verdict says whether two profiles may be one customer.
type verdict struct {
	refusal eventv1.LinkRefusal
	reason  string
	// together: they are already.
	together bool
	// survivor and absorbed, with its profiles, where they become one.
	survivor, absorbed string
	profiles           []string
}

func (g *Graph) judge(tenant, a, b string) (verdict, error) {
	idA, err := g.CustomerOf(tenant, a)
	if err != nil {
		return verdict{}, err
	}
	idB, err := g.CustomerOf(tenant, b)
	if err != nil {
		return verdict{}, err
	}
	if idA == idB {
		return verdict{together: true}, nil
	}
	ca, err := g.component(tenant, idA)
	if err != nil {
		return verdict{}, err
	}
	cb, err := g.component(tenant, idB)
	if err != nil {
		return verdict{}, err
	}
	if v := g.limits(&ca, &cb); v.refusal != eventv1.LinkRefusal_LINK_REFUSAL_UNSPECIFIED {
		return v, nil
	}
	if cb.First < ca.First || cb.First == ca.First && idB < idA {
		idA, idB, cb = idB, idA, ca
	}
	return verdict{survivor: idA, absorbed: idB, profiles: cb.Members}, nil
}

func (g *Graph) limits(a, b *Customer) verdict {
	if a.count(KindUserID)+b.count(KindUserID) > g.rules.Kind(KindUserID).Limit {
		return verdict{
			refusal: eventv1.LinkRefusal_LINK_REFUSAL_TWO_USER_IDS,
			reason:  "Each side has a user_id, and the two differ: they stay two customers.",
		}
	}
	for _, k := range b.Kinds {
		if together, limit := a.count(k.Kind)+k.Count, g.rules.Kind(k.Kind).Limit; together > limit {
			return verdict{
				refusal: eventv1.LinkRefusal_LINK_REFUSAL_KIND_LIMIT,
				reason:  fmt.Sprintf("Together they would have %d identifiers of kind %s; one customer has at most %d.", together, k.Kind, limit),
			}
		}
	}
	if together := len(a.Members) + len(b.Members); together > g.rules.MaxCustomerProfiles {
		return verdict{
			refusal: eventv1.LinkRefusal_LINK_REFUSAL_KIND_LIMIT,
			reason:  fmt.Sprintf("Together they would have %d identifiers; one customer has at most %d.", together, g.rules.MaxCustomerProfiles),
		}
	}
	return verdict{}
}
