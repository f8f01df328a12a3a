package mail

import (
	"path"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// param is a field's value with parameters, as in Content-Type and
// Content-Disposition (RFC 2045 section 5.1, RFC 2183), names in lower case.
type param struct {
	value  string
	params map[string]string
}

// parseParam reads such a field. It takes what is met: missing semicolons and
// quotes, quotes within quotes, comments, encoded words, bytes beyond ASCII; of
// parameters given twice the first counts. Parameters cut and encoded by RFC
// 2231 are joined.
func parseParam(s string, d *defects) param {
	s = cut(s, maxParamBytes)
	head, rest := s, ""
	if i := strings.IndexByte(s, ';'); i >= 0 {
		head, rest = s[:i], s[i+1:]
	}
	head = strings.TrimSpace(stripComments(head))
	if i := strings.IndexAny(head, " \t"); i >= 0 {
		// `application/pdf name="x"`: the semicolon is missing.
		if strings.Contains(head[i:], "=") {
			rest = head[i:] + ";" + rest
		}
		head = head[:i]
	}
	p := param{value: strings.ToLower(strings.Trim(head, `"' `)), params: map[string]string{}}
	pieces := map[string][]piece{}
	for range maxParams {
		rest = strings.TrimLeft(rest, "; \t")
		if rest == "" {
			break
		}
		end := strings.IndexAny(rest, "=;")
		if end < 0 {
			break
		}
		name := strings.ToLower(strings.TrimSpace(rest[:end]))
		if rest[end] == ';' {
			rest = rest[end+1:]
			continue
		}
		var value string
		value, rest = paramValue(strings.TrimLeft(rest[end+1:], " \t"))
		if base, piece, ok := splitPiece(name, value); ok {
			pieces[base] = append(pieces[base], piece)
		} else if _, ok := p.params[name]; !ok && name != "" {
			p.params[name] = decodeWords(value, d)
		}
	}
	for base, list := range pieces {
		p.params[base] = joinPieces(list, d)
	}
	return p
}

// paramValue reads a value and what follows it. A quoted one may have more
// behind its end, which is of it: `""x".pdf"`. Of backslashes only those before
// a quote or a backslash escape: programs send paths.
func paramValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s, ';')
		if end < 0 {
			return strings.TrimSpace(s), ""
		}
		return strings.TrimSpace(s[:end]), s[end+1:]
	}
	if !strings.Contains(s[1:], `"`) {
		end := strings.IndexByte(s, ';')
		if end < 0 {
			return strings.TrimSpace(s[1:]), ""
		}
		return strings.TrimSpace(s[1:end]), s[end+1:]
	}
	var out strings.Builder
	quoted := true
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			out.WriteByte(s[i])
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return out.String(), s[i+1:]
		case (c == ' ' || c == '\t') && !quoted:
			// The next parameter, its semicolon missing; or nothing.
			return out.String(), s[i+1:]
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), ""
}

// piece is a section of a parameter of RFC 2231: name*2*.
type piece struct {
	number  int
	encoded bool
	value   string
}

func splitPiece(name, value string) (base string, p piece, ok bool) {
	base, rest, ok := strings.Cut(name, "*")
	if !ok || base == "" {
		return "", piece{}, false
	}
	p = piece{value: value}
	if number, ok := strings.CutSuffix(rest, "*"); ok || rest == "" {
		p.encoded, rest = true, number
	}
	if rest != "" {
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 || n > maxParams {
			return "", piece{}, false
		}
		p.number = n
	}
	return base, p, true
}

// joinPieces puts a value together and decodes it. A character may be cut
// between sections.
func joinPieces(list []piece, d *defects) string {
	sort.SliceStable(list, func(i, j int) bool { return list[i].number < list[j].number })
	var (
		out     []byte
		charset = "utf-8"
	)
	for i, p := range list {
		if !p.encoded {
			out = append(out, p.value...)
			continue
		}
		value := p.value
		if i == 0 {
			if parts := strings.SplitN(value, "'", 3); len(parts) == 3 {
				if parts[0] != "" {
					charset = parts[0]
				}
				value = parts[2]
			}
		}
		out = append(out, unpercent(value)...)
	}
	return cleanLine(decodeWords(string(toUTF8(out, charset, d)), d))
}

func unpercent(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := hexValue(s[i+1]), hexValue(s[i+2]); hi < 16 && lo < 16 {
				out = append(out, hi<<4|lo)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}

// stripComments takes comments in round brackets out.
func stripComments(s string) string {
	if strings.IndexByte(s, '(') < 0 {
		return s
	}
	var out strings.Builder
	depth := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// normalType makes a media type in lower case of what was said; "" is for what
// is none.
func normalType(s string) string {
	switch s {
	case "text", "text/", "plain":
		return "text/plain"
	case "html", "<html>", "<html":
		return "text/html"
	case "multipart/", "multipart":
		return "multipart/mixed"
	}
	kind, sub, ok := strings.Cut(s, "/")
	if !ok || len(s) > maxMediaType {
		return ""
	}
	kind, sub = token(kind), token(sub)
	if kind == "" || sub == "" {
		return ""
	}
	return kind + "/" + sub
}

// token cuts s at the first byte that no token has (RFC 2045 section 5.1).
func token(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return s[:i]
		}
	}
	return s
}

// cleanFileName takes the path off a file's name and bounds it; the extension stays.
func cleanFileName(s string) string {
	s = cleanLine(s)
	if i := strings.LastIndexAny(s, `/\`); i >= 0 {
		s = s[i+1:]
	}
	if s == "." || s == ".." {
		return ""
	}
	if len(s) > maxFileName {
		ext := path.Ext(s)
		if len(ext) > 16 || !utf8.ValidString(ext) {
			ext = ""
		}
		s = cut(s, maxFileName-len(ext)) + ext
	}
	return strings.TrimSpace(s)
}
