package mail

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// toUTF8 makes valid UTF-8 of text that says to be in charset, which may be
// empty, unknown or wrong; then it guesses, and a defect says so. It gives b
// itself where b already is the result. What no guess explains becomes U+FFFD.
//
// The guesses: valid UTF-8 beyond ASCII hardly ever is anything else; text
// labelled UTF-8 with a few bad bytes stays UTF-8; all else is Windows-1252, as
// in WHATWG's Encoding Standard.
func toUTF8(b []byte, charset string, d *defects) []byte {
	label := normalLabel(charset)
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		b = b[3:]
		label = "utf-8"
	}
	ascii := isASCII(b)
	enc, known := lookupCharset(label)
	if enc == nil {
		return fromUnlabelled(b, charset, label, known, ascii, d)
	}
	if ascii && !usesASCII(label) {
		return b
	}
	if singleByte(label) && !ascii && plausibleUTF8(b) {
		d.add(DefectCharsetWrong, "says "+charset+", is utf-8")
		return b
	}
	out, err := decode(enc, b)
	if err != nil {
		return guess(b, charset, d)
	}
	if bytes.Contains(out, []byte("\uFFFD")) {
		if utf8.Valid(b) {
			d.add(DefectCharsetWrong, "says "+charset+", is utf-8")
			return b
		}
		d.add(DefectCharsetWrong, "bytes that are not "+charset)
	}
	return out
}

// fromUnlabelled is toUTF8 for text that says UTF-8, ASCII, nothing, or a name
// that is not known.
func fromUnlabelled(b []byte, charset, label string, known, ascii bool, d *defects) []byte {
	if ascii {
		if label != "utf-8" && bytes.Contains(b, []byte("\x1b$")) {
			// Japanese mail often says nothing of its ISO-2022-JP.
			return toUTF8(b, "iso-2022-jp", d)
		}
		if !known {
			d.add(DefectCharsetUnknown, charset)
		}
		return b
	}
	if label == "utf-8" && utf8.Valid(b) {
		return b
	}
	switch {
	case !known:
		d.add(DefectCharsetUnknown, charset)
	case label == "":
		d.add(DefectCharsetMissing, "beyond ASCII")
	default:
		d.add(DefectCharsetWrong, "says "+charset)
	}
	if utf8.Valid(b) {
		return b
	}
	return guess(b, charset, d)
}

// decode makes UTF-8 of b. Room is made for what most charsets need, two bytes
// for each beyond ASCII, so that a large text is not copied while it grows.
func decode(enc encoding.Encoding, b []byte) ([]byte, error) {
	const slack = 64
	beyond := 0
	for _, c := range b {
		beyond += int(c >> 7)
	}
	out, _, err := transform.Append(enc.NewDecoder(), make([]byte, 0, len(b)+beyond+slack), b)
	return out, err
}

