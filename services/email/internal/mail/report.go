package mail

import (
	"bytes"
	"strings"
	"time"
)

// Report is what a mail reports on another one: a delivery report (RFC 3464 and
// older forms), a disposition notification (RFC 8098), a complaint (RFC 5965).
// Anybody can write one; whether the mail it speaks of was ours is for the caller
// to look up.
type Report struct {
	Kind ReportKind
	// Dialect is the form: rfc3464, rfc8098, rfc5965, or of the older ones qmail,
	// exim, postfix, sendmail, exchange, unknown.
	Dialect string
	// MessageID of the mail that it speaks of, without brackets; empty where the
	// report does not say it.
	MessageID string
	// ReportingMTA is the server that reports.
	ReportingMTA string
	// ArrivalDate is when the mail came to that server; zero where not said.
	ArrivalDate time.Time
	// Recipients of that mail, one for each address reported on, at most
	// MaxReportRecipients. A delivery report whose recipients cannot be read has
	// none.
	Recipients []ReportRecipient
	// Disposition of a disposition notification: displayed, deleted, denied, …
	Disposition string
	// FeedbackType of a complaint: abuse, fraud, virus, not-spam, …
	FeedbackType string
}

// ReportKind says what a report is about.
type ReportKind string

// The kinds of reports.
const (
	// ReportDelivery says what became of a mail on its way.
	ReportDelivery ReportKind = "delivery"
	// ReportDisposition says what the recipient's program did with it: a read receipt.
	ReportDisposition ReportKind = "disposition"
	// ReportComplaint says that the recipient called it spam.
	ReportComplaint ReportKind = "complaint"
)

// ReportRecipient is what became of a mail for one recipient.
type ReportRecipient struct {
	// Final is the address at last, Original the one that the sender wrote.
	Final, Original string
	Outcome         Outcome
	// Status is the code of RFC 3463, for example 5.1.1; empty where none was said.
	Status string
	// Diagnostic is what the refusing server said, in one line, at most 2000 bytes.
	Diagnostic string
	// RemoteMTA is the server that said it.
	RemoteMTA string
}

// Address gives the recipient as the sender knows it.
func (r *ReportRecipient) Address() string {
	if r.Original != "" {
		return r.Original
	}
	return r.Final
}

// Outcome says how a delivery went.
type Outcome string

// The outcomes of a delivery.
const (
	// OutcomeUnknown: the report does not say.
	OutcomeUnknown Outcome = ""
	// OutcomePermanent: failed, and will fail again.
	OutcomePermanent Outcome = "permanent"
	// OutcomeTransient: given up for a reason that may pass.
	OutcomeTransient Outcome = "transient"
	// OutcomeDelayed: not delivered yet; still being tried.
	OutcomeDelayed Outcome = "delayed"
	// OutcomeDelivered: delivered.
	OutcomeDelivered Outcome = "delivered"
	// OutcomeRelayed: handed to a server that sends no reports.
	OutcomeRelayed Outcome = "relayed"
	// OutcomeExpanded: delivered to a list and sent on to several.
	OutcomeExpanded Outcome = "expanded"
)

const (
	// maxDiagnostic bytes of a diagnostic are kept.
	maxDiagnostic = 2000
	// maxReportText bytes of a report's text are looked at.
	maxReportText = 256 << 10
)

// report reads the mail as a report; nil is none. The parts decide, not their
// container: reports come as multipart/mixed as well.
func (p *parser) report() *Report {
	for _, n := range p.leaves {
		var r *Report
		switch n.mediaType {
		case "message/delivery-status", "message/global-delivery-status":
			r = p.deliveryStatus(p.decoded(n))
		case "message/disposition-notification", "message/global-disposition-notification":
			r = p.disposition(p.decoded(n))
		case "message/feedback-report":
			r = p.feedback(p.decoded(n))
		default:
			continue
		}
		if returned := p.returned(); r.MessageID == "" && returned != nil {
			r.MessageID = idOf(returned)
		}
		return r
	}
	return p.textReport()
}

// returned gives the header of the mail that the report carries, or nil.
func (p *parser) returned() *header {
	for _, n := range p.leaves {
		switch n.mediaType {
		case "message/rfc822", "message/global", "message/global-headers", "text/rfc822-headers", "message/rfc822-headers":
			h, _ := parseHeader(bytes.TrimLeft(p.decoded(n), "\r\n"), p.limits.MaxHeaderBytes, nil)
			return &h
		}
	}
	return nil
}

