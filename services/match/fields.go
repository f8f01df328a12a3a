package match

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Fields of a MatchRecord. Of all but the seen ones the newest value counts;
// an empty one says that the trait was taken away.
const (
	fieldGiven     = "given"
	fieldFamily    = "family"
	fieldFull      = "full_name"
	fieldBirth     = "birth_date"
	fieldStreet    = "street"
	fieldNumber    = "street_number"
	fieldPostcode  = "postcode"
	fieldCity      = "city"
	fieldState     = "state"
	fieldCountry   = "country"
	fieldEmail     = "email"
	fieldEmailWork = "email.work"
	fieldPhone     = "phone"
	fieldPhoneWork = "phone.work"
	fieldPhoneHome = "phone.home"
	fieldMobile    = "phone.mobile"
	fieldID        = "id"
	fieldIDSocial  = "id.social"
	fieldIDTax     = "id.tax"
	fieldIDPass    = "id.passport"

	// What events were seen with: a set of the newest maxSeen.
	fieldEmailSeen = "email.seen"
	fieldPhoneSeen = "phone.seen"
	// fieldSince is the position of the first event, in decimal with leading
	// zeros: by it the older of two customers is told.
	fieldSince = "since"
)

const (
	// maxValueBytes is how much of a value is kept; less of it is compared.
	maxValueBytes = 256
	// maxSeen is how many addresses and how many numbers are kept that events
	// were seen with: as many as are compared.
	maxSeen = 8
	// maxTraitName is the longest name in bytes that is looked up.
	maxTraitName = 64
)

// traitFields says which field a trait is, by its name in lower case without
// spaces, underscores, hyphens and full stops: the traits of the Segment spec
// and what other sources call the same. An address may also be an object of
// these, under one of addressTraits. The table of the README is this one.
var traitFields = map[string]string{
	"firstname": fieldGiven, "givenname": fieldGiven, "given": fieldGiven, "forename": fieldGiven, "fname": fieldGiven, "vorname": fieldGiven,
	"lastname": fieldFamily, "surname": fieldFamily, "familyname": fieldFamily, "family": fieldFamily, "lname": fieldFamily, "nachname": fieldFamily,
	"name": fieldFull, "fullname": fieldFull, "displayname": fieldFull,
	"birthday": fieldBirth, "birthdate": fieldBirth, "dateofbirth": fieldBirth, "dob": fieldBirth, "geburtsdatum": fieldBirth,
	"street": fieldStreet, "streetaddress": fieldStreet, "streetname": fieldStreet, "address1": fieldStreet, "addressline1": fieldStreet,
	"line1": fieldStreet, "strasse": fieldStreet,
	"streetnumber": fieldNumber, "streetno": fieldNumber, "housenumber": fieldNumber, "houseno": fieldNumber, "hausnummer": fieldNumber,
	"postcode": fieldPostcode, "postalcode": fieldPostcode, "zip": fieldPostcode, "zipcode": fieldPostcode, "plz": fieldPostcode,
	"city": fieldCity, "town": fieldCity, "suburb": fieldCity, "locality": fieldCity, "ort": fieldCity, "stadt": fieldCity,
	"state": fieldState, "province": fieldState, "region": fieldState, "bundesland": fieldState,
	"country": fieldCountry, "countrycode": fieldCountry, "land": fieldCountry,
	"email": fieldEmail, "emailaddress": fieldEmail, "mail": fieldEmail, "workemail": fieldEmailWork, "businessemail": fieldEmailWork,
	"phone": fieldPhone, "phonenumber": fieldPhone, "telephone": fieldPhone, "tel": fieldPhone, "telefon": fieldPhone,
	"workphone": fieldPhoneWork, "businessphone": fieldPhoneWork, "homephone": fieldPhoneHome,
	"mobile": fieldMobile, "mobilephone": fieldMobile, "mobilenumber": fieldMobile, "cell": fieldMobile, "cellphone": fieldMobile, "handy": fieldMobile,
	"nationalid": fieldID, "idnumber": fieldID, "personalnumber": fieldID,
	"ssn": fieldIDSocial, "socsecid": fieldIDSocial, "socialsecuritynumber": fieldIDSocial, "socialsecurityid": fieldIDSocial,
	"taxid": fieldIDTax, "taxnumber": fieldIDTax, "tin": fieldIDTax, "steuernummer": fieldIDTax,
	"passport": fieldIDPass, "passportnumber": fieldIDPass,
}

// addressTraits hold an address as an object. Its members may also be traits
// of their own, as in `address.city`.
var addressTraits = []string{"address", "homeaddress", "postaladdress"}

