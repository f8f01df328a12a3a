package quotation

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// renderer turns HTML into the lines that a reader sees, each with what the
// elements around it say. It reads tokens, not a tree: nothing is nested deeper
// than maxDepth open elements, and no call recurses.
type renderer struct {
	out   strings.Builder
	lines []line
	// blocks are the plain blockquotes outside of any quoting element.
	blocks  []span
	tooMany bool

	open []element
	// overflow counts the open elements beyond maxDepth.
	overflow int
	// hard and signature count the open elements that quote, or hold a signature.
	hard, signature int
	// soft and plain are the indices in open of the container and the blockquote
	// that wait for more evidence, or -1.
	soft, plain int
	// bounded tells that a quoting blockquote was seen inside the container soft.
	bounded bool

	// pending are flags for the next line.
	pending flags
	// blank is the number of blank lines wanted before the next line.
	blank     int
	lineStart int
	inLine    bool
	space     bool
	pre       int
	skip      atom.Atom
}

// element is an open element.
type element struct {
	name atom.Atom
	role role
	// line is the number of lines before it.
	line int
}

// maxDepth is how many open elements are followed.
const maxDepth = 256

func newRenderer() *renderer {
	return &renderer{soft: -1, plain: -1}
}

// document gives the lines that were rendered; text is what was written to out.
func (r *renderer) document(text string) *document {
	d := newDocument(text)
	d.lines, d.blocks = r.lines, r.blocks
	for i := range d.lines {
		if d.quoted(i) {
			d.lastQuoted = i
		}
	}
	d.markPrefixes()

	return d
}

