package quotation

import (
	"strings"
)

// Parts is a mail's text sorted into what is new and what is not. The lines in
// each part end with "\n" between them; blank lines around a part are dropped.
type Parts struct {
	// Reply is what was newly written, a forwarded message included.
	Reply string
	// Quoted is what was quoted, with the headings that lead to it, such as
	// "On …, … wrote:".
	Quoted string
	// Signature holds the sender's signature, notes such as "Sent from my
	// iPhone", disclaimers and the footers of mailing lists.
	Signature string
	// Interleaved is set where new text follows a quoted line: a reader of Reply
	// alone may miss what it answers.
	Interleaved bool
}

const (
	// MaxText is the longest plain text in bytes that is sorted; a longer one is
	// Reply as a whole. Real mails are below 1 MiB.
	MaxText = 16 << 20
	// MaxHTML is the longest HTML in bytes that SplitHTML reads.
	MaxHTML = 16 << 20
	// MaxLines is the highest number of non-blank lines that are sorted. A line
	// takes 16 bytes of memory while it is; a text with more is Reply as a whole.
	MaxLines = 1 << 19
)

// Split sorts the lines of a plain text body. Lines end with LF, CRLF or CR.
// Invalid UTF-8 is passed on as it came.
func Split(text string) Parts {
	d, ok := readLines(text)
	if !ok {
		return Parts{Reply: text}
	}

	return d.split()
}

// SplitHTML sorts the visible text of an HTML body, a document or a fragment of
// one, into plain text parts. It takes the text as a reader sees it: white space
// collapsed outside of pre, a line for each block, the alternative text of
// images, no scripts and styles. Beside the signs of plain text it knows the
// elements by which mail programs mark quotations and signatures.
//
// It reports false, and no parts, if html is longer than MaxHTML. Invalid UTF-8
// becomes U+FFFD.
func SplitHTML(html string) (Parts, bool) {
	if len(html) > MaxHTML {
		return Parts{}, false
	}
	r := newRenderer()
	r.render(html)
	text := r.out.String()
	if r.tooMany {
		return Parts{Reply: strings.Trim(text, "\n")}, true
	}

	return r.document(text).split(), true
}

// split classifies all lines and gathers the parts.
func (d *document) split() Parts {
	d.markBlockquotes()
	d.classify()
	d.findSignatures()

	return d.gather()
}

// gather joins the lines of each kind, with at most one blank line where others
// were taken out between.
func (d *document) gather() Parts {
	var p Parts
	var size [kinds]int
	for i := range d.lines {
		size[d.lines[i].kind] += int(d.lines[i].end-d.lines[i].start) + 1
	}
	var part [kinds]strings.Builder
	for k := range part {
		part[k].Grow(size[k])
	}
	quoted := false
	last := [kinds]int{-1, -1, -1}
	for i := range d.lines {
		l := &d.lines[i]
		b := &part[l.kind]
		switch prev := last[l.kind]; {
		case prev < 0:
		case prev == i-1 && l.blank == 0:
			b.WriteByte('\n')
		case prev == i-1:
			for range l.blank + 1 {
				b.WriteByte('\n')
			}
		default:
			b.WriteString("\n\n")
		}
		b.WriteString(d.line(i))
		last[l.kind] = i
		quoted = quoted || l.kind == kindQuoted
		if quoted && l.kind == kindReply {
			p.Interleaved = true
		}
	}
	p.Reply, p.Quoted, p.Signature = part[kindReply].String(), part[kindQuoted].String(), part[kindSignature].String()

	return p
}
