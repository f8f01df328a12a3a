package match_test

import (
	"context"
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/identity/match"
)

// usual is a model of usual data, and the data.
var usual = sync.OnceValues(func() (*match.Model, *labelled) {
	l := generate(population{seed: 42, records: 3000, duplicates: 0.1, mates: 0.3})
	m, err := match.Fit(context.Background(), match.FromSlice(l.records), fitFast)
	if err != nil {
		return nil, l
	}
	return m, l
})

func usualModel(t testing.TB) (*match.Model, *labelled) {
	t.Helper()
	m, l := usual()
	require.NotNil(t, m)
	return m, l
}

func levelOf(s match.Score, f match.Field) match.Level {
	for _, r := range s.Reasons {
		if r.Field == f {
			return r.Level
		}
	}
	return match.LevelMissing
}

func TestLevels(t *testing.T) {
	t.Parallel()
	m, _ := usualModel(t)
	name := func(given, family string) match.Record { return match.Record{Given: given, Family: family} }
	birth := func(s string) match.Record { return match.Record{BirthDate: s} }
	address := func(street, number, postcode, city string) match.Record {
		return match.Record{Street: street, Number: number, Postcode: postcode, City: city}
	}
	emails := func(s ...string) match.Record { return match.Record{Emails: s} }
	phones := func(s ...string) match.Record { return match.Record{Phones: s} }
	ids := func(s ...string) match.Record { return match.Record{NationalIDs: s} }
	for _, c := range []struct {
		a, b  match.Record
		field match.Field
		want  match.Level
	}{
		{name("Ada", "Lovelace"), name("ADA ", "lovelace"), match.FieldFamily, match.LevelExact},
		{name("Jürgen", "Groß"), name("Jurgen", "Gross"), match.FieldFamily, match.LevelExact},
		{name("José", "Núñez"), name("Jose\u0301", "Nunez"), match.FieldGiven, match.LevelExact},
		{name("Siân", "O’Brien"), name("Sian", "OBrien"), match.FieldFamily, match.LevelExact},
		{name("Юлия", "Иванова"), name("ЮЛИЯ", "Иванова"), match.FieldFamily, match.LevelExact},
		{name("Dr. Ada", "Lovelace"), name("Ada", "Lovelace"), match.FieldGiven, match.LevelExact},
		{name("Ada", "Lovelace"), name("Ada", "Lovelcae"), match.FieldFamily, match.LevelClose},
		{name("Ada", "Müller"), name("Ada", "Mueller"), match.FieldFamily, match.LevelClose},
		{name("William", "Gosset"), name("Bill", "Gosset"), match.FieldGiven, match.LevelVariant},
		{name("Johannes", "Gosset"), name("Hansi", "Gosset"), match.FieldGiven, match.LevelVariant},
		{name("Anna Maria", "Gosset"), name("Maria", "Gosset"), match.FieldGiven, match.LevelVariant},
		{name("A.", "Lovelace"), name("Ada", "Lovelace"), match.FieldGiven, match.LevelVariant},
		{name("Ada", "Byron-Lovelace"), name("Ada", "Lovelace"), match.FieldFamily, match.LevelVariant},
		{name("Ada", "Lovelace"), name("Lovelace", "Ada"), match.FieldGiven, match.LevelSwapped},
		{name("Ada", "Lovelace"), name("Lovelace", "Ada"), match.FieldFamily, match.LevelSwapped},
		{name("Ada", "Lovelace"), name("Charles", "Babbage"), match.FieldFamily, match.LevelDifferent},
		{name("Ada", "Lovelace"), name("Ada", ""), match.FieldFamily, match.LevelMissing},
		{name("Ada", "Lovelace"), name("Ada", "unknown"), match.FieldFamily, match.LevelMissing},
		{name("Ada", "Lovelace"), match.Record{FullName: "Lovelace, Ada"}, match.FieldFamily, match.LevelExact},
		{name("Vincent", "van Gogh"), match.Record{FullName: "Vincent van Gogh"}, match.FieldFamily, match.LevelExact},

		{birth("1815-12-10"), birth("18151210"), match.FieldBirthDate, match.LevelExact},
		{birth("1815-12-10"), birth("1815-12-10T00:00:00Z"), match.FieldBirthDate, match.LevelExact},
		{birth("1815-12-10"), birth("1815-10-12"), match.FieldBirthDate, match.LevelSwapped},
		{birth("1815-12-10"), birth("1851-12-10"), match.FieldBirthDate, match.LevelClose},
		{birth("1815-12-10"), birth("1815-12-23"), match.FieldBirthDate, match.LevelPartial},
		{birth("1815-12-10"), birth("1963-12-10"), match.FieldBirthDate, match.LevelPartial},
		{birth("1815-12-10"), birth("1815-03-24"), match.FieldBirthDate, match.LevelSimilar},
		{birth("1815-12-10"), birth("1999-01-31"), match.FieldBirthDate, match.LevelDifferent},
		{birth("1815-12-10"), birth("10.12.1815"), match.FieldBirthDate, match.LevelMissing},
		{birth("1815-12-10"), birth("0001-01-01"), match.FieldBirthDate, match.LevelMissing},

		{address("", "", "1010", "Wien"), address("", "", "A-1010", "Vienna"), match.FieldPlace, match.LevelExact},
		{address("", "", "1010", "Wien"), address("", "", "", "wien"), match.FieldPlace, match.LevelPartial},
		{address("", "", "", "London"), address("", "", "", "Lodnon"), match.FieldPlace, match.LevelSimilar},
		{match.Record{Postcode: "1010", Country: "AT"}, match.Record{Postcode: "1010", Country: "CH"}, match.FieldPlace, match.LevelDifferent},
		{match.Record{Postcode: "3000", State: "VIC"}, match.Record{Postcode: "3999", State: "vic"}, match.FieldPlace, match.LevelRegion},
		{address("Hauptstr.", "5", "", ""), address("Hauptstraße 5", "", "", ""), match.FieldStreet, match.LevelExact},
		{address("12 Main St", "", "", ""), address("Main Street", "12", "", ""), match.FieldStreet, match.LevelExact},
		{address("Hauptstraße", "5", "", ""), address("Haupstrasse", "5", "", ""), match.FieldStreet, match.LevelClose},
		{address("Hauptstraße", "5", "", ""), address("Hauptstraße", "", "", ""), match.FieldStreet, match.LevelPartial},
		{address("Hauptstraße", "5", "", ""), address("Hauptstraße", "7", "", ""), match.FieldStreet, match.LevelSimilar},
		{address("Hauptstraße", "5", "", ""), address("Mozartgasse", "5", "", ""), match.FieldStreet, match.LevelDifferent},

		{emails("a@x.example", "ada@example.com"), emails("Ada@Example.com"), match.FieldEmail, match.LevelExact},
		{emails("countess@example.com"), emails("countes@example.com"), match.FieldEmail, match.LevelClose},
		{emails("countess@example.com"), emails("countess@other.example"), match.FieldEmail, match.LevelPartial},
		{emails("countess@example.com"), emails("babbage@other.example"), match.FieldEmail, match.LevelDifferent},
		{phones("+436641234567"), phones("+43 664 1234567"), match.FieldPhone, match.LevelExact},
		{phones("+436641234567"), phones("06641234567"), match.FieldPhone, match.LevelClose},
		{phones("+436641234567"), phones("+436649999999"), match.FieldPhone, match.LevelDifferent},
		{ids("ssn:078-05-1120"), ids("SSN:078051120"), match.FieldNationalID, match.LevelExact},
		{ids("ssn:078051120"), ids("ssn:078051210"), match.FieldNationalID, match.LevelClose},
		{ids("ssn:078051120"), ids("passport:123456789"), match.FieldNationalID, match.LevelMissing},
		{ids("ssn:078051120", "passport:1"), ids("ssn:999999998"), match.FieldNationalID, match.LevelDifferent},
	} {
		s := m.Score(&c.a, &c.b)
		require.Equal(t, c.want, levelOf(s, c.field), "%v of %+v and %+v", c.field, c.a, c.b)
	}
}

