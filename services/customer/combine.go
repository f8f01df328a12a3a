package customer

import (
	"cmp"
	"slices"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// combine adds to into what from, the document of other events, says. It is the
// law of this fold that combining the folds of any partition of some events
// gives the fold of all of them, once finished. From stays as it is, and into
// shares with it only what is never changed.
func combine(into, from *customerv1.Customer) error {
	from, err := workingCopy(from)
	if err != nil {
		return err
	}
	if err := expand(into); err != nil {
		return err
	}
	into.InteractionCount += from.GetInteractionCount()
	into.FirstSeenTime = mergeEarliest(into.GetFirstSeenTime(), from.GetFirstSeenTime())
	into.LastSeenTime = mergeLatest(into.GetLastSeenTime(), from.GetLastSeenTime())
	into.Identifiers = combineIdentifiers(into.GetIdentifiers(), from.GetIdentifiers())
	into.Traits = capTraits(merge(into.GetTraits(), from.GetTraits(), compareTraits, joinTraits))
	into.Channels = limited(maxChannels, merge(into.GetChannels(), cloneEach(from.GetChannels(), cloneChannel), compareChannels, joinChannels))
	into.RecentInteractions = limited(maxRecent, merge(into.GetRecentInteractions(), from.GetRecentInteractions(), compareRecent, first))
	into.Links = limited(maxLinks, merge(into.GetLinks(), from.GetLinks(), compareLinks, first))
	into.Consents = limited(maxConsents, merge(into.GetConsents(), from.GetConsents(), compareConsents, newerConsent))
	into.Affiliations = limited(maxAffiliations, merge(into.GetAffiliations(), from.GetAffiliations(), compareAffiliations, joinAffiliations))
	into.Orders = combineOrders(into.GetOrders(), from.GetOrders())
	return nil
}

// workingCopy is a document in working form that shares everything with doc,
// which stays as it is.
func workingCopy(doc *customerv1.Customer) (*customerv1.Customer, error) {
	if err := usable(doc); err != nil {
		return nil, err
	}
	if doc.GetWorking() == nil {
		return doc, nil
	}
	c := &customerv1.Customer{
		InteractionCount: doc.GetInteractionCount(), FirstSeenTime: doc.GetFirstSeenTime(), LastSeenTime: doc.GetLastSeenTime(),
		Identifiers: doc.GetIdentifiers(), Traits: doc.GetTraits(), Channels: doc.GetChannels(),
		RecentInteractions: doc.GetRecentInteractions(), Links: doc.GetLinks(), Consents: doc.GetConsents(),
		Affiliations: doc.GetAffiliations(), Working: doc.GetWorking(),
	}
	if o := doc.GetOrders(); o != nil {
		c.Orders = &customerv1.OrderSummary{
			Count: o.GetCount(), RefundCount: o.GetRefundCount(), Totals: o.GetTotals(), Refunds: o.GetRefunds(),
			LastOrder: o.GetLastOrder(), WithoutAmountCount: o.GetWithoutAmountCount(),
		}
	}
	if err := expand(c); err != nil {
		return nil, err
	}
	return c, nil
}

// merge merges two sorted lists and joins entries of the same key. The result
// is a, where b is empty, else a new list.
func merge[T any](a, b []*T, compare func(a, b *T) int, join func(a, b *T) *T) []*T {
	switch {
	case len(b) == 0:
		return a
	case len(a) == 0:
		return slices.Clone(b)
	}
	merged := make([]*T, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch order := compare(a[0], b[0]); {
		case order < 0:
			merged, a = append(merged, a[0]), a[1:]
		case order > 0:
			merged, b = append(merged, b[0]), b[1:]
		default:
			merged = append(merged, join(a[0], b[0]))
			a, b = a[1:], b[1:]
		}
	}
	return append(append(merged, a...), b...)
}

// limited drops what is over the limit at the end.
func limited[T any](limit int, list []*T) []*T {
	if len(list) <= limit {
		return list
	}
	clear(list[limit:])
	return list[:limit]
}

func cloneEach[T any](list []*T, clone func(*T) *T) []*T {
	cloned := make([]*T, len(list))
	for i, entry := range list {
		cloned[i] = clone(entry)
	}
	return cloned
}

// first joins what cannot differ: entries that one event brought.
func first[T any](a, _ *T) *T { return a }

// combineIdentifiers brings the list into key order; finishing puts the
// strongest first again.
func combineIdentifiers(into, from []*customerv1.CustomerIdentifier) []*customerv1.CustomerIdentifier {
	slices.SortFunc(into, compareIdentifiers)
	from = cloneEach(from, func(id *customerv1.CustomerIdentifier) *customerv1.CustomerIdentifier {
		return &customerv1.CustomerIdentifier{
			Kind: id.GetKind(), Value: id.GetValue(), Strength: id.GetStrength(), ProfileId: id.GetProfileId(),
			FirstSeenTime: copyTime(id.GetFirstSeenTime()), LastSeenTime: copyTime(id.GetLastSeenTime()), EventCount: id.GetEventCount(),
			Assurance: id.GetAssurance(),
		}
	})
	slices.SortFunc(from, compareIdentifiers)
	return limited(maxIdentifiers, merge(into, from, compareIdentifiers, joinIdentifiers))
}

func joinIdentifiers(a, b *customerv1.CustomerIdentifier) *customerv1.CustomerIdentifier {
	a.Strength = strengthOf(a.GetStrength(), b.GetStrength())
	a.ProfileId = max(a.GetProfileId(), b.GetProfileId())
	a.FirstSeenTime = mergeEarliest(a.GetFirstSeenTime(), b.GetFirstSeenTime())
	a.LastSeenTime = mergeLatest(a.GetLastSeenTime(), b.GetLastSeenTime())
	a.EventCount += b.GetEventCount()
	a.Assurance = min(a.GetAssurance(), b.GetAssurance())
	return a
}

func joinTraits(a, b *customerv1.CustomerTrait) *customerv1.CustomerTrait {
	if compareSaid(a.GetOccurredTime(), a.GetEventId(), instantOf(b.GetOccurredTime()), b.GetEventId()) > 0 {
		return a
	}
	return b
}

func cloneChannel(c *customerv1.ChannelActivity) *customerv1.ChannelActivity {
	return &customerv1.ChannelActivity{
		Channel: c.GetChannel(), InboundCount: c.GetInboundCount(), OutboundCount: c.GetOutboundCount(), OtherCount: c.GetOtherCount(),
		LastInboundTime: copyTime(c.GetLastInboundTime()), LastOutboundTime: copyTime(c.GetLastOutboundTime()),
	}
}

func compareChannels(a, b *customerv1.ChannelActivity) int {
	return cmp.Compare(a.GetChannel(), b.GetChannel())
}

func joinChannels(a, b *customerv1.ChannelActivity) *customerv1.ChannelActivity {
	a.InboundCount += b.GetInboundCount()
	a.OutboundCount += b.GetOutboundCount()
	a.OtherCount += b.GetOtherCount()
	a.LastInboundTime = mergeLatest(a.GetLastInboundTime(), b.GetLastInboundTime())
	a.LastOutboundTime = mergeLatest(a.GetLastOutboundTime(), b.GetLastOutboundTime())
	return a
}

func combineOrders(into, from *customerv1.OrderSummary) *customerv1.OrderSummary {
	switch {
	case from == nil:
		return into
	case into == nil:
		into = &customerv1.OrderSummary{}
	}
	into.Count += from.GetCount()
	into.RefundCount += from.GetRefundCount()
	into.Totals = mergeMoney(into.GetTotals(), from.GetTotals())
	into.Refunds = mergeMoney(into.GetRefunds(), from.GetRefunds())
	into.WithoutAmountCount += from.GetWithoutAmountCount()
	if last := from.GetLastOrder(); last != nil && (into.GetLastOrder() == nil || compareSaid(into.GetLastOrder().GetOccurredTime(),
		into.GetLastOrder().GetEventId(), instantOf(last.GetOccurredTime()), last.GetEventId()) < 0) {
		into.LastOrder = last
	}
	return into
}
