package web

import (
	"strconv"
	"strings"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// clientViolations says of an event's violations which field of the call the
// client has to mend.
func (m *message) clientViolations(broken []Violation, ev *eventv1.Event) []Violation {
	out := make([]Violation, 0, len(broken))
	for _, v := range broken {
		v.Field = m.clientField(v.Field, ev)
		out = append(out, v)
	}
	return out
}

func (m *message) clientField(field string, ev *eventv1.Event) string {
	switch field {
	case "source_id", "id":
		return "messageId"
	case "conversation":
		if ev.GetPayload().GetOrganisationUpdated() != nil {
			return "groupId"
		}
		return "context.sessionId"
	}
	if i, ok := index(field, "identifiers["); ok && i < len(ev.GetIdentifiers()) {
		return m.identifierField(ev.GetIdentifiers()[i])
	}
	rest, inPayload := strings.CutPrefix(field, "payload.")
	if !inPayload {
		return field
	}
	_, rest, _ = strings.Cut(rest, ".")
	if i, ok := index(rest, "traits["); ok {
		traits := ev.GetPayload().GetTraitsUpdated().GetTraits()
		if o := ev.GetPayload().GetOrganisationUpdated(); o != nil {
			traits = o.GetTraits()
		}
		if i < len(traits) {
			return "traits." + shownName(traits[i].GetName())
		}
	}
	switch rest {
	case "organisation_id":
		return "groupId"
	case "properties_json", "fields_json":
		return "properties"
	case "name":
		if m.kind == kindTrack {
			return "event"
		}
		if m.name == "" {
			return "properties.name"
		}
		return "name"
	case "category":
		if m.category == "" {
			return "properties.category"
		}
		return "category"
	case "traits":
		return "traits"
	default:
		return "properties." + rest
	}
}

func (m *message) identifierField(id *eventv1.Identifier) string {
	switch {
	case id.GetKind() == identUser:
		return "userId"
	case m.kind == kindAlias && id.GetValue() == m.previousID:
		return "previousId"
	case id.GetKind() == identAnonymous:
		return "anonymousId"
	default:
		return "traits." + id.GetKind()
	}
}

// index is the number of `prefix[number]…`.
func index(field, prefix string) (int, bool) {
	rest, ok := strings.CutPrefix(field, prefix)
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, "]")
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(digits)
	return i, err == nil && i >= 0
}

// inWords are violations in a line.
func inWords(violations []Violation) string {
	texts := make([]string, len(violations))
	for i, v := range violations {
		texts[i] = v.String()
	}
	return strings.Join(texts, "; ")
}
