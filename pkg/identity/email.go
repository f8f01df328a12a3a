package identity

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Bounds of RFC 5321, section 4.5.3.1, in bytes.
const (
	maxLocalPart = 64
	maxDomain    = 253
	maxLabel     = 63
)

// normalizeEmail takes an addr-spec, nothing around it. Quoted local parts and
// address literals are refused: they are legal, and no person has one.
func normalizeEmail(s string) (string, error) {
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at == len(s)-1 {
		return "", ErrMalformed
	}
	local, ok := emailLocal(s[:at])
	if !ok {
		return "", ErrMalformed
	}
	domain, ok := emailDomain(s[at+1:])
	if !ok {
		return "", ErrMalformed
	}
	// RFC 6761 promises that nobody is behind it; shops fill it in for buyers without an address.
	if domain == "invalid" || strings.HasSuffix(domain, ".invalid") {
		return "", ErrPlaceholder
	}
	if local == s[:at] && domain == s[at+1:] {
		return s, nil
	}
	address := local + "@" + domain
	if isPlaceholder(address) {
		return "", ErrPlaceholder
	}
	return address, nil
}

func emailLocal(s string) (string, bool) {
	ascii, lower := true, true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			ascii = false
		case c >= 'A' && c <= 'Z':
			lower = false
		case c <= ' ', c == 0x7f, strings.IndexByte(`"(),:;<>@[\]`, c) >= 0:
			return "", false
		}
	}
	if !ascii {
		// SMTPUTF8: the letters that look the same are the same (RFC 6532
		// recommends NFC). Lower case can undo NFC, so it comes in between.
		s = norm.NFC.String(strings.ToLower(norm.NFC.String(s)))
		if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
			return "", false
		}
	} else if !lower {
		s = strings.ToLower(s)
	}
	return s, s != "" && len(s) <= maxLocalPart
}

func emailDomain(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	if isPlainDomain(s) {
		return s, isPublicDomain(s)
	}
	ascii, err := idna.Lookup.ToASCII(s)
	if err != nil {
		return "", false
	}
	// IDNA maps other full stops than the ASCII one, a last one among them.
	ascii = strings.TrimSuffix(ascii, ".")
	if !isLDH(ascii) {
		return "", false
	}
	return ascii, isPublicDomain(ascii)
}

// isPlainDomain says that IDNA would leave the domain as it is: labels of
// lower case letters, digits and hyphens, none of them in Punycode.
func isPlainDomain(s string) bool {
	return isLDH(s) && !strings.Contains(s, "--")
}

func isLDH(s string) bool {
	if s == "" || len(s) > maxDomain {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			label := s[start:i]
			if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
				return false
			}
			start = i + 1
			continue
		}
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// isPublicDomain wants a top-level domain that is no number: `a@localhost` and
// `a@10.0.0.1` reach nobody from here.
func isPublicDomain(s string) bool {
	dot := strings.LastIndexByte(s, '.')
	return dot > 0 && strings.ContainsFunc(s[dot+1:], func(r rune) bool { return r < '0' || r > '9' })
}

// roleOf is the local part without its plus-suffix.
func roleOf(address string) string {
	local, _, _ := strings.Cut(address, "@")
	local, _, _ = strings.Cut(local, "+")
	return local
}
