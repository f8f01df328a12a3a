package match

import (
	"fmt"
	"slices"
)

// Key is a blocking key: two records that have one in common are candidates.
// It is a hash of normalised values, and the same in every version of a model,
// so that an index over keys outlives the models. The highest byte is its rule.
type Key uint64

// Rule is a kind of blocking key.
type Rule uint8

// The rules. A record has one key of a rule, or several, or none.
const (
	// RuleNationalID: a document's number.
	RuleNationalID Rule = iota
	// RuleEmail: an e-mail address.
	RuleEmail
	// RulePhone: the last eight digits of a phone number.
	RulePhone
	// RuleBirthDate: the birth date, day and month in either order.
	RuleBirthDate
	// RuleAddress: sound of the street, house number, area.
	RuleAddress
	// RuleEmailStart: the first letters of an e-mail address, whatever follows.
	RuleEmailStart
	// RuleNames: sounds of both names, in either order.
	RuleNames
	// RuleNamePostcode: sound of either name, and the postcode.
	RuleNamePostcode
	// RuleNameBirthYear: sound of either name, and the year of birth.
	RuleNameBirthYear
	// RuleNameCity: sound of either name, and that of the city.
	RuleNameCity

	numRules = int(RuleNameCity) + 1
)

var ruleNames = [...]string{
	"national_id", "email", "phone", "birth_date", "address", "email_start", "names", "name_postcode", "name_birth_year", "name_city",
}

func (r Rule) String() string {
	if int(r) < len(ruleNames) {
		return ruleNames[r]
	}
	return fmt.Sprintf("rule %d", uint8(r))
}

// fieldSet has a bit for each field.
type fieldSet uint16

func setOf(fields ...Field) fieldSet {
	var s fieldSet
	for _, f := range fields {
		s |= 1 << f
	}
	return s
}

func (s fieldSet) has(f Field) bool { return s&(1<<f) != 0 }

// ruleFields are those that a rule's key fixes.
var ruleFields = [numRules]fieldSet{
	RuleNationalID:    setOf(FieldNationalID),
	RuleEmail:         setOf(FieldEmail),
	RulePhone:         setOf(FieldPhone),
	RuleBirthDate:     setOf(FieldBirthDate),
	RuleAddress:       setOf(FieldStreet, FieldPlace),
	RuleEmailStart:    setOf(FieldEmail),
	RuleNames:         setOf(FieldGiven, FieldFamily),
	RuleNamePostcode:  setOf(FieldGiven, FieldFamily, FieldPlace),
	RuleNameBirthYear: setOf(FieldGiven, FieldFamily, FieldBirthDate),
	RuleNameCity:      setOf(FieldGiven, FieldFamily, FieldPlace),
}

// learnWithout are the fields left out where m is learnt from a rule's pairs:
// those of its key, and what these depend on. Many e-mail addresses start with
// the name.
func (r Rule) learnWithout() fieldSet {
	if r == RuleEmailStart {
		return ruleFields[r] | setOf(FieldGiven, FieldFamily)
	}
	return ruleFields[r]
}

// Rule is which rule a key is of.
func (k Key) Rule() Rule { return Rule(k >> ruleShift & ruleMask) }

const (
	ruleShift = 56
	ruleMask  = 0x3f
	// subBit marks the key of a part of a block that was too large, windowBit
	// that of a part that still is.
	subBit    Key = 1 << 63
	windowBit Key = 1 << 62
)

// MaxKeys bounds the keys of a record.
const MaxKeys = 4*maxList + 9

// BlockingKeys are the keys of a record, each once, in ascending order, at
// most MaxKeys of them. Rules of higher precision come first. What a model has
// no use for is filtered by [Model.Uses].
func BlockingKeys(r *Record) []Key {
	var f features
	f.read(r)
	return f.keys(nil)
}

