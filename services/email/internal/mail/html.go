package mail

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// HTMLToText renders HTML as plain text: blocks as lines, a list's items behind
// "- ", a quotation behind "> " (">> " within one), links with their address
// behind them. Scripts, styles and comments are left out. It reads tokens, never
// a tree: time is linear in the HTML whatever is nested or left open, and the
// result is at most about three times as long.
func HTMLToText(source string) string {
	r := htmlRenderer{}
	r.render(source)
	if r.begun {
		return r.out.String()
	}
	r = htmlRenderer{alt: true}
	r.render(source)
	if r.begun {
		return r.out.String()
	}
	// An element whose text is not shown was left open: better tags cut out
	// crudely than a mail without its text.
	return strings.TrimSpace(html.UnescapeString(stripTags(source)))
}

// maxToken bounds what the tokenizer holds, in bytes. A longer text comes in
// pieces; of a longer tag, as one with a picture in it, nothing is needed.
const maxToken = 256 << 10

func (r *htmlRenderer) render(source string) {
	r.out.Grow(len(source) / 4)
	for source != "" {
		read, last, ended := r.tokens(source)
		if ended {
			return
		}
		before := source[:read]
		source = source[read:]
		switch {
		case r.skip != 0:
			// Within an element whose text is left out.
			end := indexFold(source, "</"+r.skip.String())
			if end < 0 {
				return
			}
			source, r.skip = source[end:], 0
		case last == html.CommentToken && !strings.HasSuffix(before, "-->"):
			_, source, _ = strings.Cut(source, "-->")
		case read == 0:
			// It begins with a tag that is too long.
			_, source, _ = strings.Cut(source, ">")
		}
	}
}

// tokens renders up to where a token is too long. Of a text or comment what went
// in was read; of a tag nothing.
func (r *htmlRenderer) tokens(source string) (read int, last html.TokenType, ended bool) {
	z := html.NewTokenizer(strings.NewReader(source))
	z.SetMaxBuf(maxToken)
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return read, last, !errors.Is(z.Err(), html.ErrBufferExceeded)
		}
		last = kind
		read += len(z.Raw())
		switch kind {
		case html.TextToken:
			if r.skip == 0 {
				r.text(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			r.start(atom.Lookup(name), z, more)
		case html.EndTagToken:
			name, _ := z.TagName()
			r.end(atom.Lookup(name))
		default:
			// Comments and document types.
		}
	}
}

// indexFold is strings.Index for a text in lower case, in any case.
func indexFold(s, lower string) int {
	for at := 0; ; at++ {
		n := strings.IndexByte(s[at:], lower[0])
		if n < 0 || len(s)-at-n < len(lower) {
			return -1
		}
		if at += n; strings.EqualFold(s[at:at+len(lower)], lower) {
			return at
		}
	}
}

// stripTags takes out what stands between angle brackets.
func stripTags(source string) string {
	var out strings.Builder
	for source != "" {
		text, rest, _ := strings.Cut(source, "<")
		out.WriteString(text)
		_, source, _ = strings.Cut(rest, ">")
	}
	return out.String()
}

// stripEnriched makes plain text of text/enriched (RFC 1896), in which two
// opening brackets are one.
func stripEnriched(source string) string {
	pieces := strings.Split(source, "<<")
	for i := range pieces {
		pieces[i] = stripTags(pieces[i])
	}
	return strings.Join(pieces, "<")
}

const (
	// maxQuoteMarks bounds the marks before a line.
	maxQuoteMarks = 8
	// maxBreaks is two empty lines.
	maxBreaks = 3
	// maxRules is how many rules are drawn; they are longer than their tags.
	maxRules = 32
	// maxShownLink is the longest address shown behind a link, in bytes; longer
	// ones are for counting clicks.
	maxShownLink = 200
	// rule is as Outlook draws it, which the rules for quotations know.
	rule = "________________________________"
)

type htmlRenderer struct {
	out strings.Builder
	alt bool // texts of images, too

	skip  atom.Atom // the element whose text is left out
	quote int
	pre   int
	rules int

	begun     bool // there is text
	breaks    int  // line breaks due before the next text
	space     bool // a space is due before the next text
	lineQuote int  // marks of the line written last

	link     string
	linkText int // length of out where the link's text begins
}

