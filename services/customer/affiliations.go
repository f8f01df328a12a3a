package customer

import (
	"cmp"
	"slices"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Sources say an organisation's name in one event and the person's role in
// another, or neither. In working form an organisation therefore has up to three
// entries: what was said last with a name, what was said last with a role, and
// what was said last with neither. Finishing makes one of them.

// affiliationPart tells the entries of an organisation apart.
func affiliationPart(a *customerv1.CustomerAffiliation) int {
	switch {
	case a.GetName() != "":
		return 2
	case a.GetRole() != "":
		return 1
	default:
		return 0
	}
}

func compareAffiliations(a, b *customerv1.CustomerAffiliation) int {
	return cmp.Or(
		cmp.Compare(a.GetOrganisationId(), b.GetOrganisationId()),
		cmp.Compare(affiliationPart(a), affiliationPart(b)),
	)
}

func addAffiliation(doc *customerv1.Customer, ev *eventv1.Event, p *eventv1.AffiliationAsserted, at instant) {
	add := func(name, role string) {
		said := &customerv1.CustomerAffiliation{
			OrganisationId: p.GetOrganisationId(), Name: name, Role: role,
			FirstSeenTime: at.proto(), LastSeenTime: at.proto(), EventId: ev.GetId(),
		}
		i, found := slices.BinarySearchFunc(doc.GetAffiliations(), said, compareAffiliations)
		switch {
		case found:
			doc.Affiliations[i] = joinAffiliations(doc.GetAffiliations()[i], said)
		case i < maxAffiliations:
			doc.Affiliations = insertCapped(doc.GetAffiliations(), i, said, maxAffiliations)
		}
	}
	if p.GetName() == "" && p.GetRole() == "" {
		add("", "")
	}
	if p.GetName() != "" {
		add(p.GetName(), "")
	}
	if p.GetRole() != "" {
		add("", p.GetRole())
	}
}

// joinAffiliations makes one entry of two of the same organisation and part: what was
// said last, and since when. Neither is changed: documents may share them.
func joinAffiliations(a, b *customerv1.CustomerAffiliation) *customerv1.CustomerAffiliation {
	last := a
	if compareSaid(a.GetLastSeenTime(), a.GetEventId(), instantOf(b.GetLastSeenTime()), b.GetEventId()) < 0 {
		last = b
	}
	return &customerv1.CustomerAffiliation{
		OrganisationId: a.GetOrganisationId(), Name: last.GetName(), Role: last.GetRole(), EventId: last.GetEventId(),
		FirstSeenTime: mergeEarliest(copyTime(a.GetFirstSeenTime()), b.GetFirstSeenTime()),
		LastSeenTime:  last.GetLastSeenTime(),
	}
}

// hasParts says that an organisation has more than one entry.
func hasParts(list []*customerv1.CustomerAffiliation) bool {
	for i := 1; i < len(list); i++ {
		if list[i].GetOrganisationId() == list[i-1].GetOrganisationId() {
			return true
		}
	}
	return false
}

// finishAffiliations makes one entry of each organisation's parts.
func finishAffiliations(working []*customerv1.CustomerAffiliation) []*customerv1.CustomerAffiliation {
	finished := make([]*customerv1.CustomerAffiliation, 0, len(working))
	for _, part := range working {
		n := len(finished)
		if n == 0 || finished[n-1].GetOrganisationId() != part.GetOrganisationId() {
			finished = append(finished, part)
			continue
		}
		before := finished[n-1]
		whole := joinAffiliations(before, part)
		whole.Name = cmp.Or(before.GetName(), part.GetName())
		whole.Role = cmp.Or(before.GetRole(), part.GetRole())
		finished[n-1] = whole
	}
	return finished
}
