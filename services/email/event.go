package email

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/email/internal/mail"
)

// Bounds of what an event holds, in the units of the contract. Texts are cut by
// bytes where the contract counts characters, and addresses are bounded all
// together, so that no event is too large for the bus or the store.
const (
	maxText        = 64 << 10
	maxSubject     = 2000
	maxName        = 512
	maxSenders     = 16
	maxPeople      = 200
	maxPeopleBytes = 48 << 10
	maxAttachments = 100
	maxContentID   = 255
	maxDefects     = 32
	maxIdentifiers = 64
	maxResults     = 2000
	maxSourceID    = 512
)

// events makes the events of a mail for one tenant: of a report what it tells,
// else that the mail came. It fails only where a blob cannot be kept.
func (t *Intake) events(ctx context.Context, l *letter, d destination) ([]*eventv1.Event, error) {
	raw, err := t.keep(ctx, d.tenant, l.raw)
	if err != nil {
		return nil, fmt.Errorf("keep the raw mail: %w", err)
	}
	if events := t.reportEvents(l, d, raw); len(events) > 0 {
		return events, nil
	}
	received, err := t.received(ctx, l, d, raw)
	if err != nil {
		return nil, err
	}
	ev := t.envelope(l, d, l.mail.MessageID, "")
	ev.ContentDigest = l.digest()
	ev.Identifiers = t.identifiers(l, d)
	ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: received}}
	event.Stamp(ev)
	return []*eventv1.Event{ev}, nil
}

