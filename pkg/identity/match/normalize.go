package match

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxRaw     = 256 // bytes of a value that are looked at
	maxList    = 8   // values of a list that are compared
	maxRawList = 64  // values of a list that are looked at
)

// features are a record in the form that is compared: folded, cut to
// maxValue, empty where there is nothing.
type features struct {
	id            string
	given, family string
	birth         string // YYYYMMDD, eight digits
	street        string
	number        string
	postcode      string
	city          string
	state         string
	country       string // two letters
	emails        list
	phones        list // digits
	ids           list // `type:NUMBER`, the type perhaps empty
}

// list is a sorted set.
type list struct {
	n int
	v [maxList]string
}

func (l *list) all() []string { return l.v[:l.n] }

// read makes f of r.
func (f *features) read(r *Record) {
	*f = features{
		id:       r.ID,
		given:    foldName(r.Given),
		family:   foldName(r.Family),
		birth:    foldDate(r.BirthDate),
		postcode: foldPostcode(r.Postcode),
		city:     fold(r.City),
		state:    fold(r.State),
		country:  foldCountry(r.Country),
	}
	if f.given == "" && f.family == "" {
		f.given, f.family = splitName(r.FullName)
	}
	f.street, f.number = foldStreet(r.Street, r.Number)
	f.emails.set(r.Emails, foldEmail)
	f.phones.set(r.Phones, foldPhone)
	f.ids.set(r.NationalIDs, foldID)
}

// set keeps the first values in sorted order, so that the order in which they
// were given does not matter.
func (l *list) set(values []string, fold func(string) string) {
	values = values[:min(len(values), maxRawList)]
	if len(values) == 0 {
		return
	}
	all := make([]string, 0, len(values))
	for _, v := range values {
		if v = fold(v); v != "" {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	l.n = copy(l.v[:], slices.Compact(all))
}

// fold gives letters and digits in lower case, without diacritics, words
// parted by one space. Apostrophes part no words. Placeholders are nothing.
func fold(s string) string {
	s = cut(s, maxRaw)
	if !isASCII(s) {
		s = foldUnicode(s)
	}
	var buf [maxRaw]byte
	out := buf[:0]
	space := false
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c >= utf8.RuneSelf:
		case c == '\'', c == '`':
			continue
		default:
			space = true
			continue
		}
		if space && len(out) > 0 {
			out = append(out, ' ')
		}
		space = false
		out = append(out, c)
		if len(out) >= maxRaw-1 {
			break
		}
	}
	folded := strings.TrimSuffix(cut(string(out), maxValue), " ")
	if isPlaceholder(folded) {
		return ""
	}
	return folded
}

// foldUnicode leaves ASCII where there is a usual way to write it, else
// letters and digits in lower case; what is neither becomes a space.
func foldUnicode(s string) string {
	s = norm.NFKD.String(strings.ToLower(norm.NFKC.String(strings.ToValidUTF8(s, " "))))
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= 0x300 && r <= 0x36F, r == 0x2BC, r == 0x2018, r == 0x2019:
			// A combining diacritic or an apostrophe.
		case latin[r] != "":
			b.WriteString(latin[r])
		case r < utf8.RuneSelf, unicode.IsLetter(r), unicode.IsDigit(r), unicode.Is(unicode.M, r):
			b.WriteRune(r)
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// latin are the letters that Unicode does not take apart.
var latin = map[rune]string{
	'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'ł': "l", 'đ': "d", 'ð': "d", 'þ': "th", 'ı': "i", 'ħ': "h", 'ŧ': "t", 'ŋ': "n", 'ĸ': "k", 'ə': "e",
}

// cut shortens to at most n bytes, at the start of a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isPlaceholder knows what is written where there is no value; identifiers
// have passed the stricter rules of package identity already.
func isPlaceholder(s string) bool {
	switch s {
	case "null", "none", "nil", "nan", "n a", "unknown", "unbekannt", "undefined", "not set", "notset", "x", "xx", "xxx", "test":
		return true
	}
	return false
}

func foldName(s string) string {
	s = fold(s)
	for {
		word, rest := cutWord(s)
		if rest == "" || !isTitle(word) {
			return s
		}
		s = rest
	}
}

func isTitle(word string) bool {
	switch word {
	case "mr", "mrs", "ms", "miss", "mx", "dr", "prof", "professor", "sir", "herr", "frau", "ing", "dipl", "mag", "mme", "mlle", "sr", "sra":
		return true
	}
	return false
}

// splitName reads `Family, Given` or the family name last, with its particles.
func splitName(full string) (given, family string) {
	full = cut(full, maxRaw)
	if before, after, ok := strings.Cut(full, ","); ok && fold(after) != "" && fold(before) != "" {
		return foldName(after), foldName(before)
	}
	words := strings.Fields(foldName(full))
	for len(words) > 2 && isSuffix(words[len(words)-1]) {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return "", ""
	}
	first := len(words) - 1
	for first > 1 && isParticle(words[first-1]) {
		first--
	}
	return strings.Join(words[:first], " "), strings.Join(words[first:], " ")
}

func isParticle(word string) bool {
	switch word {
	case "van", "von", "vom", "de", "der", "den", "di", "da", "del", "della", "dos", "das", "du", "la", "le", "zu", "zum", "zur", "bin", "ibn", "al", "el", "ter", "ten", "mac", "san", "st":
		return true
	}
	return false
}

func isSuffix(word string) bool {
	switch word {
	case "jr", "sr", "ii", "iii", "phd", "msc", "bsc", "ma", "mba", "md":
		return true
	}
	return false
}

// foldDate gives eight digits, or nothing where the year cannot be one of
// a birth.
func foldDate(s string) string {
	s = strings.TrimSpace(cut(s, maxRaw))
	var digits [8]byte
	n := 0
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' && n < len(digits) {
			digits[n] = c
			n++
			continue
		}
		// Hyphens stand behind year and month, anything behind the day.
		if n == len(digits) && (c < '0' || c > '9') {
			break
		}
		if c != '-' || n != 4 && n != 6 {
			return ""
		}
	}
	date := string(digits[:])
	if n < len(digits) || date < "1800" || date >= "2200" {
		return ""
	}
	return date
}

