package match

import "strings"

// vector is how two records compare.
type vector [numFields]Level

// terms are the values that a pair agrees on, exactly or nearly, by field:
// both the same one, or those of either record.
type terms [numFields][2]string

// Similarities above which two values are called so. Winkler (1990) gives
// typing errors a range from 0.92 up.
const (
	closeName   = 0.92
	similarName = 0.80
	swappedName = 0.88
	closeStreet = 0.90
	similarCity = 0.88
	closeEmail  = 0.93
	alikeEmail  = 0.85
)

// compare gives the levels of a and b, and the values behind them.
func compare(a, b *features, v *vector, t *terms) {
	compareNames(a, b, v, t)
	v[FieldBirthDate] = compareBirth(a.birth, b.birth)
	t[FieldBirthDate] = [2]string{a.birth, b.birth}
	v[FieldNationalID], t[FieldNationalID] = compareLists(&a.ids, &b.ids, compareID)
	comparePlace(a, b, v, t)
	v[FieldStreet] = compareStreet(a, b)
	t[FieldStreet] = [2]string{a.street, b.street}
	v[FieldPhone], t[FieldPhone] = compareLists(&a.phones, &b.phones, comparePhone)
	compareEmails(a, b, v, t)
}

func compareNames(a, b *features, v *vector, t *terms) {
	given, givenSim := compareName(a.given, b.given, true)
	family, familySim := compareName(a.family, b.family, false)
	v[FieldGiven], v[FieldFamily] = given, family
	t[FieldGiven] = [2]string{a.given, b.given}
	t[FieldFamily] = [2]string{a.family, b.family}
	if agrees(given) || agrees(family) {
		return
	}
	// Crosswise only where straight says nothing.
	one, other := cross(a.given, b.family), cross(a.family, b.given)
	if one+other <= givenSim+familySim || max(one, other) < swappedName {
		return
	}
	// The better one is called the given name, whichever record it is from:
	// the score must not depend on which record is first.
	v[FieldGiven] = LevelSwapped
	switch {
	case a.family == "" || b.given == "" || a.given == "" || b.family == "":
		v[FieldFamily] = LevelMissing
	case min(one, other) >= similarName:
		v[FieldFamily] = LevelSwapped
	default:
		v[FieldFamily] = LevelDifferent
	}
}

func agrees(l Level) bool { return l != LevelMissing && l != LevelDifferent && l != LevelSimilar }

func cross(a, b string) float64 {
	if a == "" || b == "" {
		return 0
	}
	if a == b {
		return 1
	}
	return jaroWinkler(a, b)
}

func compareName(a, b string, given bool) (Level, float64) {
	if a == "" || b == "" {
		return LevelMissing, 0
	}
	if a == b {
		return LevelExact, 1
	}
	sim := jaroWinkler(a, b)
	const shortest = 4
	switch {
	case min(len(a), len(b)) >= shortest && oneEdit(a, b):
		return LevelClose, sim
	case isVariant(a, b, given):
		return LevelVariant, sim
	case sim >= closeName:
		return LevelClose, sim
	case sim >= similarName:
		return LevelSimilar, sim
	}
	return LevelDifferent, sim
}

// isVariant: one of several names, an initial, or a short form.
func isVariant(a, b string, given bool) bool {
	if sharesWord(a, b) {
		return true
	}
	if !given {
		return false
	}
	firstA, _ := cutWord(a)
	firstB, _ := cutWord(b)
	if len(firstA) == 1 || len(firstB) == 1 {
		return firstA[0] == firstB[0]
	}
	return sameNickname(firstA, firstB)
}

// sharesWord says that a word of at least three letters is in both, one of
// which has several.
func sharesWord(a, b string) bool {
	if strings.IndexByte(a, ' ') < 0 {
		a, b = b, a
	}
	if strings.IndexByte(a, ' ') < 0 {
		return false
	}
	const shortest = 3
	for restA := a; restA != ""; {
		var word string
		word, restA = cutWord(restA)
		if len(word) < shortest || isParticle(word) {
			continue
		}
		for restB := b; restB != ""; {
			var other string
			if other, restB = cutWord(restB); word == other {
				return true
			}
		}
	}
	return false
}

// compareBirth compares dates of eight digits each.
func compareBirth(a, b string) Level {
	if a == "" || b == "" {
		return LevelMissing
	}
	if a == b {
		return LevelExact
	}
	year, month, day := a[:4] == b[:4], a[4:6] == b[4:6], a[6:] == b[6:]
	switch {
	case year && a[4:6] == b[6:] && a[6:] == b[4:6]:
		return LevelSwapped
	case oneEdit(a, b):
		return LevelClose
	case year && (month || day), month && day:
		return LevelPartial
	case year:
		return LevelSimilar
	}
	return LevelDifferent
}