func idOf(h *header) string {
	if ids := ParseMessageIDs(h.get("message-id")); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// groups reads the groups of fields that make up such a part, which empty lines
// set apart.
func (p *parser) groups(b []byte) []header {
	var groups []header
	for range MaxReportRecipients {
		b = bytes.TrimLeft(b, "\r\n\t ")
		if len(b) == 0 {
			return groups
		}
		h, rest := parseFields(b, p.limits.MaxHeaderBytes, nil, func(string) bool { return true })
		if len(h.fields) == 0 {
			p.defects.add(DefectReport, "group without fields")
			b = afterEmptyLine(b)
			continue
		}
		groups = append(groups, splitRecipients(h)...)
		b = rest
	}
	if len(bytes.TrimSpace(b)) > 0 {
		p.defects.add(DefectReport, "too many recipients")
	}
	return groups
}

func afterEmptyLine(b []byte) []byte {
	for len(b) > 0 {
		line, rest := cutLine(b)
		if b = rest; len(line) == 0 {
			break
		}
	}
	return b
}

// splitRecipients cuts a group in which the empty lines between recipients were lost.
func splitRecipients(h header) []header {
	var (
		groups []header
		start  = 0
		seen   = map[string]bool{}
	)
	for i, f := range h.fields {
		switch f.name {
		case "final-recipient", "original-recipient":
			if seen[f.name] || (f.name == "original-recipient" && seen["final-recipient"] && seen["action"]) {
				groups = append(groups, header{fields: h.fields[start:i]})
				start, seen = i, map[string]bool{}
			}
			seen[f.name] = true
		case "action":
			seen[f.name] = true
		}
	}
	return append(groups, header{fields: h.fields[start:]})
}

// deliveryStatus reads a part of RFC 3464.
func (p *parser) deliveryStatus(b []byte) *Report {
	r := &Report{Kind: ReportDelivery, Dialect: "rfc3464"}
	for _, g := range p.groups(b) {
		if g.has("reporting-mta") {
			r.ReportingMTA = typedValue(g.get("reporting-mta"))
		}
		if said := g.get("arrival-date"); said != "" {
			r.ArrivalDate, _ = ParseDate(said)
		}
		if r.MessageID == "" {
			// Not of the RFC, but written by some.
			for _, name := range []string{"x-original-message-id", "original-message-id"} {
				if ids := ParseMessageIDs(g.get(name)); len(ids) > 0 {
					r.MessageID = ids[0]
				}
			}
		}
		if !g.has("final-recipient") && !g.has("original-recipient") && !g.has("action") {
			continue
		}
		if len(r.Recipients) == MaxReportRecipients {
			p.defects.add(DefectReport, "too many recipients")
			break
		}
		recipient := ReportRecipient{
			Final:      typedAddress(g.get("final-recipient")),
			Original:   typedAddress(g.get("original-recipient")),
			Status:     findStatus(g.get("status")),
			Diagnostic: cut(typedValue(g.get("diagnostic-code")), maxDiagnostic),
			RemoteMTA:  typedValue(g.get("remote-mta")),
		}
		if recipient.Status == "" || strings.HasSuffix(recipient.Status, ".0.0") {
			if better := findStatus(recipient.Diagnostic); better != "" {
				recipient.Status = better
			}
		}
		recipient.Outcome = outcome(firstWord(g.get("action")), recipient.Status, recipient.Diagnostic)
		r.Recipients = append(r.Recipients, recipient)
	}
	if len(r.Recipients) == 0 {
		p.defects.add(DefectReport, "no recipients")
	}
	return r
}

// outcome reads an action (RFC 3464 section 2.3.3). What failed for a transient
// reason was tried for long enough; the address may be good all the same.
func outcome(action, status, diagnostic string) Outcome {
	switch action {
	case "delayed", "delay":
		return OutcomeDelayed
	case "delivered":
		return OutcomeDelivered
	case "relayed":
		return OutcomeRelayed
	case "expanded":
		return OutcomeExpanded
	case "", "failed", "failure":
		class := strings.TrimSpace(status)
		if class == "" {
			class = smtpCode(diagnostic)
		}
		switch {
		case strings.HasPrefix(class, "4"):
			return OutcomeTransient
		case strings.HasPrefix(class, "5"), action != "":
			return OutcomePermanent
		case strings.HasPrefix(class, "2"):
			return OutcomeDelivered
		}
	}
	return OutcomeUnknown
}

// disposition reads a part of RFC 8098.
func (p *parser) disposition(b []byte) *Report {
	r := &Report{Kind: ReportDisposition, Dialect: "rfc8098"}
	for _, g := range p.groups(b) {
		if said := g.get("disposition"); said != "" {
			// manual-action/MDN-sent-manually; displayed/error
			_, kind, _ := strings.Cut(said, ";")
			kind, _, _ = strings.Cut(strings.TrimSpace(kind), "/")
			r.Disposition = firstWord(kind)
		}
		if ids := ParseMessageIDs(g.get("original-message-id")); len(ids) > 0 {
			r.MessageID = ids[0]
		}
		if g.has("final-recipient") && len(r.Recipients) == 0 {
			r.Recipients = []ReportRecipient{{
				Final:    typedAddress(g.get("final-recipient")),
				Original: typedAddress(g.get("original-recipient")),
			}}
		}
		if g.has("reporting-ua") {
			r.ReportingMTA = g.get("reporting-ua")
		}
	}
	return r
}

// feedback reads a part of RFC 5965.
func (p *parser) feedback(b []byte) *Report {
	r := &Report{Kind: ReportComplaint, Dialect: "rfc5965"}
	for _, g := range p.groups(b) {
		if said := firstWord(g.get("feedback-type")); said != "" {
			r.FeedbackType = said
		}
		if g.has("reporting-mta") {
			r.ReportingMTA = typedValue(g.get("reporting-mta"))
		}
		for _, name := range []string{"arrival-date", "received-date"} {
			if said := g.get(name); said != "" && r.ArrivalDate.IsZero() {
				r.ArrivalDate, _ = ParseDate(said)
			}
		}
		for _, said := range g.all("original-rcpt-to") {
			for _, a := range parseAddresses(said, nil) {
				if len(r.Recipients) < MaxReportRecipients {
					r.Recipients = append(r.Recipients, ReportRecipient{Final: a.Address})
				}
			}
		}
	}
	return r
}

// typedValue takes the type off `dns; mx.example.com`.
func typedValue(s string) string {
	if kind, value, ok := strings.Cut(s, ";"); ok && !strings.ContainsAny(strings.TrimSpace(kind), " <@") {
		s = value
	}
	return strings.Join(strings.Fields(s), " ")
}

// typedAddress gives the address of `rfc822; a@x`; an unreadable one as it is.
func typedAddress(s string) string {
	s = typedValue(s)
	if list := parseAddresses(s, nil); len(list) > 0 {
		return list[0].Address
	}
	if len(s) > MaxAddressBytes {
		return ""
	}
	return s
}
