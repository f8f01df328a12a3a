package quotation

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// document is a text as its non-blank lines.
type document struct {
	text  string
	lines []line
	// blocks are the plain blockquotes, which quote or merely indent.
	blocks []span
	// lastQuoted is the index of the last line with a mark of quotation, or -1.
	lastQuoted int
	// firstNew and firstQuoted are the first lines that say something new and that
	// are quoted, or -1.
	firstNew, firstQuoted int
	// content is where a forwarded message begins, or the number of lines.
	content int
}

// line is a non-blank line, text[start:end] without its line ending.
type line struct {
	start, end int32
	flags      flags
	features   features
	// blank is the number of blank lines before it, maxBlank at most.
	blank uint8
	kind  kind
	label label
}

// span is a range of line indices, from included, to excluded.
type span struct{ from, to int }

type kind uint8

const (
	kindReply kind = iota
	kindQuoted
	kindSignature
	kinds = 3
)

// flags are what is known of a line from its prefix or its element.
type flags uint8

const (
	// flagQuoted: the line carries a mark of quotation of its own.
	flagQuoted flags = 1 << iota
	// flagElement: that mark is an HTML element.
	flagElement
	// flagCut: a mail program began its copy of the older mail here.
	flagCut
	// flagRule: a horizontal rule stands before it.
	flagRule
	// flagSignature: an element for signatures holds it.
	flagSignature
)

const (
	// maxBlank is how many blank lines in a row are kept.
	maxBlank = 3
	// maxIndent is how far in, in bytes, a mark of quotation is looked for.
	maxIndent = 8
	// minBroken is how long in bytes a quoted line is that may have been broken,
	// maxRemnant how long its rest may be.
	minBroken, maxRemnant = 65, 24
)

func newDocument(text string) *document {
	return &document{text: text, lastQuoted: -1, firstNew: -1, firstQuoted: -1}
}

// readLines finds the non-blank lines of text. It reports false if there are too
// many, or the text is too long.
func readLines(text string) (*document, bool) {
	if len(text) > MaxText {
		return nil, false
	}
	d := newDocument(text)
	d.lines = make([]line, 0, min(strings.Count(text, "\n")+1, 1<<12))
	blank := 0
	for start := 0; start < len(text); {
		end, next := lineEnd(text, start)
		if isBlank(text[start:end]) {
			blank++
		} else {
			if len(d.lines) == MaxLines {
				return nil, false
			}
			d.lines = append(d.lines, line{start: int32(start), end: int32(end), blank: uint8(min(blank, maxBlank))})
			blank = 0
		}
		start = next
	}
	d.markPrefixes()

	return d, true
}

// lineEnd gives the end of the line that begins at start, and the start of the
// next one.
func lineEnd(text string, start int) (end, next int) {
	i := strings.IndexAny(text[start:], "\r\n")
	if i < 0 {
		return len(text), len(text)
	}
	end = start + i
	if strings.HasPrefix(text[end:], "\r\n") {
		return end, end + 2
	}

	return end, end + 1
}

func (d *document) line(i int) string {
	return d.text[d.lines[i].start:d.lines[i].end]
}

func (d *document) quoted(i int) bool {
	return i >= 0 && i < len(d.lines) && d.lines[i].flags&flagQuoted != 0
}

// markPrefixes sets flagQuoted by the marks at the beginning of lines.
func (d *document) markPrefixes() {
	for i := range d.lines {
		switch mark := quoteMark(d.line(i)); {
		case mark == "":
		case mark == ">" && d.doubtfulMark(i):
		case mark[0] != '>' && !d.secondMark(i, mark):
		default:
			d.lines[i].flags |= flagQuoted
		}
		if d.lines[i].flags&flagQuoted != 0 {
			d.lastQuoted = i
		}
	}
	for i := range d.lines {
		if !d.quoted(i) && (d.isElision(i) || d.isRemnant(i)) {
			d.lines[i].flags |= flagQuoted
		}
	}
}

// isElision reports whether line i stands for quoted text that was left out.
func (d *document) isElision(i int) bool {
	return elisions[d.line(i)[:min(len(d.line(i)), 16)]] && (d.quoted(i-1) || d.quoted(i+1))
}

