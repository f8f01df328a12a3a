package mail

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// decodeTransfer undoes a Content-Transfer-Encoding (RFC 2045 section 6). It
// gives b itself where there is nothing to undo. Broken content is decoded as
// far as it goes, and a defect says so. The result is never longer than b.
func decodeTransfer(b []byte, encoding string, text bool, d *defects) []byte {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		return b
	case "base64":
		out, bad := decodeBase64(b)
		if bad > 0 && text {
			if encoded, tail := splitBase64(b); looksPlain(tail) {
				// All of it, or what a mailing list put behind it.
				d.add(DefectEncoding, "says base64, is plain text")
				out, _ = decodeBase64(encoded)
				return append(out, tail...)
			}
		}
		if bad > 0 {
			d.addCount(DefectBase64, bad, "other bytes")
		}
		return out
	case "quoted-printable":
		out, bad := decodeQuotedPrintable(b)
		if bad > 0 {
			d.addCount(DefectQuotedPrintable, bad, "equals signs")
		}
		return out
	case "x-uuencode", "uuencode", "x-uue", "uue":
		if _, content, _, ok := findUU(b); ok {
			return content
		}
		d.add(DefectEncoding, "says "+encoding+", is not")
		return b
	default:
		d.add(DefectEncoding, encoding)
		return b
	}
}

// transferEncoding brings the field's value to a name of decodeTransfer.
func transferEncoding(value string) string {
	value = strings.ToLower(strings.Trim(stripComments(value), " \t\"';"))
	value, _, _ = strings.Cut(value, ";")
	value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	switch value {
	case "7-bit", "7bits":
		return "7bit"
	case "8-bit", "8bits", "utf-8", "utf8", "none":
		return "8bit"
	case "quotedprintable", "quoted_printable", "qp":
		return "quoted-printable"
	}
	return value
}

// splitBase64 cuts b before the first line that is not base64.
func splitBase64(b []byte) (encoded, tail []byte) {
	for rest := b; len(rest) > 0; {
		line, next := cutLine(rest)
		for _, c := range bytes.TrimRight(bytes.TrimSpace(line), "=") {
			if base64Values[c] == 0xff {
				return b[:len(b)-len(rest)], rest
			}
		}
		rest = next
	}
	return b, nil
}

// looksPlain reports whether there are spaces between words: base64 has none
// within its lines.
func looksPlain(b []byte) bool {
	const (
		sample = 4096
		enough = 3
	)
	rest, size, spaces := b[:min(len(b), sample)], 0, 0
	for len(rest) > 0 {
		line, next := cutLine(rest)
		line = bytes.TrimSpace(line)
		size += len(line)
		spaces += bytes.Count(line, []byte{' '})
		rest = next
	}
	return spaces >= enough && spaces*25 > size
}

// base64Values gives the six bits of a character, or 0xff.
var base64Values = func() [256]byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var t [256]byte
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	return t
}()

// decodeBase64 decodes what is base64 and counts the bytes that are not. Padding
// may be missing, or stand within, as when encoded pieces were put together.
func decodeBase64(b []byte) (out []byte, bad int) {
	room := make([]byte, base64.StdEncoding.DecodedLen(len(b))+3)
	if n, err := base64.StdEncoding.Decode(room, b); err == nil {
		return room[:n], 0
	}
	out = room[:0]
	var bits uint32
	n := 0
	flush := func() {
		switch n {
		case 1:
			bad++
		case 2:
			out = append(out, byte(bits>>4))
		case 3:
			out = append(out, byte(bits>>10), byte(bits>>2))
		}
		bits, n = 0, 0
	}
	for _, c := range b {
		v := base64Values[c]
		if v == 0xff {
			switch c {
			case '=':
				flush()
			case ' ', '\t', '\r', '\n':
			default:
				bad++
			}
			continue
		}
		bits = bits<<6 | uint32(v)
		if n++; n == 4 {
			out = append(out, byte(bits>>16), byte(bits>>8), byte(bits))
			bits, n = 0, 0
		}
	}
	flush()
	return out, bad
}

