package quotation

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// features are what a line holds that tells a heading such as "On …, … wrote:"
// from other text. They are collected only near a line that may end one.
type features uint16

const (
	featDone features = 1 << iota
	// featAddress: a word with "@" inside.
	featAddress
	// featYear: a number from 1980 to 2099.
	featYear
	// featNumber: a number of one or two digits.
	featNumber
	// featDate: numbers joined as in 26.06.2014, 2012-04-02, 4/3/12, or CJK signs.
	featDate
	// featTime: as in 14:20, 14.20, 14h20.
	featTime
	// featVerb: somebody wrote.
	featVerb
	// featStart: the first word is one of starters.
	featStart
	// featDigit: it begins with a digit.
	featDigit
	// featOwn: a first person pronoun.
	featOwn
	// featColon: the last sign is a colon.
	featColon
	// featName: it begins as a name may: a capital, a quotation mark, an address.
	featName
	// featLong: too long to be part of a heading.
	featLong
	// featWordy: more words than a heading without a date has.
	featWordy
)

const (
	// maxHeading is how long in bytes a line of a heading may be, names and
	// addresses with their mailto copies included.
	maxHeading = 400
	// maxWrapped is over how many lines a heading may be broken.
	maxWrapped = 4
	// maxNameWords is how many words a heading without date or address has.
	maxNameWords = 10
)

// strength is how sure it is that lines are the heading of a quotation.
type strength uint8

const (
	noHeading strength = iota
	// weakHeading is one if a quoted line follows.
	weakHeading
	// strongHeading is one wherever it stands.
	strongHeading
)

// attribution looks for a heading whose last line is end, and gives its first
// line. It looks at no more than maxWrapped lines.
func (d *document) attribution(end int) (start int, s strength) {
	const begins = featStart | featDigit | featName
	var all features
	best, strongest := end, noHeading
	colon := d.featuresOf(end)&featColon != 0
	for i := end; i >= 0 && end-i < maxWrapped; i-- {
		f := d.featuresOf(i)
		if f&featLong != 0 || i < end && !d.mayGoOn(i, f) {
			break
		}
		all |= f &^ (begins | featColon)
		s := rate(all, f, colon)
		if s == noHeading {
			continue
		}
		dated := f&(featYear|featNumber|featDate|featTime|featAddress) != 0
		switch held := d.featuresOf(best); {
		case f&featStart != 0 && (i == end || dated):
			return i, s
		case strongest == noHeading,
			f&featDigit != 0 && held&featDigit == 0,
			held&begins == 0:
			best, strongest = i, max(s, strongest)
		}
	}

	return best, strongest
}

// mayGoOn reports whether line i may be continued by the next line: no blank
// line between them, no quotation, no end of a sentence.
func (d *document) mayGoOn(i int, f features) bool {
	if d.quoted(i) || d.lines[i+1].blank > 0 || f&(featColon|featLong) != 0 || d.lines[i+1].flags&(flagCut|flagRule) != 0 {
		return false
	}
	s := d.trimmed(i)
	// Dates end in full stops too ("г.", "2012.", "p.m."), prose after longer words.
	if last := s[len(s)-1]; last == '!' || last == '?' {
		return false
	} else if last == '.' && f&(featYear|featTime|featDate) == 0 {
		return false
	}

	return true
}

// rate weighs the features of a whole heading; first are those of its first line.
func rate(all, first features, colon bool) strength {
	date := all&featDate != 0 || all&featYear != 0 && all&featNumber != 0
	timed := all&featTime != 0
	address := all&featAddress != 0
	verb := all&featVerb != 0
	start := first&(featStart|featDigit|featName) != 0
	switch {
	case !colon && (!verb || !address && !date || all&featWordy != 0):
		return noHeading
	case !colon:
		return weakHeading
	case verb && date && (address || timed && all&featOwn == 0) && start,
		date && timed && address && start:
		return strongHeading
	case verb && (address || date || all&(featWordy) == 0),
		date && timed,
		address && all&featWordy == 0 && start:
		return weakHeading
	default:
		return noHeading
	}
}

// featuresOf collects the features of line i, once.
func (d *document) featuresOf(i int) features {
	l := &d.lines[i]
	if l.features&featDone == 0 {
		l.features = featDone | collect(d.trimmed(i))
	}

	return l.features
}

