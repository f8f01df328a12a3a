package email

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/email/internal/auth"
	"github.com/parleyhq/parley/services/email/internal/mail"
	"github.com/parleyhq/parley/services/email/internal/quotation"
)

// delivery is what a mail brings for one tenant.
type delivery struct {
	tenant string
	batch  *interactionv1.IngressBatch
}

// letter is a mail that was read, with what holds for all tenants.
type letter struct {
	env   *Envelope
	raw   []byte
	mail  *mail.Mail
	parts quotation.Parts
	// text is the new text, quoted what was cut off it.
	text, quoted string
	verdict      auth.Result
	defects      []string
	traceparent  string
}

// destination is a tenant with the recipients that are its own.
type destination struct {
	tenant     string
	recipients []string
	queue      string
}

// The codes of what goes to quarantine here.
const (
	codeInvalidEvent = "invalid_event"
	codeDefect       = "defect"
	codeMalformed    = "malformed_webhook"
)

// compose reads a mail, keeps its blobs and makes its events.
func (t *Intake) compose(ctx context.Context, env Envelope, raw []byte) ([]delivery, error) {
	if int64(len(raw)) > t.cfg.MaxBytes {
		return nil, fmt.Errorf("a mail of %d bytes: %w", len(raw), ErrMailTooLarge)
	}
	clean(&env)
	to := t.destinations(&env)
	if len(to) == 0 {
		return nil, ErrNoRecipient
	}
	l, reason := t.read(ctx, &env, raw)
	if l == nil {
		return t.broken(&env, raw, to, reason), nil
	}
	if env.Via != ViaImport && l.mail.Received > maxReceived {
		return nil, fmt.Errorf("a mail that passed %d relays: %w", l.mail.Received, ErrLoop)
	}
	t.metrics.read(l)
	deliveries := make([]delivery, 0, len(to))
	for _, d := range to {
		batch, err := t.batch(ctx, l, d)
		if err != nil {
			return nil, err
		}
		deliveries = append(deliveries, delivery{d.tenant, batch})
	}
	return deliveries, nil
}

// clean makes what a sender said of the envelope fit for events.
func clean(env *Envelope) {
	env.From = cutText(env.From, maxAddress)
	env.HELO = cutText(env.HELO, maxHELO)
	env.Mailbox = cutText(env.Mailbox, maxAddress)
}

// maxHELO is the longest name of a client that is kept, in bytes: a domain's.
const maxHELO = 255

// destinations are the tenants of the recipients, in the order of the recipients.
func (t *Intake) destinations(env *Envelope) []destination {
	if env.Via == ViaImport {
		d := destination{tenant: env.Tenant}
		if a, ok := t.cfg.Book.lookup(env.Mailbox); ok && a.Tenant == env.Tenant {
			d.queue = a.Queue
		}
		if env.Mailbox != "" {
			d.recipients = []string{env.Mailbox}
		}
		return []destination{d}
	}
	var to []destination
	for _, r := range env.Recipients {
		a, ok := t.cfg.Book.lookup(r)
		if !ok {
			continue
		}
		i := slices.IndexFunc(to, func(d destination) bool { return d.tenant == a.Tenant })
		if i < 0 {
			i = len(to)
			to = append(to, destination{tenant: a.Tenant, queue: a.Queue})
		}
		to[i].recipients = append(to[i].recipients, cutText(r, maxAddress))
	}
	return to
}

// read takes a mail apart. Parse takes whatever comes; should a defect of ours
// panic all the same, the mail must not be refused for ever or be lost: it goes
// to quarantine, and reason says why.
func (t *Intake) read(ctx context.Context, env *Envelope, raw []byte) (l *letter, reason string) {
	defer func() {
		if p := recover(); p != nil {
			t.log.ErrorContext(ctx, "a mail cannot be read", "via", string(env.Via), "bytes", len(raw),
				"panic", fmt.Sprint(p), "trace", string(debug.Stack()))
			l, reason = nil, "a defect of Parley: reading it panics"
		}
	}()
	l = &letter{env: env, raw: raw, traceparent: traceparent(ctx)}
	l.mail = mail.Parse(raw, mail.Limits{MaxBytes: int(t.cfg.MaxBytes)})
	if env.Via == ViaImport && env.From == "" {
		env.From = l.mail.ReturnPath
	}
	l.verdict = t.judge(ctx, l)
	l.split()
	l.findDefects()
	return l, ""
}

