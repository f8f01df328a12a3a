package webhook

import (
	"bytes"
	"mime"
	"net/mail"
	"strings"
)

const (
	// foldAt is the length from which a line is folded, in bytes: what comes
	// shorter stays as it came, and RFC 5322 allows 998.
	foldAt = 900
	// maxHeaderFields bounds the fields of a rebuilt mail.
	maxHeaderFields = 2000
	// maxReformatted bounds a list of addresses that is read to be written in
	// ASCII, in bytes.
	maxReformatted = 64 << 10
)

// headerField is a field of a mail; the value may be folded.
type headerField struct {
	name, value string
}

// write writes the field as one of RFC 5322. What no field can be is left out.
// Words beyond ASCII are encoded (RFC 2047) where that is certain to be right, in
// free text and in names beside addresses; elsewhere they stay UTF-8 (RFC 6532).
func (f headerField) write(out *bytes.Buffer) {
	if !isFieldName(f.name) {
		return
	}
	// Runs of space become one, so that no line can be blank.
	value := strings.Join(strings.Fields(cleanText(unfold(f.value))), " ")
	if !isASCII(value) {
		value = encodeValue(strings.ToLower(f.name), value)
	}
	out.WriteString(f.name + ":")
	for length := len(f.name) + 1; ; {
		// A word stays whole, however long it is.
		word, rest, more := strings.Cut(value, " ")
		if length+1+len(word) > foldAt && length > 0 {
			out.WriteString("\r\n")
			length = 0
		}
		out.WriteString(" " + word)
		length += 1 + len(word)
		if !more {
			break
		}
		value = rest
	}
	out.WriteString("\r\n")
}

func encodeValue(name, value string) string {
	switch name {
	case "from", "to", "cc", "bcc", "reply-to", "sender", "resent-from", "resent-to":
		if len(value) > maxReformatted {
			return value
		}
		list, err := mail.ParseAddressList(value)
		if err != nil {
			return value
		}
		addresses := make([]string, len(list))
		for i, a := range list {
			addresses[i] = a.String()
		}
		return strings.Join(addresses, ", ")
	case "subject", "comments", "thread-topic", "organization":
		return mime.BEncoding.Encode("utf-8", value)
	default:
		return value
	}
}

// isFieldName tells names of printable ASCII without a colon (RFC 5322, 2.2).
func isFieldName(name string) bool {
	if name == "" || len(name) > maxFieldName {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == ':' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// unfold takes folding out: what follows a line break is part of the value,
// whether it begins with space or not.
func unfold(s string) string {
	return strings.NewReplacer("\r\n\t", " ", "\r\n ", " ", "\n\t", " ", "\n ", " ", "\r\n", " ", "\n", " ", "\r", " ").Replace(s)
}

// readHeader reads a header as text. Lines that are no fields are left out.
func readHeader(text string) []headerField {
	var fields []headerField
	// A field's value is text[begin:end].
	begin, end := 0, 0
	open := false
	flush := func() {
		if open {
			fields[len(fields)-1].value = strings.TrimSpace(text[begin:end])
		}
	}
	for at := 0; at < len(text); {
		line, _, _ := strings.Cut(text[at:], "\n")
		next := at + len(line) + 1
		line = strings.TrimSuffix(line, "\r")
		switch {
		case line != "" && (line[0] == ' ' || line[0] == '\t'):
			end = at + len(line)
		default:
			flush()
			open = false
			name, _, ok := strings.Cut(line, ":")
			if ok && isFieldName(strings.TrimRight(name, " \t")) && len(fields) < maxHeaderFields {
				fields = append(fields, headerField{name: strings.TrimRight(name, " \t")})
				open, begin, end = true, at+len(name)+1, at+len(line)
			}
		}
		at = next
	}
	flush()
	return fields
}

// first is the value of the topmost field of a name, unfolded; empty without one.
func first(fields []headerField, name string) string {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			return cleanText(unfold(f.value))
		}
	}
	return ""
}

// complete adds a field behind the others where the header has none of that
// name and there is a value.
func complete(fields []headerField, name, value string) []headerField {
	if value == "" {
		return fields
	}
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			return fields
		}
	}
	return append(fields, headerField{name: name, value: value})
}

// topHeader reads the header of a raw mail, as far as it is looked at.
func topHeader(raw []byte) []headerField {
	const most = 256 << 10
	raw = raw[:min(len(raw), most)]
	for _, empty := range [][]byte{[]byte("\r\n\r\n"), []byte("\n\n")} {
		if head, _, ok := bytes.Cut(raw, empty); ok {
			raw = head
		}
	}
	return readHeader(string(raw))
}

// messageID is the Message-ID of a header without angle brackets.
func messageID(fields []headerField) string {
	id := strings.TrimSuffix(strings.TrimPrefix(first(fields, "Message-ID"), "<"), ">")
	if len(id) > 998 {
		return ""
	}
	return id
}
