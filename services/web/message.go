package web

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parleyhq/parley/pkg/event"
)

// Bounds of the tracking API.
const (
	// MaxEventBytes is the size of one event, uncompressed.
	MaxEventBytes = 32 << 10
	// MaxBodyBytes is the size of one request's body, uncompressed.
	MaxBodyBytes = 500 << 10
	// MaxBatchEvents is the number of events in one request.
	MaxBatchEvents = 2500
	// MaxMessageID is the length of a messageId in characters: under 100.
	MaxMessageID = 99
	// MaxDepth is how deep objects and arrays may nest in one member of an event.
	MaxDepth = 64
)

// kind of a call.
type kind uint8

const (
	kindUnknown kind = iota
	kindTrack
	kindPage
	kindScreen
	kindIdentify
	kindGroup
	kindAlias
	kindBatch
)

// String is the call's name in the tracking API.
func (k kind) String() string {
	switch k {
	case kindTrack:
		return "track"
	case kindPage:
		return "page"
	case kindScreen:
		return "screen"
	case kindIdentify:
		return "identify"
	case kindGroup:
		return "group"
	case kindAlias:
		return "alias"
	case kindBatch:
		return "batch"
	case kindUnknown:
	}
	return "unknown"
}

func kindOf(name string) kind {
	switch name {
	case "track":
		return kindTrack
	case "page":
		return kindPage
	case "screen":
		return kindScreen
	case "identify":
		return kindIdentify
	case "group":
		return kindGroup
	case "alias":
		return kindAlias
	default:
		return kindUnknown
	}
}

// Violation says which member of a call breaks which rule.
type Violation = event.Violation

// message is one call as the client said it. Texts are parts of the body.
type message struct {
	// raw is the whole call.
	raw  string
	kind kind
	// Ids, as text; empty for absent.
	userID, anonymousID, groupID, previousID, messageID string
	// event, name and category, empty for absent.
	event, name, category string
	// timestamp is what the client said of when, if timed: the year 1 may be
	// said, too.
	timestamp time.Time
	timed     bool
	// sentAt is when it says that it sent this, zero for nothing.
	sentAt time.Time
	// properties and traits are JSON objects as they came, empty for absent.
	properties, traits string
	context            callContext
	digest             []byte
	// violations are why it is no event; none for a good one.
	violations []Violation
}

// member of a call, with its name without quotes.
type member struct{ name, value string }

// reader reads calls one after the other; it keeps its scratch memory.
type reader struct {
	members []member
	scratch []byte
}

func (m *message) violate(field, rule, format string, args ...any) {
	m.violations = append(m.violations, Violation{Field: field, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

// read takes one call apart. k is what the path says it is, kindUnknown where
// its own type decides. defaults is the context of its batch.
func (rd *reader) read(m *message, raw string, k kind, defaults *callContext) {
	m.raw, m.kind = raw, k
	switch {
	case len(raw) > MaxEventBytes:
		m.violate("", ruleTooLarge, "is %d bytes, at most %d", len(raw), MaxEventBytes)
		return
	case !isObject(raw):
		m.violate("", ruleType, "is not an object")
		return
	case !utf8.ValidString(raw):
		m.violate("", ruleUTF8, "is not UTF-8")
		return
	}
	rd.members = rd.members[:0]
	for name, value := range members(raw) {
		rd.members = append(rd.members, member{unquote(name), value})
	}
	slices.SortStableFunc(rd.members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	m.context = *defaults
	// What the call adds is not the batch's.
	m.context.rest = slices.Clip(m.context.rest)
	var original time.Time
	var originally bool
	for i, f := range rd.members {
		if i > 0 && f.name == rd.members[i-1].name {
			m.violate(shownName(f.name), ruleRepeated, "is there more than once")
			continue
		}
		if isNull(f.value) {
			continue
		}
		switch f.name {
		case "type":
			if m.kind == kindUnknown && isString(f.value) {
				m.kind = kindOf(unquote(f.value))
			}
		case "userId":
			m.userID = m.id(f)
		case "anonymousId":
			m.anonymousID = m.id(f)
		case "groupId":
			m.groupID = m.id(f)
		case "previousId":
			m.previousID = m.id(f)
		case "messageId":
			m.messageID = m.id(f)
		case "event":
			m.event = m.label(f)
		case "name":
			m.name = m.label(f)
		case "category":
			m.category = m.label(f)
		case "timestamp":
			m.timestamp, m.timed = m.time(f)
		case "originalTimestamp":
			original, originally = m.time(f)
		case "sentAt":
			// How it was sent is no reason to refuse what was sent.
			m.sentAt, _ = parseTime(f.value)
		case "properties":
			m.properties = m.object(f)
		case "traits":
			m.traits = m.object(f)
		case "context":
			m.context.read(m.object(f))
		default:
		}
	}
	if !m.timed {
		m.timestamp, m.timed = original, originally
	}
	m.check()
	rd.digest(m)
}

// check holds the call against what the tracking API requires of its kind.
func (m *message) check() {
	if m.kind == kindUnknown || m.kind == kindBatch {
		m.violate("type", ruleType, "is none of identify, track, page, screen, group, alias")
		return
	}
	if m.userID == "" && m.anonymousID == "" {
		m.violate("userId", ruleRequired, "userId or anonymousId is required")
	}
	if utf8.RuneCountInString(m.messageID) > MaxMessageID {
		m.violate("messageId", ruleLength, "is longer than %d characters", MaxMessageID)
	}
	switch m.kind {
	case kindTrack:
		if m.event == "" {
			m.violate("event", ruleRequired, "is required")
		}
	case kindGroup:
		if m.groupID == "" {
			m.violate("groupId", ruleRequired, "is required")
		}
	case kindAlias:
		if m.previousID == "" {
			m.violate("previousId", ruleRequired, "is required")
		}
		if m.userID == "" && m.anonymousID != "" {
			m.violate("userId", ruleRequired, "is required")
		}
	case kindUnknown, kindPage, kindScreen, kindIdentify, kindBatch:
	}
}

// id reads an identifier. Numbers are taken for their digits: many systems have such.
func (m *message) id(f member) string {
	if !isString(f.value) && !isNumber(f.value) {
		m.violate(f.name, ruleType, "is neither a string nor a number")
		return ""
	}
	return strings.TrimSpace(plainText(f.value))
}

func (m *message) label(f member) string {
	if !isString(f.value) && !isNumber(f.value) {
		m.violate(f.name, ruleType, "is not a string")
		return ""
	}
	return plainText(f.value)
}

func (m *message) time(f member) (time.Time, bool) {
	t, ok := parseTime(f.value)
	if !ok {
		m.violate(f.name, ruleTime, "is not a time of ISO 8601")
	}
	return t, ok
}

// object reads an object; an empty one is as good as none. An empty array
// stands for an empty object: that is how PHP writes one.
func (m *message) object(f member) string {
	switch {
	case isObject(f.value):
		for range members(f.value) {
			return f.value
		}
		return ""
	case isArray(f.value) && skipSpace(f.value, 1) == len(f.value)-1:
		return ""
	default:
		m.violate(f.name, ruleType, "is not an object")
		return ""
	}
}

// shownName makes a member's name fit for an answer.
func shownName(name string) string {
	const most = 64
	if len(name) > most {
		return strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}

// Rules that the gateway itself checks; others are those of event.Validator.
const (
	ruleTooLarge = "too_large"
	ruleType     = "type"
	ruleUTF8     = "utf8"
	ruleRepeated = "repeated"
	ruleRequired = "required"
	ruleLength   = "length"
	ruleTime     = "time"
	ruleDepth    = "depth"
)