// guess makes UTF-8 of what is neither what it says nor valid UTF-8.
func guess(b []byte, charset string, d *defects) []byte {
	good, bad := 0, 0
	for rest := b; len(rest) > 0; {
		if rest[0] < utf8.RuneSelf {
			rest = rest[1:]
			continue
		}
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			bad++
		} else {
			good++
		}
		rest = rest[n:]
	}
	if good > 3*bad {
		d.add(DefectCharsetWrong, "says "+charset+", is broken utf-8")
		return bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	out, err := decode(charmap.Windows1252, b)
	if err != nil {
		return bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	return out
}

// plausibleUTF8 reports whether b is valid UTF-8 without control characters of
// C1, which nobody writes: those are another charset's letters.
func plausibleUTF8(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for i := 0; i+1 < len(b); i++ {
		if b[i] == 0xc2 && b[i+1] < 0xa0 {
			return false
		}
	}
	return true
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// normalLabel brings a charset's name to the form of the tables.
func normalLabel(charset string) string {
	label := strings.ToLower(strings.Trim(charset, " \t\"';,<>"))
	label = strings.TrimPrefix(label, "charset=")
	label = strings.Trim(label, " \t\"'")
	if len(label) > 64 {
		return "unknown"
	}
	switch label {
	case "utf8", "utf-8", "utf_8", "utf8mb4", "x-utf-8", "unicode-1-1-utf-8", "x-unicode-2-0-utf-8", "cp65001":
		return "utf-8"
	case "us-ascii", "ascii", "usascii", "us_ascii", "ansi_x3.4-1968", "iso646-us", "646", "7bit":
		return "us-ascii"
	case "none", "default", "n/a", "null":
		return ""
	case "utf-16", "utf16", "ucs-2", "iso-10646-ucs-2":
		return "utf-16"
	case "latin1", "latin-1", "iso-latin-1", "ansi", "western", "we8iso8859p1", "8859-1", "8859_1":
		return "windows-1252"
	case "cp932", "ms932", "windows-31j", "shift-jis":
		return "shift_jis"
	case "cp936", "ms936", "x-gbk":
		return "gbk"
	case "cp949", "ms949", "ks_c_5601", "ks_c_5601-1989":
		return "euc-kr"
	case "cp950", "ms950", "x-x-big5":
		return "big5"
	}
	for _, prefix := range []string{"iso8859", "iso-8859", "iso_8859"} {
		if part, ok := strings.CutPrefix(label, prefix); ok {
			part, _, _ = strings.Cut(strings.TrimLeft(part, "-_ "), ":")
			return "iso-8859-" + part
		}
	}
	if part, ok := strings.CutPrefix(label, "win-"); ok {
		return "windows-" + part
	}
	return label
}

// lookupCharset finds the decoder of a normal label. UTF-8, ASCII and no label
// are known without one.
func lookupCharset(label string) (enc encoding.Encoding, known bool) {
	switch label {
	case "", "utf-8", "us-ascii":
		return nil, true
	case "utf-16":
		// Without a byte order mark little-endian is what is met.
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), true
	}
	if enc, err := htmlindex.Get(label); err == nil && enc != encoding.Replacement {
		if enc == unicode.UTF8 {
			return nil, true
		}
		return enc, true
	}
	if enc, err := ianaindex.IANA.Encoding(label); err == nil && enc != nil {
		return enc, true
	}
	return nil, false
}

// usesASCII reports whether bytes of ASCII may mean something else.
func usesASCII(label string) bool {
	return strings.HasPrefix(label, "iso-2022") || strings.HasPrefix(label, "hz") ||
		strings.HasPrefix(label, "utf-16") || strings.HasPrefix(label, "utf-32") || strings.HasPrefix(label, "utf-7") ||
		strings.HasPrefix(label, "ibm037") || strings.HasPrefix(label, "ibm1047") || strings.HasPrefix(label, "ibm01140")
}

func singleByte(label string) bool {
	for _, prefix := range []string{"iso-8859", "windows-125", "cp125", "koi8", "macintosh", "x-mac", "ibm", "cp8"} {
		if strings.HasPrefix(label, prefix) {
			return true
		}
	}
	return false
}

// cleanText makes a text of bytes that are meant to be UTF-8: valid, LF at the
// end of lines, without NUL.
func cleanText(b []byte, d *defects) string {
	nul := bytes.IndexByte(b, 0) >= 0
	if !nul && bytes.IndexByte(b, '\r') < 0 && utf8.Valid(b) {
		return string(b)
	}
	if nul {
		d.add(DefectNUL, "in a text")
	}
	var out strings.Builder
	out.Grow(len(b))
	for len(b) > 0 {
		n := bytes.IndexAny(b, "\r\x00")
		if n < 0 {
			n = len(b)
		}
		writeValid(&out, b[:n])
		if n == len(b) {
			break
		}
		if b[n] == 0 {
			b = b[n+1:]
			continue
		}
		for n < len(b) && b[n] == '\r' {
			n++
		}
		if n < len(b) && b[n] == '\n' {
			n++
		}
		out.WriteByte('\n')
		b = b[n:]
	}
	return out.String()
}

func writeValid(out *strings.Builder, b []byte) {
	if utf8.Valid(b) {
		out.Write(b)
		return
	}
	out.Write(bytes.ToValidUTF8(b, []byte("\uFFFD")))
}
