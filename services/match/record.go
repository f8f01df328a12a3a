package match

import (
	"strings"

	linkage "github.com/parleyhq/parley/pkg/identity/match"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// recordOf is what is compared of a customer.
func recordOf(doc *customerv1.MatchRecord) linkage.Record {
	r := linkage.Record{ID: doc.GetCustomerId()}
	for _, v := range doc.GetValues() {
		if v.GetValue() == "" {
			continue
		}
		switch v.GetField() {
		case fieldGiven:
			r.Given = v.GetValue()
		case fieldFamily:
			r.Family = v.GetValue()
		case fieldFull:
			r.FullName = v.GetValue()
		case fieldBirth:
			r.BirthDate = v.GetValue()
		case fieldStreet:
			r.Street = v.GetValue()
		case fieldNumber:
			r.Number = v.GetValue()
		case fieldPostcode:
			r.Postcode = v.GetValue()
		case fieldCity:
			r.City = v.GetValue()
		case fieldState:
			r.State = v.GetValue()
		case fieldCountry:
			r.Country = v.GetValue()
		case fieldEmail, fieldEmailWork, fieldEmailSeen:
			r.Emails = append(r.Emails, v.GetValue())
		case fieldPhone, fieldPhoneWork, fieldPhoneHome, fieldMobile, fieldPhoneSeen:
			r.Phones = append(r.Phones, v.GetValue())
		case fieldID:
			r.NationalIDs = append(r.NationalIDs, v.GetValue())
		case fieldIDSocial, fieldIDTax, fieldIDPass:
			kind := strings.TrimPrefix(v.GetField(), fieldID+".")
			r.NationalIDs = append(r.NationalIDs, kind+":"+v.GetValue())
		}
	}
	return r
}

// hasAnything says whether there is anything to compare. A country, a state or
// a house number alone tells nobody from anybody.
func hasAnything(r *linkage.Record) bool {
	return r.Given != "" || r.Family != "" || r.FullName != "" || r.BirthDate != "" || r.Street != "" || r.Postcode != "" || r.City != "" ||
		len(r.Emails) > 0 || len(r.Phones) > 0 || len(r.NationalIDs) > 0
}

// sinceOf orders customers by who was first heard of with something to compare.
func sinceOf(doc *customerv1.MatchRecord) string {
	for _, v := range doc.GetValues() {
		if v.GetField() == fieldSince {
			return v.GetValue()
		}
	}
	return "~" // behind every position
}

// shownValue is what a record says of a field, for people.
func shownValue(r *linkage.Record, f linkage.Field) string {
	switch f {
	case linkage.FieldGiven:
		return cut(name(r.Given, r))
	case linkage.FieldFamily:
		return cut(name(r.Family, r))
	case linkage.FieldBirthDate:
		return r.BirthDate
	case linkage.FieldNationalID:
		return cut(strings.Join(r.NationalIDs, ", "))
	case linkage.FieldPlace:
		return cut(words(r.Postcode, r.City, r.State, r.Country))
	case linkage.FieldStreet:
		return cut(words(r.Street, r.Number))
	case linkage.FieldPhone:
		return cut(strings.Join(r.Phones, ", "))
	case linkage.FieldEmail:
		return cut(strings.Join(r.Emails, ", "))
	case linkage.FieldHousehold:
		return ""
	default:
		return ""
	}
}

// name is a part of the name, or the whole where it is known in one only.
func name(part string, r *linkage.Record) string {
	if r.Given == "" && r.Family == "" {
		return r.FullName
	}
	return part
}

func words(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p)
	}
	return b.String()
}
