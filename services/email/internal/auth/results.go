package auth

import (
	"errors"
	"fmt"
	"strings"
)

// TrustedServer is a server whose Authentication-Results are believed.
type TrustedServer struct {
	// AuthservID is what the server calls itself in the field (RFC 8601, 2.5),
	// for example `mx.google.com`.
	AuthservID string
	// Fields is how many Authentication-Results the server writes on one mail.
	// Defaults to 1. Only so many are read, topmost first: what stands below
	// may be the sender's.
	Fields int
}

// ReportFromHeaders reads the Authentication-Results of trusted servers and
// none else. It is for mail that did pass such a server, which takes away its
// own name where a sender has written it (RFC 8601, 5): on mail that did not,
// anybody could have written the field. A field that cannot be read says
// nothing, and counts as one of the server's.
func ReportFromHeaders(raw []byte, trusted []TrustedServer) Report {
	left := make(map[string]int, len(trusted))
	for _, t := range trusted {
		if id := lowerASCII(strings.TrimSpace(t.AuthservID)); id != "" {
			left[id] = max(t.Fields, 1)
		}
	}
	var r Report
	for _, value := range scanHead(raw).all("authentication-results") {
		results, err := ParseResults(value)
		id := lowerASCII(results.AuthservID)
		if left[id] == 0 {
			continue
		}
		left[id]--
		if err == nil {
			r.add(results)
		}
	}
	return r
}

// add takes over what was not said yet. Of two DMARC results the worse one
// counts, of two of SPF that about MAIL FROM.
func (r *Report) add(results Results) {
	for _, m := range results.Methods {
		switch m.Name {
		case dmarcName:
			if r.DMARC == nil || m.Value == ValueFail {
				r.DMARC = &m
			}
		case spfName:
			if r.SPF == nil || r.SPF.HELO && !m.HELO {
				r.SPF = &m
			}
		case dkimName:
			if len(r.DKIM) < MaxSignatures {
				r.DKIM = append(r.DKIM, m)
			}
		}
	}
}

// Results is what one Authentication-Results field says of dmarc, spf and dkim.
type Results struct {
	AuthservID string
	Methods    []Method
}

const (
	// maxResults bounds a field that is read, in bytes.
	maxResults = 16 << 10
	// maxMethods bounds the results of one field.
	maxMethods = 32
)

var errResults = errors.New("malformed Authentication-Results")

// ParseResults reads the value of an Authentication-Results field (RFC 8601,
// 2.2), folded or not. Comments are left out and quoted strings taken whole,
// so that nothing in them, which may be the sender's words, reads as a result.
// Other methods, and results that are none, are left out. On an error
// AuthservID is still what the field begins with, as far as it could be read.
func ParseResults(value string) (Results, error) {
	tooLong := len(value) > maxResults
	groups, err := splitResults(bounded(unfold(value), maxResults))
	var r Results
	if len(groups) > 0 && len(groups[0]) > 0 {
		r.AuthservID = groups[0][0]
	}
	switch {
	case tooLong:
		return r, fmt.Errorf("%w: longer than %d bytes", errResults, maxResults)
	case err != nil:
		return r, err
	case r.AuthservID == "":
		return r, fmt.Errorf("%w: no authserv-id", errResults)
	case len(groups[0]) > 2 || len(groups[0]) == 2 && groups[0][1] != "1":
		return r, fmt.Errorf("%w: unknown version", errResults)
	case len(groups) > maxMethods+1:
		return r, fmt.Errorf("%w: more than %d results", errResults, maxMethods)
	}
	for _, group := range groups[1:] {
		if m, ok := readMethod(group); ok {
			r.Methods = append(r.Methods, m)
		}
	}
	return r, nil
}

// readMethod reads `method[/version]=result` and its properties.
func readMethod(words []string) (Method, bool) {
	if len(words) == 0 {
		return Method{}, false
	}
	name, result, ok := strings.Cut(words[0], "=")
	name, version, versioned := strings.Cut(lowerASCII(name), "/")
	if !ok || versioned && version != "1" {
		return Method{}, false
	}
	m := Method{Name: name, Value: valueOf(result)}
	if m.Value == "" {
		return Method{}, false
	}
	properties := map[string]string{}
	for _, word := range words[1:] {
		key, v, ok := strings.Cut(word, "=")
		if !ok {
			continue
		}
		key = lowerASCII(key)
		if _, twice := properties[key]; twice {
			// Which one the server meant cannot be told.
			return Method{}, false
		}
		properties[key] = v
	}
	m.Detail = plain(properties["reason"])
	switch name {
	case dmarcName:
		m.Domain = domainPart(properties["header.from"])
	case spfName:
		if from := properties["smtp.mailfrom"]; strings.Trim(from, "<>") != "" {
			m.Domain = domainPart(from)
		} else {
			m.Domain, m.HELO = normalDomain(properties["smtp.helo"]), true
		}
	case dkimName:
		if d, ok := properties["header.d"]; ok {
			m.Domain = normalDomain(d)
		} else {
			m.Domain = domainPart(properties["header.i"])
		}
	default:
		return Method{}, false
	}
	if m.Domain == "" && m.Value == ValuePass {
		// A pass for nobody would be one for anybody.
		return Method{}, false
	}
	return m, true
}

// domainPart is the domain of what may be an address, `@domain` or a domain.
func domainPart(s string) string {
	_, domain, found := cutLast(strings.Trim(s, "<>"), "@")
	if !found {
		domain = strings.Trim(s, "<>")
	}
	return normalDomain(domain)
}

// splitResults cuts a structured value into words, in groups between semicolons.
// Space around the first = of a word is dropped; quotes are taken off, comments
// left out. It reads each byte once.
func splitResults(s string) ([][]string, error) {
	var (
		groups [][]string
		group  []string
		word   strings.Builder
		begun  bool // word has begun, maybe as an empty quoted string
		spaced bool // space or a comment came behind it
	)
	end := func() {
		if begun {
			group = append(group, word.String())
		}
		word.Reset()
		begun, spaced = false, false
	}
	add := func(c byte) {
		// A word goes on across space only behind its =.
		if spaced && begun && (!strings.HasSuffix(word.String(), "=") || strings.Count(word.String(), "=") > 1) {
			end()
		}
		word.WriteByte(c)
		begun, spaced = true, false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			spaced = true
		case '(':
			n := comment(s[i:])
			if n == 0 {
				return append(groups, group), fmt.Errorf("%w: a comment does not end", errResults)
			}
			i += n - 1
			spaced = true
		case '"':
			n := quoted(s[i:])
			if n == 0 {
				return append(groups, group), fmt.Errorf("%w: a quoted string does not end", errResults)
			}
			if spaced && begun && !strings.HasSuffix(word.String(), "=") {
				end()
			}
			begun, spaced = true, false
			for j := i + 1; j < i+n-1; j++ {
				if s[j] == '\\' {
					j++
				}
				word.WriteByte(s[j])
			}
			i += n - 1
		case ';':
			end()
			groups = append(groups, group)
			group = nil
		case '=':
			if spaced && begun && !strings.Contains(word.String(), "=") {
				spaced = false
			}
			add(c)
		default:
			add(c)
		}
	}
	end()
	return append(groups, group), nil
}

// comment is the length of the comment that s begins with, with those nested in
// it; 0 if it does not end.
func comment(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// quoted is the length of the quoted string that s begins with; 0 if it does
// not end.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}
