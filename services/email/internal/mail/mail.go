package mail

import (
	"bytes"
	"strings"
	"time"
)

// Mail is what a mail says. See Parse.
type Mail struct {
	// MessageID without brackets, never empty. Where the mail has none it is
	// derived from the fields and the body that the author sent, so that two
	// deliveries of it have the same, and MessageIDDerived is set.
	MessageID        string
	MessageIDDerived bool
	// InReplyTo is the id that it answers; the first one, where several are said.
	InReplyTo string
	// References are the ids of the thread, oldest first, at most MaxReferences:
	// the first one and the last ones.
	References []string
	// Subject is decoded, in one line.
	Subject string
	// From, Sender, ReplyTo, To and Cc as said, at most MaxAddresses each.
	From, Sender, ReplyTo, To, Cc []Address
	// Date is when it says it was written, in the zone it says; zero where that
	// is missing or cannot be read.
	Date time.Time
	// EnvelopeRecipients are the addresses of Delivered-To, X-Original-To,
	// Envelope-To and their like, in the header's order, each once. Relays write
	// above what is there, so that the last relay's come first.
	EnvelopeRecipients []string
	// ReturnPath is the envelope's sender where the header says it. NullReturnPath
	// says that it is the empty one of reports and automatic answers.
	ReturnPath     string
	NullReturnPath bool
	// Text is the whole text with quotations and signature; lines end in LF. It
	// is of the plain text parts, else rendered from HTML; TextFromHTML says that
	// some of it is.
	Text         string
	TextFromHTML bool
	// HTML is the HTML parts as they are, but as UTF-8, lines ending in LF.
	HTML string
	// Attachments are all other leaf parts in their order.
	Attachments []Attachment
	// AutoReply says that no human wrote it to us alone: an automatic answer, a
	// report, list or bulk mail. It must not be answered automatically.
	// AutoReplyReason says by which rule; empty where it is false.
	AutoReply       bool
	AutoReplyReason AutoReplyReason
	// ListID is the id of List-Id without brackets.
	ListID string
	// Report is set where the mail reports on another mail.
	Report *Report
	// AuthenticationResults are the fields of that name (RFC 8601), unfolded, in
	// the header's order. Who wrote them is for the caller to judge.
	AuthenticationResults []string
	// Received counts the relays that wrote a field: a loop guard.
	Received int
	// Defects are what was wrong, at most MaxDefects; DefectsOmitted counts more.
	Defects        []Defect
	DefectsOmitted int

	header header
}

// Attachment is a part that is not the mail's text.
type Attachment struct {
	// FileName without path, as sent; may be empty. At most 255 bytes.
	FileName string
	// MediaType in lower case without parameters; application/octet-stream where
	// none could be read. At most 128 bytes.
	MediaType string
	// ContentID without brackets; the HTML may refer to it by cid:.
	ContentID string
	// Inline says that it is meant to be shown within the text.
	Inline bool
	// Content is decoded. It may be a piece of the raw mail: do not change it.
	Content []byte
}

// Parse reads a mail. It never fails; see Mail.Defects for what was wrong.
func Parse(raw []byte, limits Limits) *Mail {
	limits = limits.withDefaults()
	p := parser{limits: limits, mail: &Mail{}}
	p.parse(raw)
	p.mail.Defects, p.mail.DefectsOmitted = p.defects.list, p.defects.omitted
	p.mail.header.defects = nil
	return p.mail
}

// Header gives the first field of a name, or "": unfolded, as UTF-8, encoded
// words as they stand. Case does not matter in name.
func (m *Mail) Header(name string) string { return m.header.get(strings.ToLower(name)) }

// HeaderValues gives all fields of a name in their order, each as Header does;
// at most 1000.
func (m *Mail) HeaderValues(name string) []string { return m.header.all(strings.ToLower(name)) }

// DecodeHeader decodes the encoded words (RFC 2047) of a field's value.
func DecodeHeader(value string) string {
	return cleanLine(decodeWords(value, nil))
}

// parser holds what the steps of Parse share.
type parser struct {
	limits  Limits
	mail    *Mail
	defects defects
	root    *part
	leaves  []*part
}

func (p *parser) parse(raw []byte) {
	if len(raw) > p.limits.MaxBytes {
		p.defects.addCount(DefectOversize, len(raw), "bytes")
		raw = raw[:p.limits.MaxBytes]
	}
	raw = p.strip(raw)
	p.root = &part{}
	p.root.header, p.root.body = parseHeader(raw, p.limits.MaxHeaderBytes, &p.defects)
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		p.defects.add(DefectEmpty, "")
	case len(p.root.header.fields) == 0:
		p.defects.add(DefectNoHeader, "")
	}
	body := p.root.body
	s := splitter{limits: p.limits, defects: &p.defects}
	s.fill(p.root, 0)
	p.mail.header = p.root.header
	p.fields(body)
	p.content()
	p.mail.Report = p.report()
	p.automatic()
}