func (r *htmlRenderer) start(tag atom.Atom, z *html.Tokenizer, more bool) {
	if r.skip != 0 {
		return
	}
	switch tag {
	case atom.Script, atom.Style, atom.Title, atom.Iframe, atom.Noembed, atom.Noframes, atom.Noscript:
		// The tokenizer gives what they hold as one text.
		r.skip = tag
	case atom.Br:
		r.breaks = min(r.breaks+1, maxBreaks)
	case atom.Blockquote:
		r.block(1)
		r.quote++
	case atom.Li:
		r.block(1)
		r.write([]byte("-"))
		r.space = true
	case atom.Pre:
		r.block(1)
		r.pre++
	case atom.Hr:
		r.block(1)
		if r.rules++; r.rules <= maxRules {
			r.write([]byte(rule))
		}
		r.block(1)
	case atom.Td, atom.Th:
		r.space = true
	case atom.A:
		r.link, r.linkText = "", r.out.Len()
		for more {
			var key, value []byte
			if key, value, more = z.TagAttr(); string(key) == "href" && len(value) <= maxShownLink {
				r.link = strings.TrimSpace(string(value))
			}
		}
	case atom.Img:
		for more && r.alt {
			var key, value []byte
			if key, value, more = z.TagAttr(); string(key) == "alt" && len(value) > 0 {
				r.space = true
				r.text(slices.Concat([]byte("["), value, []byte("]")))
			}
		}
	default:
		r.block(blockBreaks(tag))
	}
}

func (r *htmlRenderer) end(tag atom.Atom) {
	if r.skip != 0 {
		if tag == r.skip {
			r.skip = 0
		}
		return
	}
	switch tag {
	case atom.Blockquote:
		r.block(1)
		r.quote = max(r.quote-1, 0)
	case atom.Pre:
		r.block(1)
		r.pre = max(r.pre-1, 0)
	case atom.A:
		r.endLink()
	default:
		r.block(blockBreaks(tag))
	}
}

// blockBreaks is how many line breaks set a block off: none for what is no block.
func blockBreaks(tag atom.Atom) int {
	switch tag {
	case atom.P, atom.Table, atom.Ul, atom.Ol, atom.Dl, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		return 2
	case atom.Div, atom.Tr, atom.Li, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Address, atom.Center,
		atom.Form, atom.Fieldset, atom.Dt, atom.Dd, atom.Main, atom.Nav, atom.Aside, atom.Body, atom.Head, atom.Caption,
		atom.Figure, atom.Figcaption, atom.Option, atom.Hr:
		return 1
	default:
		return 0
	}
}

// block makes at least n line breaks due.
func (r *htmlRenderer) block(n int) {
	if n > 0 {
		r.breaks = max(r.breaks, n)
		r.space = false
	}
}

// endLink writes a link's address behind its text, where the text does not say it.
func (r *htmlRenderer) endLink() {
	link := r.link
	r.link = ""
	if !strings.HasPrefix(link, "http://") && !strings.HasPrefix(link, "https://") {
		return
	}
	shown := strings.TrimSpace(r.out.String()[r.linkText:])
	if shown == "" || strings.Contains(link, strings.TrimRight(shown, "/")) {
		return
	}
	r.space = true
	r.write([]byte("<" + link + ">"))
}

// text writes text; white space is one space, but for preformatted text.
func (r *htmlRenderer) text(b []byte) {
	if r.pre > 0 {
		for line := range bytes.SplitSeq(b, []byte{'\n'}) {
			r.write(bytes.TrimRight(line, "\r"))
			r.breaks = min(r.breaks+1, maxBreaks)
		}
		r.breaks--
		return
	}
	for len(b) > 0 {
		n := bytes.IndexFunc(b, isHTMLSpace)
		switch {
		case n == 0:
			r.space = true
			b = bytes.TrimLeftFunc(b, isHTMLSpace)
			continue
		case n < 0:
			n = len(b)
		}
		r.write(b[:n])
		b = b[n:]
	}
}

// isHTMLSpace reports white space and what shows as none: zero-width space and
// byte order mark.
func isHTMLSpace(c rune) bool {
	switch c {
	case ' ', '\t', '\n', '\r', '\f', 0xa0, 0x200b, 0xfeff:
		return true
	default:
		return false
	}
}

func (r *htmlRenderer) write(word []byte) {
	if len(word) == 0 {
		return
	}
	marks := min(r.quote, maxQuoteMarks)
	if need := len(word) + (r.breaks+1)*(maxQuoteMarks+2); r.out.Len()+need > r.out.Cap() {
		// Twice the room each time: a builder by itself grows large texts by a quarter.
		r.out.Grow(max(need, r.out.Cap()))
	}
	switch {
	case !r.begun || r.breaks > 0:
		if r.begun {
			r.out.WriteByte('\n')
			for range r.breaks - 1 {
				r.mark(min(marks, r.lineQuote))
				r.out.WriteByte('\n')
			}
		}
		if r.mark(marks); marks > 0 {
			r.out.WriteByte(' ')
		}
		r.lineQuote = marks
	case r.space:
		r.out.WriteByte(' ')
	}
	r.out.Write(word)
	r.begun, r.breaks, r.space = true, 0, false
}

func (r *htmlRenderer) mark(n int) {
	for range n {
		r.out.WriteByte('>')
	}
}
