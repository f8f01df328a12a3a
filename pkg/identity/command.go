package identity

import (
	"fmt"
	"slices"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Command is what every command about who is who has.
type Command struct {
	// Tenant whose graph it is about.
	Tenant string
	// At has the times of the events that it causes, and its own id.
	At *eventv1.Event
	// Reason for people.
	Reason string
	// Position at which its first event will stand.
	Position uint64
	// Derive makes the events' ids.
	Derive Derive
}

// Refusal is why a command was not carried out.
type Refusal int

// The refusals.
const (
	// RefusedUnknown says that the log has never named one of the profiles.
	RefusedUnknown Refusal = iota + 1
	// RefusedSame says that the two are one customer already.
	RefusedSame
	// RefusedNotAProfile says that a profile is not the customer's.
	RefusedNotAProfile
	// RefusedNothingToSplit says that nothing would stay, or nothing would leave.
	RefusedNothingToSplit
	// RefusedTooLarge says that the customer would have too many profiles.
	RefusedTooLarge
	// RefusedByRules says that the rules forbid the link.
	RefusedByRules
)

// RefusedError says why a command was not carried out. Nothing was changed.
type RefusedError struct {
	Refusal Refusal
	Reason  string
}

func (e *RefusedError) Error() string { return e.Reason }

func refused(r Refusal, format string, args ...any) error {
	return &RefusedError{Refusal: r, Reason: fmt.Sprintf(format, args...)}
}

// Outcome is what a command came to.
type Outcome struct {
	// Customer that goes on, and Other that was absorbed or made anew.
	Customer, Other string
	// EventID of the event that says so.
	EventID string
	// Decisions are its events, in their order.
	Decisions []Decision
}

func (g *Graph) decider(c Command) *decider {
	d := newDecider(g, c.Tenant, c.Position, c.Derive)
	d.cause, d.at = c.At.GetId(), c.At
	return d
}

// known resolves a profile that the log has named to its customer.
func (g *Graph) known(tenant, profile string) (string, Customer, error) {
	p, seen, err := g.profile(tenant, profile)
	if err != nil {
		return "", Customer{}, err
	}
	if !seen {
		return "", Customer{}, refused(RefusedUnknown, "There is no customer %s.", profile)
	}
	id := owner(profile, p)
	c, err := g.component(tenant, id)
	return id, c, err
}

// Merge makes one customer of two, by a person's decision: all their profiles
// stay together until a person splits them. It fails with a *RefusedError.
func (g *Graph) Merge(c Command, a, b string) (Outcome, error) {
	idA, ca, err := g.known(c.Tenant, a)
	if err != nil {
		return Outcome{}, err
	}
	idB, cb, err := g.known(c.Tenant, b)
	if err != nil {
		return Outcome{}, err
	}
	if idA == idB {
		return Outcome{}, refused(RefusedSame, "They are one customer already, %s.", idA)
	}
	if n := len(ca.Members) + len(cb.Members); n > maxCustomerProfiles {
		return Outcome{}, refused(RefusedTooLarge, "Together they would have %d profiles; one customer has at most %d.", n, maxCustomerProfiles)
	}
	if cb.First < ca.First || cb.First == ca.First && idB < idA {
		idA, idB, ca, cb = idB, idA, cb, ca
	}
	d := g.decider(c)
	id, err := d.emit("merge:"+idB, TypeCustomersMerged, idA, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
			CustomerId: idA, AbsorbedCustomerId: idB, AbsorbedProfileIds: cb.Members, SurvivorProfileIds: ca.Members,
			Rule: eventv1.GroupingRule_GROUPING_RULE_DECIDED, Reason: c.Reason,
		}}})
	return Outcome{Customer: idA, Other: idB, EventID: id, Decisions: d.out}, err
}

// Split makes profiles of a customer a customer of their own, by a person's
// decision: neither side's profiles come together with the other's until a
// person merges them. The side with the profile that the customer is named by
// keeps its name. What the links say of the two sides and others is then
// judged anew. It fails with a *RefusedError.
func (g *Graph) Split(c Command, customer string, profiles []string) (Outcome, error) {
	id, whole, err := g.known(c.Tenant, customer)
	if err != nil {
		return Outcome{}, err
	}
	leaving := make(map[string]bool, len(profiles))
	for _, p := range profiles {
		leaving[p] = true
	}
	var moved, rest []string
	for _, m := range whole.Members {
		if leaving[m] {
			moved = append(moved, m)
			delete(leaving, m)
		} else {
			rest = append(rest, m)
		}
	}
	for _, p := range profiles {
		if leaving[p] {
			return Outcome{}, refused(RefusedNotAProfile, "%s is not a profile of customer %s.", p, id)
		}
	}
	if len(moved) == 0 || len(rest) == 0 {
		return Outcome{}, refused(RefusedNothingToSplit, "Customer %s has %d profiles and %d would leave: there is nothing to split.", id, len(whole.Members), len(moved))
	}
	if slices.Contains(moved, id) {
		moved, rest = rest, moved
	}
	fresh, err := g.oldest(c.Tenant, moved)
	if err != nil {
		return Outcome{}, err
	}
	d := g.decider(c)
	event, err := d.emit("split:"+fresh, TypeCustomersSplit, id, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
			CustomerId: id, NewCustomerId: fresh, MovedProfileIds: moved, RemainingProfileIds: rest,
			Rule: eventv1.GroupingRule_GROUPING_RULE_DECIDED, Reason: c.Reason,
		}}})
	if err != nil {
		return Outcome{}, err
	}
	r, ok, err := g.regroup(c.Tenant, id, fresh)
	if err != nil {
		return Outcome{}, err
	}
	if ok {
		if err := d.follow(r, "", eventv1.GroupingRule_GROUPING_RULE_LINKED, Pair{}); err != nil {
			return Outcome{}, err
		}
	}
	return Outcome{Customer: id, Other: fresh, EventID: event, Decisions: d.out}, nil
}

