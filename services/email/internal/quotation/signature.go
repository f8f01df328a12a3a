package quotation

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// findSignatures moves the signatures at the ends of runs of new lines from
// Reply to Signature. What a mail forwards is left as it is.
func (d *document) findSignatures() {
	for i := 0; i < d.content; {
		if d.lines[i].kind != kindReply {
			i++

			continue
		}
		if d.lines[i].flags&flagSignature != 0 {
			i = d.signatureElement(i)

			continue
		}
		end := i + 1
		for end < d.content && d.lines[end].kind == kindReply && d.lines[end].flags&flagSignature == 0 {
			end++
		}
		d.peel(i, end)
		i = end
	}
}

const (
	// maxPieces is how many pieces are taken off one end.
	maxPieces = 5
	// maxSignature is how many lines below a "-- " are still a signature.
	maxSignature = 20
	// maxBlock is how many lines a block without that delimiter has.
	maxBlock = 12
	// maxContactLine is how long in bytes a line of a signature block may be.
	maxContactLine = 90
	// maxDisclaimer is how far up, in lines, a disclaimer may begin.
	maxDisclaimer = 16
)

// signatureElement takes the lines of an element for signatures, unless there
// are so many that somebody wrote the mail inside it.
func (d *document) signatureElement(from int) (end int) {
	end = from
	for end < d.content && d.lines[end].kind == kindReply && d.lines[end].flags&flagSignature != 0 {
		end++
	}
	if end-from <= maxSignature && d.anyAbove(from) {
		d.take(from, end, kindSignature)
	}

	return end
}

// anyAbove reports whether anything new or quoted stands above line i.
func (d *document) anyAbove(i int) bool {
	return d.firstNew >= 0 && d.firstNew < i || d.firstQuoted >= 0 && d.firstQuoted < i
}

// newAbove reports whether anything new stands above line i.
func (d *document) newAbove(i int) bool {
	return d.firstNew >= 0 && d.firstNew < i
}

// peel takes what belongs to signatures off the end of the run [from,end), piece
// by piece: the footer of a list, a disclaimer, a signature, a note on the device.
func (d *document) peel(from, end int) {
	for n := 0; n < maxPieces && end > from; n++ {
		start := end
		for _, find := range []func(from, end int) int{
			d.listFooter, d.pgpBlock, d.disclaimer, d.delimited, d.deviceNote, d.closing, d.contacts,
		} {
			if start = find(from, end); start < end {
				break
			}
		}
		if start >= end {
			return
		}
		d.take(start, end, kindSignature)
		end = start
	}
}

// delimited finds the signature below a line "-- " (RFC 3676, section 4.3). Where
// the space at its end was lost the line must be the only one of its kind.
func (d *document) delimited(from, end int) int {
	bare, bares := end, 0
	for i := max(from, end-maxSignature-1); i < end; i++ {
		s := d.line(i)
		switch s {
		case "-- ", "- -- ", "--\u00a0":
			return i
		}
		if s = trim(s); s == "--" || s == "- --" {
			bare = i
			bares++
		}
	}
	if bares != 1 || !d.anyAbove(bare) {
		return end
	}

	return bare
}

// deviceNote finds "Sent from my iPhone" and its like in the last line, with the
// name of the sender directly above it.
func (d *document) deviceNote(from, end int) int {
	i := end - 1
	if i < from || !isDeviceNote(d.trimmed(i)) {
		return end
	}
	if i-1 > from && d.lines[i].blank == 0 && d.lines[i-1].blank > 0 && isName(d.trimmed(i-1)) && d.newAbove(i-1) {
		return i - 1
	}

	return i
}

// closing finds a complimentary close with a name and at least one line of
// contact data below it.
func (d *document) closing(from, end int) int {
	contacts := 0
	for i := end - 1; i >= max(from, end-maxBlock); i-- {
		s := d.trimmed(i)
		if isClosing(s) {
			if contacts == 0 || !d.newAbove(i) {
				return end
			}

			return i
		}
		if isPostscript(s) {
			return end
		}
		if contactKind(s) != 0 {
			contacts++
		} else if !isBlockLine(s) {
			return end
		}
	}

	return end
}

// contacts finds a block without a close: below a rule, a dash and a name, or a
// blank line and a name, with at least two kinds of contact data, and one of them
// below the dash.
func (d *document) contacts(from, end int) int {
	var found contact
	best := end
	for i := end - 1; i > max(from, end-maxBlock-1); i-- {
		s := d.trimmed(i)
		c := contactKind(s)
		found |= c
		several := found&(found-1) != 0
		switch {
		case !d.newAbove(i) || isPostscript(s) || c == 0 && !isBlockLine(s) && !d.isRule(i):
			return best
		case several && d.isRule(i), found != 0 && isDashedName(s) && d.lines[i].blank > 0:
			return i
		case best == end && several && c == 0 && d.lines[i].blank > 0 && isName(s):
			if above := d.trimmed(i - 1); strings.HasSuffix(above, ":") || announces(above) {
				return end
			}
			// A rule further up would be where the block begins.
			best = i
		}
	}

	return best
}

// listFooter finds the footer that a mailing list or a free mail service adds
// below a rule. It speaks of itself close below the rule, and gives an address.
func (d *document) listFooter(from, end int) int {
	speaks, link := end+maxBlock, false
	for i := end - 1; i >= max(from, end-maxBlock); i-- {
		s := d.trimmed(i)
		if len(s) > maxHeading {
			return end
		}
		lower := strings.ToLower(s)
		if containsAny(lower, footerSigns) {
			speaks = i
		}
		link = link || strings.Contains(s, "://") || strings.Contains(s, "www.") || strings.Contains(s, "@")
		if speaks-i > 3 || !link || !d.anyAbove(i) {
			continue
		}
		wide := strings.HasPrefix(s, "____________________") || strings.HasPrefix(s, "----------------------------------------")
		if wide && d.isRule(i) || speaks == i && strings.HasPrefix(s, "-----") {
			return i
		}
	}

	return end
}

