package mail

import "strings"

// Address is a mailbox with the name shown. Address is as it was said, at most
// MaxAddressBytes long; it has an at sign unless it stood in angle brackets
// without one, as `<MAILER-DAEMON>` does. Name may be empty.
type Address struct {
	Address string
	Name    string
}

// ParseAddressList reads an address field (RFC 5322 section 3.4 and 4.4, RFC
// 6532) and gives at most MaxAddresses. It takes what is met: names with commas
// that are not quoted, encoded words anywhere, groups (also empty ones, as
// `undisclosed-recipients:;`), routes, comments, missing brackets and commas.
// What has no address is left out. The time is linear in s.
func ParseAddressList(s string) []Address {
	return parseAddresses(s, nil)
}

func parseAddresses(s string, d *defects) []Address {
	p := addressParser{defects: d, noQuote: len(s) + 1, noAngle: len(s) + 1, noComment: len(s) + 1}
	p.run(s)
	if p.full {
		d.add(DefectAddresses, "")
	}
	return p.list
}

// addressParser goes through a field once. words are those of the entry being
// read; what is missing is remembered, so that it is looked for once.
type addressParser struct {
	defects *defects
	list    []Address
	full    bool

	words    []string
	quoted   bool // a word of the entry was quoted
	comment  string
	angle    string
	hasAngle bool
	decoded  bool // the text comes out of an encoded word

	noQuote, noAngle, noComment int // from here on there is no closing one
}

func (p *addressParser) run(s string) {
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case '"':
			i = p.quotedString(s, i)
		case '(':
			i = p.inComment(s, i)
		case '<':
			i = p.inAngle(s, i)
		case ',':
			p.separate(true)
			i++
		case ';':
			p.separate(false)
			i++
		case ':':
			// The name of a group, or `mailto`.
			if p.hasAngle || strings.Contains(p.last(), "@") {
				p.separate(false)
			} else {
				p.reset()
			}
			i++
		case ' ', '\t', '>', ')':
			i++
		default:
			end := i + 1
			if n := strings.IndexAny(s[i:], " \t\",;:<>()"); n >= 0 {
				end = max(end, i+n)
			} else {
				end = len(s)
			}
			word := s[i:end]
			if strings.Contains(word, "@[") && !strings.Contains(word, "]") {
				// A literal of IPv6 has colons.
				if n := strings.IndexAny(s[i:min(len(s), i+MaxAddressBytes)], "] ,"); n > 0 && s[i+n] == ']' {
					end = i + n + 1
					word = s[i:end]
				}
			}
			p.word(word)
			i = end
		}
	}
	p.separate(false)
}

func (p *addressParser) last() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[len(p.words)-1]
}

// word takes a word outside of quotes. A second address where the comma is
// missing begins a new entry.
func (p *addressParser) word(w string) {
	if n := len(p.words); n > 0 && (w[0] == '@' || strings.HasSuffix(p.words[n-1], "@")) && !strings.Contains(strings.Trim(w, "@"), "@") {
		// `a @ b`: obsolete white space.
		if w[0] != '@' || !strings.Contains(p.words[n-1], "@") {
			p.words[n-1] += w
			return
		}
	}
	if p.hasAngle && strings.Contains(p.angle, "@") {
		p.separate(false)
	} else if strings.Contains(w, "@") && !strings.HasPrefix(w, "=?") && looksAddress(p.last()) && looksAddress(w) {
		p.separate(false)
	}
	p.words = append(p.words, w)
}

// quotedString takes a quoted string from i and gives where it ends. A quote
// without its pair, or around an address and a comma, is skipped.
func (p *addressParser) quotedString(s string, i int) int {
	if i >= p.noQuote {
		return i + 1
	}
	var out strings.Builder
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			if j+1 < len(s) {
				j++
				out.WriteByte(s[j])
			}
		case '"':
			text := out.String()
			if at := strings.IndexByte(text, '@'); at >= 0 && strings.Contains(text[at:], ">,") {
				return i + 1
			}
			if j+1 < len(s) && s[j+1] == '@' {
				// A quoted local part.
				end := len(s)
				if n := strings.IndexAny(s[j+1:], " \t,;<>("); n >= 0 {
					end = j + 1 + n
				}
				p.word(s[i:end])
				return end
			}
			if p.hasAngle && strings.Contains(p.angle, "@") {
				p.separate(false)
			}
			if text = strings.TrimSpace(text); text != "" {
				p.words = append(p.words, text)
				p.quoted = true
			}
			return j + 1
		default:
			out.WriteByte(s[j])
		}
	}
	p.noQuote = i
	return i + 1
}

