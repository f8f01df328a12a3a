package web

import (
	"strings"

	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

const (
	identUser      = "user_id"
	identAnonymous = "anonymous_id"
	identEmail     = "email"
	identPhone     = "phone"
)

const (
	maxEmail = 320
	maxPhone = 64
)

// identifiers are what a call says of who it is about, the surest first:
// userId and anonymousId; the previousId of alias; e-mail address and phone
// number among the person's traits, which are those of identify and
// context.traits of any call. What else looks like an address (in properties, or
// in the traits of a group) may be anybody's.
func (m *message) identifiers(key *Key) []*eventv1.Identifier {
	ids := make([]*eventv1.Identifier, 0, 3)
	ids = addIdentifier(ids, identUser, m.userID)
	ids = addIdentifier(ids, identAnonymous, m.anonymousID)
	// Called for somebody it knows, the browser library says his id twice, whatever it was called with.
	if m.kind == kindAlias && m.previousID != m.userID {
		ids = addIdentifier(ids, previousKind(m.previousID), m.previousID)
	}
	email, phone := "", ""
	if m.kind == kindIdentify {
		email, phone = contactTraits(m.traits)
	}
	if m.context.traits != "" {
		e, p := contactTraits(m.context.traits)
		if email == "" {
			email = e
		}
		if phone == "" {
			phone = p
		}
	}
	ids = addIdentifier(ids, identEmail, email)
	if phone != "" && key.DefaultRegion != "" && !strings.HasPrefix(phone, "+") {
		// The recorder knows no regions of sources. What cannot be a number in
		// the region stays as it is.
		if e164, err := identity.Normalize(identPhone, phone, key.DefaultRegion); err == nil {
			phone = e164
		}
	}
	return addIdentifier(ids, identPhone, phone)
}

func addIdentifier(ids []*eventv1.Identifier, kind, value string) []*eventv1.Identifier {
	if value == "" {
		return ids
	}
	for _, id := range ids {
		if id.GetKind() == kind && id.GetValue() == value {
			return ids
		}
	}
	return append(ids, &eventv1.Identifier{Kind: kind, Value: value, Role: eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER})
}

// previousKind is what kind of identifier an alias's previousId is. The
// call does not say. It is an e-mail address or a phone number if it looks like one,
// and an anonymous id otherwise, which is what clients alias from: a former
// user id cannot be told from it, and two user ids are never one person
// without somebody deciding it.
func previousKind(id string) string {
	switch {
	case looksLikeEmail(id):
		return identEmail
	case strings.HasPrefix(id, "+") && len(id) >= 8 && len(id) <= maxPhone && strings.Trim(id[1:], "0123456789 -()") == "":
		return identPhone
	default:
		return identAnonymous
	}
}

// contactTraits are the e-mail address and phone number among a person's
// traits; empty for none or for what is neither.
func contactTraits(traits string) (email, phone string) {
	if traits == "" {
		return "", ""
	}
	for quoted, value := range members(traits) {
		switch quoted {
		case `"email"`:
			if isString(value) {
				if s := strings.TrimSpace(unquote(value)); looksLikeEmail(s) {
					email = s
				}
			}
		case `"phone"`:
			if s := strings.TrimSpace(plainText(value)); looksLikePhone(s) {
				phone = s
			}
		default:
		}
	}
	return email, phone
}

// looksLikeEmail keeps out what cannot be one; the recorder looks closer.
func looksLikeEmail(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return at > 0 && at < len(s)-1 && len(s) <= maxEmail && !strings.ContainsAny(s, " \t\r\n")
}

func looksLikePhone(s string) bool {
	const minDigits = 5
	digits := 0
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			digits++
		}
	}
	return digits >= minDigits && len(s) <= maxPhone
}