func TestScoreIsExplained(t *testing.T) {
	t.Parallel()
	m, l := usualModel(t)
	random := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		a, b := &l.records[random.IntN(len(l.records))], &l.records[random.IntN(len(l.records))]
		s := m.Score(a, b)
		require.Equal(t, s, m.Score(b, a))
		requireSane(t, s)
		odds := math.Exp2(s.Weight) * m.Prior / (1 - m.Prior)
		require.InDelta(t, odds/(1+odds), s.Probability, 1e-9)
	}
}

func requireSane(t testing.TB, s match.Score) {
	require.Greater(t, s.Probability, 0.0)
	require.Less(t, s.Probability, 1.0)
	sum := 0.0
	for i, r := range s.Reasons {
		require.LessOrEqual(t, math.Abs(r.Weight), 500.0)
		require.NotEqual(t, match.LevelMissing, r.Level)
		require.True(t, i == 0 || s.Reasons[i-1].Field < r.Field)
		sum += r.Weight
	}
	require.InDelta(t, s.Weight, sum, 0.01)
}

// Within a field a better level weighs no less than a worse one.
func TestWeightsFall(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		l := generate(population{seed: seed, records: 400, duplicates: 0.05, mates: 0.3, noise: 2})
		m, err := match.Fit(t.Context(), match.FromSlice(l.records), fitFast)
		require.NoError(t, err)
		for _, f := range m.Fields {
			weight := map[match.Level]float64{}
			for _, level := range f.Levels {
				weight[level.Level] = level.Weight
			}
			last := math.Inf(1)
			for _, level := range []match.Level{match.LevelExact, match.LevelClose, match.LevelPartial, match.LevelSimilar, match.LevelDifferent} {
				// Of a street, a missing number is better than a wrong one.
				if w, ok := weight[level]; ok {
					require.LessOrEqual(t, w, last, "%v %v", f.Field, level)
					last = w
				}
			}
			for level, w := range weight {
				require.LessOrEqual(t, w, weight[match.LevelExact], "%v %v", f.Field, level)
				require.GreaterOrEqual(t, w, weight[match.LevelDifferent], "%v %v", f.Field, level)
			}
			require.GreaterOrEqual(t, weight[match.LevelExact], 0.0)
			require.LessOrEqual(t, weight[match.LevelDifferent], 0.0)
		}
	}
}