func (r *renderer) render(s string) {
	z := html.NewTokenizer(strings.NewReader(strings.ToValidUTF8(s, "\ufffd")))
	for {
		switch t := z.Next(); t {
		case html.ErrorToken:
			r.breakLine(0)
			for len(r.open) > 0 {
				r.pop()
			}

			return
		case html.TextToken:
			if r.skip == 0 {
				r.text(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			r.start(z)
		case html.EndTagToken:
			name, _ := z.TagName()
			r.end(atom.Lookup(name))
		default:
		}
	}
}

// text adds characters, with white space collapsed outside of pre.
func (r *renderer) text(raw []byte) {
	text := string(raw)
	if r.pre > 0 {
		for text != "" {
			end, next := lineEnd(text, 0)
			r.write(text[:end])
			if next > end {
				r.newLine()
			}
			text = text[next:]
		}

		return
	}
	for text != "" {
		i := strings.IndexAny(text, " \t\n\r\f")
		if i < 0 {
			r.write(text)

			return
		}
		if i > 0 {
			r.write(text[:i])
		}
		r.space = r.inLine
		text = text[i+1:]
	}
}

// write adds text without line ends to the current line.
func (r *renderer) write(s string) {
	if s == "" {
		return
	}
	if !r.inLine {
		r.inLine = true
		r.lineStart = r.out.Len()
	} else if r.space {
		r.out.WriteByte(' ')
	}
	r.space = false
	r.out.WriteString(s)
}

// newLine ends the current line, or adds a blank one if there is none.
func (r *renderer) newLine() {
	if r.inLine {
		r.breakLine(0)

		return
	}
	r.blank++
}

// breakLine ends the current line if there is one, and asks for blank lines
// before the next.
func (r *renderer) breakLine(blank int) {
	if r.inLine {
		r.inLine, r.space = false, false
		end := r.out.Len()
		if s := r.out.String()[r.lineStart:end]; isBlank(s) {
			r.blank++
		} else if len(r.lines) >= MaxLines {
			r.tooMany = true
		} else {
			r.lines = append(r.lines, line{
				start: int32(r.lineStart), end: int32(end),
				blank: uint8(min(r.blank, maxBlank)), flags: r.flags(),
			})
			r.blank, r.pending = 0, 0
		}
		r.out.WriteByte('\n')
	}
	r.blank = max(r.blank, blank)
}

func (r *renderer) flags() flags {
	f := r.pending
	if r.hard > 0 {
		f |= flagQuoted | flagElement
	}
	if r.signature > 0 {
		f |= flagSignature
	}

	return f
}

// start handles a start tag.
func (r *renderer) start(z *html.Tokenizer) {
	tag, more := z.TagName()
	name := atom.Lookup(tag)
	if r.skip != 0 {
		return
	}
	switch name {
	case 0:
		return
	case atom.Script, atom.Style, atom.Title, atom.Noscript, atom.Iframe, atom.Noembed, atom.Noframes:
		r.skip = name

		return
	case atom.Br:
		r.newLine()

		return
	case atom.Hr:
		r.breakLine(0)
		r.pending |= flagRule
		r.blank = max(r.blank, 1)

		return
	case atom.Img:
		if more {
			r.write(readAttributes(z).alt)
		}

		return
	case atom.Td, atom.Th:
		r.closeCells()
		if r.inLine {
			r.space = true
		}
	default:
		r.breakAt(name)
	}
	if !follows(name) {
		return
	}
	e := element{name: name}
	if more {
		e.role = roleOf(name, readAttributes(z))
	} else if name == atom.Blockquote {
		e.role = roleBlockquote
	} else if name == atom.Pre {
		e.role = rolePre
	}
	r.push(e)
}

// breakAt breaks the line where an element of its own block begins or ends.
func (r *renderer) breakAt(name atom.Atom) {
	switch name {
	case atom.P, atom.Ul, atom.Ol, atom.Dl, atom.Pre, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Blockquote:
		r.breakLine(1)
	case atom.Div, atom.Li, atom.Dt, atom.Dd, atom.Tr, atom.Table, atom.Center, atom.Section, atom.Article, atom.Header, atom.Footer,
		atom.Body, atom.Html, atom.Head, atom.Form, atom.Fieldset, atom.Address, atom.Main, atom.Nav, atom.Aside, atom.Figure,
		atom.Figcaption, atom.Details, atom.Summary, atom.Tbody, atom.Thead, atom.Tfoot, atom.Caption, atom.Option, atom.Textarea:
		r.breakLine(0)
	default:
	}
}

// follows tells the elements whose extent matters. The others, paragraphs above
// all, are often left open.
func follows(name atom.Atom) bool {
	switch name {
	case atom.Div, atom.Span, atom.Blockquote, atom.Table, atom.Td, atom.Th, atom.Section, atom.Article, atom.Pre:
		return true
	default:
		return false
	}
}

func (r *renderer) push(e element) {
	if len(r.open) == maxDepth {
		r.overflow++

		return
	}
	if e.role != roleNone {
		r.breakLine(0)
	}
	e.line = len(r.lines)
	switch e.role {
	case roleQuote:
		if r.hard == 0 && r.soft >= 0 {
			r.bounded = true
		}
		r.hard++
	case roleContainer:
		if r.hard > 0 || r.soft >= 0 {
			e.role = roleNone
		} else {
			r.soft, r.bounded = len(r.open), false
		}
	case roleBlockquote:
		if r.hard > 0 || r.plain >= 0 {
			e.role = roleNone
		} else {
			r.plain = len(r.open)
		}
	case roleSignature:
		r.signature++
	case rolePre:
		r.pre++
	case roleCut:
		r.pending |= flagCut
	case roleRule:
		r.pending |= flagRule
	case roleNone:
	}
	r.open = append(r.open, e)
}

// end handles an end tag.
func (r *renderer) end(name atom.Atom) {
	if r.skip != 0 {
		if r.skip == name {
			r.skip = 0
		}

		return
	}
	switch name {
	case 0:
		return
	case atom.Br, atom.P:
		r.breakAt(atom.P)

		return
	case atom.Tr:
		r.closeCells()
	default:
	}
	r.breakAt(name)
	if !follows(name) {
		return
	}
	if r.overflow > 0 {
		r.overflow--

		return
	}
	for i := len(r.open) - 1; i >= 0; i-- {
		switch at := r.open[i].name; {
		case at == name:
			for len(r.open) > i {
				r.pop()
			}

			return
		case at == atom.Table, (at == atom.Td || at == atom.Th) && name != atom.Table:
			// What is open inside a cell ends with it, and nothing outside does.
			return
		default:
		}
	}
}

// closeCells closes an open cell of the innermost table.
func (r *renderer) closeCells() {
	for i := len(r.open) - 1; i >= 0 && r.open[i].name != atom.Table; i-- {
		if r.open[i].name == atom.Td || r.open[i].name == atom.Th {
			for len(r.open) > i {
				r.pop()
			}

			return
		}
	}
}

// pop closes the innermost element.
func (r *renderer) pop() {
	i := len(r.open) - 1
	e := r.open[i]
	if e.role != roleNone {
		r.breakLine(0)
	}
	switch e.role {
	case roleQuote:
		r.hard--
	case roleContainer:
		if !r.bounded {
			for n := e.line; n < len(r.lines); n++ {
				r.lines[n].flags |= flagQuoted | flagElement
			}
		}
		r.soft = -1
	case roleBlockquote:
		r.blocks = append(r.blocks, span{from: e.line, to: len(r.lines)})
		r.plain = -1
	case roleSignature:
		r.signature--
	case rolePre:
		r.pre--
	default:
	}
	r.open = r.open[:i]
}
