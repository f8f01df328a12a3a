package match

import (
	"math/bits"
	"unicode/utf8"
)

// maxValue bounds a normalised value, in bytes, and with it the time that any
// comparison of two takes.
const maxValue = 64

// jaroWinkler is the string comparator of Winkler (String Comparator Metrics
// and Enhanced Decision Rules in the Fellegi-Sunter Model, 1990) over Jaro's
// (1989): 1 for equal strings, 0 for no letter in common. It is symmetric;
// of longer values the first maxValue letters count.
func jaroWinkler(a, b string) float64 {
	// Which of the letters Jaro's method assigns depends on where it starts.
	if len(a) > len(b) || len(a) == len(b) && a > b {
		a, b = b, a
	}
	lenA, lenB := len(a), len(b)
	var common, moved int
	if isASCII(a) && isASCII(b) {
		common, moved = assignBytes(a, b)
	} else {
		var bufA, bufB [maxValue]rune
		ra, rb := runes(a, &bufA), runes(b, &bufB)
		lenA, lenB = len(ra), len(rb)
		common, moved = assignRunes(ra, rb)
	}
	if common == 0 {
		return 0
	}
	c := float64(common)
	jaro := (c/float64(lenA) + c/float64(lenB) + (c-float64(moved)/2)/c) / 3
	const longestPrefix, prefixWeight, boostAbove = 4, 0.1, 0.7
	if jaro < boostAbove {
		return jaro
	}
	prefix := 0
	for prefix < min(longestPrefix, len(a), len(b)) && a[prefix] == b[prefix] {
		prefix++
	}
	return jaro + float64(prefix)*prefixWeight*(1-jaro)
}

// assignBytes is Jaro's assignment for ASCII: how many letters are common, and
// how many of these are not in the same order. The positions of each letter
// of b are a set of bits, so that it takes one step for a letter of a.
func assignBytes(a, b string) (common, moved int) {
	a, b = a[:min(len(a), maxValue)], b[:min(len(b), maxValue)]
	var positions [utf8.RuneSelf]uint64
	for j := range len(b) {
		positions[b[j]] |= 1 << j
	}
	reach := max(max(len(a), len(b))/2-1, 0)
	var usedA, usedB uint64
	for i := range len(a) {
		// Bits i-reach to i+reach; shifting by 64 and more gives 0.
		near := (uint64(1)<<(i+reach+1) - 1) &^ (uint64(1)<<max(0, i-reach) - 1)
		if free := positions[a[i]] & near &^ usedB; free != 0 {
			usedA |= 1 << i
			usedB |= free & -free
			common++
		}
	}
	for usedA != 0 {
		if a[bits.TrailingZeros64(usedA)] != b[bits.TrailingZeros64(usedB)] {
			moved++
		}
		usedA &= usedA - 1
		usedB &= usedB - 1
	}
	return common, moved
}

func assignRunes(ra, rb []rune) (common, moved int) {
	reach := max(max(len(ra), len(rb))/2-1, 0)
	var usedA, usedB uint64
	for i, r := range ra {
		for j := max(0, i-reach); j < min(len(rb), i+reach+1); j++ {
			if rb[j] == r && usedB&(1<<j) == 0 {
				usedA |= 1 << i
				usedB |= 1 << j
				common++
				break
			}
		}
	}
	for usedA != 0 {
		if ra[bits.TrailingZeros64(usedA)] != rb[bits.TrailingZeros64(usedB)] {
			moved++
		}
		usedA &= usedA - 1
		usedB &= usedB - 1
	}
	return common, moved
}

func runes(s string, buf *[maxValue]rune) []rune {
	n := 0
	for i := 0; i < len(s) && n < maxValue; n++ {
		if s[i] < utf8.RuneSelf {
			buf[n] = rune(s[i])
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		buf[n] = r
		i += size
	}
	return buf[:n]
}

// oneEdit says that one insertion, deletion, replacement or exchange of
// neighbours makes a into b (Damerau 1964), or that they are equal. It counts
// bytes: letters outside ASCII may need two edits.
func oneEdit(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) != len(b) {
		return a[i:] == b[i+1:]
	}
	if i == len(a) || a[i+1:] == b[i+1:] {
		return true
	}
	return a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// soundex is the phonetic code of Russell (US patent 1,261,167) in the form
// of Knuth, TAOCP volume 3, chapter 6: a letter and three digits. What does not
// start with a Latin letter is its own code, as far as four runes go. It reads
// the first word that is long enough to have a sound of its own.
func soundex(s string) string {
	word := firstLongWord(s)
	if word == "" {
		return ""
	}
	if word[0] < 'a' || word[0] > 'z' {
		n := 0
		for i := range word {
			if n == 4 {
				return word[:i]
			}
			n++
		}
		return word
	}
	const codes = "01230120022455012623010202"
	code := [4]byte{word[0], '0', '0', '0'}
	last, n := codes[word[0]-'a'], 1
	for i := 1; i < len(word) && n < len(code); i++ {
		c := word[i]
		if c < 'a' || c > 'z' {
			continue
		}
		digit := codes[c-'a']
		if digit != '0' && digit != last {
			code[n] = digit
			n++
		}
		// A vowel parts two letters of one sound, h and w do not.
		if c != 'h' && c != 'w' {
			last = digit
		}
	}
	return string(code[:])
}

// firstLongWord skips particles such as `de` and `van`.
func firstLongWord(s string) string {
	first := ""
	for rest := s; rest != ""; {
		var word string
		word, rest = cutWord(rest)
		if first == "" {
			first = word
		}
		if len(word) > 3 {
			return word
		}
	}
	return first
}

// cutWord cuts at the first space; normalised values have single ones only.
func cutWord(s string) (word, rest string) {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