func TestRareValuesWeighMore(t *testing.T) {
	t.Parallel()
	m, l := usualModel(t)
	count := map[string]int{}
	for _, r := range l.records {
		count[r.Family]++
	}
	frequent := ""
	for name, n := range count {
		if name != "" && (frequent == "" || n > count[frequent] || n == count[frequent] && name < frequent) {
			frequent = name
		}
	}
	common, rare := match.Record{Family: frequent}, match.Record{Family: "Quisquilian"}
	require.Greater(t, m.Score(&rare, &rare).Weight, m.Score(&common, &common).Weight+2)
}

// Evidence that belongs together does not count twice.
func TestGuards(t *testing.T) {
	t.Parallel()
	m, _ := usualModel(t)
	t.Run("household", func(t *testing.T) {
		t.Parallel()
		wife := match.Record{
			Given: "Ada", Family: "Quisquilian", BirthDate: "1970-03-04", Street: "Rarissima street", Number: "17",
			Postcode: "10999", City: "Xylonia", Phones: []string{"+431234567890"}, Emails: []string{"family17@zzz.example"},
		}
		husband := wife
		husband.Given, husband.BirthDate = "Bertram", "1968-11-23"
		require.Less(t, m.Score(&wife, &husband).Probability, 0.05)
		// Not even where little is known of the one: the rest is a household's.
		husband.Given, husband.BirthDate = "", ""
		require.Less(t, m.Score(&wife, &husband).Probability, 0.6)
		require.Equal(t, match.LevelExact, levelOf(m.Score(&wife, &husband), match.FieldHousehold))
		moved := wife
		moved.Street, moved.Number, moved.Phones = "Alia street", "2", nil
		require.Greater(t, m.Score(&wife, &moved).Probability, 0.99)
	})
	t.Run("address made of the name", func(t *testing.T) {
		t.Parallel()
		a := match.Record{Given: "Ada", Family: "Quisquilian", Emails: []string{"ada.quisquilian@one.example"}}
		b := match.Record{Given: "Ada", Family: "Quisquilian", Emails: []string{"ada.quisquilian@two.example"}}
		require.Equal(t, match.LevelMissing, levelOf(m.Score(&a, &b), match.FieldEmail))
		a.Emails, b.Emails = []string{"xylograph7@one.example"}, []string{"xylograph7@two.example"}
		require.Equal(t, match.LevelPartial, levelOf(m.Score(&a, &b), match.FieldEmail))
	})
	t.Run("shared by strangers", func(t *testing.T) {
		t.Parallel()
		l := generate(population{seed: 5, records: 3000, duplicates: 0.05, shared: 0.2})
		m, err := match.Fit(t.Context(), match.FromSlice(l.records), fitFast)
		require.NoError(t, err)
		shop, own := match.Record{Emails: []string{"orders@shop.example"}}, match.Record{Emails: []string{"unseen7@else.example"}}
		require.Greater(t, m.Score(&own, &own).Weight, m.Score(&shop, &shop).Weight+5)
		require.Less(t, m.Score(&shop, &shop).Weight, 6.0)
	})
}

