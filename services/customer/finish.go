package customer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// finish brings a document into finished form for the customer named. It may
// be given a finished one.
func finish(doc *customerv1.Customer, customerID string, profileIDs []string) error {
	doc.CustomerId = customerID
	doc.ProfileIds = profileIDs
	if !slices.IsSortedFunc(doc.GetIdentifiers(), compareFinished) {
		slices.SortFunc(doc.GetIdentifiers(), compareFinished)
	}
	doc.PreferredChannel = preferredChannel(doc.GetChannels())
	if err := collapse(doc); err != nil {
		return err
	}
	doc.DisplayName = displayName(doc)
	return nil
}

// compareFinished puts the strongest identifiers first: by strength, then by
// kind, of one kind the one seen last.
func compareFinished(a, b *customerv1.CustomerIdentifier) int {
	if a.GetStrength() != b.GetStrength() {
		return cmp.Compare(b.GetStrength(), a.GetStrength())
	}
	if a.GetKind() != b.GetKind() {
		return cmp.Or(
			cmp.Compare(identifierClass(a.GetKind()), identifierClass(b.GetKind())),
			cmp.Compare(a.GetKind(), b.GetKind()),
		)
	}
	return cmp.Or(
		instantOf(b.GetLastSeenTime()).compare(instantOf(a.GetLastSeenTime())),
		cmp.Compare(a.GetValue(), b.GetValue()),
	)
}

// isTakenAway says that the trait's value is `null`.
func isTakenAway(trait *customerv1.CustomerTrait) bool {
	const null = "null"
	value := trait.GetValueJson()
	return value == null || len(value) > len(null) && strings.Trim(value, " \t\r\n") == null
}

// preferredChannel is the one he himself uses most; of equals the one used
// last, then the first by name.
func preferredChannel(channels []*customerv1.ChannelActivity) string {
	var best *customerv1.ChannelActivity
	for _, c := range channels {
		if c.GetInboundCount() == 0 {
			continue
		}
		if best == nil || cmp.Or(
			cmp.Compare(c.GetInboundCount(), best.GetInboundCount()),
			instantOf(c.GetLastInboundTime()).compare(instantOf(best.GetLastInboundTime())),
		) > 0 {
			best = c
		}
	}
	return best.GetChannel()
}

// nameKind says what a trait says of a person's name.
type nameKind int

const (
	nameNone nameKind = iota
	nameFull
	nameFirst
	nameLast
	nameCompany
)

// nameTrait recognises the traits that name a person: Segment's reserved ones
// and the spellings that other sources use.
func nameTrait(name string) nameKind {
	switch name {
	case "name", "fullName", "full_name", "displayName", "display_name":
		return nameFull
	case "firstName", "first_name", "firstname", "givenName", "given_name":
		return nameFirst
	case "lastName", "last_name", "lastname", "familyName", "family_name", "surname":
		return nameLast
	case "company", "companyName", "company_name":
		return nameCompany
	default:
		return nameNone
	}
}

// displayName is the newest full name, else first and last name, else the
// company, else the best identifier.
func displayName(doc *customerv1.Customer) string {
	var newest [nameCompany + 1]*customerv1.CustomerTrait
	for _, trait := range doc.GetTraits() {
		kind := nameTrait(trait.GetName())
		if kind == nameNone || traitText(trait.GetValueJson()) == "" {
			continue
		}
		if known := newest[kind]; known == nil ||
			compareSaid(known.GetOccurredTime(), known.GetEventId(), instantOf(trait.GetOccurredTime()), trait.GetEventId()) < 0 {
			newest[kind] = trait
		}
	}
	text := func(kind nameKind) string {
		if newest[kind] == nil {
			return ""
		}
		return traitText(newest[kind].GetValueJson())
	}
	if full := text(nameFull); full != "" {
		return full
	}
	if both := strings.TrimSpace(text(nameFirst) + " " + text(nameLast)); both != "" {
		return both
	}
	if company := text(nameCompany); company != "" {
		return company
	}
	for _, id := range doc.GetIdentifiers() {
		return id.GetValue()
	}
	return ""
}

// traitText is a trait's value as text: of a string its content, of an object
// (Segment's `company`) its `name`, of a number the number; else nothing.
func traitText(valueJSON string) string {
	if len(valueJSON) >= 2 && valueJSON[0] == '"' && valueJSON[len(valueJSON)-1] == '"' {
		// Most strings have nothing to unescape.
		if inner := valueJSON[1 : len(valueJSON)-1]; !strings.ContainsAny(inner, `\"`) {
			return strings.TrimSpace(inner)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(valueJSON)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return ""
	}
	switch value := value.(type) {
	case string:
		return strings.TrimSpace(value)
	case json.Number:
		return value.String()
	case map[string]any:
		name, ok := value["name"].(string)
		if !ok {
			return ""
		}
		return strings.TrimSpace(name)
	default:
		return ""
	}
}
