package mail

import (
	"bytes"
	"strings"
)

// body is the text of a part of the tree: as plain text, as HTML, or both where
// they are alternatives.
type body struct {
	plain, html string
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// content fills in text, HTML and attachments.
//
// Of alternatives the first plain text with content counts, and the last HTML,
// which is what the author prefers; elsewhere texts follow each other. Where no
// text comes of it, text parts that were taken for attachments are the text,
// too: it must never be lost silently.
func (p *parser) content() {
	bodies := p.walk(p.root)
	var text, html []string
	for _, b := range bodies {
		switch {
		case !blank(b.plain):
			text = append(text, b.plain)
		case !blank(b.html):
			text = append(text, HTMLToText(b.html))
			p.mail.TextFromHTML = true
		}
		if !blank(b.html) {
			html = append(html, b.html)
		}
	}
	p.mail.Text, p.mail.HTML = join(text), join(html)
	if blank(p.mail.Text) {
		p.textOfAttachments()
	}
}

// join puts texts together, each beginning on a line of its own.
func join(texts []string) string {
	if len(texts) == 1 {
		return texts[0]
	}
	var out strings.Builder
	size := 0
	for _, t := range texts {
		size += len(t) + 1
	}
	out.Grow(size)
	for i, t := range texts {
		out.WriteString(t)
		if i < len(texts)-1 && !strings.HasSuffix(t, "\n") {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// walk gives the texts of a part in order, and takes its attachments. The depth
// is that of the tree, which Limits bounds.
func (p *parser) walk(n *part) []body {
	if !n.isContainer() {
		return p.leaf(n)
	}
	var (
		bodies   []body
		perChild [][]body
	)
	for _, child := range n.children {
		of := p.walk(child)
		bodies = append(bodies, of...)
		perChild = append(perChild, of)
	}
	if n.mediaType != "multipart/alternative" || len(bodies) < 2 {
		return bodies
	}
	return alternative(perChild)
}

// alternative chooses among the alternatives of a multipart.
func alternative(children [][]body) []body {
	var (
		chosen body
		last   []body // of the child that the HTML is of
	)
	for _, bodies := range children {
		var plain, html []string
		whole := true
		for _, b := range bodies {
			whole = whole && !blank(b.plain)
			plain = append(plain, b.plain)
			if !blank(b.html) {
				html = append(html, b.html)
			}
		}
		if len(bodies) > 0 && whole && chosen.plain == "" {
			chosen.plain = join(plain)
		}
		if len(html) > 0 {
			chosen.html, last = join(html), bodies
		}
	}
	if chosen.plain == "" && last != nil {
		return last
	}
	return []body{chosen}
}

// leaf gives the text of a leaf, or makes an attachment of it.
func (p *parser) leaf(n *part) []body {
	p.leaves = append(p.leaves, n)
	if len(n.body) == 0 && n.fileName == "" && n.disposition == "" {
		return nil
	}
	if n.mediaType == "" && n.fileName == "" && n.disposition == "" && n.encoding != "base64" && bytes.IndexByte(n.body, 0) < 0 {
		// RFC 2045 section 5.2: what is no type is plain text.
		n.mediaType = "text/plain"
	}
	switch {
	case n.disposition == "attachment" || !isText(n.mediaType) || (n.fileName != "" && n.parent != nil):
		p.attach(n)
		return nil
	case n.mediaType == "text/html":
		return []body{{html: p.text(n)}}
	case n.encoding == "" || n.encoding == "7bit" || n.encoding == "8bit":
		return []body{{plain: p.withoutUU(n)}}
	default:
		return []body{{plain: p.text(n)}}
	}
}

// isText reports the types that a mail's text is written in.
func isText(mediaType string) bool {
	switch mediaType {
	case "text/plain", "text/html", "text/enriched", "text/richtext", "text/markdown", "text/x-markdown":
		return true
	default:
		return false
	}
}

func (p *parser) text(n *part) string {
	b := decodeTransfer(n.body, n.encoding, true, &p.defects)
	return p.textOf(n, b)
}

func (p *parser) textOf(n *part, b []byte) string {
	charset := n.charset()
	if charset == "" && n.mediaType == "text/html" {
		charset = metaCharset(b)
	}
	text := cleanText(toUTF8(b, charset, &p.defects), &p.defects)
	if n.mediaType == "text/enriched" || n.mediaType == "text/richtext" {
		return stripEnriched(text)
	}
	return text
}

// withoutUU is text that takes files of uuencode out of it.
func (p *parser) withoutUU(n *part) string {
	b := n.body
	if !bytes.Contains(b, []byte("begin ")) {
		return p.textOf(n, b)
	}
	var text []byte
	for len(p.mail.Attachments) < p.limits.MaxParts {
		file, content, rest, ok := findUU(b)
		if !ok {
			break
		}
		if text == nil {
			text = make([]byte, 0, len(b))
		}
		text = append(text, b[:file.start]...)
		p.mail.Attachments = append(p.mail.Attachments, Attachment{
			FileName:  cleanFileName(n.header.text([]byte(file.name))),
			MediaType: octetStream,
			Content:   content,
		})
		b = rest
	}
	if text != nil {
		b = append(text, b...)
	}
	return p.textOf(n, b)
}

const octetStream = "application/octet-stream"

func (p *parser) attach(n *part) {
	mediaType := n.mediaType
	if mediaType == "" {
		mediaType = octetStream
	}
	p.mail.Attachments = append(p.mail.Attachments, Attachment{
		FileName:  n.fileName,
		MediaType: mediaType,
		ContentID: n.contentID,
		Inline: n.disposition == "inline" ||
			(n.disposition == "" && n.contentID != "" && n.parent != nil && n.parent.mediaType == "multipart/related"),
		Content: p.decoded(n),
	})
}

// decoded gives the content of a part that is not the mail's text.
func (p *parser) decoded(n *part) []byte {
	if strings.HasPrefix(n.mediaType, "multipart/") {
		return n.body
	}
	return decodeTransfer(n.body, n.encoding, false, &p.defects)
}

// textOfAttachments looks for a text among the parts that are attachments.
func (p *parser) textOfAttachments() {
	for _, n := range p.leaves {
		if n.disposition == "attachment" || !strings.HasPrefix(n.mediaType, "text/") || isData(n.mediaType) {
			continue
		}
		text := p.text(n)
		if blank(text) {
			continue
		}
		if n.mediaType == "text/html" {
			if p.mail.HTML == "" {
				p.mail.HTML = text
			}
			text = HTMLToText(text)
			p.mail.TextFromHTML = true
		}
		if p.mail.Text = text; !blank(text) {
			return
		}
	}
	for _, n := range p.leaves {
		if isText(n.mediaType) && n.disposition != "attachment" && len(bytes.TrimSpace(n.body)) > 0 {
			p.defects.add(DefectNoText, n.mediaType)
			return
		}
	}
}

// isData reports text types that are for programs.
func isData(mediaType string) bool {
	switch mediaType {
	case "text/calendar", "text/vcard", "text/x-vcard", "text/directory", "text/rfc822-headers", "text/x-amp-html", "text/csv", "text/css":
		return true
	default:
		return false
	}
}

// metaCharset finds the charset that HTML says in a meta element of its first
// kilobyte, as WHATWG's prescan does.
func metaCharset(b []byte) string {
	const prescan = 1024
	head := bytes.ToLower(b[:min(len(b), prescan)])
	for {
		at := bytes.Index(head, []byte("<meta"))
		if at < 0 {
			return ""
		}
		head = head[at+len("<meta"):]
		element, _, _ := bytes.Cut(head, []byte{'>'})
		if _, value, ok := bytes.Cut(element, []byte("charset=")); ok {
			value = bytes.TrimLeft(value, "\"' ")
			if end := bytes.IndexAny(value, "\"' ;/>"); end >= 0 {
				value = value[:end]
			}
			return string(value)
		}
	}
}