// keys appends the keys of f to buf, in ascending order.
func (f *features) keys(buf []Key) []Key {
	start := len(buf)
	add := func(r Rule, parts ...string) { buf = append(buf, newKey(Key(r)<<ruleShift, uint64(r), parts...)) }
	for _, v := range f.ids.all() {
		add(RuleNationalID, v)
	}
	for _, v := range f.emails.all() {
		add(RuleEmail, v)
		add(RuleEmailStart, emailStart(v))
	}
	for _, v := range f.phones.all() {
		add(RulePhone, v[max(0, len(v)-phoneSuffix):])
	}
	given, family, city := soundex(f.given), soundex(f.family), soundex(f.city)
	year := f.birthYear()
	if f.birth != "" {
		add(RuleBirthDate, f.eitherBirth())
	}
	if f.street != "" && f.number != "" {
		add(RuleAddress, soundex(f.street), f.number, f.area())
	}
	if given != "" && family != "" {
		add(RuleNames, min(given, family), max(given, family))
	}
	for _, name := range [...]string{given, family} {
		if name == "" {
			continue
		}
		if f.postcode != "" {
			add(RuleNamePostcode, name, f.postcode)
		}
		if year != "" {
			add(RuleNameBirthYear, name, year)
		}
		if city != "" {
			add(RuleNameCity, name, city)
		}
	}
	own := buf[start:]
	slices.Sort(own)
	return buf[:start+len(slices.Compact(own))]
}

// subKeys appends the keys of the parts into which a block too large is
// divided, one for each further thing that is known of the record.
func (f *features) subKeys(base Key, buf []Key) []Key {
	fixed := ruleFields[base.Rule()]
	start := len(buf)
	add := func(kind, value string) {
		if value != "" {
			buf = append(buf, newKey(base>>ruleShift<<ruleShift|subBit, uint64(base), kind, value))
		}
	}
	if !fixed.has(FieldGiven) {
		add("given", soundex(f.given))
		add("family", soundex(f.family))
	}
	if !fixed.has(FieldBirthDate) {
		add("birth", f.eitherBirth())
		add("year", f.birthYear())
	}
	if !fixed.has(FieldPlace) {
		add("place", f.area())
	}
	if !fixed.has(FieldEmail) && f.emails.n > 0 {
		add("email", emailStart(f.emails.v[0]))
	}
	if !fixed.has(FieldPhone) && f.phones.n > 0 {
		add("phone", f.phones.v[0])
	}
	if fixed.has(FieldGiven) && f.given != "" && f.family != "" {
		add("names", min(f.given, f.family)+" "+max(f.given, f.family))
	}
	if len(buf) == start {
		buf = append(buf, base|subBit)
	}
	return buf
}

func (f *features) birthYear() string {
	if f.birth == "" {
		return ""
	}
	return f.birth[:4]
}

func (f *features) eitherBirth() string {
	if f.birth == "" {
		return ""
	}
	month, day := f.birth[4:6], f.birth[6:]
	return f.birth[:4] + min(month, day) + max(month, day)
}

// area is the first two digits of the postcode, or else the sound of the city.
func (f *features) area() string {
	const digits = 2
	if len(f.postcode) >= digits {
		return f.postcode[:digits]
	}
	return soundex(f.city)
}

const emailStartLetters = 7

func emailStart(email string) string { return email[:min(len(email), emailStartLetters)] }

// newKey hashes by FNV-1a, with a last mix (Steele et al., SplitMix64) since
// the lower bits choose a partition.
func newKey(prefix Key, seed uint64, parts ...string) Key {
	h := newStringHash(seed)
	for _, p := range parts {
		h = h.add(p)
	}
	return prefix | Key(h.sum()>>8)
}

type stringHash uint64

func newStringHash(seed uint64) stringHash {
	return stringHash(0xcbf29ce484222325 ^ seed*0x9e3779b97f4a7c15)
}

func (h stringHash) add(s string) stringHash {
	const prime = 0x100000001b3
	for i := range len(s) {
		h = (h ^ stringHash(s[i])) * prime
	}
	// No byte of UTF-8: what comes next is another part.
	return (h ^ 0xff) * prime
}

func (h stringHash) sum() uint64 {
	x := uint64(h)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
