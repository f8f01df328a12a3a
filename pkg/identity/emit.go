package identity

import (
	"fmt"
	"strconv"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// next is the position of the next decision.
func (d *decider) next() uint64 { return d.position + uint64(len(d.out)) }

// emit adds a decision and folds it.
func (d *decider) emit(purpose, eventType, profileID string, ids []*eventv1.Identifier, payload *eventv1.Payload) (string, error) {
	// One cause may do a thing twice, for example take a profile out and in again.
	if d.purposes == nil {
		d.purposes = map[string]int{}
	}
	n := d.purposes[purpose]
	d.purposes[purpose] = n + 1
	if n > 0 {
		purpose += "#" + strconv.Itoa(n)
	}
	id := d.derive(purpose)
	ev := &eventv1.Event{
		Id: id, Tenant: d.tenant, Type: eventType, ProfileId: profileID, Identifiers: ids, Payload: payload,
		OccurredTime: d.at.GetOccurredTime(), TimeQuality: d.at.GetTimeQuality(), ReceivedTime: d.at.GetReceivedTime(),
	}
	if err := d.g.Apply(ev, d.next()); err != nil {
		return "", err
	}
	d.out = append(d.out, Decision{ID: id, Type: eventType, ProfileID: profileID, Payload: payload, Identifiers: ids})
	return id, nil
}

// identifiers of the evidence; a model speaks of profiles only.
func (e *evidence) identifiers() []*eventv1.Identifier {
	if e.a.GetKind() == "" || e.b.GetKind() == "" {
		return nil
	}
	return []*eventv1.Identifier{e.a, e.b}
}

func (d *decider) assert(e evidence) (string, error) {
	var reason string
	switch e.Rule {
	case eventv1.LinkRule_LINK_RULE_STATED:
		reason = fmt.Sprintf("The source stated that they are one person: %s and %s.", e.a.GetKind(), e.b.GetKind())
	case eventv1.LinkRule_LINK_RULE_PROBABILISTIC:
		reason = fmt.Sprintf("The model holds them for one person with a probability of %.4f.", e.probability)
	default:
		reason = fmt.Sprintf("One event named both as the customer's: %s and %s.", e.a.GetKind(), e.b.GetKind())
	}
	return d.emit("link:"+e.a.GetProfileId()+":"+e.b.GetProfileId(), TypeLinkAsserted, e.a.GetProfileId(), e.identifiers(),
		&eventv1.Payload{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{
			ProfileId: e.a.GetProfileId(), OtherProfileId: e.b.GetProfileId(), Rule: e.Rule, Reason: reason, Probability: e.probability,
			EvidenceEventId: e.Order.Event.String(), EvidenceTime: evidenceTime(e.Order), EvidenceIndex: e.Order.Index,
		}}})
}

func (d *decider) refuse(e evidence, no refusal) error {
	_, err := d.emit("refuse:"+e.a.GetProfileId()+":"+e.b.GetProfileId(), TypeLinkRefused, e.a.GetProfileId(), e.identifiers(),
		&eventv1.Payload{Kind: &eventv1.Payload_LinkRefused{LinkRefused: &eventv1.LinkRefused{
			ProfileId: e.a.GetProfileId(), OtherProfileId: e.b.GetProfileId(), Rule: e.Rule, Refusal: no.rule, Reason: no.reason,
			EvidenceEventId: e.Order.Event.String(), EvidenceTime: evidenceTime(e.Order), EvidenceIndex: e.Order.Index,
		}}})
	return err
}

// assertAgain links a pair that was refused: what stood in the way is gone.
func (d *decider) assertAgain(c change) error {
	_, err := d.emit("link:"+c.a+":"+c.b, TypeLinkAsserted, c.a, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{
			ProfileId: c.a, OtherProfileId: c.b, Rule: c.link.Rule, Reason: "What stood in its way is gone.",
			EvidenceEventId: c.link.Order.Event.String(), EvidenceTime: evidenceTime(c.link.Order), EvidenceIndex: c.link.Order.Index,
		}}})
	return err
}

// refuseAgain takes a link back.
func (d *decider) refuseAgain(c change) error {
	_, err := d.emit("refuse:"+c.a+":"+c.b, TypeLinkRefused, c.a, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_LinkRefused{LinkRefused: &eventv1.LinkRefused{
			ProfileId: c.a, OtherProfileId: c.b, Rule: c.link.Rule, Refusal: c.refusal.rule, Reason: c.refusal.reason,
			EvidenceEventId: c.link.Order.Event.String(), EvidenceTime: evidenceTime(c.link.Order), EvidenceIndex: c.link.Order.Index,
		}}})
	return err
}

func (d *decider) merge(survivor, absorbed string, profiles []string, linkID string, rule eventv1.GroupingRule) error {
	_, err := d.emit("merge:"+absorbed, TypeCustomersMerged, survivor, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
			CustomerId: survivor, AbsorbedCustomerId: absorbed, AbsorbedProfileIds: profiles, LinkEventId: linkID, Rule: rule,
		}}})
	return err
}

func (d *decider) split(customer, fresh string, profiles []string, rule eventv1.GroupingRule) error {
	reason := "Evidence that arrived late shows that they are two."
	if rule == eventv1.GroupingRule_GROUPING_RULE_SHARED {
		reason = "An identifier that joined them is shared."
	}
	_, err := d.emit("split:"+fresh, TypeCustomersSplit, customer, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
			CustomerId: customer, NewCustomerId: fresh, MovedProfileIds: profiles, Rule: rule, Reason: reason, EvidenceEventId: d.cause,
		}}})
	return err
}
