package quotation

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// headerBlock looks for the fields of a copied mail (From, Sent, To, Subject)
// that begin at line i, and gives the line after them. With ruled, something
// already parts them from the text above, so that less evidence is needed.
//
// A block needs a From field and two more kinds of fields, of which one is the
// subject or one value is an address: a traveller's "From: …, To: …, Date: …" is
// no mail. Below a rule any two of From, date and Subject do.
func (d *document) headerBlock(i int, ruled bool) (end int, ok bool) {
	var seen [labelOther + 1]bool
	address, strange := false, 0
	end = i
	for n := i; n < len(d.lines) && n-i < maxHeaderLines; n++ {
		if n > i && d.lines[n].blank > 1 || d.quoted(n) != d.quoted(i) {
			break
		}
		if l := d.labelOf(n); l != labelNone {
			seen[l] = true
			end, strange = n+1, 0
		} else if strange++; n == i || d.lines[n].blank > 0 || strange > maxFolded {
			// A long list of recipients goes on over several lines.
			break
		}
		address = address || strings.Contains(d.line(n), "@")
	}
	kinds := 0
	for l := labelFrom; l <= labelSubject; l++ {
		if seen[l] {
			kinds++
		}
	}
	if ruled {
		return end, kinds >= 2 && (seen[labelFrom] || seen[labelDate] && seen[labelSubject])
	}

	return end, kinds >= 3 && seen[labelFrom] && (seen[labelSubject] || address)
}

const (
	// maxHeaderLines is how many lines the fields of a copied mail may take.
	maxHeaderLines = 14
	// maxFolded is over how many further lines one field may go.
	maxFolded = 3
	// maxLabel is how long in bytes the name of a field may be.
	maxLabel = 48
)

// labelOf gives which field line i holds, if any; it is looked up once.
func (d *document) labelOf(i int) label {
	l := &d.lines[i]
	if l.label == labelUnread {
		l.label = fieldLabel(d.trimmed(i))
	}

	return l.label
}

// fieldLabel gives which field a line such as "*From:* …" holds.
func fieldLabel(s string) label {
	i := strings.IndexByte(s[:min(len(s), maxLabel)], ':')
	if j := strings.Index(s[:min(len(s), maxLabel)], "："); j >= 0 && (i < 0 || j < i) {
		i = j
	}
	if i <= 0 {
		return labelNone
	}
	name := strings.TrimFunc(s[:i], func(r rune) bool {
		return unicode.IsSpace(r) || invisible(r) || r == '*' || r == '_' || r == '|'
	})

	return max(labels[lowered(name)], labelNone)
}

// lowered is s in lower case with a plain "i" for the dotted capital of Turkish.
func lowered(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), "i̇", "i")
}

// heading is a line without the dashes and other signs drawn around its words,
// in lower case, and how many were drawn at its beginning.
func heading(s string) (words string, drawn int) {
	if len(s) > maxHeading {
		return "", 0
	}
	words = strings.TrimLeftFunc(s, isDrawn)
	for _, r := range s[:len(s)-len(words)] {
		if !unicode.IsSpace(r) {
			drawn++
		}
	}

	return lowered(strings.TrimRightFunc(words, isDrawn)), drawn
}

func isDrawn(r rune) bool {
	return unicode.IsSpace(r) || invisible(r) || strings.ContainsRune("-_=*—–─━#~[]<>【】", r)
}

// isOriginalMessage reports whether line i is "-----Original Message-----" in one
// of the languages. Without dashes it must stand above the fields of a mail.
func (d *document) isOriginalMessage(i int) bool {
	words, drawn := heading(d.trimmed(i))
	bare := strings.TrimRight(words, ": ")
	if !originalMessage[bare] {
		return false
	}

	return drawn >= 3 || i+1 < len(d.lines) && d.lines[i+1].blank < 2 && d.labelOf(i+1) != labelNone
}

// isForwarded reports whether line i heads a forwarded message.
func (d *document) isForwarded(i int) bool {
	s := d.trimmed(i)
	words, drawn := heading(s)
	if words == "" {
		return false
	}
	bare := strings.TrimRight(words, ":： ")
	if forwarded[bare] {
		return drawn >= 2 || len(bare) < len(words) || i+1 < len(d.lines) && d.labelOf(i+1) != labelNone
	}
	if drawn < 2 {
		return false
	}
	for _, by := range forwardedBy {
		if strings.HasPrefix(words, by) {
			return true
		}
	}

	return false
}

// isReplyAbove reports whether line i asks to answer above it, as the mails of
// help desks do.
func (d *document) isReplyAbove(i int) bool {
	s := d.trimmed(i)
	if len(s) > maxHeading {
		return false
	}
	if strings.HasPrefix(s, "##-") && strings.HasSuffix(s, "-##") {
		return true
	}
	words, drawn := heading(s)
	if drawn == 0 && !strings.HasPrefix(words, "please") && !strings.HasPrefix(words, "reply") && !strings.HasPrefix(words, "bitte") {
		return false
	}
	for _, phrase := range replyAbove {
		if strings.Contains(words, phrase) {
			return true
		}
	}

	return false
}

// isRule reports whether line i is drawn of one sign only, five times or more.
func (d *document) isRule(i int) bool {
	s := d.trimmed(i)
	first, n := utf8.DecodeRuneInString(s)
	if len(s) < 5*n || !strings.ContainsRune("-_=*—–─━", first) {
		return false
	}
	for _, r := range s {
		if r != first && r != ' ' {
			return false
		}
	}

	return true
}
