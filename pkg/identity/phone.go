package identity

import (
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// withheld is what carriers and providers send in place of a number that the
// caller does not show. In lower case.
var withheld = map[string]struct{}{
	"anonymous": {}, "restricted": {}, "unknown": {}, "withheld": {}, "private": {}, "unavailable": {}, "blocked": {},
	"no caller id": {}, "caller id blocked": {}, "unterdrückt": {}, "unbekannt": {}, "id unavailable": {}, "asserted": {},
	// Twilio spells the same words on a keypad.
	"+266696687": {}, "+7378742833": {}, "+2562533": {}, "+8566696": {}, "+86282452253": {}, "+464": {},
}

// normalizePhone gives E.164. A number with a country code must have a possible
// length; one without must be valid in the region, because reading it in
// the wrong region names somebody else.
func normalizePhone(s, region string) (string, error) {
	s = strings.TrimPrefix(s, "whatsapp:")
	if user, ok := sipUser(s); ok {
		s = user
	}
	s = strings.TrimSpace(s)
	if isWithheld(s) {
		return "", ErrWithheld
	}
	if isPlaceholder(s) {
		return "", ErrPlaceholder
	}
	// Where there is no region, the library needs one that does not exist.
	if region == "" {
		region = "ZZ"
	}
	number, err := phonenumbers.Parse(s, strings.ToUpper(region))
	if err != nil {
		return "", ErrMalformed
	}
	international := strings.HasPrefix(s, "+") || strings.HasPrefix(s, "tel:+") || strings.HasPrefix(s, "\uFF0B")
	if international && !phonenumbers.IsPossibleNumber(number) || !international && !phonenumbers.IsValidNumber(number) {
		return "", ErrMalformed
	}
	extension := number.GetExtension()
	e164 := phonenumbers.Format(number, phonenumbers.E164)
	if !isE164(e164) {
		return "", ErrMalformed
	}
	if sameDigits(phonenumbers.GetNationalSignificantNumber(number)) {
		return "", ErrPlaceholder
	}
	if isWithheld(e164) {
		return "", ErrWithheld
	}
	if extension != "" {
		return e164 + ";ext=" + extension, nil
	}
	return e164, nil
}

// isE164: a plus sign and at most 15 digits (ITU-T E.164), with two to spare
// for the longer ones that Germany has given out.
func isE164(s string) bool {
	const minLen, maxLen = 6, 18
	if len(s) < minLen || len(s) > maxLen || s[0] != '+' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isWithheld(s string) bool {
	_, yes := withheld[strings.ToLower(s)]
	return yes
}

// sipUser is the user part of a SIP URI, as SIP trunks give the caller:
// `sip:+4315550123@gw.example;user=phone`.
func sipUser(s string) (string, bool) {
	rest, ok := strings.CutPrefix(strings.ToLower(s), "sip:")
	if !ok {
		if rest, ok = strings.CutPrefix(strings.ToLower(s), "sips:"); !ok {
			return "", false
		}
	}
	user, _, ok := strings.Cut(rest, "@")
	if !ok {
		return "", false
	}
	user, _, _ = strings.Cut(user, ";")
	return user, true
}