// keep puts a content beside the store.
func (t *Intake) keep(ctx context.Context, tenant string, content []byte) (string, error) {
	ref, err := t.deps.Blobs.Put(ctx, tenant, bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	return ref.Text(), nil
}

// envelope is what all events of a mail have. rawBlob is for those whose payload
// has no place for it.
func (t *Intake) envelope(l *letter, d destination, sourceID, rawBlob string) *eventv1.Event {
	sourceID = boundedID(sourceID, maxSourceID)
	ev := &eventv1.Event{
		Id:          event.DeterministicID(d.tenant, source, sourceID).String(),
		Tenant:      d.tenant,
		Source:      source,
		SourceId:    sourceID,
		Channel:     channel,
		Direction:   eventv1.Direction_DIRECTION_INBOUND,
		Backfill:    l.env.Backfill,
		Traceparent: l.traceparent,
		ContextJson: circumstances(l.env, d, rawBlob),
	}
	setTimes(ev, l)
	return ev
}

// boundedID is an id of at most so many bytes: one that is longer is represented
// by its digest.
func boundedID(id string, most int) string {
	if len(id) <= most {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// setTimes takes the time that the author's program wrote; where that is
// missing or cannot be, the one at which the mailbox took the mail.
func setTimes(ev *eventv1.Event, l *letter) {
	taken := l.env.MailboxTime
	if taken.IsZero() && l.env.Via == ViaImport {
		taken = lastReceived(l.mail)
	}
	said := l.mail.Date
	if !said.IsZero() {
		event.SetOccurred(ev, said, l.env.ReceivedTime, false)
		if taken.IsZero() || ev.GetTimeQuality() != eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE {
			return
		}
	}
	if taken.IsZero() {
		event.SetReceived(ev, l.env.ReceivedTime)
		return
	}
	event.SetOccurred(ev, taken, l.env.ReceivedTime, false)
}

// lastReceived is when the last relay took the mail: the end of the topmost
// Received field.
func lastReceived(m *mail.Mail) time.Time {
	field := m.Header("Received")
	i := strings.LastIndexByte(field, ';')
	if i < 0 {
		return time.Time{}
	}
	at, ok := mail.ParseDate(field[i+1:])
	if !ok {
		return time.Time{}
	}
	return at
}

// circumstances is the event's context: how the mail came.
func circumstances(env *Envelope, d destination, rawBlob string) string {
	c := struct {
		Via      Via    `json:"via"`
		Queue    string `json:"queue,omitempty"`
		HELO     string `json:"helo,omitempty"`
		ClientIP string `json:"client_ip,omitempty"`
		RawBlob  string `json:"raw_blob,omitempty"`
	}{Via: env.Via, Queue: d.queue, HELO: env.HELO, RawBlob: rawBlob}
	if env.ClientIP.IsValid() {
		c.ClientIP = env.ClientIP.String()
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "" // strings always can be written
	}
	return string(text)
}

func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// digest is over what makes the mail: its authors, its date, its new text with
// white space as one space, and its attachments. Left out is what differs
// between two copies of one mail: trace fields, recipients, subject tags and
// footers of lists, folding and encodings.
func (l *letter) digest() []byte {
	parts := [][]byte{[]byte("mail 1")}
	for _, a := range l.mail.From {
		parts = append(parts, []byte(strings.ToLower(a.Address)))
	}
	date := ""
	if !l.mail.Date.IsZero() {
		date = strconv.FormatInt(l.mail.Date.Unix(), 10)
	}
	parts = append(parts, []byte(date), []byte(strings.Join(strings.Fields(l.parts.Reply), " ")))
	for i := range l.mail.Attachments {
		sum := sha256.Sum256(l.mail.Attachments[i].Content)
		parts = append(parts, sum[:])
	}
	return event.ContentDigest(parts...)
}

// received is the payload of a mail that came in.
func (t *Intake) received(ctx context.Context, l *letter, d destination, raw string) (*eventv1.EmailReceived, error) {
	m := l.mail
	p := &eventv1.EmailReceived{
		MessageId:             m.MessageID,
		InReplyTo:             m.InReplyTo,
		References:            m.References,
		Subject:               cutText(m.Subject, maxSubject),
		Text:                  cutText(l.text, maxText),
		QuotedText:            cutText(l.quoted, maxText),
		Mailbox:               t.mailbox(l, d),
		Authentication:        l.verdict.Verdict,
		AuthenticationResults: cutText(l.verdict.Text(t.cfg.Hostname), maxResults),
		AutoReply:             m.AutoReply,
		AutoReplyReason:       string(m.AutoReplyReason),
		ListId:                m.ListID,
		RawBlob:               raw,
		SizeBytes:             int64(len(l.raw)),
		EnvelopeFrom:          l.env.From,
		AddressConversation:   t.conversation(l, d),
		Defects:               l.defects,
	}
	room := maxPeopleBytes
	p.From = people(m.From, maxSenders, &room)
	p.ReplyTo = people(m.ReplyTo, maxSenders, &room)
	p.To = people(m.To, maxPeople, &room)
	p.Cc = people(m.Cc, maxPeople, &room)
	var err error
	if len(l.text) > maxText || len(l.quoted) > maxText {
		// HTML may become text longer than itself.
		whole := cutText(m.Text, int(min(t.deps.Blobs.MaxBytes(), 1<<30)))
		if p.TextBlob, err = t.keep(ctx, d.tenant, []byte(whole)); err != nil {
			return nil, fmt.Errorf("keep a long text: %w", err)
		}
	}
	p.Attachments, err = t.attachments(ctx, d.tenant, m.Attachments)
	return p, err
}

func people(list []mail.Address, most int, room *int) []*eventv1.EmailAddress {
	var out []*eventv1.EmailAddress
	for _, a := range list {
		one := &eventv1.EmailAddress{Address: cutText(a.Address, maxAddress), Name: cutText(a.Name, maxName)}
		*room -= len(one.GetAddress()) + len(one.GetName())
		if len(out) == most || *room < 0 {
			break
		}
		out = append(out, one)
	}
	return out
}

// attachments keeps the attachments that an event lists. The others are in the raw mail.
func (t *Intake) attachments(ctx context.Context, tenant string, list []mail.Attachment) ([]*eventv1.Attachment, error) {
	var out []*eventv1.Attachment
	for i := range list[:min(len(list), maxAttachments)] {
		a := &list[i]
		ref, err := t.keep(ctx, tenant, a.Content)
		if err != nil {
			return nil, fmt.Errorf("keep attachment %d of %d bytes: %w", i, len(a.Content), err)
		}
		out = append(out, &eventv1.Attachment{
			FileName: a.FileName, MediaType: a.MediaType, SizeBytes: int64(len(a.Content)), Blob: ref, ContentId: cutText(a.ContentID, maxContentID),
		})
	}
	return out, nil
}

// mailbox is the address of the tenant's that the mail came to.
func (t *Intake) mailbox(l *letter, d destination) string {
	for _, r := range t.addressed(l, d) {
		if t.cfg.Book.ours(d.tenant, r) {
			return mailboxOf(r)
		}
	}
	if len(d.recipients) > 0 {
		return mailboxOf(d.recipients[0])
	}
	return ""
}

// conversation is the one that an address names which the mail came to: of the
// envelope first, then of what relays wrote, then of To and Cc.
func (t *Intake) conversation(l *letter, d destination) string {
	for _, r := range t.addressed(l, d) {
		if c := conversationOf(r); c != "" && t.cfg.Book.ours(d.tenant, r) {
			return cutText(c, maxConversation)
		}
	}
	return ""
}

// addressed are the addresses that the mail came to, the surest first.
func (t *Intake) addressed(l *letter, d destination) []string {
	all := append([]string(nil), d.recipients...)
	all = append(all, l.mail.EnvelopeRecipients...)
	for _, list := range [...][]mail.Address{l.mail.To, l.mail.Cc} {
		for _, a := range list {
			all = append(all, a.Address)
		}
	}
	return all
}

// identifiers says who took part. See the package's documentation.
func (t *Intake) identifiers(l *letter, d destination) []*eventv1.Identifier {
	var ids identifiers
	for i, a := range l.mail.From {
		switch {
		case t.cfg.Book.ours(d.tenant, a.Address):
			ids.add(mailboxOf(a.Address), eventv1.IdentifierRole_IDENTIFIER_ROLE_COMPANY)
		case i == 0:
			if id := ids.add(a.Address, eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER); id != nil {
				id.Assurance = l.assurance(a.Address)
			}
		default:
			ids.add(a.Address, eventv1.IdentifierRole_IDENTIFIER_ROLE_OTHER)
		}
	}
	for _, r := range d.recipients {
		ids.add(mailboxOf(r), eventv1.IdentifierRole_IDENTIFIER_ROLE_COMPANY)
	}
	for _, list := range [...][]mail.Address{l.mail.To, l.mail.Cc} {
		for _, a := range list {
			if t.cfg.Book.ours(d.tenant, a.Address) {
				ids.add(mailboxOf(a.Address), eventv1.IdentifierRole_IDENTIFIER_ROLE_COMPANY)
			} else {
				ids.add(a.Address, eventv1.IdentifierRole_IDENTIFIER_ROLE_OTHER)
			}
		}
	}
	return ids.list
}

// identifiers gathers addresses, each once: the first role counts.
type identifiers struct {
	list []*eventv1.Identifier
	seen map[string]bool
}

const kindEmail = "email"

// add adds an address; nil where it is none, is there already, or there is no room.
func (s *identifiers) add(address string, role eventv1.IdentifierRole) *eventv1.Identifier {
	local, domain, ok := cutAddress(address)
	key := local + "@" + domain
	if !ok || s.seen[key] || len(s.list) == maxIdentifiers {
		return nil
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.seen[key] = true
	id := &eventv1.Identifier{Kind: kindEmail, Value: cutText(address, maxAddress), Role: role}
	s.list = append(s.list, id)
	return id
}
