package view

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// MaxTextBytes is how much of a document's normalised text is searchable for
// each text index; what is behind is not found.
const MaxTextBytes = 16 << 10

// NormalizeText makes texts comparable that people take for the same: case
// folded, compatibility forms unified, diacritics off, white space single.
func NormalizeText(s string) string {
	if normalized, ok := normalizeASCII(s); ok {
		return normalized
	}
	var b strings.Builder
	b.Grow(len(s))
	space := true
	folded := cases.Fold().String(norm.NFKD.String(strings.ToValidUTF8(s, "\uFFFD")))
	// Folding may compose anew (U+0345 and the like): decompose once more.
	for _, r := range norm.NFKD.String(folded) {
		switch {
		case unicode.Is(unicode.Mn, r):
		case unicode.IsSpace(r) || r == 0:
			if !space {
				b.WriteByte(' ')
			}
			space = true
		default:
			space = false
			if plain, ok := plainLetters[r]; ok {
				b.WriteString(plain)
			} else {
				b.WriteRune(r)
			}
		}
	}
	return strings.TrimSuffix(b.String(), " ")
}

// plainLetters are letters whose stroke or ligature Unicode does not take apart.
var plainLetters = map[rune]string{
	'ø': "o", 'ł': "l", 'đ': "d", 'ð': "d", 'þ': "th", 'æ': "ae", 'œ': "oe", 'ı': "i", 'ħ': "h", 'ŧ': "t",
}

// normalizeASCII does what most texts need, without Unicode's tables.
func normalizeASCII(s string) (string, bool) {
	clean, space := true, true
	for i := range len(s) {
		c := s[i]
		if c >= utf8.RuneSelf {
			return "", false
		}
		blank := isBlank(c)
		if c >= 'A' && c <= 'Z' || blank && (c != ' ' || space) {
			clean = false
		}
		space = blank
	}
	if clean && !space {
		return s, true
	}
	out := make([]byte, 0, len(s))
	space = true
	for i := range len(s) {
		c := s[i]
		switch {
		case isBlank(c):
			if !space {
				out = append(out, ' ')
			}
			space = true
			continue
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		space = false
		out = append(out, c)
	}
	if space && len(out) > 0 {
		out = out[:len(out)-1]
	}
	return string(out), true
}

// isBlank is unicode.IsSpace for ASCII, and U+0000.
func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0 }

// SearchWords takes a query apart into the words that a document's text must
// contain, normalised, without those that are part of another one. None means
// that the query is too short.
func SearchWords(query string) []string {
	var words []string
	runes := 0
	for word := range strings.FieldsSeq(NormalizeText(query)) {
		words = append(words, word)
		runes += utf8.RuneCountInString(word)
	}
	if runes < MinSearchRunes {
		return nil
	}
	kept := words[:0:0]
	for i, word := range words {
		part := false
		for j, other := range words {
			if i != j && strings.Contains(other, word) && (word != other || j < i) {
				part = true
				break
			}
		}
		if !part {
			kept = append(kept, word)
		}
	}
	return kept
}

// cutText keeps at most the bytes given, whole characters.
func cutText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
