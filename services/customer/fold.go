package customer

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// fold folds one event into the document of a profile. See working.go for the
// two forms of a document; it may be given either.
//
// Nothing of the event but strings and parts of its payload is kept.
func fold(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
	if err := expandFor(doc, rec.GetEvent()); err != nil {
		return err
	}
	apply(doc, rec)
	return nil
}

// apply folds one event into a document of which what the event concerns is in
// working form.
func apply(doc *customerv1.Customer, rec *eventv1.RecordedEvent) {
	ev := rec.GetEvent()
	at := orderingTime(ev)
	if isInteraction(ev) {
		countInteraction(doc, rec, at)
		addIdentifiers(doc, ev, at)
	}
	switch kind := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_TraitsUpdated:
		addTraits(doc, ev, kind.TraitsUpdated, at)
	case *eventv1.Payload_OrderCompleted:
		addOrder(doc, ev, kind.OrderCompleted, at)
	case *eventv1.Payload_OrderRefunded:
		addRefund(doc, kind.OrderRefunded)
	case *eventv1.Payload_ConsentGranted:
		p := kind.ConsentGranted
		addConsent(doc, &customerv1.ConsentState{
			Purpose: p.GetPurpose(), Channel: p.GetConsentChannel(), Granted: true,
			OccurredTime: at.proto(), ExpiresTime: p.GetExpiresTime(), EventId: ev.GetId(),
		})
	case *eventv1.Payload_ConsentWithdrawn:
		p := kind.ConsentWithdrawn
		addConsent(doc, &customerv1.ConsentState{
			Purpose: p.GetPurpose(), Channel: p.GetConsentChannel(),
			OccurredTime: at.proto(), EventId: ev.GetId(),
		})
	case *eventv1.Payload_AffiliationAsserted:
		addAffiliation(doc, ev, kind.AffiliationAsserted, at)
	case *eventv1.Payload_LinkAsserted:
		p := kind.LinkAsserted
		addLink(doc, &customerv1.CustomerLink{
			EventId: ev.GetId(), ProfileId: p.GetProfileId(), OtherProfileId: p.GetOtherProfileId(), Rule: p.GetRule(),
			EvidenceEventId: p.GetEvidenceEventId(), Reason: p.GetReason(), OccurredTime: at.proto(),
		})
	case *eventv1.Payload_LinkRefused:
		p := kind.LinkRefused
		addLink(doc, &customerv1.CustomerLink{
			EventId: ev.GetId(), ProfileId: p.GetProfileId(), OtherProfileId: p.GetOtherProfileId(), Refusal: p.GetRefusal(),
			EvidenceEventId: p.GetEvidenceEventId(), Reason: p.GetReason(), OccurredTime: at.proto(),
		})
	}
}

// isInteraction tells interactions from the platform's own decisions about who
// is who, and from what operators did: those count nowhere and stand in no
// timeline. All else that is
// recorded of a profile is an interaction, also what only says something of the
// person (traits, consents) or of a message (delivered, read), and what this
// version does not know.
func isInteraction(ev *eventv1.Event) bool {
	switch ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_LinkAsserted, *eventv1.Payload_LinkRefused,
		*eventv1.Payload_CustomersMerged, *eventv1.Payload_CustomersSplit,
		*eventv1.Payload_IdentifierShared, *eventv1.Payload_IdentityRulesChanged, *eventv1.Payload_ModelFitted,
		*eventv1.Payload_DecisionRefused,
		*eventv1.Payload_ProjectionOperated, *eventv1.Payload_DeadLetterSkipped:
		return false
	default:
		return true
	}
}

// countInteraction counts the event as an interaction of its channel and puts
// it among the recent ones.
func countInteraction(doc *customerv1.Customer, rec *eventv1.RecordedEvent, at instant) {
	ev := rec.GetEvent()
	doc.InteractionCount++
	doc.FirstSeenTime = earliest(doc.GetFirstSeenTime(), at)
	doc.LastSeenTime = latest(doc.GetLastSeenTime(), at)
	addActivity(doc, ev, at)
	addRecent(doc, rec, at)
}

