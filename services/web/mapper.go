package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Mapper turns calls of the tracking API into events. It is a pure function of
// what it is given, but for the ids of calls without messageId. May be used
// concurrently.
type Mapper struct {
	validator *event.Validator
	newID     func() uuid.UUID
	ignored   []string
}

// MapperConfig configures a Mapper.
type MapperConfig struct {
	// Validator of events. Defaults to a new one.
	Validator *event.Validator
	// NewID makes ids for calls without messageId. Defaults to UUIDs of version 7.
	NewID func() uuid.UUID
	// IgnoredReferrers as in Config.
	IgnoredReferrers []string
}

// NewMapper makes a Mapper.
func NewMapper(cfg MapperConfig) (*Mapper, error) {
	mp := &Mapper{validator: cfg.Validator, newID: cfg.NewID}
	if mp.validator == nil {
		v, err := event.NewValidator()
		if err != nil {
			return nil, fmt.Errorf("mapper of web calls: %w", err)
		}
		mp.validator = v
	}
	if mp.newID == nil {
		mp.newID = func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
	}
	for _, host := range cfg.IgnoredReferrers {
		mp.ignored = append(mp.ignored, strings.ToLower(strings.Trim(strings.TrimSpace(host), ".")))
	}
	return mp, nil
}

const channelWeb = "web"

// arrival is how a call came.
type arrival struct {
	// received is when we took it.
	received time.Time
	// sentAt of the batch; zero where only the calls say it, or none.
	sentAt time.Time
	// retry says that the client has tried before.
	retry bool
	// ip and userAgent of the request, where it comes from the person's own browser.
	ip, userAgent string
	// imported says that times are not to be corrected and nobody is to act on it.
	imported bool
}

// events appends the events of a call to dst: its own, and what follows from
// it. With violations there are none.
func (mp *Mapper) events(dst []*eventv1.Event, m *message, key *Key, a *arrival) ([]*eventv1.Event, []Violation) {
	if len(m.violations) > 0 {
		return dst, m.violations
	}
	id, sourceID := mp.ids(m, key, a)
	b := builder{m: m, key: key, a: a, id: id, sourceID: sourceID}
	if a.ip != "" && m.context.ip == "" {
		m.context.ip = a.ip
	}
	if a.userAgent != "" && m.context.userAgent == "" {
		m.context.userAgent = a.userAgent
	}
	payload, derived := mp.payloads(m, key)
	if len(m.violations) > 0 {
		return dst, m.violations
	}
	mayHaveNUL := strings.Contains(m.raw, escapedNUL)
	first := len(dst)
	own := b.event(payload, m.identifiers(key))
	own.Id = id.String()
	own.ContextJson = m.context.json()
	if sourceID == "" {
		own.SourceId = own.GetId()
	}
	dst = append(dst, own)
	for _, d := range derived {
		dst = append(dst, b.derived(d, own))
	}
	for _, ev := range dst[first:] {
		if mayHaveNUL {
			event.SanitizeNUL(ev)
		}
		if broken := mp.validator.Check(ev); len(broken) > 0 {
			return dst[:first], m.clientViolations(broken, ev)
		}
	}
	return dst, nil
}

// ids are the event's id and the source's own, empty for the same. Without messageId a live call
// gets a fresh one; an imported line gets one of its content, so that
// importing a file again changes nothing.
func (mp *Mapper) ids(m *message, key *Key, a *arrival) (uuid.UUID, string) {
	switch {
	case m.messageID != "":
		return event.DeterministicID(key.Tenant, key.source(), m.messageID), m.messageID
	case a.imported:
		sourceID := "content-" + hex.EncodeToString(m.digest)
		return event.DeterministicID(key.Tenant, key.source(), sourceID), sourceID
	default:
		id := mp.newID()
		return id, ""
	}
}

// builder makes the events of one call, which have all but the payload in common.
type builder struct {
	m        *message
	key      *Key
	a        *arrival
	id       uuid.UUID
	sourceID string
}

func (b *builder) event(payload *eventv1.Payload, identifiers []*eventv1.Identifier) *eventv1.Event {
	ev := &eventv1.Event{
		Tenant:        b.key.Tenant,
		Source:        b.key.source(),
		SourceId:      b.sourceID,
		ContentDigest: b.m.digest,
		Channel:       channelWeb,
		Direction:     eventv1.Direction_DIRECTION_INBOUND,
		Conversation:  b.m.conversation(),
		Backfill:      b.a.imported,
		Identifiers:   identifiers,
		Payload:       payload,
	}
	if !b.m.timed {
		event.SetReceived(ev, b.a.received)
		event.Stamp(ev)
		return ev
	}
	said, corrected := b.m.timestamp, false
	if !b.a.imported {
		sent := b.a.sentAt
		if sent.IsZero() {
			sent = b.m.sentAt
		}
		said, corrected = correct(said, sent, b.a.received, b.a.retry)
	}
	event.SetOccurred(ev, said, b.a.received, corrected)
	event.Stamp(ev)
	return ev
}

// followUp is an event that follows from a call beside its own.
type followUp struct {
	payload *eventv1.Payload
	// purpose tells it from the others of its cause.
	purpose string
	// organisation is the one that it is about, where it is not about the person.
	organisation string
}

func (b *builder) derived(d followUp, cause *eventv1.Event) *eventv1.Event {
	identifiers := cause.GetIdentifiers()
	if d.organisation != "" {
		identifiers = nil
	}
	ev := b.event(d.payload, identifiers)
	ev.Id = event.DerivedID(b.id, d.purpose).String()
	ev.SourceId = cause.GetSourceId() + "#" + d.purpose
	ev.CausationId = cause.GetId()
	ev.CorrelationId = cause.GetId()
	if d.organisation != "" {
		ev.Conversation = keyed("o-", d.organisation)
	}
	return ev
}

// maxConversation leaves room for the prefix under the envelope's 256 characters.
const maxConversation = 200

// conversation is the session's key; empty without a session. Session ids that
// are numbers are the time at which the session began, with RudderStack's
// browser library: two visitors may well have the same. They are told
// apart by a short digest of the anonymousId.
func (m *message) conversation() string {
	session := m.context.session
	if session == "" {
		return ""
	}
	if m.anonymousID != "" && strings.Trim(session, "0123456789") == "" {
		sum := sha256.Sum256([]byte(m.anonymousID))
		session += "-" + hex.EncodeToString(sum[:5])
	}
	return keyed("s-", session)
}

// keyed makes a conversation key. A very long one is replaced by its digest.
func keyed(prefix, key string) string {
	if len(key) > maxConversation {
		sum := sha256.Sum256([]byte(key))
		return prefix + "sha256-" + hex.EncodeToString(sum[:])
	}
	return prefix + key
}

// cut shortens what only describes (a user agent, a title) to n characters.
// What a call is about is never cut: over its bound it is a violation.
func cut(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	i := 0
	for range n {
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
	return s[:i]
}
