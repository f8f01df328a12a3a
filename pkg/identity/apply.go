package identity

import (
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// IsIdentityType says that an event type changes the graph. Only events on a
// tenant's identity stream may have one.
func IsIdentityType(eventType string) bool {
	switch eventType {
	case TypeLinkAsserted, TypeLinkRefused, TypeCustomersMerged, TypeCustomersSplit:
		return true
	default:
		return false
	}
}

// The types of the identity events, as the contracts name them.
const (
	TypeLinkAsserted    = "parley.link.asserted"
	TypeLinkRefused     = "parley.link.refused"
	TypeCustomersMerged = "parley.customers.merged"
	TypeCustomersSplit  = "parley.customers.split"
)

// See folds an event that is none of the identity events: of those the graph
// needs to know only which profile is stamped on it, and where it stands.
func (g *Graph) See(tenant, profileID string, position uint64) error {
	return g.see(tenant, profileID, position<<1)
}

// Apply folds an event of the log, whole, at its position.
func (g *Graph) Apply(ev *eventv1.Event, position uint64) error {
	return g.apply(ev.GetTenant(), ev.GetProfileId(), ev.GetPayload(), ev.GetIdentifiers(), position)
}

func (g *Graph) apply(tenant, profileID string, payload *eventv1.Payload, ids []*eventv1.Identifier, position uint64) error {
	first := position << 1
	switch p := payload.GetKind().(type) {
	case *eventv1.Payload_LinkAsserted:
		l := p.LinkAsserted
		return g.applyPair(tenant, l.GetProfileId(), l.GetOtherProfileId(), Edge{}, ids, first)
	case *eventv1.Payload_LinkRefused:
		l := p.LinkRefused
		return g.applyPair(tenant, l.GetProfileId(), l.GetOtherProfileId(), Edge{Refused: l.GetRefusal()}, ids, first)
	case *eventv1.Payload_CustomersMerged:
		m := p.CustomersMerged
		if err := g.see(tenant, m.GetCustomerId(), first); err != nil {
			return err
		}
		return g.move(tenant, m.GetAbsorbedProfileIds(), m.GetCustomerId(), first|1)
	case *eventv1.Payload_CustomersSplit:
		s := p.CustomersSplit
		return g.move(tenant, s.GetMovedProfileIds(), s.GetNewCustomerId(), first|1)
	default:
		return g.see(tenant, profileID, first)
	}
}

func (g *Graph) applyPair(tenant, a, b string, e Edge, ids []*eventv1.Identifier, first uint64) error {
	if err := g.see(tenant, a, first); err != nil {
		return err
	}
	if err := g.see(tenant, b, first|1); err != nil {
		return err
	}
	for _, id := range ids {
		if id.GetProfileId() != a && id.GetProfileId() != b {
			continue
		}
		if err := g.learnKind(tenant, id.GetProfileId(), id.GetKind()); err != nil {
			return err
		}
	}
	g.edges[edgeKey{tenant, PairOf(a, b)}] = e
	return nil
}