func TestFitIsDeterministic(t *testing.T) {
	t.Parallel()
	l := generate(population{seed: 21, records: 2000, duplicates: 0.1, mates: 0.3})
	fit := func(records []match.Record, change func(*match.FitOptions)) *match.Model {
		o := fitFast
		change(&o)
		m, err := match.Fit(t.Context(), match.FromSlice(records), o)
		require.NoError(t, err)
		require.NoError(t, m.Validate())
		return m
	}
	same := func(*match.FitOptions) {}
	first := fit(l.records, same)
	require.Equal(t, first, fit(l.records, same))
	shuffled := slices.Clone(l.records)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	require.Equal(t, first, fit(shuffled, same), "the order of the records plays no part")
	require.Equal(t, first, fit(l.records, func(o *match.FitOptions) { o.Workers = 7 }))
	require.NotEqual(t, first, fit(l.records, func(o *match.FitOptions) { o.Seed++ }))

	sampled := func(o *match.FitOptions) { o.MaxRecords = 700 }
	part := fit(l.records, sampled)
	require.EqualValues(t, 2000, part.Records)
	require.LessOrEqual(t, part.Sampled, uint64(700))
	require.Greater(t, part.Sampled, uint64(200))
	require.Equal(t, part, fit(shuffled, sampled))
}

func TestModelHasNoValues(t *testing.T) {
	t.Parallel()
	m, l := usualModel(t)
	count := map[match.Term]int{}
	for _, table := range m.Terms {
		count[table.Term] = len(table.Values)
		require.LessOrEqual(t, len(table.Values), 4096)
	}
	require.NotZero(t, count[match.TermFamily])
	// Nobody's own address or number is in it.
	require.Zero(t, count[match.TermEmail])
	require.Zero(t, count[match.TermPhone])
	require.Zero(t, count[match.TermNationalID])
	require.Len(t, m.Fields, 8)

	without := generate(population{seed: 3, records: 500, without: []string{"birth", "id", "phone"}})
	partial, err := match.Fit(t.Context(), match.FromSlice(without.records), fitFast)
	require.NoError(t, err)
	var fields []match.Field
	for _, f := range partial.Fields {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []match.Field{match.FieldGiven, match.FieldFamily, match.FieldPlace, match.FieldStreet, match.FieldEmail}, fields)
	for _, k := range match.BlockingKeys(&l.records[0]) {
		require.Equal(t, k.Rule() != match.RuleBirthDate && k.Rule() != match.RuleNameBirthYear && k.Rule() != match.RulePhone && k.Rule() != match.RuleNationalID, partial.Uses(k), "%v", k.Rule())
	}
}