func (p *addressParser) inComment(s string, i int) int {
	if i >= p.noComment {
		return i + 1
	}
	depth := 0
	for j := i; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				if p.comment == "" {
					p.comment = strings.TrimSpace(strings.ReplaceAll(s[i+1:j], `\`, ""))
				}
				return j + 1
			}
		}
	}
	p.noComment = i
	return i + 1
}

// inAngle takes an address in angle brackets. Where the closing one is missing
// it ends at the next separator.
func (p *addressParser) inAngle(s string, i int) int {
	end, next := -1, 0
	quoted, another := false, false
	if i < p.noAngle {
		for j := i + 1; j < len(s) && end < 0 && !another; j++ {
			switch c := s[j]; {
			case c == '"':
				quoted = !quoted
			case c == '\\' && quoted:
				j++
			case c == '>' && !quoted:
				end, next = j, j+1
			case c == '<' && !quoted:
				another = true
			}
		}
		if end < 0 && !another {
			p.noAngle = i
		}
	}
	if end < 0 {
		end = len(s)
		if n := strings.IndexAny(s[i+1:], " \t,;<>\""); n >= 0 {
			end = i + 1 + n
		}
		next = end
	}
	inner := strings.TrimSpace(s[i+1 : end])
	if p.hasAngle {
		if strings.Contains(p.angle, "@") {
			// `<a@x> <b@x>`: the comma is missing.
			p.separate(false)
		} else if p.angle != "" {
			p.words = append(p.words, p.angle)
		}
	}
	p.angle, p.hasAngle = inner, true
	return next
}

// separate ends an entry. A comma behind words without an address is of an
// unquoted name: `Doe, John <j@x>`.
func (p *addressParser) separate(comma bool) {
	if p.hasAngle {
		p.flush()
		return
	}
	for _, w := range p.words {
		if looksAddress(w) {
			p.flush()
			return
		}
	}
	if comma && len(p.words) > 0 && len(p.words) < 32 {
		p.words[len(p.words)-1] += ","
		return
	}
	p.flush()
}

// looksAddress reports whether a word may stand as an address by itself.
func looksAddress(w string) bool {
	at := strings.LastIndexByte(w, '@')
	return at > 0 && at < len(w)-1
}

func (p *addressParser) reset() {
	p.words, p.quoted, p.comment, p.angle, p.hasAngle = p.words[:0], false, "", "", false
}

// flush makes an address of the entry.
func (p *addressParser) flush() {
	defer p.reset()
	address := p.angle
	words := p.words
	if !p.hasAngle {
		address, words = p.bare()
	}
	name := decodeWords(strings.Join(words, " "), p.defects)
	if name == "" && p.comment != "" {
		name = decodeWords(p.comment, p.defects)
	}
	name = cleanLine(name)
	if strings.HasPrefix(name, "'") && strings.HasSuffix(name, "'") && len(name) > 2 {
		name = name[1 : len(name)-1]
	}
	address = cleanAddress(address, p.defects)
	switch {
	case address == "":
		p.without(name)
	case len(address) > MaxAddressBytes:
		p.defects.add(DefectAddress, "too long: "+address)
	default:
		p.put(Address{Address: address, Name: strings.Trim(name, " ,")})
	}
}

// bare finds the address of an entry without angle brackets; the words before
// it are its name, unless a comma stands between.
func (p *addressParser) bare() (address string, name []string) {
	for i := len(p.words) - 1; i >= 0; i-- {
		if !looksAddress(p.words[i]) || strings.HasPrefix(p.words[i], "=?") {
			continue
		}
		name = p.words[:i]
		if i > 0 && strings.HasSuffix(p.words[i-1], ",") {
			name = nil
		}
		return strings.TrimRight(p.words[i], ","), name
	}
	return "", p.words
}

// without ends an entry that has no address. A whole address may be within an
// encoded word.
func (p *addressParser) without(name string) {
	if !p.decoded && strings.Contains(name, "@") {
		inner := addressParser{defects: p.defects, decoded: true, noQuote: len(name) + 1, noAngle: len(name) + 1, noComment: len(name) + 1}
		inner.run(name)
		for _, a := range inner.list {
			p.put(a)
		}
		if len(inner.list) > 0 {
			return
		}
	}
	if name = strings.TrimSpace(name); name != "" && !strings.HasPrefix(strings.ToLower(name), "undisclosed") {
		p.defects.add(DefectAddress, name)
	}
}

func (p *addressParser) put(a Address) {
	if len(p.list) >= MaxAddresses {
		p.full = true
		return
	}
	p.list = append(p.list, a)
}

// cleanAddress takes routes, white space and stray marks off an address.
func cleanAddress(s string, d *defects) string {
	if strings.Contains(s, "=?") {
		s = decodeWords(s, d)
	}
	s = strings.TrimSpace(s)
	if len(s) > 7 && strings.EqualFold(s[:7], "mailto:") {
		s = s[7:]
	}
	if strings.HasPrefix(s, "@") {
		// <@a,@b:user@host>, RFC 5322 section 4.4.
		if colon := strings.LastIndexByte(s, ':'); colon >= 0 {
			s = s[colon+1:]
		}
	}
	if !strings.HasPrefix(s, `"`) {
		s = strings.Join(strings.Fields(stripComments(s)), "")
	}
	s = strings.Trim(cleanLine(s), ".,;:'`")
	if strings.HasPrefix(s, "@") || strings.HasSuffix(s, "@") {
		return ""
	}
	return s
}
