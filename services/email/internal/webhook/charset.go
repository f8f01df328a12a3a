package webhook

import (
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// toUTF8 decodes a text of a charset by its name (WHATWG, then IANA). A name
// that nobody knows counts as UTF-8; what cannot be decoded becomes U+FFFD.
func toUTF8(text, charset string) string {
	charset = strings.TrimSpace(charset)
	var enc encoding.Encoding
	if charset != "" && len(charset) <= 100 {
		enc, _ = htmlindex.Get(charset)
		if enc == nil || enc == encoding.Replacement {
			enc, _ = ianaindex.IANA.Encoding(charset)
		}
	}
	if enc != nil && enc != encoding.Replacement {
		if decoded, err := enc.NewDecoder().String(text); err == nil {
			text = decoded
		}
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