func TestBlockingKeys(t *testing.T) {
	t.Parallel()
	full := match.Record{
		Given: "Ada", Family: "Lovelace", BirthDate: "1815-12-10", Street: "St James Square", Number: "12", Postcode: "10101", City: "London",
		Emails: []string{"countess@example.com"}, Phones: []string{"+442071234567"}, NationalIDs: []string{"ssn:078051120"},
	}
	keys := match.BlockingKeys(&full)
	require.True(t, slices.IsSorted(keys))
	require.LessOrEqual(t, len(keys), match.MaxKeys)
	require.Empty(t, match.BlockingKeys(&match.Record{ID: "x"}))
	for _, c := range []struct {
		with match.Record
		rule match.Rule
	}{
		{match.Record{NationalIDs: []string{"SSN:078-05-1120"}}, match.RuleNationalID},
		{match.Record{Emails: []string{"Countess@Example.com"}}, match.RuleEmail},
		{match.Record{Emails: []string{"countess@other.example"}}, match.RuleEmailStart},
		{match.Record{Phones: []string{"02071234567"}}, match.RulePhone},
		{match.Record{BirthDate: "1815-10-12"}, match.RuleBirthDate},
		{match.Record{Street: "St. James Sq.", Number: "12", Postcode: "10199"}, match.RuleAddress},
		{match.Record{Given: "Lovlace", Family: "Adah"}, match.RuleNames},
		{match.Record{Given: "Lovelase", BirthDate: "1815-01-01"}, match.RuleNameBirthYear},
		{match.Record{Family: "Ada", Postcode: "10101"}, match.RuleNamePostcode},
		{match.Record{Family: "Lovelase", City: "LONDON"}, match.RuleNameCity},
	} {
		found := false
		for _, k := range match.BlockingKeys(&c.with) {
			found = found || k.Rule() == c.rule && slices.Contains(keys, k)
		}
		require.True(t, found, "%v", c.rule)
	}
	many := match.Record{Given: "A", Family: "B"}
	for i := range 500 {
		many.Emails = append(many.Emails, "x"+itoa(i)+"@example.com")
	}
	require.LessOrEqual(t, len(match.BlockingKeys(&many)), match.MaxKeys)
	// An index of keys outlives the code: these do not change.
	require.Equal(t, match.Key(0x0339f7e572904abf), match.BlockingKeys(&match.Record{BirthDate: "1815-12-10"})[0])
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good, _ := usualModel(t)
	for name, spoil := range map[string]func(*match.Model){
		"version":        func(m *match.Model) { m.Version++ },
		"prior":          func(m *match.Model) { m.Prior = 0 },
		"prior NaN":      func(m *match.Model) { m.Prior = math.NaN() },
		"household":      func(m *match.Model) { m.Household = 1 },
		"field order":    func(m *match.Model) { m.Fields[1] = m.Fields[0] },
		"unknown field":  func(m *match.Model) { m.Fields[len(m.Fields)-1].Field = match.FieldHousehold },
		"levels":         func(m *match.Model) { m.Fields[0].Levels = m.Fields[0].Levels[1:] },
		"level twice":    func(m *match.Model) { m.Fields[0].Levels[0] = m.Fields[0].Levels[1] },
		"strange level":  func(m *match.Model) { m.Fields[0].Levels[0].Level = match.LevelRegion },
		"u":              func(m *match.Model) { m.Fields[0].Levels[0].U = 0 },
		"m":              func(m *match.Model) { m.Fields[0].Levels[0].M = math.NaN() },
		"weight":         func(m *match.Model) { m.Fields[0].Levels[0].Weight = math.Inf(1) },
		"terms order":    func(m *match.Model) { m.Terms[1] = m.Terms[0] },
		"terms unsorted": func(m *match.Model) { slices.Reverse(m.Terms[0].Values) },
		"frequency":      func(m *match.Model) { m.Terms[0].Values[0].Frequency = 0 },
		"agreement":      func(m *match.Model) { m.Terms[0].Agreement = 2 },
		"rest":           func(m *match.Model) { m.Terms[0].Rest = math.NaN() },
		"rules":          func(m *match.Model) { m.Rules[1] = m.Rules[0] },
		"rule pairs":     func(m *match.Model) { m.Rules[0].Pairs = math.Inf(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := *good
			m.Fields, m.Terms, m.Rules = slices.Clone(m.Fields), slices.Clone(m.Terms), slices.Clone(m.Rules)
			for i := range m.Fields {
				m.Fields[i].Levels = slices.Clone(m.Fields[i].Levels)
			}
			for i := range m.Terms {
				m.Terms[i].Values = slices.Clone(m.Terms[i].Values)
			}
			require.NoError(t, m.Validate())
			spoil(&m)
			var invalid *match.InvalidModelError
			require.ErrorAs(t, m.Validate(), &invalid)
			for _, err := range match.Candidates(t.Context(), match.FromSlice(nil), &m, match.Options{}) {
				require.ErrorAs(t, err, &invalid)
			}
		})
	}
}