// compareLists gives the best level that any two values have.
func compareLists(a, b *list, one func(a, b string) Level) (Level, [2]string) {
	best, of := LevelMissing, [2]string{}
	for _, x := range a.all() {
		for _, y := range b.all() {
			l := one(x, y)
			if l == LevelMissing || best != LevelMissing && l > best {
				continue
			}
			// Of two that are as good the first in order, so that it does not
			// matter which record comes first.
			if pair := ordered(x, y); l != best || pair[0] < of[0] || pair[0] == of[0] && pair[1] < of[1] {
				best, of = l, pair
			}
		}
	}
	return best, of
}

func ordered(x, y string) [2]string {
	if y < x {
		x, y = y, x
	}
	return [2]string{x, y}
}

func compareID(a, b string) Level {
	kindA, numberA, _ := strings.Cut(a, ":")
	kindB, numberB, _ := strings.Cut(b, ":")
	switch {
	case kindA != kindB:
		return LevelMissing
	case numberA == numberB:
		return LevelExact
	case oneEdit(numberA, numberB):
		return LevelClose
	}
	return LevelDifferent
}

const phoneSuffix = 8 // digits; what stands before may be written or not

func comparePhone(a, b string) Level {
	switch {
	case a == b:
		return LevelExact
	case len(a) >= phoneSuffix && len(b) >= phoneSuffix && a[len(a)-phoneSuffix:] == b[len(b)-phoneSuffix:], oneEdit(a, b):
		return LevelClose
	}
	return LevelDifferent
}

func comparePlace(a, b *features, v *vector, t *terms) {
	level := LevelMissing
	of := [2]string{a.city, b.city}
	compared := a.postcode != "" && b.postcode != ""
	switch {
	case a.country != "" && b.country != "" && a.country != b.country:
		level = LevelDifferent
	case compared && a.postcode == b.postcode:
		level, of = LevelExact, [2]string{a.postcode, b.postcode}
	case a.city != "" && a.city == b.city:
		level = LevelPartial
	case a.city != "" && b.city != "" && (oneEdit(a.city, b.city) || jaroWinkler(a.city, b.city) >= similarCity):
		level = LevelSimilar
	case compared && oneEdit(a.postcode, b.postcode):
		level, of = LevelSimilar, [2]string{}
	case a.state != "" && a.state == b.state:
		level = LevelRegion
	case compared, a.city != "" && b.city != "", a.state != "" && b.state != "":
		level = LevelDifferent
	}
	v[FieldPlace], t[FieldPlace] = level, of
}

func compareStreet(a, b *features) Level {
	if a.street == "" || b.street == "" {
		return LevelMissing
	}
	same := a.street == b.street
	if !same && jaroWinkler(a.street, b.street) < closeStreet && !containsWords(a.street, b.street) {
		return LevelDifferent
	}
	switch {
	case a.number == "" || b.number == "":
		if same {
			return LevelPartial
		}
		return LevelSimilar
	case a.number != b.number:
		return LevelSimilar
	case same:
		return LevelExact
	}
	return LevelClose
}

// containsWords says that the longer has the shorter one within it.
func containsWords(a, b string) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	const shortest = 8
	return len(b) >= shortest && strings.Contains(a, b)
}

func compareEmails(a, b *features, v *vector, t *terms) {
	level, of := compareLists(&a.emails, &b.emails, compareEmail)
	switch level {
	case LevelClose, LevelPartial, LevelSimilar:
		if madeOfName(of[0], a, b) && madeOfName(of[1], a, b) {
			// Two addresses made of one name are alike because the name is,
			// which has been counted.
			level = LevelMissing
		}
	default:
	}
	v[FieldEmail], t[FieldEmail] = level, of
}

func compareEmail(a, b string) Level {
	if a == b {
		return LevelExact
	}
	localA, localB := localPart(a), localPart(b)
	domainA, domainB := domain(a), domain(b)
	const shortest = 4
	if domainA == domainB && len(localA) >= shortest && oneEdit(localA, localB) {
		return LevelClose
	}
	if localA == localB && len(localA) >= shortest {
		return LevelPartial
	}
	// Two addresses at one provider are alike for its sake; and misspelt ones
	// may have lost their at sign.
	sim := jaroWinkler(a, b)
	if sim >= alikeEmail && domainA == domainB && domainA != "" {
		sim = jaroWinkler(localA, localB)
	}
	switch {
	case sim >= closeEmail:
		return LevelClose
	case sim >= alikeEmail:
		return LevelSimilar
	}
	return LevelDifferent
}

func domain(email string) string {
	_, d, _ := strings.Cut(email, "@")
	return d
}

func madeOfName(email string, a, b *features) bool {
	local := localPart(email)
	return holdsWord(local, a.family) || holdsWord(local, b.family) || holdsWord(local, a.given) || holdsWord(local, b.given)
}

func holdsWord(local, name string) bool {
	const shortest = 3
	for name != "" {
		var word string
		if word, name = cutWord(name); len(word) >= shortest && strings.Contains(local, word) {
			return true
		}
	}
	return false
}
