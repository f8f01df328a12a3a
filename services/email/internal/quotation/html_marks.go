package quotation

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// role is what an element says of its content.
type role uint8

const (
	roleNone role = iota
	// roleQuote: all within is quoted.
	roleQuote
	// roleContainer: its blockquotes are quoted, or all of it if it has none; text
	// beside its blockquotes is an answer.
	roleContainer
	// roleBlockquote: quoted if it stands below a heading.
	roleBlockquote
	// roleSignature: a signature.
	roleSignature
	// roleCut: the copy of an older mail begins, and does not end.
	roleCut
	// roleRule: a line is drawn above it.
	roleRule
	rolePre
)

const (
	// maxAttribute is how many bytes of an attribute are looked at.
	maxAttribute = 2048
	// maxAttributes is how many attributes of an element are looked at.
	maxAttributes = 64
)

// attributes are those that tell what an element is for.
type attributes struct {
	id, class, style, kind, cite, name, alt string
	// signature: data-signatureblock or data-smartmail names one.
	signature bool
}

func readAttributes(z *html.Tokenizer) attributes {
	var a attributes
	for range maxAttributes {
		key, value, more := z.TagAttr()
		v := value[:min(len(value), maxAttribute)]
		switch string(key) {
		case "id":
			a.id = string(v)
		case "class":
			a.class = string(v)
		case "style":
			a.style = strings.ToLower(string(v))
		case "type":
			a.kind = strings.ToLower(string(v))
		case "cite":
			a.cite = strings.ToLower(string(v))
		case "name":
			a.name = string(v)
		case "alt":
			a.alt = oneLine(string(v))
		case "data-signatureblock":
			a.signature = true
		case "data-smartmail":
			a.signature = string(v) == "gmail_signature"
		}
		if !more {
			break
		}
	}

	return a
}

// oneLine is an attribute cut back to whole characters, with collapsed space.
func oneLine(s string) string {
	for s != "" && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}

	return strings.Join(strings.Fields(s), " ")
}

// roleOf tells what an element is for by the names that mail programs give.
func roleOf(name atom.Atom, a attributes) role {
	if ro := roleOfID(a.id); ro != roleNone {
		return ro
	}
	for class := range strings.FieldsSeq(a.class) {
		if ro := roleOfClass(name, strings.TrimPrefix(strings.TrimPrefix(class, "x_"), "ecx")); ro != roleNone {
			return ro
		}
	}
	if a.signature {
		return roleSignature
	}
	switch {
	case a.name == "quote" || a.name == "messageReplySection":
		return roleQuote
	case a.name == "messageSignatureSection":
		return roleSignature
	case name == atom.Blockquote && (a.kind == "cite" || strings.HasPrefix(a.cite, "mid:") || drawsLeft(a.style)):
		return roleQuote
	case name == atom.Blockquote:
		return roleBlockquote
	case name == atom.Pre:
		return rolePre
	case name == atom.Div && drawsTop(a.style):
		return roleRule
	default:
		return roleNone
	}
}

func roleOfID(id string) role {
	id = strings.TrimPrefix(strings.TrimPrefix(id, "x_"), "ecx")
	switch id {
	case "":
		return roleNone
	case "divRplyFwdMsg", "appendonsend", "mail-editor-reference-message-container", "ms-outlook-mobile-reference-message", "origbody", "reply-intro":
		return roleCut
	case "OLK_SRC_BODY_SECTION", "isReplyContent", "isForwardContent", "replySplit":
		return roleQuote
	case "Signature", "signature", "AppleMailSignature", "ms-outlook-mobile-signature", "yahoo_signature", "divtagdefaultwrapper-signature":
		return roleSignature
	}
	if strings.HasPrefix(id, "yahoo_quoted") {
		return roleQuote
	}

	return roleNone
}

func roleOfClass(name atom.Atom, class string) role {
	switch class {
	case "gmail_quote", "gmail_quote_container", "protonmail_quote", "zmail_extra":
		if name == atom.Blockquote {
			return roleQuote
		}

		return roleContainer
	case "gmail_attr", "moz-cite-prefix", "moz-email-headers-table", "yahoo_quoted", "tutanota_quote", "zmail_extra_hr", "airmail_on",
		"missive_quote", "front-blockquote", "freshdesk_quote", "mailbird_quote", "quoted-mail", "OutlookMessageHeader", "hs_reply", "WM_QUOTE", "cite2":
		return roleQuote
	case "gmail_signature", "moz-signature", "protonmail_signature_block", "ymail_android_signature", "yahoo-signature", "mobile-signature", "mailspring-signature":
		return roleSignature
	}

	return roleNone
}

// drawsLeft reports whether a style draws a line along the left side.
func drawsLeft(style string) bool {
	i := strings.Index(style, "border-left")

	return i >= 0 && drawn(style[i:])
}

// drawsTop reports whether a style draws a line above, and none on the other
// sides, as Outlook does above the copy of a mail.
func drawsTop(style string) bool {
	i := strings.Index(style, "border-top")

	return i >= 0 && drawn(style[i:]) && !strings.Contains(style, "border-left:solid") && !strings.Contains(style, "border-bottom:solid")
}

// drawn reports whether the declaration that style begins with draws a line.
func drawn(style string) bool {
	value, _, _ := strings.Cut(style, ";")

	return !strings.Contains(value, "none") && !strings.HasSuffix(strings.TrimSpace(value), ":0") && !strings.Contains(value, ":0px") && !strings.Contains(value, ": 0px")
}
