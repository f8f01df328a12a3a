package quotation_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/parleyhq/parley/services/email/internal/quotation"
)

// requireSameLetters asserts that the parts hold the signs of the text of an HTML
// body, each as often as it has them, the alternative texts of images aside.
func requireSameLetters(t testing.TB, body string, p quotation.Parts) {
	t.Helper()
	want, got := map[rune]int{}, map[rune]int{}
	tally(want, visibleText(body))
	tally(got, p.Reply+p.Quoted+p.Signature)
	require.Equal(t, want, got)
}

func tally(n map[rune]int, s string) {
	for _, r := range visible(s) {
		n[r]++
	}
}

// visible is s without white space and signs without width.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == 0xad || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x2069 || r == 0xfeff {
			return -1
		}

		return r
	}, s)
}

// visibleText is the text of an HTML body with the alternative texts of images.
func visibleText(body string) string {
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(strings.ToValidUTF8(body, "\ufffd")))
	skip := ""
	for {
		switch z.Next() {
		case html.ErrorToken:
			return b.String()
		case html.TextToken:
			if skip == "" {
				b.Write(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			switch token.Data {
			case "script", "style", "title", "noscript", "iframe", "noembed", "noframes":
				if skip == "" {
					skip = token.Data
				}
			case "img":
				if skip == "" {
					b.WriteString(alt(token))
				}
			}
		case html.EndTagToken:
			if z.Token().Data == skip {
				skip = ""
			}
		default:
		}
	}
}

func alt(token html.Token) string {
	for _, a := range token.Attr {
		if a.Key == "alt" {
			return a.Val
		}
	}

	return ""
}
