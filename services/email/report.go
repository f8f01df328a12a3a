package email

import (
	"strconv"
	"strings"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/email/internal/mail"
)

// reportEvents makes of a report what it tells of another mail: a delivery
// report one event for each recipient, a read receipt that the mail was opened,
// a complaint that it was called spam. A report that tells nothing of that kind
// gives none, and is a mail that came in, automatic.
//
// Anybody can write a report. The events name the mail that it speaks of and
// whom it says to have failed, and vouch for neither.
func (t *Intake) reportEvents(l *letter, d destination, raw string) []*eventv1.Event {
	r := l.mail.Report
	if r == nil {
		return nil
	}
	switch r.Kind {
	case mail.ReportDelivery:
		return t.deliveryEvents(l, d, raw)
	case mail.ReportDisposition:
		if r.Disposition != "displayed" || r.MessageID == "" {
			return nil
		}
		opened := &eventv1.EmailOpened{MessageId: r.MessageID}
		return []*eventv1.Event{t.reportEvent(l, d, 0, l.reader(), raw, &eventv1.Payload{Kind: &eventv1.Payload_EmailOpened{EmailOpened: opened}})}
	case mail.ReportComplaint:
		recipient := ""
		if len(r.Recipients) > 0 {
			recipient = r.Recipients[0].Address()
		}
		if r.FeedbackType == feedbackNotSpam || (r.MessageID == "" && recipient == "") {
			return nil
		}
		complained := &eventv1.EmailComplained{MessageId: r.MessageID}
		return []*eventv1.Event{t.reportEvent(l, d, 0, recipient, raw, &eventv1.Payload{Kind: &eventv1.Payload_EmailComplained{EmailComplained: complained}})}
	default:
		return nil
	}
}

// feedbackNotSpam is the type of a report that takes a complaint back (RFC 6430).
const feedbackNotSpam = "not-spam"

// reader is who read the mail that a receipt speaks of.
func (l *letter) reader() string {
	if r := l.mail.Report; len(r.Recipients) > 0 && r.Recipients[0].Address() != "" {
		return r.Recipients[0].Address()
	}
	if len(l.mail.From) > 0 {
		return l.mail.From[0].Address
	}
	return ""
}

func (t *Intake) deliveryEvents(l *letter, d destination, raw string) []*eventv1.Event {
	r := l.mail.Report
	var events []*eventv1.Event
	for i := range r.Recipients {
		one := &r.Recipients[i]
		address := one.Address()
		payload := &eventv1.Payload{}
		keep := ""
		switch one.Outcome {
		case mail.OutcomeDelivered, mail.OutcomeRelayed, mail.OutcomeExpanded:
			payload.Kind = &eventv1.Payload_EmailDelivered{EmailDelivered: &eventv1.EmailDelivered{MessageId: r.MessageID}}
			keep = raw
		default:
			payload.Kind = &eventv1.Payload_EmailBounced{EmailBounced: &eventv1.EmailBounced{
				MessageId:       r.MessageID,
				Kind:            bounceKind(one.Outcome),
				Status:          cutText(one.Status, maxStatus),
				Recipient:       cutText(address, maxAddress),
				Diagnostic:      cutText(one.Diagnostic, maxDiagnostic),
				ReportMessageId: l.mail.MessageID,
				RawBlob:         raw,
			}}
		}
		events = append(events, t.reportEvent(l, d, i, address, keep, payload))
	}
	return events
}

const (
	maxStatus     = 32
	maxDiagnostic = 2000
)

func bounceKind(o mail.Outcome) eventv1.BounceKind {
	switch o {
	case mail.OutcomePermanent:
		return eventv1.BounceKind_BOUNCE_KIND_PERMANENT
	case mail.OutcomeTransient, mail.OutcomeDelayed:
		return eventv1.BounceKind_BOUNCE_KIND_TRANSIENT
	default:
		return eventv1.BounceKind_BOUNCE_KIND_UNSPECIFIED
	}
}

// reportEvent is the n-th thing that a report tells, about a recipient of ours.
// rawBlob is for payloads without a place for it.
func (t *Intake) reportEvent(l *letter, d destination, n int, recipient, rawBlob string, payload *eventv1.Payload) *eventv1.Event {
	const room = 8 // for the number
	sourceID := boundedID(l.mail.MessageID, maxSourceID-room) + "/" + strconv.Itoa(n)
	ev := t.envelope(l, d, sourceID, rawBlob)
	ev.Payload = payload
	event.Stamp(ev)
	bounced := payload.GetEmailBounced()
	ev.ContentDigest = event.ContentDigest([]byte("report 1"), []byte(ev.GetType()), []byte(l.mail.Report.MessageID),
		[]byte(strings.ToLower(recipient)), []byte(bounced.GetStatus()), []byte(bounced.GetKind().String()))
	var ids identifiers
	if t.cfg.Book.ours(d.tenant, recipient) {
		ids.add(mailboxOf(recipient), eventv1.IdentifierRole_IDENTIFIER_ROLE_COMPANY)
	} else if id := ids.add(recipient, eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER); id != nil {
		id.Assurance = eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNCHECKED
	}
	ev.Identifiers = ids.list
	return ev
}