// KeepApart notes that two customers are two people, by a person's decision: as
// Split would have, had they been one. It fails with a *RefusedError.
func (g *Graph) KeepApart(c Command, a, b string) (Outcome, error) {
	idA, ca, err := g.known(c.Tenant, a)
	if err != nil {
		return Outcome{}, err
	}
	idB, cb, err := g.known(c.Tenant, b)
	if err != nil {
		return Outcome{}, err
	}
	if idA == idB {
		return Outcome{}, refused(RefusedSame, "They are one customer, %s: split him.", idA)
	}
	d := g.decider(c)
	event, err := d.emit("apart:"+idB, TypeCustomersSplit, idA, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
			CustomerId: idA, NewCustomerId: idB, MovedProfileIds: cb.Members, RemainingProfileIds: ca.Members,
			Rule: eventv1.GroupingRule_GROUPING_RULE_DECIDED, Reason: c.Reason,
		}}})
	return Outcome{Customer: idA, Other: idB, EventID: event, Decisions: d.out}, err
}

// oldest of some profiles, which names a customer that they are.
func (g *Graph) oldest(tenant string, profiles []string) (string, error) {
	name, first := "", unseen
	for _, id := range profiles {
		p, _, err := g.profile(tenant, id)
		if err != nil {
			return "", err
		}
		if name == "" || p.First < first || p.First == first && id < name {
			name, first = id, p.First
		}
	}
	return name, nil
}

// Link links two profiles because a model holds them for one person. The rules
// may refuse it: then the decisions say so beside the *RefusedError.
func (g *Graph) Link(c Command, a, b string, probability float64) (Outcome, error) {
	idA, _, err := g.known(c.Tenant, a)
	if err != nil {
		return Outcome{}, err
	}
	idB, _, err := g.known(c.Tenant, b)
	if err != nil {
		return Outcome{}, err
	}
	if idA == idB {
		return Outcome{}, refused(RefusedSame, "They are one customer already, %s.", idA)
	}
	d := g.decider(c)
	e := evidence{
		a: &eventv1.Identifier{ProfileId: a}, b: &eventv1.Identifier{ProfileId: b}, probability: probability,
		Link: Link{Rule: eventv1.LinkRule_LINK_RULE_PROBABILISTIC, Order: orderOf(c.At.GetOccurredTime().AsTime(), c.At.GetId(), 0)},
	}
	if err := d.evidence(e); err != nil {
		return Outcome{}, err
	}
	now, err := g.CustomerOf(c.Tenant, a)
	if err != nil {
		return Outcome{}, err
	}
	other, err := g.CustomerOf(c.Tenant, b)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Customer: now, Other: idB, Decisions: d.out}
	if now == idB {
		out.Other = idA
	}
	for i := range d.out {
		if d.out[i].Type == TypeCustomersMerged {
			out.EventID = d.out[i].ID
		}
	}
	if now != other {
		reason := "The evidence is known already and does not join them."
		for i := range d.out {
			if r := d.out[i].Payload.GetLinkRefused(); r != nil {
				reason = r.GetReason()
			}
		}
		return out, &RefusedError{Refusal: RefusedByRules, Reason: reason}
	}
	return out, nil
}

// ChangeRules notes that the rules are others, and which identifiers they block
// or do not block any more; these lose their links at once, or get them back. Those that
// the log has never named are left out.
func (g *Graph) ChangeRules(c Command, rules *eventv1.IdentityRules, blocked, unblocked []Resolved) (Outcome, error) {
	d := g.decider(c)
	id, err := d.emit("rules", TypeRulesChanged, "", nil,
		&eventv1.Payload{Kind: &eventv1.Payload_IdentityRulesChanged{IdentityRulesChanged: &eventv1.IdentityRulesChanged{
			Rules: rules, Reason: c.Reason,
		}}})
	if err != nil {
		return Outcome{}, err
	}
	for _, r := range blocked {
		p, seen, err := g.profile(c.Tenant, r.ProfileID)
		if err != nil {
			return Outcome{}, err
		}
		if !seen || p.Shared&SharedBlocked != 0 {
			continue
		}
		if err := d.share(r.ProfileID, r.Kind, eventv1.SharingRule_SHARING_RULE_BLOCKED, "The rules block it."); err != nil {
			return Outcome{}, err
		}
	}
	for _, r := range unblocked {
		p, _, err := g.profile(c.Tenant, r.ProfileID)
		if err != nil {
			return Outcome{}, err
		}
		if p.Shared&SharedBlocked == 0 {
			continue
		}
		if err := d.unshare(r); err != nil {
			return Outcome{}, err
		}
	}
	return Outcome{EventID: id, Decisions: d.out}, nil
}

func (d *decider) unshare(r Resolved) error {
	if _, err := d.emit("unshare:"+r.ProfileID, TypeIdentifierShared, r.ProfileID, nil,
		&eventv1.Payload{Kind: &eventv1.Payload_IdentifierShared{IdentifierShared: &eventv1.IdentifierShared{
			ProfileId: r.ProfileID, Kind: r.Kind, Rule: eventv1.SharingRule_SHARING_RULE_BLOCKED, Reason: "The rules do not block it any more.",
		}}}); err != nil {
		return err
	}
	return d.again(r.ProfileID, eventv1.GroupingRule_GROUPING_RULE_SHARED)
}