// strip takes off what does not belong to the mail, and mends what would hide
// its lines.
func (p *parser) strip(raw []byte) []byte {
	if rest, ok := bytes.CutPrefix(raw, []byte("\xef\xbb\xbf")); ok {
		p.defects.add(DefectBOM, "")
		raw = rest
	}
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') >= 0 {
		p.defects.add(DefectBareCR, "")
		raw = bytes.ReplaceAll(raw, []byte{'\r'}, []byte{'\n'})
	}
	// Empty lines before the header come of careless copying.
	trimmed := bytes.TrimLeft(raw, "\r\n")
	line, rest := cutLine(trimmed)
	if bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From ")) {
		p.defects.add(DefectMbox, "")
		return rest
	}
	if name, _, ok := fieldName(line); ok && isKnown(name) {
		return trimmed
	}
	return raw
}

// fields reads the header.
func (p *parser) fields(body []byte) {
	m, h := p.mail, &p.root.header
	for _, name := range []string{"from", "sender", "reply-to", "subject", "date", "message-id", "in-reply-to", "references", "content-type"} {
		if len(h.raw(name)) > 1 {
			p.defects.add(DefectDuplicate, name)
		}
	}
	m.Subject = cleanLine(decodeWords(h.get("subject"), &p.defects))
	m.From = p.addresses("from")
	m.Sender = p.addresses("sender")
	m.ReplyTo = p.addresses("reply-to")
	m.To = p.addresses("to")
	m.Cc = p.addresses("cc")
	p.ids(body)
	if said := h.get("date"); said != "" {
		date, ok := ParseDate(said)
		if !ok {
			p.defects.add(DefectDate, said)
		}
		m.Date = date
	}
	p.envelope()
	m.ListID = listID(decodeWords(h.get("list-id"), &p.defects))
	m.AuthenticationResults = h.all("authentication-results")
	m.Received = len(h.raw("received"))
}

func (p *parser) addresses(name string) []Address {
	var list []Address
	for _, value := range p.root.header.all(name) {
		list = append(list, parseAddresses(value, &p.defects)...)
		if len(list) > MaxAddresses {
			p.defects.add(DefectAddresses, name)
			return list[:MaxAddresses]
		}
	}
	return list
}

func (p *parser) ids(body []byte) {
	m, h := p.mail, &p.root.header
	for _, value := range h.all("message-id") {
		if ids := ParseMessageIDs(value); len(ids) > 0 {
			m.MessageID = ids[0]
			break
		}
		if id := strings.Trim(value, "<> "); id != "" && len(id) <= MaxIDBytes && strings.IndexByte(id, ' ') < 0 {
			// Neither brackets nor at sign, but a word.
			m.MessageID = id
			break
		}
		p.defects.add(DefectMessageID, value)
	}
	if m.MessageID == "" {
		m.MessageID, m.MessageIDDerived = deriveID(h, body), true
	}
	for _, value := range h.all("in-reply-to") {
		if ids := ParseMessageIDs(value); len(ids) > 0 {
			m.InReplyTo = ids[0]
			break
		}
	}
	var references []string
	for _, value := range h.all("references") {
		ids := ParseMessageIDs(value)
		if len(ids) == 0 && value != "" {
			p.defects.add(DefectReferences, value)
		}
		references = append(references, ids...)
	}
	if len(references) > MaxReferences {
		p.defects.addCount(DefectReferences, len(references), "ids")
	}
	m.References = boundReferences(references)
}

// envelopeFields are where relays write to whom the envelope was.
var envelopeFields = map[string]bool{
	"delivered-to": true, "x-original-to": true, "envelope-to": true, "x-envelope-to": true,
	"x-delivered-to": true, "x-forwarded-to": true, "x-rcpt-to": true, "apparently-to": true,
}

func (p *parser) envelope() {
	m, h := p.mail, &p.root.header
	seen := map[string]bool{}
	for _, f := range h.fields {
		if !envelopeFields[f.name] || len(m.EnvelopeRecipients) >= MaxAddresses {
			continue
		}
		for _, a := range parseAddresses(h.text(f.value), &p.defects) {
			if !seen[a.Address] && len(m.EnvelopeRecipients) < MaxAddresses {
				seen[a.Address] = true
				m.EnvelopeRecipients = append(m.EnvelopeRecipients, a.Address)
			}
		}
	}
	if !h.has("return-path") {
		return
	}
	said := stripComments(h.get("return-path"))
	if list := parseAddresses(said, &p.defects); len(list) > 0 {
		m.ReturnPath = list[0].Address
	} else {
		m.NullReturnPath = strings.Contains(strings.ReplaceAll(said, " ", ""), "<>")
	}
}

// listID gives what stands in the brackets of a List-Id (RFC 2919).
func listID(s string) string {
	const maxListID = 512
	if open := strings.LastIndexByte(s, '<'); open >= 0 {
		s, _, _ = strings.Cut(s[open+1:], ">")
	}
	return cut(cleanLine(s), maxListID)
}