// judge finds out how far the sender is to be believed.
func (t *Intake) judge(ctx context.Context, l *letter) auth.Result {
	env := l.env
	in := auth.Input{Raw: l.raw, Rebuilt: env.Rebuilt, EnvelopeFrom: env.From, HELO: env.HELO, Report: env.Report}
	switch {
	case env.Via == ViaImport:
		// Keys and records of that time are gone; what its server wrote counts.
		in.Report = t.reported(l.raw)
		return auth.Judge(in)
	case env.Via == ViaSMTP && t.relayed(env.ClientIP):
		in.Report = t.reported(l.raw)
	default:
		in.ClientIP = env.ClientIP
	}
	if t.verifier == nil || in.Report.DMARC != nil {
		return auth.Judge(in)
	}
	return t.verifier.Verify(ctx, in)
}

// reported is what trusted servers wrote on a mail.
func (t *Intake) reported(raw []byte) auth.Report {
	if len(t.cfg.TrustedServers) == 0 {
		return auth.Report{}
	}
	trusted := make([]auth.TrustedServer, len(t.cfg.TrustedServers))
	for i, s := range t.cfg.TrustedServers {
		trusted[i] = auth.TrustedServer{AuthservID: s.ID, Fields: s.Fields}
	}
	return auth.ReportFromHeaders(raw, trusted)
}

// relayed says that a client is a mail server of one's own, or a program on
// one's own machines: its address is not the one that the sender's domain knows.
func (t *Intake) relayed(client netip.Addr) bool {
	if !client.IsValid() || client.IsLoopback() || client.IsPrivate() || client.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(t.cfg.Relays, func(p netip.Prefix) bool { return p.Contains(client) })
}

// split separates the new text from what was said before.
func (l *letter) split() {
	whole := false
	if l.mail.TextFromHTML && l.mail.HTML != "" {
		l.parts, whole = quotation.SplitHTML(l.mail.HTML)
	}
	if !whole || blank(l.parts.Reply+l.parts.Quoted+l.parts.Signature) {
		l.parts = quotation.Split(l.mail.Text)
	}
	l.text = l.parts.Reply
	l.quoted = strings.Trim(l.parts.Quoted+"\n\n"+l.parts.Signature, "\n")
	if blank(l.text) && !blank(l.quoted) {
		// Nothing new was written: whoever reads it must see what was.
		l.text, l.quoted = l.quoted, ""
	}
}

// findDefects gathers the codes of what is wrong, each once.
func (l *letter) findDefects() {
	add := func(code string) {
		if len(l.defects) < maxDefects && !slices.Contains(l.defects, code) {
			l.defects = append(l.defects, code)
		}
	}
	if l.env.Via == ViaSMTP && bareNewline(l.raw) {
		add(defectBareNewline)
	}
	for _, d := range l.mail.Defects {
		add(string(d.Code))
	}
	if len(l.mail.Attachments) > maxAttachments {
		add(defectAttachments)
	}
	if len(l.mail.To) > maxPeople || len(l.mail.Cc) > maxPeople || len(l.mail.From) > maxSenders || len(l.mail.ReplyTo) > maxSenders {
		add(defectPeople)
	}
}

// Defects besides those of package mail.
const (
	// defectBareNewline: a CR or LF stood alone in what came by SMTP, which
	// forbids it (RFC 5321, 2.3.8). Two servers may differ in where such a mail ends.
	defectBareNewline = "bare_newline"
	// defectAttachments: more attachments than an event lists.
	defectAttachments = "too_many_attachments"
	// defectPeople: more addresses than an event lists.
	defectPeople = "too_many_people"
)

