package match

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// A record's values are in the order of compareValues: by field, of one field
// the newest first. Once made, a value never changes, so that documents share
// them. Of a set the newest are kept: an entry has nothing but what its newest
// event said, so that what any part of the events drops, the whole drops too.

// fold takes what an event says that is compared.
func fold(doc *customerv1.MatchRecord, rec *eventv1.RecordedEvent) error {
	ev := rec.GetEvent()
	switch ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_TraitsUpdated, *eventv1.Payload_LinkAsserted, *eventv1.Payload_LinkRefused:
	default:
		return nil
	}
	at := event.Time(ev)
	said := func(field, value string) *customerv1.MatchValue {
		return &customerv1.MatchValue{
			Field: field, Value: value, EventId: ev.GetId(),
			OccurredTime: &timestamppb.Timestamp{Seconds: at.Unix(), Nanos: int32(at.Nanosecond())},
		}
	}
	put(doc, &customerv1.MatchValue{Field: fieldSince, Value: fmt.Sprintf("%020d", rec.GetPosition())})
	traitValues(ev.GetPayload().GetTraitsUpdated(), func(field, value string) { put(doc, said(field, value)) })
	for _, id := range ev.GetIdentifiers() {
		if field := seenField(id); field != "" {
			if value := cut(id.GetValue()); value != "" {
				put(doc, said(field, value))
			}
		}
	}
	return nil
}

// seenField is the set that an identifier belongs to: the customer's own
// addresses and numbers, unless the source itself disbelieves them.
func seenField(id *eventv1.Identifier) string {
	switch id.GetRole() {
	case eventv1.IdentifierRole_IDENTIFIER_ROLE_UNSPECIFIED, eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER:
	default:
		return ""
	}
	if id.GetAssurance() == eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED {
		return ""
	}
	switch id.GetKind() {
	case "email":
		return fieldEmailSeen
	case "phone":
		return fieldPhoneSeen
	default:
		return ""
	}
}

// combine takes from into into, by the same rule as fold does.
func combine(into, from *customerv1.MatchRecord) {
	for _, v := range from.GetValues() {
		put(into, v)
	}
}

// put adds a value to a record, unless one that is there says more.
func put(doc *customerv1.MatchRecord, v *customerv1.MatchValue) {
	first, _ := slices.BinarySearchFunc(doc.GetValues(), v.GetField(), func(v *customerv1.MatchValue, field string) int {
		return cmp.Compare(v.GetField(), field)
	})
	end := first
	for end < len(doc.GetValues()) && doc.GetValues()[end].GetField() == v.GetField() {
		end++
	}
	rivals := doc.GetValues()[first:end]
	switch v.GetField() {
	case fieldSince:
		if len(rivals) > 0 && rivals[0].GetValue() <= v.GetValue() {
			return
		}
		doc.Values = slices.Replace(doc.GetValues(), first, end, v)
	case fieldEmailSeen, fieldPhoneSeen:
		if i := slices.IndexFunc(rivals, func(r *customerv1.MatchValue) bool { return r.GetValue() == v.GetValue() }); i >= 0 {
			if compareValues(rivals[i], v) <= 0 {
				return
			}
			doc.Values = slices.Delete(doc.GetValues(), first+i, first+i+1)
			rivals = doc.GetValues()[first : end-1]
		}
		at, _ := slices.BinarySearchFunc(rivals, v, compareValues)
		if at == maxSeen {
			return
		}
		if len(rivals) == maxSeen {
			doc.Values = slices.Delete(doc.GetValues(), first+maxSeen-1, first+maxSeen)
		}
		doc.Values = slices.Insert(doc.GetValues(), first+at, v)
	default:
		if len(rivals) > 0 && compareValues(rivals[0], v) <= 0 {
			return
		}
		doc.Values = slices.Replace(doc.GetValues(), first, end, v)
	}
}

// compareValues is the order of a record's values: by field, then the newest
// first, by when it was said and by its event.
func compareValues(a, b *customerv1.MatchValue) int {
	at, bt := a.GetOccurredTime(), b.GetOccurredTime()
	return cmp.Or(
		cmp.Compare(a.GetField(), b.GetField()),
		cmp.Compare(bt.GetSeconds(), at.GetSeconds()),
		cmp.Compare(bt.GetNanos(), at.GetNanos()),
		cmp.Compare(b.GetEventId(), a.GetEventId()),
		cmp.Compare(a.GetValue(), b.GetValue()),
	)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