func collect(s string) features {
	if len(s) > maxHeading {
		return featLong
	}
	var f features
	if strings.HasSuffix(s, ":") || strings.HasSuffix(s, "：") || strings.HasSuffix(s, ":*") {
		f |= featColon
	}
	lower := strings.ToLower(s)
	for _, sign := range verbSigns {
		if strings.Contains(lower, sign) {
			f |= featVerb
		}
	}
	if strings.ContainsAny(lower, "年년") && strings.ContainsAny(lower, "月월") {
		f |= featDate
	}
	if strings.ContainsAny(lower, "时時点點시") && strings.ContainsAny(lower, "分분") {
		f |= featTime
	}
	lower = strings.TrimLeft(lower, "-*_ [(<\"'“„«\u00a0")
	for _, sign := range starterSigns {
		if strings.HasPrefix(lower, sign) {
			f |= featStart
		}
	}
	f |= beginning(s)
	words := 0
	for pos := 0; pos < len(lower); {
		r, n := utf8.DecodeRuneInString(lower[pos:])
		switch {
		case r >= '0' && r <= '9':
			if words == 0 {
				f |= featDigit
			}
			words++
			var g features
			g, n = number(lower[pos:])
			f |= g
		case unicode.IsLetter(r):
			n = wordLen(lower[pos:])
			w := lower[pos : pos+n]
			if words == 0 && starters[w] {
				f |= featStart
			}
			words++
			if verbs[w] {
				f |= featVerb
			}
			if ownWords[w] {
				f |= featOwn
			}
		case r == '@' && pos > 0 && lower[pos-1] != ' ' && pos+1 < len(lower) && lower[pos+1] != ' ':
			f |= featAddress
		}
		pos += n
	}
	if words > maxNameWords {
		f |= featWordy
	}

	return f
}

// beginning reports featName where a line begins like a name or an address with
// a name, and not like the rest of a line that was broken.
func beginning(s string) features {
	s = strings.TrimLeft(s, "-*_ [(\u00a0")
	r, n := utf8.DecodeRuneInString(s)
	if strings.ContainsRune("\"'“„«", r) {
		return featName
	}
	if unicode.IsUpper(r) || unicode.Is(unicode.Han, r) || unicode.Is(unicode.Hangul, r) || unicode.Is(unicode.Hiragana, r) || unicode.Is(unicode.Katakana, r) {
		return featName
	}
	// An address in front: "bob@example.com wrote:".
	if unicode.IsLetter(r) {
		word := s[n:]
		if end := strings.IndexByte(word, ' '); end >= 0 {
			word = word[:end]
		}
		if strings.Contains(word, "@") && !strings.HasSuffix(word, ">") {
			return featName
		}
	}

	return 0
}

// wordLen is the length of the word of letters and marks that s begins with.
func wordLen(s string) int {
	for i, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) {
			return i
		}
	}

	return len(s)
}

// number reads the numbers joined by one sign each that s begins with, and their
// length in bytes.
func number(s string) (f features, n int) {
	if n = spacedDate(s); n > 0 {
		return featDate, n
	}
	const parts = 4
	var first, second [2]int // Values and digits of the first two numbers.
	var joints [parts]byte
	count := 0
	for ; count < parts; count++ {
		from, value := n, 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			value = min(value*10+int(s[n]-'0'), 1<<20)
			n++
		}
		digits := n - from
		switch {
		case digits == 4 && value >= 1980 && value < 2100:
			f |= featYear
		case digits <= 2:
			f |= featNumber
		}
		switch count {
		case 0:
			first = [2]int{value, digits}
		case 1:
			second = [2]int{value, digits}
		}
		if n+1 >= len(s) || strings.IndexByte("./-:h", s[n]) < 0 || s[n+1] < '0' || s[n+1] > '9' || count == parts-1 {
			count++

			break
		}
		joints[count] = s[n]
		n++
	}
	switch {
	case count >= 3 && joints[0] == joints[1] && strings.IndexByte("./-", joints[0]) >= 0 && (first[1] <= 2 || f&featYear != 0):
		f |= featDate
	case count >= 2 && strings.IndexByte(":.h", joints[0]) >= 0 && second[1] == 2 && first[0] < 24 && second[0] < 60:
		f |= featTime
	}

	return f, n
}

// spacedDate is the length of a date such as "3. 3. 2025" that s begins with, or 0.
func spacedDate(s string) int {
	n := 0
	for part := range 3 {
		from := n
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		if part == 2 {
			if n-from == 2 || n-from == 4 {
				return n
			}

			return 0
		}
		if n == from || n-from > 2 || !strings.HasPrefix(s[n:], ". ") {
			return 0
		}
		n += 2
	}

	return 0
}