func TestSourceFails(t *testing.T) {
	t.Parallel()
	m, l := usualModel(t)
	broken := errors.New("disk on fire")
	source := func(context.Context) iter.Seq2[*match.Record, error] {
		return func(yield func(*match.Record, error) bool) {
			if yield(&l.records[0], nil) {
				yield(nil, broken)
			}
		}
	}
	_, err := match.Fit(t.Context(), source, fitFast)
	require.ErrorIs(t, err, broken)
	for p, err := range match.Candidates(t.Context(), source, m, match.Options{}) {
		require.ErrorIs(t, err, broken)
		require.Empty(t, p)
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = match.Fit(cancelled, match.FromSlice(l.records), fitFast)
	require.ErrorIs(t, err, context.Canceled)
	n := 0
	for _, err := range match.Candidates(cancelled, match.FromSlice(l.records), m, match.Options{}) {
		require.ErrorIs(t, err, context.Canceled)
		n++
	}
	require.Equal(t, 1, n)
}

func FuzzScore(f *testing.F) {
	f.Add("Ada", "Lovelace", "", "1815-12-10", "Hauptstr. 5", "", "A-1010", "Wien", "AT", "ada@example.com", "+436641234567", "ssn:078051120")
	f.Add("", "", "Dr. Jürgen van der Groß, jr", "18151210T", "12 Main St", "b", "SW1A 1AA", "\xff\xfe", "xx", "@", "", ":")
	f.Add("İ", "ǅ", "Иванова Юлия", "9999-99-99", "1", "1", "0", strings.Repeat("ﷺ", 40), "", strings.Repeat("a", 300)+"@b", "0000000000", "\x00")
	f.Fuzz(func(t *testing.T, given, family, full, birth, street, number, postcode, city, country, email, phone, id string) {
		m, l := usualModel(t)
		r := match.Record{
			ID: "r", Given: given, Family: family, FullName: full, BirthDate: birth, Street: street, Number: number, Postcode: postcode,
			City: city, State: country, Country: country, Emails: []string{email, family}, Phones: []string{phone, email}, NationalIDs: []string{id, number},
		}
		crossed := match.Record{ID: "c", Given: family, Family: given, Street: city, City: street, Emails: []string{full, email}, NationalIDs: []string{phone}}
		for _, other := range []*match.Record{&r, &crossed, &l.records[0], {}} {
			s := m.Score(&r, other)
			requireSane(t, s)
			require.Equal(t, s, m.Score(other, &r))
		}
		// What is known of both speaks for them where both are the same.
		for _, reason := range m.Score(&r, &r).Reasons {
			require.True(t, reason.Weight >= 0 || reason.Field == match.FieldHousehold, "%v %v", reason.Field, reason.Level)
		}
		keys := match.BlockingKeys(&r)
		require.True(t, slices.IsSorted(keys))
		require.LessOrEqual(t, len(keys), match.MaxKeys)
		require.Len(t, slices.Compact(slices.Clone(keys)), len(keys))
	})
}