// foldPostcode joins the parts and drops a country code before digits, as in
// `A-1010`.
func foldPostcode(s string) string {
	s = strings.ReplaceAll(fold(s), " ", "")
	digits := strings.TrimLeftFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' })
	if letters := len(s) - len(digits); letters > 0 && letters <= 2 && len(digits) >= 4 && onlyDigits(digits) {
		return digits
	}
	return s
}

func foldCountry(s string) string {
	if s = fold(s); len(s) == 2 {
		return s
	}
	return ""
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// foldStreet finds the house number and writes the usual abbreviations out.
func foldStreet(street, number string) (string, string) {
	street, number = fold(street), strings.ReplaceAll(fold(number), " ", "")
	words := strings.Fields(street)
	if number == "" && len(words) > 1 {
		switch last := len(words) - 1; {
		case isHouseNumber(words[last]):
			number, words = words[last], words[:last]
		case isHouseNumber(words[0]):
			number, words = words[0], words[1:]
		case last > 1 && isHouseNumber(words[last-1]) && len(words[last]) == 1:
			number, words = words[last-1]+words[last], words[:last-1]
		}
	}
	for i, word := range words {
		if i > 0 {
			words[i] = streetWord(word)
		}
		if stem, ok := strings.CutSuffix(words[i], "str"); ok && len(stem) > 2 {
			words[i] = stem + "strasse"
		}
	}
	return cut(strings.Join(words, " "), maxValue), number
}

func isHouseNumber(word string) bool {
	const longest = 6
	return len(word) <= longest && word[0] >= '0' && word[0] <= '9'
}

func streetWord(word string) string {
	switch word {
	case "st":
		return "street"
	case "str":
		return "strasse"
	case "rd":
		return "road"
	case "ave", "av":
		return "avenue"
	case "ln":
		return "lane"
	case "dr", "drv":
		return "drive"
	case "blvd":
		return "boulevard"
	case "pl":
		return "place"
	case "ct", "crt":
		return "court"
	case "sq":
		return "square"
	case "cres", "cr":
		return "crescent"
	case "hwy":
		return "highway"
	case "pde":
		return "parade"
	}
	return word
}

// foldEmail does not insist on an at sign: a misspelt address is evidence too.
func foldEmail(s string) string {
	s = strings.ToLower(strings.TrimSpace(cut(s, maxRaw)))
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	const shortest = 5
	if s = cut(s, maxValue); len(s) < shortest || isPlaceholder(s) {
		return ""
	}
	return s
}

// localPart is what stands before the at sign, without a plus-suffix.
func localPart(email string) string {
	local, _, _ := strings.Cut(email, "@")
	local, _, _ = strings.Cut(local, "+")
	return local
}

func foldPhone(s string) string {
	s, _, _ = strings.Cut(cut(s, maxRaw), ";")
	const shortest, longest = 6, 20
	var digits [longest]byte
	n := 0
	for i := range len(s) {
		if c := s[i]; c >= '0' && c <= '9' && n < longest {
			digits[n] = c
			n++
		}
	}
	if n < shortest || sameLetters(digits[:n]) {
		return ""
	}
	return string(digits[:n])
}

func foldID(s string) string {
	s = cut(s, maxRaw)
	kind, number, typed := strings.Cut(s, ":")
	if !typed {
		kind, number = "", s
	}
	number = strings.ReplaceAll(fold(number), " ", "")
	const shortest, longestKind = 3, 16
	if len(number) < shortest || sameLetters([]byte(number)) {
		return ""
	}
	return cut(cut(fold(kind), longestKind)+":"+number, maxValue)
}

func sameLetters(s []byte) bool {
	for i := 1; i < len(s); i++ {
		if s[i] != s[0] {
			return false
		}
	}
	return true
}