// pgpBlock finds an OpenPGP signature (RFC 9580, section 6.2).
func (d *document) pgpBlock(from, end int) int {
	if d.trimmed(end-1) != "-----END PGP SIGNATURE-----" {
		return end
	}
	for i := end - 1; i >= max(from, end-64); i-- {
		if d.trimmed(i) == "-----BEGIN PGP SIGNATURE-----" {
			return i
		}
	}

	return end
}

// disclaimer finds a paragraph at the end that opens and speaks as disclaimers do.
func (d *document) disclaimer(from, end int) int {
	terms, size, core := 0, 0, false
	for i := end - 1; i > max(from, end-maxDisclaimer); i-- {
		s := d.trimmed(i)
		if size += len(s); size > 6000 {
			return end
		}
		lower := strings.ToLower(s)
		core = core || containsAny(lower, disclaimerCores)
		for _, term := range disclaimerTerms {
			if strings.Contains(lower, term) {
				terms++
			}
		}
		if d.lines[i].blank == 0 && !d.isRule(i-1) {
			continue
		}
		if opensDisclaimer(lower) && core && terms >= 3 && size >= 120 {
			if d.isRule(i-1) && i-1 > from {
				return i - 1
			}

			return i
		}
	}

	return end
}

func opensDisclaimer(lower string) bool {
	lower = strings.TrimLeft(lower, "*_- (\"")
	for _, opening := range disclaimerOpenings {
		if strings.HasPrefix(lower, opening) {
			return true
		}
	}

	return false
}

// isDeviceNote reports whether a line is what mail programs add of themselves.
func isDeviceNote(s string) bool {
	if len(s) > 110 || strings.HasSuffix(s, "?") {
		return false
	}
	lower := lowered(strings.Trim(s, "*_<>[]().…- "))
	if deviceNotes[lower] {
		return true
	}
	if !containsAny(lower, deviceWords) || len(strings.Fields(lower)) > 14 {
		return false
	}
	for _, prefix := range devicePrefixes {
		if strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	for _, frame := range deviceFrames {
		if strings.HasPrefix(lower, frame[0]) && strings.HasSuffix(lower, frame[1]) {
			return true
		}
	}

	return false
}

func containsAny(s string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}

	return false
}

// isClosing reports whether a line is a complimentary close and nothing else.
func isClosing(s string) bool {
	if len(s) > maxContactLine {
		return false
	}

	return closings[strings.TrimRight(strings.ToLower(s), ",.! ;—-")]
}

// contact is a set of kinds of contact data.
type contact uint8

const (
	contactAddress contact = 1 << iota
	contactLink
	contactPhone
)

// contactKind gives what contact data a line holds, if it holds little else.
func contactKind(s string) contact {
	if len(s) > maxContactLine || len(strings.Fields(s)) > 9 || strings.HasSuffix(s, "?") {
		return 0
	}
	var c contact
	if i := strings.IndexByte(s, '@'); i > 0 && i+1 < len(s) && s[i-1] != ' ' && s[i+1] != ' ' {
		c |= contactAddress
	}
	if lower := strings.ToLower(s); strings.Contains(lower, "www.") || strings.Contains(lower, "http://") || strings.Contains(lower, "https://") {
		c |= contactLink
	}
	digits, letters, run := 0, 0, 0
	best := 0
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			digits++
			run++
			best = max(best, run)
		case strings.ContainsRune(" ()+./-\u00a0\u2011", r):
		default:
			run = 0
			letters++
		}
	}
	if c == 0 && best >= 7 && best <= 17 && letters <= 24 && digits <= 34 {
		c |= contactPhone
	}

	return c
}

// isBlockLine reports whether a line may stand in a block of contact data: short,
// and no sentence.
func isBlockLine(s string) bool {
	if len(s) > maxContactLine || strings.HasSuffix(s, "?") || strings.HasSuffix(s, "!") || strings.HasSuffix(s, ":") {
		return false
	}
	words := strings.Fields(s)

	return len(words) <= 7 && (!strings.HasSuffix(s, ".") || len(words) <= 4)
}

// isPostscript reports whether a line begins a postscript, which is new text.
func isPostscript(s string) bool {
	s = strings.ToLower(s[:min(len(s), 4)])

	return strings.HasPrefix(s, "ps:") || strings.HasPrefix(s, "ps ") || strings.HasPrefix(s, "p.s") || strings.HasPrefix(s, "ps.")
}

// isName reports whether a line may be the name of a person.
func isName(s string) bool {
	if len(s) > 60 || strings.ContainsAny(s, "0123456789@?!:;<>/") {
		return false
	}
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
	upper := 0
	for _, w := range words {
		r, _ := utf8.DecodeRuneInString(w)
		if unicode.IsUpper(r) || unicode.Is(unicode.Lo, r) {
			upper++
		}
	}

	return len(words) >= 1 && len(words) <= 6 && upper*2 > len(words)
}

// isDashedName reports whether a line is "-Jane Doe".
func isDashedName(s string) bool {
	for _, dash := range []string{"--", "-", "—", "–", "~"} {
		if rest, ok := strings.CutPrefix(s, dash); ok {
			return rest != "" && isName(strings.TrimSpace(rest)) && !strings.HasSuffix(s, ".")
		}
	}

	return false
}

// announces reports whether a line leads to contact data that the sender gives
// as his answer.
func announces(s string) bool {
	return len(s) > maxHeading || containsAny(strings.ToLower(s), announcements)
}
