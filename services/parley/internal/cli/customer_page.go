package cli

import (
	"strconv"
	"strings"

	"github.com/parleyhq/parley/pkg/money"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// shownInteractions are on a customer's page; the timeline has the rest.
const shownInteractions = 10

// customer is a customer's page: who he is first, what happened last.
func (p *page) customer(c *customerv1.Customer, claims []*customerv1.CustomerClaim) {
	p.line("%s", or(c.GetDisplayName()))
	p.line("customer %s, %s", c.GetCustomerId(), plural(int64(len(c.GetProfileIds())), "profile", "profiles"))
	seen := "first seen " + p.moment(c.GetFirstSeenTime()) + ", last " + p.moment(c.GetLastSeenTime()) +
		", " + plural(c.GetInteractionCount(), "interaction", "interactions")
	if ch := c.GetPreferredChannel(); ch != "" {
		seen += ", prefers " + ch
	}
	p.line("%s", seen)
	p.orders(c.GetOrders())

	var rows [][]string
	for _, i := range c.GetIdentifiers() {
		rows = append(rows, []string{
			i.GetKind(), cell(i.GetValue()), or(enum(i.GetStrength().String(), "IDENTIFIER_STRENGTH_")) + assurance(i.GetAssurance()),
			p.moment(i.GetFirstSeenTime()), p.moment(i.GetLastSeenTime()), strconv.FormatInt(i.GetEventCount(), 10),
		})
	}
	p.table("Identifiers", []string{"KIND", "VALUE", "STRENGTH", "FIRST SEEN", "LAST SEEN", "EVENTS"}, rows)
	p.claims(claims)

	rows = nil
	for _, t := range c.GetTraits() {
		rows = append(rows, []string{
			cell(t.GetName()), cell(t.GetValueJson()), or(t.GetSource()),
			or(enum(t.GetProvenance().String(), "TRAIT_PROVENANCE_")), p.moment(t.GetOccurredTime()),
		})
	}
	p.table("Traits", []string{"NAME", "VALUE", "SOURCE", "HOW", "SINCE"}, rows)

	rows = nil
	for _, ch := range c.GetChannels() {
		rows = append(rows, []string{
			ch.GetChannel(), strconv.FormatInt(ch.GetInboundCount(), 10), p.moment(ch.GetLastInboundTime()),
			strconv.FormatInt(ch.GetOutboundCount(), 10), p.moment(ch.GetLastOutboundTime()), strconv.FormatInt(ch.GetOtherCount(), 10),
		})
	}
	p.table("Channels", []string{"CHANNEL", "IN", "LAST IN", "OUT", "LAST OUT", "OTHER"}, rows)

	rows = nil
	for _, f := range c.GetAffiliations() {
		rows = append(rows, []string{cell(or(f.GetName())), cell(f.GetOrganisationId()), cell(or(f.GetRole())), p.moment(f.GetLastSeenTime())})
	}
	p.table("Organisations", []string{"NAME", "ID", "ROLE", "LAST SEEN"}, rows)
	p.consents(c.GetConsents())
	p.links(c.GetLinks())
	recent := c.GetRecentInteractions()
	p.interactions("Recent interactions", recent[:min(len(recent), shownInteractions)])
}

// assurance marks an identifier that no source vouches for.
func assurance(a eventv1.IdentifierAssurance) string {
	switch a {
	case eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNCHECKED:
		return ", unchecked"
	case eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED:
		return ", claimed"
	case eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNSPECIFIED:
	}
	return ""
}

func (p *page) orders(o *customerv1.OrderSummary) {
	if o.GetCount() == 0 && o.GetRefundCount() == 0 {
		return
	}
	text := plural(o.GetCount(), "order", "orders")
	if len(o.GetTotals()) > 0 {
		text += ", " + amounts(o.GetTotals())
	}
	if o.GetRefundCount() > 0 {
		text += "; " + plural(o.GetRefundCount(), "refund", "refunds")
		if len(o.GetRefunds()) > 0 {
			text += ", " + amounts(o.GetRefunds())
		}
	}
	if last := o.GetLastOrder(); last != nil {
		text += "; last " + or(last.GetOrderId()) + " on " + p.moment(last.GetOccurredTime())
		if last.GetTotal() != nil {
			text += " for " + money.Format(last.GetTotal())
		}
	}
	p.line("%s", text)
}

func (p *page) consents(all []*customerv1.ConsentState) {
	var rows [][]string
	for _, s := range all {
		state := "withdrawn"
		if s.GetGranted() {
			state = "granted"
		}
		channel := s.GetChannel()
		if channel == "" {
			channel = "all"
		}
		rows = append(rows, []string{cell(s.GetPurpose()), cell(channel), state, p.moment(s.GetOccurredTime()), p.moment(s.GetExpiresTime())})
	}
	p.table("Consents", []string{"PURPOSE", "CHANNEL", "STATE", "SINCE", "UNTIL"}, rows)
}

// links say why the profiles are one customer.
func (p *page) links(all []*customerv1.CustomerLink) {
	var rows [][]string
	for _, l := range all {
		what := "linked: " + enum(l.GetRule().String(), "LINK_RULE_")
		if refusal := enum(l.GetRefusal().String(), "LINK_REFUSAL_"); refusal != "" {
			what = "refused: " + refusal
		}
		rows = append(rows, []string{short(l.GetProfileId()) + " - " + short(l.GetOtherProfileId()), what, cell(or(l.GetReason())), p.moment(l.GetOccurredTime())})
	}
	p.table("Why one customer", []string{"PROFILES", "RULE", "REASON", "TIME"}, rows)
}

// short is the beginning of an id, enough to tell those of one page apart.
func short(id string) string {
	const enough = 8
	if len(id) <= enough {
		return id
	}
	return strings.ToValidUTF8(id[:enough], "")
}
