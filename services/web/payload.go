package web

import (
	"strings"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// payloads are what a call tells, and what follows from it.
func (mp *Mapper) payloads(m *message, key *Key) (*eventv1.Payload, []followUp) {
	var own *eventv1.Payload
	var derived []followUp
	page := m.context.page
	switch m.kind {
	case kindTrack:
		own = m.tracked(key)
	case kindPage:
		page.read(m.properties)
		own = m.pageViewed(&page)
	case kindScreen:
		own = m.screenViewed()
	case kindIdentify:
		own = m.traitsUpdated()
	case kindGroup:
		return m.affiliation()
	case kindAlias:
		own = &eventv1.Payload{Kind: &eventv1.Payload_IdentityStated{
			IdentityStated: &eventv1.IdentityStated{Statement: "alias"},
		}}
	case kindUnknown, kindBatch:
		// check has refused these.
	}
	if t := mp.touchpoint(m, &page); t != nil {
		derived = append(derived, followUp{
			purpose: "touchpoint",
			payload: &eventv1.Payload{Kind: &eventv1.Payload_TouchpointRecorded{TouchpointRecorded: t}},
		})
	}
	return own, derived
}

// tracked tells the events apart that have a meaning of their own, by the
// names of the e-commerce specification, its second version and its first.
func (m *message) tracked(key *Key) *eventv1.Payload {
	switch {
	case strings.EqualFold(m.event, "Order Completed"), strings.EqualFold(m.event, "Completed Order"):
		return &eventv1.Payload{Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: m.orderCompleted(key)}}
	case strings.EqualFold(m.event, "Order Refunded"), strings.EqualFold(m.event, "Refunded Order"):
		return &eventv1.Payload{Kind: &eventv1.Payload_OrderRefunded{OrderRefunded: m.orderRefunded(key)}}
	case strings.EqualFold(m.event, "Form Submitted"):
		return &eventv1.Payload{Kind: &eventv1.Payload_FormSubmitted{FormSubmitted: m.formSubmitted()}}
	}
	// In one piece, since nearly all events are these: three allocations less.
	p := new(struct {
		payload eventv1.Payload
		kind    eventv1.Payload_Tracked
		body    eventv1.Tracked
	})
	c := &m.context
	p.body.Name = m.event
	p.body.Path = cut(c.page.pathOf(), 2048)
	p.body.Url = cut(c.page.url, 4096)
	p.body.IpAddress = address(c.ip)
	p.body.UserAgent = cut(c.userAgent, 1024)
	p.body.PropertiesJson = m.properties
	p.kind.Tracked = &p.body
	p.payload.Kind = &p.kind
	return &p.payload
}

func (m *message) pageViewed(page *pageContext) *eventv1.Payload {
	p := new(struct {
		payload eventv1.Payload
		kind    eventv1.Payload_PageViewed
		body    eventv1.PageViewed
	})
	c := &m.context
	p.body.Name, p.body.Category = m.named()
	p.body.Url = cut(page.url, 4096)
	p.body.Path = cut(page.pathOf(), 2048)
	p.body.Title = cut(page.title, 1024)
	p.body.Referrer = cut(page.referrer, 4096)
	p.body.IpAddress = address(c.ip)
	p.body.UserAgent = cut(c.userAgent, 1024)
	p.body.Locale = cut(c.locale, 64)
	p.body.PropertiesJson = m.properties
	p.kind.PageViewed = &p.body
	p.payload.Kind = &p.kind
	return &p.payload
}

func (m *message) screenViewed() *eventv1.Payload {
	c := &m.context
	name, category := m.named()
	return &eventv1.Payload{Kind: &eventv1.Payload_ScreenViewed{ScreenViewed: &eventv1.ScreenViewed{
		Name:           name,
		Category:       category,
		AppName:        cut(c.app.name, 256),
		AppVersion:     cut(c.app.version, 64),
		IpAddress:      address(c.ip),
		Locale:         cut(c.locale, 64),
		PropertiesJson: m.properties,
	}}}
}

// named are the name and category of a page or screen; some clients say them
// as properties only.
func (m *message) named() (name, category string) {
	name, category = m.name, m.category
	if m.properties == "" || (name != "" && category != "") {
		return name, category
	}
	for quoted, value := range members(m.properties) {
		switch quoted {
		case `"name"`:
			if name == "" {
				name = plainText(value)
			}
		case `"category"`:
			if category == "" {
				category = plainText(value)
			}
		default:
		}
	}
	return name, category
}

func (m *message) formSubmitted() *eventv1.FormSubmitted {
	f := &eventv1.FormSubmitted{Path: cut(m.context.page.pathOf(), 2048), FieldsJson: m.properties}
	if m.properties == "" {
		return f
	}
	for name, value := range members(m.properties) {
		switch unquote(name) {
		case "form_id", "formId":
			set(&f.FormId, value)
		case "form_name", "formName":
			set(&f.FormName, value)
		default:
		}
	}
	return f
}

func (m *message) affiliation() (*eventv1.Payload, []followUp) {
	a := &eventv1.AffiliationAsserted{OrganisationId: m.groupID}
	own := &eventv1.Payload{Kind: &eventv1.Payload_AffiliationAsserted{AffiliationAsserted: a}}
	traits := m.traitList("traits", m.traits, nil)
	for _, t := range traits {
		if t.GetName() == "name" {
			a.Name = cut(plainText(t.GetValueJson()), 256)
		}
	}
	if len(traits) == 0 {
		return own, nil
	}
	return own, []followUp{{
		purpose:      "organisation",
		organisation: m.groupID,
		payload: &eventv1.Payload{Kind: &eventv1.Payload_OrganisationUpdated{
			OrganisationUpdated: &eventv1.OrganisationUpdated{OrganisationId: m.groupID, Traits: traits},
		}},
	}}
}

func (m *message) traitsUpdated() *eventv1.Payload {
	traits := m.traitList("traits", m.traits, nil)
	// RudderStack's clients say the traits of identify in the context.
	traits = m.traitList("context.traits", m.context.traits, traits)
	return &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
		Traits:     traits,
		Provenance: eventv1.TraitProvenance_TRAIT_PROVENANCE_OBSERVED,
		IpAddress:  address(m.context.ip),
	}}}
}

// maxTraits of one call, as the contract bounds them.
const maxTraits = 256

// traitList appends the members of an object to known, without those that
// known has already.
func (m *message) traitList(field, object string, known []*eventv1.Trait) []*eventv1.Trait {
	if object == "" {
		return known
	}
	before := len(known)
	for quoted, value := range members(object) {
		name := unquote(quoted)
		if i := indexTrait(known, name); i >= before {
			m.violate(field+"."+shownName(name), ruleRepeated, "is there more than once")
			return known
		} else if i >= 0 {
			continue
		}
		if len(known) == maxTraits {
			m.violate(field, ruleTooLarge, "are more than %d", maxTraits)
			return known
		}
		known = append(known, &eventv1.Trait{Name: name, ValueJson: value})
	}
	return known
}

func indexTrait(traits []*eventv1.Trait, name string) int {
	for i, t := range traits {
		if t.GetName() == name {
			return i
		}
	}
	return -1
}