var elisions = set("[...]|[…]|(...)|[..]|<...>|[snip]|<snip>|(snip)|[snipped]|<snipped>|[cut]|<cut>")

// isRemnant reports whether line i is the end of a quoted line that was too long
// and lost its mark when it was broken: a few words in the middle of a sentence
// that a quoted line begins and the next quoted line goes on with.
func (d *document) isRemnant(i int) bool {
	if !d.quoted(i-1) || !d.quoted(i+1) || d.lines[i].blank+d.lines[i+1].blank > 0 {
		return false
	}
	before, s, after := d.trimmed(i-1), d.trimmed(i), strings.TrimLeft(d.line(i+1), "> \t")
	if len(before) < minBroken || len(s) > maxRemnant || strings.ContainsAny(before[len(before)-1:]+s, ".?!:;") {
		return false
	}
	first, _ := utf8.DecodeRuneInString(s)
	next, _ := utf8.DecodeRuneInString(after)

	return unicode.IsLower(first) && unicode.IsLower(next)
}

// quoteMark gives what marks a line as quoted: ">", the initials of the quoted
// person with a ">", or "|". It is "" for other lines.
func quoteMark(s string) string {
	t := strings.TrimLeft(s[:min(len(s), maxIndent)], " \t\u00a0")
	s = s[min(len(s), maxIndent)-len(t):]
	if s == "" {
		return ""
	}
	if s[0] == '>' || strings.HasPrefix(s, "|>") || s[0] == '|' && (len(s) == 1 || s[1] == ' ') {
		return s[:1]
	}
	for n := 0; n < len(s) && n <= 4; n++ {
		if s[n] == '>' && n > 0 {
			return s[:n+1]
		}
		if s[n] < 'A' || s[n] > 'Z' {
			return ""
		}
	}

	return ""
}

// doubtfulMark reports whether the ">" of line i may be the sender's own: the
// escape of a mailbox file before "From ", or a sign in running text that came
// to stand at the beginning of a single line.
func (d *document) doubtfulMark(i int) bool {
	s := strings.TrimLeft(d.line(i), " \t\u00a0")
	if d.markedNeighbour(i) {
		return false
	}
	if strings.HasPrefix(s, ">From ") {
		return true
	}
	if len(s) < 2 || s[1] == ' ' || s[1] == '>' || s[1] == '\t' || i == 0 || d.lines[i].blank > 0 || i > 1 && quoteMark(d.line(i-2)) == ">" {
		return false
	}

	return !strings.HasSuffix(strings.TrimRight(d.line(i-1), " \t\u00a0"), ":")
}

// secondMark reports whether line i is one of at least two neighbours that bear
// the same mark: a single "|" or "AB>" may be anything.
func (d *document) secondMark(i int, mark string) bool {
	if mark == "|" {
		// Tables are drawn with bars at both ends.
		if s := strings.TrimRight(d.line(i), " \t"); len(s) > 1 && strings.Count(s[:min(len(s), 400)], "|") > 1 && !strings.HasPrefix(s, "|>") {
			return false
		}
	}

	return i > 0 && quoteMark(d.line(i-1)) == mark || i+1 < len(d.lines) && quoteMark(d.line(i+1)) == mark
}

func (d *document) markedNeighbour(i int) bool {
	return i > 0 && d.lines[i].blank == 0 && quoteMark(d.line(i-1)) == ">" ||
		i+1 < len(d.lines) && d.lines[i+1].blank == 0 && quoteMark(d.line(i+1)) == ">"
}

// isBlank reports whether a line shows nothing.
func isBlank(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c != ' ' && (c < '\t' || c > '\r') {
				return false
			}
			i++

			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !unicode.IsSpace(r) && !invisible(r) {
			return false
		}
		i += n
	}

	return true
}

// invisible are the signs without width that mail programs strew about: soft
// hyphen, joiners, direction marks, byte order mark.
func invisible(r rune) bool {
	return r == 0xad || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x2069 || r == 0xfeff
}

// trimmed is line i without white space and invisible signs at its ends.
func (d *document) trimmed(i int) string {
	return trim(d.line(i))
}

func trim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || invisible(r) })
}