// bareNewline looks for a CR or LF that stands alone.
func bareNewline(raw []byte) bool {
	for i := 0; i < len(raw); {
		n := bytes.IndexAny(raw[i:], "\r\n")
		if n < 0 {
			return false
		}
		i += n
		if raw[i] == '\n' || i+1 == len(raw) || raw[i+1] != '\n' {
			return true
		}
		i += 2
	}
	return false
}

// batch makes what a mail brings for a tenant. It fails only where a blob
// cannot be kept.
func (t *Intake) batch(ctx context.Context, l *letter, d destination) (*interactionv1.IngressBatch, error) {
	events, err := t.events(ctx, l, d)
	if err != nil {
		return nil, err
	}
	batch := &interactionv1.IngressBatch{}
	var wrong []string
	for _, ev := range events {
		if v := t.deps.Validator.Check(ev); len(v) > 0 {
			wrong = append(wrong, v[0].String())
			continue
		}
		batch.Events = append(batch.Events, ev)
	}
	if len(wrong) > 0 {
		t.log.ErrorContext(ctx, "a mail's event breaks the contract", "tenant", d.tenant, "via", string(l.env.Via), "count", len(wrong))
		batch.Quarantined = []*interactionv1.QuarantinedBody{
			t.quarantined(l.env, d.tenant, codeInvalidEvent, strings.Join(wrong, "; "), mediaMail, l.raw),
		}
	}
	return batch, nil
}

// broken keeps a mail that could not be read at all.
func (t *Intake) broken(env *Envelope, raw []byte, to []destination, reason string) []delivery {
	deliveries := make([]delivery, 0, len(to))
	for _, d := range to {
		body := t.quarantined(env, d.tenant, codeDefect, reason, mediaMail, raw)
		deliveries = append(deliveries, delivery{d.tenant, &interactionv1.IngressBatch{Quarantined: []*interactionv1.QuarantinedBody{body}}})
	}
	return deliveries
}

const (
	mediaMail = "message/rfc822"
	// Bounds of QuarantinedBody.
	maxKeptBody  = 256 << 10
	maxReason    = 2048
	maxMediaType = 128
)

// quarantined is a body that failed a check. Its id is a function of what it
// is, so that a retry is kept once.
func (t *Intake) quarantined(env *Envelope, tenant, code, reason, media string, body []byte) *interactionv1.QuarantinedBody {
	from := source + "/" + string(env.Via)
	sum := event.ContentDigest([]byte(code), body)
	return &interactionv1.QuarantinedBody{
		Id:           event.DeterministicID(tenant, from, "quarantine "+hex.EncodeToString(sum)).String(),
		Tenant:       tenant,
		Source:       from,
		Code:         code,
		Reason:       cutText(reason, maxReason),
		MediaType:    cutText(media, maxMediaType),
		Body:         bytes.Clone(body[:min(len(body), maxKeptBody)]),
		BodySize:     int64(len(body)),
		ReceivedTime: timestamppb.New(env.ReceivedTime),
	}
}

// assurance says how far an event vouches for the mail's author.
func (l *letter) assurance(author string) eventv1.IdentifierAssurance {
	// What another reader of From sees must be what was judged.
	if !slices.ContainsFunc(l.verdict.Authors, func(a string) bool { return sameAddress(a, author) }) {
		return eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED
	}
	switch l.verdict.Verdict {
	case auth.Pass:
		return eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNSPECIFIED
	case auth.Fail:
		return eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED
	default:
		return eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_UNCHECKED
	}
}

func sameAddress(a, b string) bool {
	aLocal, aDomain, aOK := cutAddress(a)
	bLocal, bDomain, bOK := cutAddress(b)
	if !aOK || !bOK {
		return strings.EqualFold(a, b)
	}
	return aLocal == bLocal && aDomain == bDomain
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// cutText makes text from outside fit for a field of at most n bytes.
func cutText(s string, n int) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
