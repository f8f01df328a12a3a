package recorder

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// resolve gives the key of the event's conversation: the one that its source
// gave; a mail's thread; a call's id; on the web the visitor; elsewhere the
// customer; and where there is nobody, the event by itself. The event has been
// stamped. Keys stand in stream names for ever, so people are in them as
// profiles only.
func (x *index) resolve(ev *eventv1.Event, given string, mails [][]byte) (string, error) {
	if given != "" {
		return given, nil
	}
	if len(mails) > 0 {
		return x.thread(ev.GetTenant(), mails, ev.GetPayload().GetEmailReceived().GetAddressConversation())
	}
	if call := callOf(ev.GetPayload()); call != "" {
		return call, nil
	}
	if ev.GetChannel() == channelWeb {
		if visitor := visitorOf(ev); visitor != "" {
			return visitor, nil
		}
	}
	if ev.GetProfileId() != "" {
		return ev.GetProfileId(), nil
	}
	return ev.GetId(), nil
}

const (
	channelWeb      = "web"
	channelEmail    = "email"
	channelIdentity = "identity"
)

// visitorOf is the profile of the browser, or of the user id where the source
// knows no browser: who the strongest identifier is changes within a visit.
func visitorOf(ev *eventv1.Event) string {
	for _, kind := range [...]string{identity.KindAnonymousID, identity.KindUserID} {
		for _, id := range ev.GetIdentifiers() {
			if id.GetKind() == kind && isCustomers(id) {
				return id.GetProfileId()
			}
		}
	}
	return ""
}

func isCustomers(id *eventv1.Identifier) bool {
	return id.GetRole() == eventv1.IdentifierRole_IDENTIFIER_ROLE_UNSPECIFIED ||
		id.GetRole() == eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER
}

// thread finds the conversation that one of the mails belongs to, nearest
// first; then the one that the address names which the mail came to, if there is
// such a conversation by mail. Where none is known the oldest mail names it: its other
// descendants will name the same.
func (x *index) thread(tenant string, mails [][]byte, address string) (string, error) {
	for _, m := range mails {
		c, err := x.conversation(mailKeyOf(tenant, m))
		if err != nil || c != "" {
			return c, err
		}
	}
	if address != "" {
		r, err := x.revision(event.InteractionStream(tenant, channelEmail, address))
		if err != nil || r != eventstore.NoStream {
			return address, err
		}
	}
	k := mailKeyOf(tenant, mails[len(mails)-1])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(k.hash[:])), nil
}

// addMails notes which conversation mails belong to. The first word stands.
func (x *index) addMails(tenant string, mails [][]byte, conversation string) error {
	if conversation == "" {
		return nil
	}
	for _, m := range mails {
		k := mailKeyOf(tenant, m)
		known, err := x.conversation(k)
		if err != nil {
			return err
		}
		if known == "" {
			x.conversations[k] = conversation
		}
	}
	return nil
}

func mailKeyOf(tenant string, messageID []byte) mailKey {
	sum := sha256.Sum256(messageID)
	return mailKey{tenant, [16]byte(sum[:16])}
}

// mailsOf are the Message-IDs that a mail event names: its own, the one it
// answers, and those of the thread from the youngest to the oldest.
func mailsOf(p *eventv1.Payload) [][]byte {
	var own, parent string
	var references []string
	switch p := p.GetKind().(type) {
	case *eventv1.Payload_EmailReceived:
		own, parent, references = p.EmailReceived.GetMessageId(), p.EmailReceived.GetInReplyTo(), p.EmailReceived.GetReferences()
	case *eventv1.Payload_EmailSent:
		own = p.EmailSent.GetMessageId()
	case *eventv1.Payload_EmailDelivered:
		own = p.EmailDelivered.GetMessageId()
	case *eventv1.Payload_EmailBounced:
		own = p.EmailBounced.GetMessageId()
	case *eventv1.Payload_EmailOpened:
		own = p.EmailOpened.GetMessageId()
	case *eventv1.Payload_EmailClicked:
		own = p.EmailClicked.GetMessageId()
	case *eventv1.Payload_EmailComplained:
		own = p.EmailComplained.GetMessageId()
	default:
		return nil
	}
	var mails [][]byte
	add := func(id string) {
		if id != "" {
			mails = append(mails, []byte(id))
		}
	}
	add(own)
	add(parent)
	for _, r := range slices.Backward(references) {
		add(r)
	}
	return mails
}

const mailTypePrefix = "parley.email."

func isMailType(eventType string) bool { return strings.HasPrefix(eventType, mailTypePrefix) }

// scanMails is mailsOf for a stored payload. Which mail events have which of
// the fields is the contract's business: those that lack one have another
// field's number free there.
func scanMails(payload []byte) [][]byte {
	var mail []byte
	var number protowire.Number
	for len(payload) > 0 {
		field, wire, n := protowire.ConsumeField(payload)
		if n < 0 {
			return nil
		}
		if wire == protowire.BytesType && field >= fieldEmailFirst && field <= fieldEmailLast {
			_, _, tag := protowire.ConsumeTag(payload)
			mail, _ = protowire.ConsumeBytes(payload[tag:])
			number = field
		}
		payload = payload[n:]
	}
	var own, parent []byte
	var references [][]byte
	for len(mail) > 0 {
		field, wire, n := protowire.ConsumeField(mail)
		if n < 0 {
			return nil
		}
		if wire == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(mail)
			value, _ := protowire.ConsumeBytes(mail[tag:])
			switch {
			case field == fieldMessageID:
				own = value
			case field == fieldInReplyTo && number == fieldEmailFirst:
				parent = value
			case field == fieldReferences && number == fieldEmailFirst:
				references = append(references, value)
			}
		}
		mail = mail[n:]
	}
	var mails [][]byte
	for _, id := range append([][]byte{own, parent}, reversed(references)...) {
		if len(id) > 0 {
			mails = append(mails, id)
		}
	}
	return mails
}

func reversed(ids [][]byte) [][]byte {
	slices.Reverse(ids)
	return ids
}

// callOf is the id that the source gives a call.
func callOf(p *eventv1.Payload) string {
	switch p := p.GetKind().(type) {
	case *eventv1.Payload_CallRinging:
		return p.CallRinging.GetCallId()
	case *eventv1.Payload_CallQueued:
		return p.CallQueued.GetCallId()
	case *eventv1.Payload_CallAnswered:
		return p.CallAnswered.GetCallId()
	case *eventv1.Payload_CallHeld:
		return p.CallHeld.GetCallId()
	case *eventv1.Payload_CallResumed:
		return p.CallResumed.GetCallId()
	case *eventv1.Payload_CallTransferred:
		return p.CallTransferred.GetCallId()
	case *eventv1.Payload_CallEnded:
		return p.CallEnded.GetCallId()
	case *eventv1.Payload_VoicemailLeft:
		return p.VoicemailLeft.GetCallId()
	case *eventv1.Payload_CallRecorded:
		return p.CallRecorded.GetCallId()
	default:
		return ""
	}
}
