package auth

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"net/netip"
	"strings"
)

const (
	// MaxHeaderBytes bounds the header of a mail that is judged, in bytes.
	// Servers of the field refuse headers long before.
	MaxHeaderBytes = 256 << 10
	// MaxHeaderLines bounds it in lines, folded ones too.
	MaxHeaderLines = 4000
	// MaxAuthors bounds the addresses of From, as the event does.
	MaxAuthors = 16
	// maxFromBytes bounds a From field that is read.
	maxFromBytes = 8 << 10
)

// head is a mail's header, read as the DKIM library reads it: lines end with
// LF, with or without CR, and the first empty line ends it.
type head struct {
	fields []field
	// whole is false where there is no empty line behind the header.
	whole bool
	// tooLarge says that the bounds were met; fields are those before.
	tooLarge bool
}

// field is a header field: the name in lower case without space around it, the
// value with its folding.
type field struct {
	name, value string
}

func scanHead(raw []byte) head {
	var h head
	// A field's value is raw[value:end], unless open is false.
	var value, end int
	open := false
	flush := func() {
		if open {
			h.fields[len(h.fields)-1].value = string(raw[value:end])
		}
	}
	defer func() { flush() }()
	for at, lines := 0, 0; at < len(raw); {
		line, _, _ := bytes.Cut(raw[at:], []byte{'\n'})
		next := at + len(line) + 1
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			h.whole = true
			return h
		}
		if lines++; next > MaxHeaderBytes || lines > MaxHeaderLines {
			h.tooLarge = true
			return h
		}
		if !open || line[0] != ' ' && line[0] != '\t' {
			flush()
			name, _, _ := bytes.Cut(line, []byte{':'})
			h.fields = append(h.fields, field{name: lowerASCII(string(bytes.TrimSpace(name)))})
			open, value = true, min(at+len(name)+1, at+len(line))
		}
		at, end = next, at+len(line)
	}
	return h
}

// all gives the values of the fields of a name in lower case, topmost first.
func (h head) all(name string) []string {
	var values []string
	for _, f := range h.fields {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

// verdictOpen is the verdict of an author that methods must decide on.
const verdictOpen Verdict = -1

// author is what the From field says.
type author struct {
	addresses []string
	domain    string
	// verdict is verdictOpen unless From alone decides, for the reason.
	verdict Verdict
	reason  string
}

func (a author) result() Result {
	return Result{
		Verdict: a.verdict,
		Reason:  a.reason,
		Authors: a.addresses,
		Methods: []Method{{Name: dmarcName, Value: ValuePermError, Detail: a.reason}},
	}
}

func (h head) author() author {
	failed := func(reason string) author { return author{verdict: Fail, reason: reason} }
	if h.tooLarge {
		return failed("the header is too large")
	}
	from := h.all("from")
	switch {
	case len(from) == 0:
		return failed("there is no From field")
	case len(from) > 1:
		return failed("there are several From fields")
	case len(from[0]) > maxFromBytes:
		return failed("the From field is too long")
	}
	addresses := readAddresses(from[0])
	if len(addresses) == 0 {
		return failed("the From field has no address that can be read")
	}
	if len(addresses) > MaxAuthors {
		return failed("the From field has too many addresses")
	}
	a := author{addresses: addresses, verdict: verdictOpen}
	for i, address := range addresses {
		domain := domainOf(address)
		switch {
		case domain == "" && len(addresses) == 1 && isLiteral(address):
			a.verdict, a.reason = None, "the From address has no domain"
			return a
		case domain == "":
			a.verdict, a.reason = Fail, "the From address has no valid domain"
			return a
		case i > 0 && domain != a.domain:
			a.domain = ""
			a.verdict, a.reason = Fail, "the From addresses are of several domains"
			return a
		}
		a.domain = domain
	}
	return a
}

// isLiteral tells an address at an IP address (RFC 5321, 4.1.3).
func isLiteral(address string) bool {
	_, domain, _ := cutLast(address, "@")
	inner, opened := strings.CutPrefix(domain, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !opened || !closed {
		return false
	}
	_, err := netip.ParseAddr(strings.TrimPrefix(inner, "IPv6:"))
	return err == nil
}

// readAddresses reads a From field; nil where it cannot be read. Names in
// charsets that nobody knows and bytes that are not UTF-8 do not matter.
func readAddresses(value string) []string {
	value = strings.ToValidUTF8(unfold(value), "?")
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{
		CharsetReader: func(_ string, in io.Reader) (io.Reader, error) { return in, nil },
	}}
	list, err := parser.ParseList(value)
	if err != nil {
		return readLoneAddress(value)
	}
	addresses := make([]string, len(list))
	for i, a := range list {
		addresses[i] = a.Address
	}
	return addresses
}

// readLoneAddress reads `Anything, Ltd. <local@domain>`, whose name should be
// in quotes and often is not. It is clear as long as there is one @ and one
// pair of angle brackets, which end the field.
func readLoneAddress(value string) []string {
	if strings.Count(value, "@") != 1 || strings.Count(value, "<") != 1 || strings.Count(value, ">") != 1 {
		return nil
	}
	_, inner, _ := strings.Cut(strings.TrimSpace(value), "<")
	inner, ends := strings.CutSuffix(inner, ">")
	if !ends {
		return nil
	}
	a, err := mail.ParseAddress("<" + inner + ">")
	if err != nil {
		return nil
	}
	return []string{a.Address}
}

// unfold takes folding out of a field's value, and NUL with it.
func unfold(value string) string {
	return strings.TrimSpace(strings.NewReplacer("\r\n", "", "\n", "", "\r", " ", "\x00", "").Replace(value))
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// lowerASCII lowers ASCII only: names of fields and domains have nothing else,
// and what Unicode lowers to ASCII must not become equal to it.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}