// decodeQuotedPrintable decodes (RFC 2045 section 6.7) and counts the equals
// signs that encode nothing; they stay. White space at the end of lines goes.
func decodeQuotedPrintable(b []byte) (out []byte, bad int) {
	out = make([]byte, 0, len(b))
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		line, eol := b, []byte(nil)
		if end >= 0 {
			line, eol, b = b[:end], b[end:end+1], b[end+1:]
			if end > 0 && line[end-1] == '\r' {
				line, eol = line[:end-1], []byte("\r\n")
			}
		} else {
			b = nil
		}
		line = bytes.TrimRight(line, " \t\r")
		if n := len(line); n > 0 && line[n-1] == '=' {
			line, eol = line[:n-1], nil
		}
		for len(line) > 0 {
			at := bytes.IndexByte(line, '=')
			if at < 0 {
				out = append(out, line...)
				break
			}
			out = append(out, line[:at]...)
			if at+2 < len(line) {
				hi, lo := hexValue(line[at+1]), hexValue(line[at+2])
				if hi < 16 && lo < 16 {
					out = append(out, hi<<4|lo)
					line = line[at+3:]
					continue
				}
			}
			bad++
			out = append(out, '=')
			line = line[at+1:]
		}
		out = append(out, eol...)
	}
	return out, bad
}

// hexValue gives the value of a digit, or 0xff.
func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	default:
		return 0xff
	}
}

// uuFile is where a uuencoded file stands in a text.
type uuFile struct {
	name       string
	start, end int
}

// findUU finds the first uuencoded file in b and decodes it: a line `begin 644
// name`, lines of at most 45 bytes, a line `end`. The end may be missing where b
// ends.
func findUU(b []byte) (file uuFile, content, rest []byte, ok bool) {
	for at := 0; at < len(b); {
		if n := bytes.Index(b[at:], []byte("begin ")); n < 0 {
			return uuFile{}, nil, nil, false
		} else if at += n; at > 0 && b[at-1] != '\n' {
			at += len("begin ")
			continue
		}
		line, next := cutLine(b[at:])
		name, isBegin := uuBegin(line)
		if !isBegin {
			at = len(b) - len(next)
			continue
		}
		content, rest, ok := decodeUU(next)
		if ok {
			return uuFile{name: name, start: at, end: len(b) - len(rest)}, content, rest, true
		}
		// Lines that were read as data are no begin lines: go on behind them.
		at = len(b) - len(rest)
	}
	return uuFile{}, nil, nil, false
}

func uuBegin(line []byte) (name string, ok bool) {
	mode, file, ok := bytes.Cut(bytes.TrimPrefix(line, []byte("begin ")), []byte{' '})
	if !ok || len(mode) < 3 || len(mode) > 4 || len(bytes.TrimSpace(file)) == 0 {
		return "", false
	}
	for _, c := range mode {
		if c < '0' || c > '7' {
			return "", false
		}
	}
	return string(bytes.TrimSpace(file)), true
}

// decodeUU decodes up to and with the line `end`. On failure rest is what was
// not looked at.
func decodeUU(b []byte) (content, rest []byte, ok bool) {
	for rest = b; len(rest) > 0; {
		line, next := cutLine(rest)
		if string(bytes.TrimSpace(line)) == "end" {
			return content, next, len(content) > 0
		}
		if len(line) == 0 || line[0] == '`' || line[0] == ' ' {
			rest = next
			continue
		}
		n := int(line[0]-' ') & 63
		data := line[1:]
		if line[0] < '!' || line[0] > '`' || n > 45 || len(data) < (n*8+5)/6-2 {
			return nil, next, false
		}
		for i := 0; n > 0; i += 4 {
			var q [4]byte
			for j := range q {
				if i+j < len(data) {
					q[j] = (data[i+j] - ' ') & 63
				}
			}
			three := [3]byte{q[0]<<2 | q[1]>>4, q[1]<<4 | q[2]>>2, q[2]<<6 | q[3]}
			content = append(content, three[:min(n, 3)]...)
			n -= 3
		}
		rest = next
	}
	return content, nil, len(content) > 0
}
