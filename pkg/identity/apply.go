package identity

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// IsIdentityType says that an event type changes the graph or the rules. Only
// events on a tenant's identity stream may have one.
func IsIdentityType(eventType string) bool {
	switch eventType {
	case TypeLinkAsserted, TypeLinkRefused, TypeCustomersMerged, TypeCustomersSplit, TypeIdentifierShared, TypeRulesChanged, TypeDecisionRefused:
		return true
	default:
		return false
	}
}

// TypeModelFitted is the type of the event that brings a model, for example of
// who may be whom. Each is on a stream of its own.
const TypeModelFitted = "parley.model.fitted"

// The types of the identity events, as the contracts name them.
const (
	TypeLinkAsserted     = "parley.link.asserted"
	TypeLinkRefused      = "parley.link.refused"
	TypeCustomersMerged  = "parley.customers.merged"
	TypeCustomersSplit   = "parley.customers.split"
	TypeIdentifierShared = "parley.identifier.shared"
	TypeRulesChanged     = "parley.identity_rules.changed"
	TypeDecisionRefused  = "parley.decision.refused"
)

// See folds an event that is none of the identity events: of those the graph
// needs to know only which profile is stamped on it, of what kind that is, and
// where it stands.
func (g *Graph) See(tenant, profileID, kind string, position uint64) error {
	if err := g.see(tenant, profileID, position<<1); err != nil || kind == "" || profileID == "" {
		return err
	}
	return g.learnKind(tenant, profileID, kind)
}

// Apply folds an event of the log, whole, at its position. That the rules
// changed is folded by whoever has the rules.
func (g *Graph) Apply(ev *eventv1.Event, position uint64) error {
	first := position << 1
	switch p := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_LinkAsserted:
		l := p.LinkAsserted
		return g.applyLink(ev, l.GetProfileId(), l.GetOtherProfileId(), Link{
			Rule: l.GetRule(), Order: evidenceOrder(ev, l.GetEvidenceTime(), l.GetEvidenceEventId(), l.GetEvidenceIndex()),
		}, first)
	case *eventv1.Payload_LinkRefused:
		l := p.LinkRefused
		if err := g.applyLink(ev, l.GetProfileId(), l.GetOtherProfileId(), Link{
			Rule: l.GetRule(), Order: evidenceOrder(ev, l.GetEvidenceTime(), l.GetEvidenceEventId(), l.GetEvidenceIndex()),
		}, first); err != nil {
			return err
		}
		if err := g.refusedOf(ev.GetTenant(), l.GetProfileId()); err != nil {
			return err
		}
		return g.refusedOf(ev.GetTenant(), l.GetOtherProfileId())
	case *eventv1.Payload_CustomersMerged:
		return g.applyMerge(ev, p.CustomersMerged, first)
	case *eventv1.Payload_CustomersSplit:
		return g.applySplit(ev, p.CustomersSplit, first)
	case *eventv1.Payload_IdentifierShared:
		return g.applyShared(ev.GetTenant(), p.IdentifierShared, first)
	case *eventv1.Payload_IdentityRulesChanged, *eventv1.Payload_DecisionRefused:
		return nil
	default:
		return g.See(ev.GetTenant(), ev.GetProfileId(), ev.GetProfileKind(), position)
	}
}

func evidenceOrder(ev *eventv1.Event, at *timestamppb.Timestamp, evidence string, index uint32) Order {
	if at == nil {
		return orderOf(event.Time(ev), evidence, index)
	}
	return orderOf(at.AsTime(), evidence, index)
}

// applyLink folds evidence about two profiles. Whether it linked them shows in
// the merges and splits.
func (g *Graph) applyLink(ev *eventv1.Event, a, b string, l Link, first uint64) error {
	tenant := ev.GetTenant()
	if err := g.see(tenant, a, first); err != nil {
		return err
	}
	if err := g.see(tenant, b, first|1); err != nil {
		return err
	}
	var uniqueA, uniqueB bool
	for _, id := range ev.GetIdentifiers() {
		switch id.GetProfileId() {
		case a:
			uniqueA = id.GetStrength() == strengthUnique
		case b:
			uniqueB = id.GetStrength() == strengthUnique
		default:
			continue
		}
		if err := g.learnKind(tenant, id.GetProfileId(), id.GetKind()); err != nil {
			return err
		}
	}
	return g.addLink(tenant, a, b, l, uniqueA, uniqueB)
}

func (g *Graph) applyMerge(ev *eventv1.Event, m *eventv1.CustomersMerged, first uint64) error {
	tenant, to := ev.GetTenant(), m.GetCustomerId()
	if err := g.see(tenant, to, first); err != nil {
		return err
	}
	if err := g.move(tenant, m.GetAbsorbedProfileIds(), to, first|1); err != nil {
		return err
	}
	if m.GetRule() != eventv1.GroupingRule_GROUPING_RULE_DECIDED {
		return nil
	}
	together := Mark{Decision: eventID(ev.GetId())}
	c, err := g.component(tenant, to)
	if err != nil {
		return err
	}
	// The younger decision stands: what told these apart is over among them.
	return g.mark(tenant, to, func(p *Profile) {
		p.Group = together
		var apart []Mark
		for _, m := range p.Apart {
			if !toldApart([]Mark{m}, c.Apart) {
				apart = append(apart, m)
			}
		}
		p.Apart = apart
	})
}

func (g *Graph) applySplit(ev *eventv1.Event, s *eventv1.CustomersSplit, first uint64) error {
	tenant, from, to := ev.GetTenant(), s.GetCustomerId(), s.GetNewCustomerId()
	if err := g.move(tenant, s.GetMovedProfileIds(), to, first|1); err != nil {
		return err
	}
	for _, id := range [...]string{from, to} {
		if err := g.refusedOf(tenant, id); err != nil {
			return err
		}
	}
	if r := s.GetRule(); r != eventv1.GroupingRule_GROUPING_RULE_DECIDED && r != eventv1.GroupingRule_GROUPING_RULE_UNSPECIFIED {
		return nil
	}
	for side, id := range [...]string{from, to} {
		m := Mark{Decision: eventID(ev.GetId()), Side: uint8(side)}
		if err := g.mark(tenant, id, func(p *Profile) {
			p.Group = m
			p.Apart = addMark(p.Apart, m)
		}); err != nil {
			return err
		}
	}
	return nil
}

// mark changes the marks of all of a customer's profiles.
func (g *Graph) mark(tenant, id string, change func(p *Profile)) error {
	c, err := g.component(tenant, id)
	if err != nil {
		return err
	}
	for _, m := range c.Members {
		p, _, err := g.profile(tenant, m)
		if err != nil {
			return err
		}
		p = p.clone()
		change(&p)
		g.putProfile(tenant, m, p)
	}
	return g.recount(tenant, id, c.Members, c)
}

func (g *Graph) applyShared(tenant string, s *eventv1.IdentifierShared, first uint64) error {
	id := s.GetProfileId()
	if err := g.see(tenant, id, first); err != nil {
		return err
	}
	if err := g.learnKind(tenant, id, s.GetKind()); err != nil {
		return err
	}
	p, seen, err := g.profile(tenant, id)
	if err != nil || !seen {
		return err
	}
	bit := SharedCounted
	if s.GetRule() == eventv1.SharingRule_SHARING_RULE_BLOCKED {
		bit = SharedBlocked
	}
	if s.GetShared() {
		p.Shared |= bit
	} else {
		p.Shared &^= bit
	}
	g.putProfile(tenant, id, p)
	return nil
}
