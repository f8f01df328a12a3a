package mail

import "strings"

// decodeWords decodes the encoded words of RFC 2047 wherever they stand, also
// within quotes or words, where they should not be. Neighbours of one charset
// are joined before they are decoded: programs cut characters between them. What
// is no encoded word stays. The time is linear in s.
func decodeWords(s string, d *defects) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	var (
		out     strings.Builder
		pending []byte // decoded bytes of neighbouring words
		charset string
		open    bool
	)
	flush := func() {
		if open {
			out.WriteString(cleanWord(string(toUTF8(pending, charset, d))))
			pending, open = pending[:0], false
		}
	}
	for s != "" {
		at := strings.Index(s, "=?")
		if at < 0 {
			break
		}
		before := s[:at]
		w, n := parseWord(s[at:])
		if n == 0 {
			flush()
			out.WriteString(s[:at+2])
			s = s[at+2:]
			continue
		}
		// White space between two encoded words is not shown.
		if !open || strings.TrimLeft(before, " \t") != "" {
			flush()
			out.WriteString(before)
		}
		if open && !strings.EqualFold(charset, w.charset) {
			flush()
		}
		open, charset = true, w.charset
		pending = append(pending, w.content...)
		s = s[at+n:]
	}
	flush()
	out.WriteString(s)
	return out.String()
}

// cleanWord is cleanLine that keeps the white space around.
func cleanWord(s string) string {
	return strings.Map(func(r rune) rune {
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

type encodedWord struct {
	charset string
	content []byte
}

// parseWord reads an encoded word that s begins with and its length; 0 is none.
func parseWord(s string) (encodedWord, int) {
	const (
		maxCharset = 64
		// maxWord is far beyond the 75 bytes of the RFC: some programs write a
		// whole subject as one word. It keeps the search for the end linear.
		maxWord = 16 << 10
	)
	q := strings.IndexByte(s[2:min(len(s), maxCharset+3)], '?')
	if q < 1 {
		return encodedWord{}, 0
	}
	charset, _, _ := strings.Cut(s[2:2+q], "*") // a language may follow, RFC 2231 section 5
	at := 2 + q + 1
	for at < len(s) && s[at] == ' ' {
		at++
	}
	if at+1 >= len(s) || s[at+1] != '?' || strings.ContainsAny(charset, "=<>\"") {
		return encodedWord{}, 0
	}
	encoding := s[at] | 0x20
	if encoding != 'q' && encoding != 'b' {
		return encodedWord{}, 0
	}
	text := s[at+2 : min(len(s), at+2+maxWord)]
	end, length := strings.Index(text, "?="), 2
	if end < 0 {
		// Cut off: to the next space.
		length = 0
		if end = strings.IndexByte(text, ' '); end < 0 {
			end = len(text)
		}
	}
	if begin := strings.Index(text[:end], " =?"); begin >= 0 {
		end, length = begin, 0
	}
	w := encodedWord{charset: strings.TrimSpace(charset)}
	if encoding == 'b' {
		w.content, _ = decodeBase64([]byte(text[:end]))
	} else {
		w.content = decodeQ(text[:end])
	}
	return w, at + 2 + end + length
}

// decodeQ decodes the Q encoding (RFC 2047 section 4.2).
func decodeQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && hexValue(s[i+1]) < 16 && hexValue(s[i+2]) < 16:
			out = append(out, hexValue(s[i+1])<<4|hexValue(s[i+2]))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}
