package mail

import (
	"bytes"
	"strings"
)

// part is a node of the MIME tree. Its body is a piece of the raw mail.
type part struct {
	header      header
	mediaType   string // in lower case; "" where it could not be read
	params      map[string]string
	disposition string // in lower case; "" where there is none
	fileName    string
	contentID   string
	encoding    string
	body        []byte
	parent      *part
	children    []*part
}

// isContainer reports whether the part consists of its children.
func (p *part) isContainer() bool { return len(p.children) > 0 }

// splitter cuts a mail into its tree. Children are cut within their parent's
// piece, so that a lying inner boundary never reaches outside; the cost is the
// mail's size for each level, and Limits bounds levels and parts.
type splitter struct {
	limits  Limits
	defects *defects
	parts   int
	charset string // of the root, for bytes beyond ASCII in headers
}

// fill reads what a part's header says of its content, and splits it.
func (s *splitter) fill(p *part, depth int) {
	s.parts++
	defaultType := "text/plain"
	if p.parent != nil && p.parent.mediaType == "multipart/digest" {
		defaultType = "message/rfc822"
	}
	contentType := param{value: defaultType, params: map[string]string{}}
	if p.header.has("content-type") {
		said := p.header.get("content-type")
		contentType = parseParam(said, s.defects)
		p.mediaType = normalType(contentType.value)
		switch {
		case p.mediaType == "" && strings.TrimSpace(said) == "":
			p.mediaType = defaultType
		case p.mediaType != contentType.value:
			s.defects.add(DefectContentType, said)
		}
	} else {
		p.mediaType = defaultType
	}
	p.params = contentType.params
	if p.parent == nil {
		if enc, _ := lookupCharset(normalLabel(p.charset())); enc != nil {
			s.charset = p.charset()
			p.header.charset = s.charset
		}
	}
	if p.header.has("content-disposition") {
		disposition := parseParam(p.header.get("content-disposition"), s.defects)
		p.disposition = disposition.value
		p.fileName = disposition.params["filename"]
	}
	for _, name := range []string{"name", "file"} {
		if p.fileName == "" {
			p.fileName = p.params[name]
		}
	}
	p.fileName = cleanFileName(p.fileName)
	if ids := ParseMessageIDs(p.header.get("content-id")); len(ids) > 0 {
		p.contentID = ids[0]
	} else if id := strings.Trim(p.header.get("content-id"), "<> "); len(id) <= MaxIDBytes {
		p.contentID = id
	}
	p.encoding = transferEncoding(p.header.get("content-transfer-encoding"))
	if !strings.HasPrefix(p.mediaType, "multipart/") {
		return
	}
	if depth >= s.limits.MaxDepth {
		s.defects.add(DefectTooDeep, p.mediaType)
		return
	}
	s.split(p, depth)
}

// charset of the part as it says; `encoding` is what some programs write.
func (p *part) charset() string {
	if charset, ok := p.params["charset"]; ok {
		return charset
	}
	return p.params["encoding"]
}

// split cuts a multipart at its boundary. One that never occurs is guessed from
// the body; where there is nothing to guess the part becomes plain text.
func (s *splitter) split(p *part, depth int) {
	boundary := strings.TrimRight(p.params["boundary"], " \t")
	if boundary != "" && s.cutParts(p, boundary, depth) {
		return
	}
	if len(bytes.TrimSpace(p.body)) == 0 {
		s.defects.add(DefectBoundary, "no parts in "+p.mediaType)
		return
	}
	if guessed := guessBoundary(p.body); guessed != "" && guessed != boundary {
		s.defects.add(DefectBoundary, "guessed "+guessed)
		if s.cutParts(p, guessed, depth) {
			return
		}
	}
	s.defects.add(DefectBoundary, "no parts in "+p.mediaType+", taken for text")
	p.mediaType = "text/plain"
}

