package match_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/parleyhq/parley/pkg/identity/match"
)

// population describes made-up customers.
type population struct {
	seed    uint64
	records int
	// duplicates is the share of records that are a worse copy of another.
	duplicates float64
	// mates is the share of people who live with somebody who is a customer
	// too: same family name, address and landline.
	mates float64
	// noise scales how often a value of a copy is misspelt, missing or
	// outdated; 1 is usual.
	noise float64
	// without names fields that nobody has.
	without []string
	// shared is the share of people with the one e-mail address and phone
	// number of a shop that fills in its own.
	shared float64
	// defaultBirth is the share of people born on 1 January 1970.
	defaultBirth float64
	// fullName: names come unsplit.
	fullName bool
}

type generator struct {
	population
	*rand.Rand
	given, family, streets, cities, domains []string
	zipf                                    map[*[]string]*rand.Zipf
	taken                                   map[string]bool
}

func generate(p population) *labelled {
	g := &generator{population: p, Rand: rand.New(rand.NewPCG(p.seed, 7)), taken: map[string]bool{}}
	g.given = g.words(800, 2, 3)
	g.family = g.words(20_000, 2, 4)
	g.streets = g.words(3000, 3, 4)
	g.cities = g.words(400, 2, 4)
	g.domains = g.words(200, 2, 3)
	g.zipf = map[*[]string]*rand.Zipf{}
	for list, skew := range map[*[]string]float64{&g.given: 1.3, &g.family: 1.15, &g.streets: 1.1, &g.cities: 1.3, &g.domains: 1.5} {
		g.zipf[list] = rand.NewZipf(g.Rand, skew, 8, uint64(len(*list)-1))
	}
	if p.noise == 0 {
		g.noise = 1
	}
	out := &labelled{}
	originals := 0
	var last match.Record
	for len(out.records) < p.records {
		var r match.Record
		person := originals
		if originals > 0 && g.Float64() < p.duplicates {
			i := g.IntN(len(out.records))
			r = g.copyOf(&out.records[i])
			person, _ = strconv.Atoi(out.person[i])
		} else {
			r = g.person()
			if originals > 0 && g.Float64() < p.mates/2 {
				r.Family, r.Street, r.Number, r.Postcode, r.City = last.Family, last.Street, last.Number, last.Postcode, last.City
				r.Phones = append(slices.Clone(last.Phones), r.Phones...)
			}
			last = r
			originals++
		}
		out.records = append(out.records, r)
		out.person = append(out.person, itoa(person))
	}
	for i := range out.records {
		r := &out.records[i]
		r.ID = fmt.Sprintf("%026x", g.Uint64())
		g.strip(r)
	}
	return out
}