// fieldOf is the field that a trait's plain name stands for; empty for none.
func fieldOf(plain string) string {
	if field := traitFields[plain]; field != "" {
		return field
	}
	for _, prefix := range addressTraits {
		if rest, ok := strings.CutPrefix(plain, prefix); ok {
			return addressField(rest)
		}
	}
	return ""
}

// addressField is the field of a member of an address; no other field is read
// from there.
func addressField(plain string) string {
	switch field := traitFields[plain]; field {
	case fieldStreet, fieldNumber, fieldPostcode, fieldCity, fieldState, fieldCountry:
		return field
	default:
		return ""
	}
}

// plainName is a name in lower case without separators; empty where it is too
// long to be known.
func plainName(name string) string {
	if len(name) > maxTraitName {
		return ""
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '_', r == '-', r == '.':
			return -1
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// isAddress says that a trait may hold an address as an object.
func isAddress(plain string) bool {
	return slices.Contains(addressTraits, plain)
}

// traitValues calls yield for each field that an event's traits say something
// of: a value, the last one, or empty where all that say something of it take it
// away. In the order of the traits.
func traitValues(p *eventv1.TraitsUpdated, yield func(field, value string)) {
	type word struct{ field, value string }
	words := make([]word, 0, len(p.GetTraits())+len(addressFields))
	say := func(field, value string) {
		for i := range words {
			if words[i].field != field {
				continue
			}
			// Of two traits that stand for one field the one that has a value wins.
			if value != "" {
				words[i].value = value
			}
			return
		}
		words = append(words, word{field, value})
	}
	for _, trait := range p.GetTraits() {
		plain := plainName(trait.GetName())
		if field := fieldOf(plain); field != "" {
			if value, ok := traitText(trait.GetValueJson()); ok {
				say(field, tidy(field, value))
			}
			continue
		}
		if isAddress(plain) {
			addressValues(trait.GetValueJson(), say)
		}
	}
	for _, w := range words {
		yield(w.field, w.value)
	}
}

// addressFields are those that an address has: one that is said anew says
// something of all of them.
var addressFields = [...]string{fieldStreet, fieldNumber, fieldPostcode, fieldCity, fieldState, fieldCountry}

// addressValues reads an address. It is said as a whole: what the new one does
// not have, the customer does not have any more.
func addressValues(valueJSON string, say func(field, value string)) {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(valueJSON), &members) != nil {
		return
	}
	for _, field := range addressFields {
		say(field, "")
	}
	// In one order: two members may stand for one field.
	for _, name := range sortedKeys(members) {
		if field := addressField(plainName(name)); field != "" {
			if value, ok := traitText(string(members[name])); ok && value != "" {
				say(field, tidy(field, value))
			}
		}
	}
}

// traitText is a trait's text, empty for `null`; not ok where it has none.
func traitText(valueJSON string) (text string, ok bool) {
	if n := len(valueJSON); n >= 2 && valueJSON[0] == '"' && valueJSON[n-1] == '"' && isPlain(valueJSON[1:n-1]) {
		return cut(valueJSON[1 : n-1]), true
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(valueJSON)))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return "", false
	}
	switch value := value.(type) {
	case nil:
		return "", true
	case string:
		return cut(value), true
	case json.Number:
		return cut(value.String()), true
	default:
		return "", false
	}
}

// isPlain says that a JSON string stands for itself, which most do.
func isPlain(inner string) bool {
	for i := range len(inner) {
		if c := inner[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// tidy brings dates into the form that is compared: `31.12.1980` and
// `1980/12/31` can be nothing else. What could be two dates stays as it is.
func tidy(field, value string) string {
	if field != fieldBirth {
		return value
	}
	if parts := strings.Split(value, "."); len(parts) == 3 && len(parts[2]) == 4 {
		const two = "00"
		day, month := parts[0], parts[1]
		if len(day) > 0 && len(day) <= len(two) && len(month) > 0 && len(month) <= len(two) {
			return parts[2] + "-" + two[len(month):] + month + "-" + two[len(day):] + day
		}
	}
	if len(value) >= 10 && value[4] == '/' && value[7] == '/' {
		return value[:4] + "-" + value[5:7] + "-" + value[8:]
	}
	return value
}

// cut trims a text and shortens it to maxValueBytes, between characters.
func cut(s string) string {
	s = strings.TrimSpace(s)
	if len(s) <= maxValueBytes {
		return s
	}
	n := maxValueBytes
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