// cutParts makes children of the pieces between the boundaries and reports
// whether there are any.
func (s *splitter) cutParts(p *part, boundary string, depth int) bool {
	delimiter := []byte("--" + boundary)
	found, ok := nextDelimiter(p.body, delimiter, 0)
	if !ok {
		return false
	}
	for {
		next, more := nextDelimiter(p.body, delimiter, found.after)
		end := len(p.body)
		if more {
			end = next.start
		}
		piece := p.body[min(found.after, end):end]
		switch {
		case found.closing && !more:
			if len(bytes.TrimSpace(piece)) > 0 {
				s.defects.add(DefectEpilogue, string(piece[:min(len(piece), maxDefectText)]))
			}
		case found.closing:
			// Opened again: what stands between is no part.
		case !more && len(bytes.TrimSpace(piece)) == 0:
			// A last boundary that forgot to say it is the last.
			s.defects.add(DefectUnclosed, p.mediaType)
		case s.parts >= s.limits.MaxParts:
			s.defects.add(DefectTooManyParts, p.mediaType)
			return true
		default:
			child := &part{parent: p}
			child.header, child.body = parseHeader(piece, s.limits.MaxHeaderBytes, s.defects)
			child.header.charset = s.charset
			p.children = append(p.children, child)
			s.fill(child, depth+1)
			if !more {
				s.defects.add(DefectUnclosed, p.mediaType)
			}
		}
		if !more {
			break
		}
		found = next
	}
	return len(p.children) > 0
}

// delimiterAt is a boundary line: the content before it ends at start, the line
// break before the boundary being part of it; what follows begins at after.
type delimiterAt struct {
	start, after int
	closing      bool
}

// nextDelimiter finds the next line that is the boundary, alone but for white
// space, or the boundary and two hyphens. Another boundary that begins with this
// one is another one.
func nextDelimiter(b, delimiter []byte, from int) (delimiterAt, bool) {
	for at := from; at < len(b); {
		n := bytes.Index(b[at:], delimiter)
		if n < 0 {
			return delimiterAt{}, false
		}
		at += n
		end := at + len(delimiter)
		if at > 0 && b[at-1] != '\n' && b[at-1] != '\r' {
			at = end
			continue
		}
		found := delimiterAt{start: at}
		tail := b[end:]
		if bytes.HasPrefix(tail, []byte("--")) && !startsBoundaryChar(tail[2:]) {
			found.closing = true
			tail = tail[2:]
			if eol := bytes.IndexAny(tail, "\r\n"); eol >= 0 {
				tail = tail[eol:]
			} else {
				tail = nil
			}
		}
		tail = bytes.TrimLeft(tail, " \t")
		if len(tail) > 0 && tail[0] != '\r' && tail[0] != '\n' {
			at = end
			continue
		}
		// The boundary's own line ends: CRs, then LF.
		for len(tail) > 0 && tail[0] == '\r' {
			tail = tail[1:]
		}
		if len(tail) > 0 && tail[0] == '\n' {
			tail = tail[1:]
		}
		found.after = len(b) - len(tail)
		// The line break before it belongs to it.
		if found.start > from && b[found.start-1] == '\n' {
			found.start--
		}
		for found.start > from && b[found.start-1] == '\r' {
			found.start--
		}
		return found, true
	}
	return delimiterAt{}, false
}

// startsBoundaryChar reports whether b goes on with a character that a boundary
// may have (RFC 2046 section 5.1.1).
func startsBoundaryChar(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	c := b[0]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("'()+_,-./:=?", c) >= 0
}

const (
	// guessWithin are the first bytes of a body in which a boundary is looked for.
	guessWithin = 64 << 10
	// maxGuess is the longest boundary of RFC 2046.
	maxGuess = 70
)

// guessBoundary finds a line that looks like a boundary: two hyphens and a word,
// then a field or an empty line.
func guessBoundary(b []byte) string {
	for rest := b[:min(len(b), guessWithin)]; len(rest) > 0; {
		line, next := cutLine(rest)
		word := bytes.TrimRight(line, " \t")
		if len(word) > 4 && len(word) <= maxGuess+2 && bytes.HasPrefix(word, []byte("--")) &&
			!bytes.ContainsAny(word, " \t") && len(bytes.Trim(word, "-")) > 0 {
			following, _ := cutLine(next)
			if name, _, ok := fieldName(following); ok && isKnown(name) {
				return string(word[2:])
			}
		}
		rest = next
	}
	return ""
}