// addActivity counts the event for its channel, by the direction that it says
// itself.
func addActivity(doc *customerv1.Customer, ev *eventv1.Event, at instant) {
	i, found := searchChannel(doc.GetChannels(), ev.GetChannel())
	if !found {
		if i >= maxChannels {
			return
		}
		doc.Channels = insertCapped(doc.GetChannels(), i, &customerv1.ChannelActivity{Channel: ev.GetChannel()}, maxChannels)
	}
	c := doc.GetChannels()[i]
	switch ev.GetDirection() {
	case eventv1.Direction_DIRECTION_INBOUND:
		c.InboundCount++
		c.LastInboundTime = latest(c.GetLastInboundTime(), at)
	case eventv1.Direction_DIRECTION_OUTBOUND:
		c.OutboundCount++
		c.LastOutboundTime = latest(c.GetLastOutboundTime(), at)
	case eventv1.Direction_DIRECTION_UNSPECIFIED:
		c.OtherCount++
	default:
		c.OtherCount++
	}
}

func searchChannel(list []*customerv1.ChannelActivity, channel string) (int, bool) {
	return slices.BinarySearchFunc(list, channel, func(c *customerv1.ChannelActivity, channel string) int {
		return cmp.Compare(c.GetChannel(), channel)
	})
}

// addIdentifiers notes the customer's identifiers that the event carries. Those
// of agents, of the company and of others in copy are not his.
func addIdentifiers(doc *customerv1.Customer, ev *eventv1.Event, at instant) {
	ids := ev.GetIdentifiers()
	for n, id := range ids {
		if !ofCustomer(id) || slices.ContainsFunc(ids[:n], func(before *eventv1.Identifier) bool {
			return ofCustomer(before) && before.GetValue() == id.GetValue() && before.GetKind() == id.GetKind()
		}) {
			continue
		}
		known := findIdentifier(doc.GetIdentifiers(), id)
		if known == nil {
			known = &customerv1.CustomerIdentifier{Kind: id.GetKind(), Value: id.GetValue()}
			doc.Identifiers = append(doc.GetIdentifiers(), known)
		}
		known.Strength = strengthOf(known.GetStrength(), id.GetStrength())
		known.ProfileId = max(known.GetProfileId(), id.GetProfileId())
		known.FirstSeenTime = earliest(known.GetFirstSeenTime(), at)
		known.LastSeenTime = latest(known.GetLastSeenTime(), at)
		if known.GetEventCount() == 0 || id.GetAssurance() < known.GetAssurance() {
			// The best that any source said of it.
			known.Assurance = id.GetAssurance()
		}
		known.EventCount++
		if len(doc.GetIdentifiers()) > maxIdentifiers {
			doc.Identifiers = capIdentifiers(doc.GetIdentifiers())
		}
	}
}

// findIdentifier looks through the list in whatever order it is: most
// customers have a handful.
func findIdentifier(list []*customerv1.CustomerIdentifier, id *eventv1.Identifier) *customerv1.CustomerIdentifier {
	value, kind := id.GetValue(), id.GetKind()
	for _, known := range list {
		if known.GetValue() == value && known.GetKind() == kind {
			return known
		}
	}
	return nil
}

// capIdentifiers drops those behind the limit of compareIdentifiers.
func capIdentifiers(list []*customerv1.CustomerIdentifier) []*customerv1.CustomerIdentifier {
	slices.SortFunc(list, compareIdentifiers)
	clear(list[maxIdentifiers:])
	return list[:maxIdentifiers]
}

func ofCustomer(id *eventv1.Identifier) bool {
	switch id.GetRole() {
	case eventv1.IdentifierRole_IDENTIFIER_ROLE_UNSPECIFIED, eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER:
		return true
	default:
		return false
	}
}

// strengthOf is the strength of an identifier that events have ranked
// differently, since the rules have changed: once known to be shared, shared;
// else the strongest.
func strengthOf(a, b eventv1.IdentifierStrength) eventv1.IdentifierStrength {
	const shared = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_SHARED
	if a == shared || b == shared {
		return shared
	}
	return max(a, b)
}

