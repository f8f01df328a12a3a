package mail

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// header is one header block: its fields in order, names in lower case, values
// as they stand in the mail, with folds and encoded words.
type header struct {
	fields []field
	// charset is what bytes beyond ASCII are in that are no UTF-8; empty is unknown.
	charset string
	defects *defects
}

type field struct {
	name  string
	value []byte
}

// known are the names by which a header is recognised for one.
var known = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(`
		from to cc bcc sender reply-to subject date message-id in-reply-to references
		received return-path delivered-to envelope-to mime-version comments keywords
		apparently-to precedence priority importance sensitivity errors-to user-agent
		auto-submitted authentication-results received-spf dkim-signature
		domainkey-signature disposition-notification-to return-receipt-to organization
		thread-topic thread-index status lines mailing-list encrypted expires
		reporting-mta final-recipient original-recipient feedback-id feedback-type`) {
		m[name] = true
	}
	return m
}()

func isKnown(name string) bool {
	for _, prefix := range []string{"x-", "content-", "list-", "resent-", "arc-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return known[name]
}

// cutLine cuts the first line off. Its end (LF, and CRs before it) is in neither.
func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte{'\n'})
	for len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	return line, rest
}

// fieldName gives the name of a line `name: value`, in lower case, and where its
// value begins. White space before the colon is obsolete syntax (RFC 5322 4.5.8).
func fieldName(line []byte) (name string, value int, ok bool) {
	colon := bytes.IndexByte(line[:min(len(line), maxFieldName+8)], ':')
	if colon < 1 {
		return "", 0, false
	}
	raw := bytes.TrimRight(line[:colon], " \t")
	if len(raw) == 0 || len(raw) > maxFieldName {
		return "", 0, false
	}
	for _, c := range raw {
		if c <= ' ' || c >= 0x7f {
			return "", 0, false
		}
	}
	return strings.ToLower(string(raw)), colon + 1, true
}

// parseHeader reads the header that b begins with and gives what follows it.
// A block without a single known field is no header: all is body. maxBytes
// bounds what is kept, of names and values together.
func parseHeader(b []byte, maxBytes int, d *defects) (h header, body []byte) {
	return parseFields(b, maxBytes, d, isKnown)
}

// parseFields is parseHeader with other names to recognise a header by.
func parseFields(b []byte, maxBytes int, d *defects, isKnown func(name string) bool) (h header, body []byte) {
	h.defects = d
	var (
		rest       = b
		kept       = 0
		familiar   = false
		open       = false // a field is being read
		name       string
		start, end int // of its value in b
	)
	flush := func() {
		if !open {
			return
		}
		open = false
		value := b[start:end]
		if len(value) > maxFieldBytes {
			value = value[:maxFieldBytes]
			d.add(DefectHeaderCut, "field "+name)
		}
		if kept += len(name) + len(value); kept > maxBytes || len(h.fields) >= maxFields {
			kept -= len(name) + len(value)
			d.add(DefectHeaderCut, "too many fields")
			return
		}
		h.fields = append(h.fields, field{name: name, value: value})
	}
	begin := func(at int, line []byte) bool {
		n, value, ok := fieldName(line)
		if !ok {
			return false
		}
		flush()
		open, name, start, end = true, n, at+value, at+len(line)
		familiar = familiar || isKnown(n)
		return true
	}
	finish := func(body []byte) (header, []byte) {
		flush()
		if !familiar {
			return header{defects: d}, b
		}
		return h, body
	}
	for len(rest) > 0 {
		at := len(b) - len(rest)
		line, next := cutLine(rest)
		switch {
		case len(line) == 0:
			if !familiar && !open {
				// An empty line first: a header without fields.
				return header{defects: d}, next
			}
			return finish(next)
		case line[0] == ' ' || line[0] == '\t':
			if open {
				end = at + len(line)
				break
			}
			// An indented first line may be a field all the same.
			indent := len(line) - len(bytes.TrimLeft(line, " \t"))
			if !begin(at+indent, line[indent:]) {
				return finish(rest)
			}
			d.add(DefectHeaderLine, "first line indented")
		case begin(at, line):
		default:
			skipped, ok := untilField(rest, isKnown)
			if !ok {
				if familiar {
					d.add(DefectHeaderEnd, string(line[:min(len(line), maxDefectText)]))
				}
				return finish(rest)
			}
			// Of a fold that lost its indentation, or of nothing.
			d.add(DefectHeaderLine, string(line[:min(len(line), maxDefectText)]))
			end = at + len(rest) - len(skipped)
			next = skipped
		}
		rest = next
	}
	return finish(nil)
}

// untilField skips lines up to one of a known field. It fails where an empty
// line comes first, or what may be the boundary of a body.
func untilField(b []byte, isKnown func(name string) bool) (rest []byte, ok bool) {
	for rest = b; len(rest) > 0; {
		line, next := cutLine(rest)
		if len(bytes.TrimSpace(line)) == 0 || bytes.HasPrefix(line, []byte("--")) {
			return nil, false
		}
		if name, _, ok := fieldName(line); ok && isKnown(name) {
			return rest, true
		}
		rest = next
	}
	return nil, false
}

// raw gives the values of the fields of a name in order.
func (h *header) raw(name string) [][]byte {
	var values [][]byte
	for _, f := range h.fields {
		if f.name == name {
			if values = append(values, f.value); len(values) == maxHeaderLookups {
				break
			}
		}
	}
	return values
}

func (h *header) has(name string) bool {
	for _, f := range h.fields {
		if f.name == name {
			return true
		}
	}
	return false
}

// get gives the first value of a name, unfolded, as UTF-8; encoded words stand
// as they are.
func (h *header) get(name string) string {
	for _, f := range h.fields {
		if f.name == name {
			return h.text(f.value)
		}
	}
	return ""
}

// all is get for every field of a name.
func (h *header) all(name string) []string {
	raw := h.raw(name)
	if len(raw) == 0 {
		return nil
	}
	values := make([]string, 0, len(raw))
	for _, v := range raw {
		values = append(values, h.text(v))
	}
	return values
}

// text unfolds a value and makes it UTF-8 without control characters.
func (h *header) text(value []byte) string {
	if bytes.IndexByte(value, 0) >= 0 {
		h.defects.add(DefectNUL, "in a header field")
	}
	value = unfold(value)
	if !utf8.Valid(value) {
		charset := h.charset
		if charset == "" {
			charset = "windows-1252"
		}
		value = toUTF8(value, charset, h.defects)
	}
	return cleanLine(string(value))
}

// unfold makes one space of each line break and the white space behind it.
func unfold(value []byte) []byte {
	value = bytes.TrimSpace(value)
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return value
	}
	out := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c != '\n' && c != '\r' {
			out = append(out, c)
			continue
		}
		for i+1 < len(value) && (value[i+1] == '\n' || value[i+1] == '\r' || value[i+1] == ' ' || value[i+1] == '\t') {
			i++
		}
		out = append(out, ' ')
	}
	return out
}

// cleanLine makes a line of text of s: valid UTF-8, control characters as
// spaces, NUL left out, no white space around it.
func cleanLine(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if strings.IndexFunc(s, isControl) >= 0 {
		s = strings.Map(func(r rune) rune {
			switch {
			case r == 0:
				return -1
			case isControl(r):
				return ' '
			default:
				return r
			}
		}, s)
	}
	return strings.TrimSpace(s)
}

func isControl(r rune) bool { return r < ' ' || (r >= 0x7f && r < 0xa0) || r == 0x2028 || r == 0x2029 }

// cut shortens s to at most n bytes without cutting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