func (g *generator) words(n, least, most int) []string {
	const consonants, vowels = "bdfgklmnprstvz", "aeiou"
	seen := map[string]bool{}
	var words []string
	for len(words) < n {
		var b strings.Builder
		for range least + g.IntN(most-least+1) {
			b.WriteByte(consonants[g.IntN(len(consonants))])
			b.WriteByte(vowels[g.IntN(len(vowels))])
			if g.IntN(3) == 0 {
				b.WriteByte(consonants[g.IntN(len(consonants))])
			}
		}
		if w := b.String(); !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	return words
}

func (g *generator) pick(list *[]string) string { return (*list)[g.zipf[list].Uint64()] }

func (g *generator) person() match.Record {
	city := int(g.zipf[&g.cities].Uint64())
	r := match.Record{
		Given:     g.pick(&g.given),
		Family:    g.pick(&g.family),
		BirthDate: fmt.Sprintf("%04d-%02d-%02d", 1940+g.IntN(65), 1+g.IntN(12), 1+g.IntN(28)),
		Street:    g.pick(&g.streets) + " street",
		Number:    itoa(1 + g.IntN(90)),
		City:      g.cities[city],
		Postcode:  fmt.Sprintf("%05d", 10000+city*37+g.IntN(1+200/(1+city))),
		Phones:    []string{g.phone()},
	}
	local := g.words(1, 3, 4)[0] + itoa(g.IntN(1000))
	if g.IntN(2) == 0 {
		local = r.Given + "." + r.Family
		if g.IntN(2) == 0 {
			local += itoa(g.IntN(100))
		}
	}
	address := local + "@" + g.pick(&g.domains) + ".example"
	for n := 2; g.taken[address]; n++ {
		address = local + itoa(n) + "@" + g.pick(&g.domains) + ".example"
	}
	g.taken[address] = true
	r.Emails = []string{address}
	r.NationalIDs = []string{fmt.Sprintf("%09d", g.IntN(1e9))}
	if g.Float64() < g.shared {
		r.Emails, r.Phones = []string{"orders@shop.example"}, []string{"+4315550000"}
	}
	if g.Float64() < g.defaultBirth {
		r.BirthDate = "1970-01-01"
	}
	return r
}

func (g *generator) phone() string { return fmt.Sprintf("+43664%07d", g.IntN(1e7)) }

func (g *generator) chance(p float64) bool { return g.Float64() < p*g.noise }

// copyOf is the record as another system has it.
func (g *generator) copyOf(r *match.Record) match.Record {
	c := *r
	c.Emails, c.Phones, c.NationalIDs = slices.Clone(r.Emails), slices.Clone(r.Phones), slices.Clone(r.NationalIDs)
	for _, v := range []*string{&c.Given, &c.Family, &c.Street, &c.City} {
		if g.chance(0.12) {
			*v = g.typo(*v)
		}
	}
	if g.chance(0.05) {
		c.Given, c.Family = c.Family, c.Given
	}
	if g.chance(0.05) && c.Given != "" {
		c.Given = c.Given[:1]
	}
	if y, rest, ok := strings.Cut(c.BirthDate, "-"); ok && g.chance(0.12) {
		m, d, _ := strings.Cut(rest, "-")
		switch g.IntN(3) {
		case 0:
			c.BirthDate = y + "-" + d + "-" + m
		case 1:
			c.BirthDate = y + "-" + m + "-" + fmt.Sprintf("%02d", 1+g.IntN(28))
		default:
			c.BirthDate = itoa(1940+g.IntN(65)) + "-" + rest
		}
	}
	if g.chance(0.15) {
		moved := g.person()
		c.Street, c.Number, c.Postcode, c.City = moved.Street, moved.Number, moved.Postcode, moved.City
	}
	if g.chance(0.2) {
		c.Phones = []string{g.phone()}
	}
	if g.chance(0.3) {
		c.Emails = g.person().Emails
	} else if g.chance(0.08) && len(c.Emails) > 0 {
		c.Emails[0] = g.typo(c.Emails[0])
	}
	if g.chance(0.05) {
		c.NationalIDs = nil
	}
	return c
}

func (g *generator) typo(s string) string {
	if len(s) < 3 {
		return s
	}
	b := []byte(s)
	i := 1 + g.IntN(len(b)-2)
	switch g.IntN(4) {
	case 0:
		b[i], b[i+1] = b[i+1], b[i]
	case 1:
		b = slices.Delete(b, i, i+1)
	case 2:
		b = slices.Insert(b, i, byte('a'+g.IntN(26)))
	default:
		b[i] = byte('a' + g.IntN(26))
	}
	return string(b)
}

// strip takes away what nobody has, and of the rest now and then something.
func (g *generator) strip(r *match.Record) {
	for name, remove := range map[string]func(){
		"given": func() { r.Given = "" }, "family": func() { r.Family = "" }, "birth": func() { r.BirthDate = "" },
		"street": func() { r.Street, r.Number = "", "" }, "postcode": func() { r.Postcode = "" }, "city": func() { r.City = "" },
		"phone": func() { r.Phones = nil }, "email": func() { r.Emails = nil }, "id": func() { r.NationalIDs = nil },
	} {
		if slices.Contains(g.without, name) {
			remove()
		}
	}
	for _, f := range []struct {
		share  float64
		remove func()
	}{
		{0.03, func() { r.Given = "" }}, {0.02, func() { r.Family = "" }}, {0.2, func() { r.BirthDate = "" }},
		{0.2, func() { r.Street, r.Number = "", "" }}, {0.15, func() { r.Postcode = "" }}, {0.1, func() { r.City = "" }},
		{0.3, func() { r.Phones = nil }}, {0.25, func() { r.Emails = nil }}, {0.8, func() { r.NationalIDs = nil }},
	} {
		if g.chance(f.share) {
			f.remove()
		}
	}
	if g.fullName {
		r.FullName = strings.TrimSpace(r.Given + " " + r.Family)
		r.Given, r.Family = "", ""
	}
}