// addTraits takes over the traits that are newer than what is known. Of one
// event's traits of the same name the last one counts.
func addTraits(doc *customerv1.Customer, ev *eventv1.Event, p *eventv1.TraitsUpdated, at instant) {
	var when *timestamppb.Timestamp
	for _, trait := range p.GetTraits() {
		i, found := slices.BinarySearchFunc(doc.GetTraits(), trait.GetName(), func(t *customerv1.CustomerTrait, name string) int {
			return cmp.Compare(t.GetName(), name)
		})
		if found {
			known := doc.GetTraits()[i]
			if compareSaid(known.GetOccurredTime(), known.GetEventId(), at, ev.GetId()) > 0 {
				continue
			}
		}
		if when == nil {
			when = at.proto()
		}
		// A new one each time: documents may share them.
		said := &customerv1.CustomerTrait{
			Name: trait.GetName(), ValueJson: trait.GetValueJson(), Source: ev.GetSource(),
			Provenance: p.GetProvenance(), OccurredTime: when, EventId: ev.GetId(),
		}
		if found {
			doc.Traits[i] = said
			continue
		}
		doc.Traits = capTraits(slices.Insert(doc.GetTraits(), i, said))
	}
}

func compareTraits(a, b *customerv1.CustomerTrait) int { return cmp.Compare(a.GetName(), b.GetName()) }

// capTraits drops what is over the limit: the last by name of those that do not
// name the person, then the last of those that do.
func capTraits(list []*customerv1.CustomerTrait) []*customerv1.CustomerTrait {
	for len(list) > maxTraits {
		victim := len(list) - 1
		for i := victim; i >= 0; i-- {
			if nameTrait(list[i].GetName()) == nameNone {
				victim = i
				break
			}
		}
		list = slices.Delete(list, victim, victim+1)
	}
	return list
}

// addConsent takes over what the event says where it is newer.
func addConsent(doc *customerv1.Customer, said *customerv1.ConsentState) {
	i, found := slices.BinarySearchFunc(doc.GetConsents(), said, compareConsents)
	switch {
	case found:
		doc.Consents[i] = newerConsent(doc.GetConsents()[i], said)
	case i < maxConsents:
		doc.Consents = insertCapped(doc.GetConsents(), i, said, maxConsents)
	}
}

func compareConsents(a, b *customerv1.ConsentState) int {
	return cmp.Or(cmp.Compare(a.GetPurpose(), b.GetPurpose()), cmp.Compare(a.GetChannel(), b.GetChannel()))
}

func newerConsent(a, b *customerv1.ConsentState) *customerv1.ConsentState {
	if compareSaid(a.GetOccurredTime(), a.GetEventId(), instantOf(b.GetOccurredTime()), b.GetEventId()) > 0 {
		return a
	}
	return b
}

// addLink notes a link. Links asserted come before those refused, of which a
// source can bring any number; then the newest first.
func addLink(doc *customerv1.Customer, link *customerv1.CustomerLink) {
	i, found := slices.BinarySearchFunc(doc.GetLinks(), link, compareLinks)
	if found || i >= maxLinks {
		return
	}
	doc.Links = insertCapped(doc.GetLinks(), i, link, maxLinks)
}

func compareLinks(a, b *customerv1.CustomerLink) int {
	refused := func(l *customerv1.CustomerLink) int {
		return min(1, int(l.GetRefusal()))
	}
	return cmp.Or(
		cmp.Compare(refused(a), refused(b)),
		instantOf(b.GetOccurredTime()).compare(instantOf(a.GetOccurredTime())),
		cmp.Compare(b.GetEventId(), a.GetEventId()),
	)
}

// insertCapped inserts at i and drops what is over the limit at the end.
func insertCapped[T any](list []*T, i int, entry *T, limit int) []*T {
	if len(list) >= limit {
		copy(list[i+1:], list[i:limit-1])
		list[i] = entry
		return list[:limit]
	}
	return slices.Insert(list, i, entry)
}
