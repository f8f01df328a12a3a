package mail

import (
	"regexp"
	"strings"
)

// Reports from before RFC 3464, and from servers that do not follow it, are
// plain text. They are read only where the mail is from a mail system: one with
// an empty return path, from mailer-daemon, with X-Failed-Recipients, or with
// the first line of qmail's; a customer who quotes one reports nothing.

var (
	// statusCode is RFC 3463's, where it stands alone.
	statusCode = regexp.MustCompile(`(?:^|[^0-9.])([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:$|[^0-9.]|\.$|\.\s)`)
	// replyCode is SMTP's, where it stands alone.
	replyCode = regexp.MustCompile(`(?:^|[\s:;(<#])([245][0-9]{2})(?:$|[\s\-:;)#])`)
	// saidBy is the server that refused: `host mx.example.com[192.0.2.1] said`.
	saidBy = regexp.MustCompile(`(?i)\b(?:host|while talking to)\s+([a-z0-9.-]+\.[a-z0-9-]+)`)
)

// findStatus gives the first status code of s, or "".
func findStatus(s string) string {
	if m := statusCode.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// smtpCode gives the first reply code of s, or "".
func smtpCode(s string) string {
	if m := replyCode.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// dialects are recognised by a line that begins so, in lower case.
var dialects = []struct{ name, line string }{
	{"qmail", "hi. this is the "},
	{"exim", "this message was created automatically by mail delivery software"},
	{"postfix", "this is the postfix program at host"},
	{"postfix", "this is the mail system at host"},
	{"sendmail", "----- the following addresses had"},
	{"sendmail", "----- transcript of session follows"},
	{"exchange", "did not reach the following recipient"},
	{"exchange", "delivery has failed to these recipients"},
	{"exchange", "your message did not reach some or all of the intended recipients"},
}

// originals begin the copy of the mail that the report carries in its text.
var originals = []string{
	"--- below this line is a copy of the message",
	"------ this is a copy of the message",
	"------ this is a copy of your message",
	"----- original message",
	"----- unsent message follows",
	"--- the original message follows",
	"--- the headers of the original message",
	"----- message header follows",
}

// textReport reads a report in plain text; nil is none.
func (p *parser) textReport() *Report {
	m, h := p.mail, &p.root.header
	failed := h.all("x-failed-recipients")
	text := cut(m.Text, maxReportText)
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	qmail := strings.HasPrefix(strings.ToLower(first), dialects[0].line)
	official := len(failed) > 0 || p.fromDaemon() || (m.NullReturnPath && (qmail || p.fromPostmaster()))
	if !official {
		return nil
	}
	notice, original := splitOriginal(text)
	r := &Report{Kind: ReportDelivery, Dialect: dialectOf(notice)}
	if r.Dialect == "unknown" && len(failed) > 0 {
		r.Dialect = "exim"
	}
	p.textRecipients(r, notice)
	for _, value := range failed {
		for _, a := range parseAddresses(value, nil) {
			r.add(ReportRecipient{Final: a.Address})
		}
	}
	switch returned := p.returned(); {
	case returned != nil:
		r.MessageID = idOf(returned)
	case original != "":
		oh, _ := parseHeader([]byte(original), p.limits.MaxHeaderBytes, nil)
		r.MessageID = idOf(&oh)
	}
	if len(r.Recipients) == 0 && r.MessageID == "" && r.Dialect == "unknown" {
		// From a mail system, but nothing known says that it is a report.
		return nil
	}
	if len(r.Recipients) == 0 {
		p.defects.add(DefectReport, "no recipients")
	}
	delayed := strings.Contains(strings.ToLower(notice), "has not yet been delivered") ||
		strings.Contains(strings.ToLower(notice), "you do not need to resend") ||
		strings.Contains(strings.ToLower(notice), "this is a warning message only")
	for i := range r.Recipients {
		recipient := &r.Recipients[i]
		action := "failed"
		if delayed {
			action = "delayed"
		}
		recipient.Status = findStatus(recipient.Diagnostic)
		recipient.Outcome = outcome(action, recipient.Status, recipient.Diagnostic)
		if m := saidBy.FindStringSubmatch(recipient.Diagnostic); m != nil {
			recipient.RemoteMTA = m[1]
		}
	}
	return r
}

func (p *parser) fromPostmaster() bool {
	for _, a := range p.mail.From {
		local, _, _ := strings.Cut(strings.ToLower(a.Address), "@")
		if local == "postmaster" || local == "mail-daemon" {
			return true
		}
	}
	return false
}

func dialectOf(notice string) string {
	lower := strings.ToLower(notice)
	for _, d := range dialects {
		if strings.Contains(lower, d.line) {
			return d.name
		}
	}
	return "unknown"
}

// splitOriginal cuts off the copy of the mail reported on. Where no line
// announces it, it begins with its first field.
func splitOriginal(text string) (notice, original string) {
	rest := text
	for rest != "" {
		line, next, _ := strings.Cut(rest, "\n")
		lower := strings.ToLower(strings.TrimSpace(line))
		for _, begin := range originals {
			if strings.HasPrefix(lower, begin) {
				return text[:len(text)-len(rest)], strings.TrimLeft(next, "\n")
			}
		}
		if strings.HasPrefix(lower, "return-path:") || strings.HasPrefix(lower, "received: ") || strings.HasPrefix(lower, "message-id:") {
			return text[:len(text)-len(rest)], rest
		}
		rest = next
	}
	return text, ""
}

// textRecipients finds the addresses that begin a paragraph or stand alone in
// a line, and takes what follows them as the diagnostic:
//
//	<user@example.com>: host mx.example.com said: 550 5.1.1 …	Postfix
//	<user@example.com>:\nSorry, no mailbox here by that name. (#5.1.1)	qmail
//	  user@example.com\n    host mx.example.com [192.0.2.1]: 550 …	Exim
//	<user@example.com>\n    (reason: 550 5.1.1 …)	Sendmail
//	user@example.com on Mon, 26 Aug 2002 …\n    The recipient name is not recognized	Exchange
func (p *parser) textRecipients(r *Report, notice string) {
	var (
		current    *ReportRecipient
		diagnostic []string
	)
	finish := func() {
		if current != nil {
			current.Diagnostic = cut(strings.Join(strings.Fields(strings.Join(diagnostic, " ")), " "), maxDiagnostic)
			r.add(*current)
		}
		current, diagnostic = nil, nil
	}
	for line := range strings.SplitSeq(notice, "\n") {
		if len(r.Recipients) == MaxReportRecipients {
			p.defects.add(DefectReport, "too many recipients")
			return
		}
		trimmed := strings.TrimSpace(line)
		if trimmed == "" {
			// Exim writes what failed right below the address, or nothing.
			if len(diagnostic) > 0 || r.Dialect == "exim" {
				finish()
			}
			continue
		}
		if strings.HasPrefix(trimmed, "-----") {
			finish()
			continue
		}
		if address, rest, ok := beginsRecipient(trimmed, r.Dialect); ok {
			finish()
			current = &ReportRecipient{Final: address}
			if rest != "" {
				diagnostic = append(diagnostic, rest)
			}
			continue
		}
		if current != nil && len(diagnostic) < 50 {
			diagnostic = append(diagnostic, trimmed)
		}
	}
	finish()
}

// beginsRecipient reads a line that begins what is said of a recipient.
func beginsRecipient(line, dialect string) (address, rest string, ok bool) {
	if inner, ok := strings.CutPrefix(line, "<"); ok {
		address, rest, ok = strings.Cut(inner, ">")
		rest = strings.TrimSpace(rest)
		ok = ok && looksAddress(address) && !strings.ContainsAny(address, "< \t") && len(address) <= MaxAddressBytes
		if !ok || (rest != "" && rest[0] != ':' && rest[0] != '(') {
			return "", "", false
		}
		return address, strings.TrimSpace(strings.TrimPrefix(rest, ":")), true
	}
	word, rest, _ := strings.Cut(line, " ")
	word = strings.TrimSuffix(word, ":")
	if !looksAddress(word) || strings.ContainsAny(word, "<>()[],;:/\"") || len(word) > MaxAddressBytes {
		return "", "", false
	}
	if rest == "" || (dialect == "exchange" && strings.HasPrefix(rest, "on ")) {
		return word, "", true
	}
	return "", "", false
}

// add takes a recipient, each address once; there are at most MaxReportRecipients.
func (r *Report) add(recipient ReportRecipient) {
	for i := range r.Recipients {
		if strings.EqualFold(r.Recipients[i].Final, recipient.Final) {
			if r.Recipients[i].Diagnostic == "" {
				r.Recipients[i].Diagnostic = recipient.Diagnostic
			}
			return
		}
	}
	if len(r.Recipients) < MaxReportRecipients {
		r.Recipients = append(r.Recipients, recipient)
	}
}
