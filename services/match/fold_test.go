package match

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	linkage "github.com/parleyhq/parley/pkg/identity/match"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

var profiles = []string{"p1", "p2", "p3"}

// generator makes events of all types that the fold looks at, and one that it
// does not, from few values, so that they meet.
type generator struct {
	r *rand.Rand
	n int
}

func (g *generator) pick(of ...string) string { return of[g.r.IntN(len(of))] }

func (g *generator) event() *eventv1.Event {
	g.n++
	var payload *eventv1.Payload
	switch g.r.IntN(8) {
	case 0:
		payload = &eventv1.Payload{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{ProfileId: "p1", OtherProfileId: "p2"}}}
	case 1:
		payload = &eventv1.Payload{Kind: &eventv1.Payload_LinkRefused{LinkRefused: &eventv1.LinkRefused{ProfileId: "p1", OtherProfileId: "p2"}}}
	case 2:
		payload = &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/"}}}
	default:
		p := &eventv1.TraitsUpdated{}
		for range g.r.IntN(6) {
			p.Traits = append(p.Traits, &eventv1.Trait{
				Name:      g.pick("firstName", "first_name", "lastName", "name", "birthday", "address", "address.city", "city", "zip", "email", "mobile", "ssn", "plan"),
				ValueJson: g.pick(`"Ada"`, `"Smith"`, "null", `"1815-12-10"`, `{"city":"London","street":"12 High St"}`, `{"postalCode":1010}`, "42", `""`, "{", `["x"]`),
			})
		}
		payload = &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: p}}
	}
	at := projectiontest.Epoch.Add(time.Duration(g.r.IntN(30)) * time.Second)
	ev := projectiontest.NewEvent("acme", profiles[g.r.IntN(len(profiles))], g.n, at, payload)
	for range g.r.IntN(4) {
		ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{
			Kind: g.pick("email", "phone", "user_id"), Value: fmt.Sprint("v", g.r.IntN(3*maxSeen)),
			Role: eventv1.IdentifierRole(g.r.IntN(5)), Assurance: eventv1.IdentifierAssurance(g.r.IntN(4)),
		})
	}
	return ev
}

// The laws that the engine relies on, and that it computes the same in whatever
// portions, with merges and splits among the events.
func TestLaws(t *testing.T) {
	t.Parallel()
	g := &generator{r: rand.New(rand.NewPCG(3, 5))}
	events := make([]*eventv1.Event, 300)
	for i := range events {
		events[i] = g.event()
	}
	recorded := projectiontest.Recorded(events)
	projectiontest.Laws(t, Definition(), recorded[:100], 100)
	projectiontest.Laws(t, Definition(), recorded, 50)

	for i, profile := range profiles {
		events[i].ProfileId = profile
	}
	decided := []*eventv1.Payload{
		mergedEvent("p2", "p3", "p3"), mergedEvent("p1", "p2", "p2", "p3"), splitEvent("p1", "p3", "p3"),
		mergedEvent("p1", "p3", "p3"), splitEvent("p1", "p2", "p2", "p3"),
		{Kind: &eventv1.Payload_IdentityRulesChanged{IdentityRulesChanged: &eventv1.IdentityRulesChanged{Rules: &eventv1.IdentityRules{LinkProbability: 0.9}}}},
	}
	for i, payload := range decided {
		ev := events[(i+1)*len(events)/(len(decided)+1)]
		ev.Payload, ev.Identifiers = payload, nil
		event.Stamp(ev)
	}
	projectiontest.Agree(t, Definition(), events)
}

func mergedEvent(into, absorbed string, moved ...string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
		CustomerId: into, AbsorbedCustomerId: absorbed, AbsorbedProfileIds: moved,
	}}}
}

func splitEvent(from, to string, moved ...string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_CustomersSplit{CustomersSplit: &eventv1.CustomersSplit{
		CustomerId: from, NewCustomerId: to, MovedProfileIds: moved,
	}}}
}

// folded is the record of traits said one event after the other, each as
// name, JSON, name, JSON.
func folded(t testing.TB, said ...[]string) linkage.Record {
	t.Helper()
	doc := &customerv1.MatchRecord{}
	for n, traits := range said {
		p := &eventv1.TraitsUpdated{}
		for i := 0; i+1 < len(traits); i += 2 {
			p.Traits = append(p.Traits, &eventv1.Trait{Name: traits[i], ValueJson: traits[i+1]})
		}
		ev := projectiontest.NewEvent("acme", "p1", n, projectiontest.Epoch.Add(time.Duration(n)*time.Minute),
			&eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: p}})
		require.NoError(t, fold(doc, &eventv1.RecordedEvent{Event: ev, Position: uint64(n + 1)}))
	}
	return recordOf(doc)
}

func TestTraitsToRecord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		said [][]string
		want linkage.Record
	}{
		"the Segment spec": {
			said: [][]string{{
				"firstName", `"Ada"`, "lastName", `"Lovelace"`, "birthday", `"1815-12-10T00:00:00Z"`, "email", `"ada@example.com"`, "phone", `"+442079460000"`,
				"address", `{"street":"12 St James's Square","city":"London","postalCode":"SW1Y 4JH","state":"England","country":"GB"}`,
			}},
			want: linkage.Record{
				Given: "Ada", Family: "Lovelace", BirthDate: "1815-12-10T00:00:00Z", Street: "12 St James's Square", City: "London", Postcode: "SW1Y 4JH",
				State: "England", Country: "GB", Emails: []string{"ada@example.com"}, Phones: []string{"+442079460000"},
			},
		},
		"snake case and other cases": {
			said: [][]string{{
				"GIVEN_NAME", `"Ada"`, "sur-name", `"Lovelace"`, "Date of Birth", `18151210`, "soc_sec_id", `"123-45"`, "tax.id", `99887`,
				"Street_Number", `12`, "address_1", `"High Street"`, "ZIP", `1010`,
			}},
			want: linkage.Record{
				Given: "Ada", Family: "Lovelace", BirthDate: "18151210", Number: "12", Street: "High Street", Postcode: "1010",
				NationalIDs: []string{"social:123-45", "tax:99887"},
			},
		},
		"members of an address as traits of their own": {
			said: [][]string{{"address.city", `"Wien"`, "address_postal_code", `"1010"`, "home_address", `{"street":"Ring 1"}`, "address.email", `"x@example.com"`}},
			want: linkage.Record{Street: "Ring 1", City: "Wien", Postcode: "1010"},
		},
		"the newest counts": {
			said: [][]string{{"city", `"London"`}, {"City", `"Paris"`}},
			want: linkage.Record{City: "Paris"},
		},
		"null takes away": {
			said: [][]string{{"firstName", `"Ada"`, "city", `"London"`}, {"given_name", `null`}},
			want: linkage.Record{City: "London"},
		},
		"of two names for one field in an event the one with a value counts": {
			said: [][]string{{"firstName", `"Ada"`, "given_name", `null`, "fname", `""`}},
			want: linkage.Record{Given: "Ada"},
		},
		"an address is said as a whole": {
			said: [][]string{{"address", `{"city":"London","postalCode":"SW1"}`}, {"address", `{"city":"Paris"}`}},
			want: linkage.Record{City: "Paris"},
		},
		"several numbers beside each other": {
			said: [][]string{{"phone", `"+4311"`, "mobile", `"+4366"`, "workPhone", `"+4377"`, "homePhone", `"+4388"`, "workEmail", `"a@work.example"`}},
			want: linkage.Record{Phones: []string{"+4311", "+4388", "+4366", "+4377"}, Emails: []string{"a@work.example"}},
		},
		"dates that can be nothing else": {said: [][]string{{"dob", `"9.12.1980"`}}, want: linkage.Record{BirthDate: "1980-12-09"}},
		"with slashes, the year first":   {said: [][]string{{"dob", `"1980/12/09"`}}, want: linkage.Record{BirthDate: "1980-12-09"}},
		"what could be two dates stays":  {said: [][]string{{"dob", `"09/12/1980"`}}, want: linkage.Record{BirthDate: "09/12/1980"}},
		"what is no text is passed over": {said: [][]string{{"firstName", `{"a":1}`, "lastName", `["x"]`, "city", `true`, "name", `{`, "zip", `1e3`}}, want: linkage.Record{Postcode: "1e3"}},
		"nothing that is compared":       {said: [][]string{{"plan", `"pro"`, strings.Repeat("city", 100), `"x"`}}, want: linkage.Record{}},
		"a full name":                    {said: [][]string{{"name", `" Lovelace, Ada "`}}, want: linkage.Record{FullName: "Lovelace, Ada"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, folded(t, c.said...))
		})
	}
}

// Every name of the table is one that a trait's name can come to.
func TestTraitNames(t *testing.T) {
	t.Parallel()
	for name := range traitFields {
		require.Equal(t, name, plainName(name))
		require.NotEmpty(t, fieldOf(plainName(strings.ToUpper(name))))
	}
	for _, name := range addressTraits {
		require.True(t, isAddress(name))
		require.Empty(t, fieldOf(name))
	}
}

func TestSeenAddressesAreBounded(t *testing.T) {
	t.Parallel()
	doc := &customerv1.MatchRecord{}
	for n := range 40 {
		ev := projectiontest.NewEvent("acme", "p1", n, projectiontest.Epoch.Add(time.Duration(n)*time.Minute),
			&eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{}}})
		ev.Identifiers = []*eventv1.Identifier{
			{Kind: "email", Value: fmt.Sprintf("a%d@example.com", n%20)},
			{Kind: "phone", Value: fmt.Sprintf("+43%d", n)},
			{Kind: "email", Value: "shop@example.com", Role: eventv1.IdentifierRole_IDENTIFIER_ROLE_COMPANY},
			{Kind: "email", Value: "spoofed@example.com", Assurance: eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED},
		}
		require.NoError(t, fold(doc, &eventv1.RecordedEvent{Event: ev, Position: uint64(n + 1)}))
	}
	r := recordOf(doc)
	require.Equal(t, []string{
		"a19@example.com", "a18@example.com", "a17@example.com", "a16@example.com", "a15@example.com", "a14@example.com", "a13@example.com", "a12@example.com",
	}, r.Emails)
	require.Equal(t, []string{"+4339", "+4338", "+4337", "+4336", "+4335", "+4334", "+4333", "+4332"}, r.Phones)
	require.Less(t, proto.Size(doc), 2048)
}

// A model is taken from the tenant's matching stream only, whoever else brings one.
func TestForeignModelsAreNoModels(t *testing.T) {
	t.Parallel()
	ev := projectiontest.NewEvent("acme", "", 1, projectiontest.Epoch, &eventv1.Payload{Kind: &eventv1.Payload_ModelFitted{ModelFitted: &eventv1.ModelFitted{
		Model: &eventv1.ModelFitted_Match{Match: &eventv1.MatchModel{}},
	}}})
	for stream, want := range map[string][]string{
		"acme.matching": {profileNewest, profileModel}, "other.matching": nil, "acme.web-matching": nil, "acme.identity": nil,
	} {
		var got []string
		require.NoError(t, factRows(&eventv1.RecordedEvent{Event: ev, Stream: stream, Position: 9}, func(_ string, row proto.Message) error {
			got = append(got, row.(*customerv1.MatchFact).GetProfileId())
			return nil
		}))
		require.Equal(t, want, got, stream)
	}
}

func TestMarksKeepApart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a, b marks
		want bool
	}{
		"nobody decided":          {nil, nil, false},
		"one side only":           {marks{"d1": 1}, nil, false},
		"the same side":           {marks{"d1": 1}, marks{"d1": 1}, false},
		"two sides":               {marks{"d1": 1}, marks{"d1": 2}, true},
		"two sides of two":        {marks{"d1": 1}, marks{"d2": 2}, false},
		"both sides against one":  {marks{"d1": 3}, marks{"d1": 2}, true},
		"one of several decision": {marks{"d1": 1, "d2": 2, "d3": 1}, marks{"d1": 1, "d3": 2}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.a.apart(c.b))
			require.Equal(t, c.want, c.b.apart(c.a))
		})
	}
}

func fittedModel(t testing.TB) *linkage.Model {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var all []linkage.Record
	for i := range 400 {
		all = append(all, linkage.Record{
			ID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)).String(), Given: fmt.Sprint("Given", r.IntN(20)), Family: fmt.Sprint("Family", r.IntN(50)),
			BirthDate: fmt.Sprintf("19%02d-0%d-1%d", r.IntN(90), 1+r.IntN(9), r.IntN(10)), City: fmt.Sprint("City", r.IntN(5)),
			Emails: []string{fmt.Sprintf("mail%d@example.com", r.IntN(300))},
		})
	}
	m, err := linkage.Fit(t.Context(), linkage.FromSlice(all), linkage.FitOptions{Seed: 1, Workers: 1})
	require.NoError(t, err)
	return m
}

func TestModelThereAndBack(t *testing.T) {
	t.Parallel()
	m := fittedModel(t)
	require.NotEmpty(t, m.Terms)
	data, err := proto.Marshal(modelToProto(m))
	require.NoError(t, err)
	p := &eventv1.MatchModel{}
	require.NoError(t, proto.Unmarshal(data, p))
	back, err := modelFromProto(p)
	require.NoError(t, err)
	require.Equal(t, m, back)
	validator, err := event.NewValidator()
	require.NoError(t, err)
	require.Empty(t, validator.Check(p))

	for name, spoil := range map[string]func(p *eventv1.MatchModel){
		"another version":    func(p *eventv1.MatchModel) { p.Version++ },
		"an unknown field":   func(p *eventv1.MatchModel) { p.Fields[0].Field = "shoe_size" },
		"the household":      func(p *eventv1.MatchModel) { p.Fields[0].Field = "household" },
		"an unknown level":   func(p *eventv1.MatchModel) { p.Fields[0].Levels[0].Level = "roughly" },
		"a level missing":    func(p *eventv1.MatchModel) { p.Fields[0].Levels = p.GetFields()[0].GetLevels()[1:] },
		"an unknown term":    func(p *eventv1.MatchModel) { p.Terms[0].Term = "shoe" },
		"hashes alone":       func(p *eventv1.MatchModel) { p.Terms[0].Frequencies = nil },
		"hashes in no order": func(p *eventv1.MatchModel) { p.Terms[0].Hashes[0] = ^uint64(0) },
		"an unknown rule":    func(p *eventv1.MatchModel) { p.Rules[0].Rule = "smell" },
		"an impossible one":  func(p *eventv1.MatchModel) { p.Prior = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := proto.CloneOf(p)
			spoil(bad)
			_, err := modelFromProto(bad)
			var invalid *linkage.InvalidModelError
			require.ErrorAs(t, err, &invalid)
		})
	}
}

func FuzzTraits(f *testing.F) {
	f.Add("firstName", `"Ada"`)
	f.Add("address", `{"street":"x","city":{"a":[]},"zip":null}`)
	f.Add("dob", `"1.2.1980"`)
	f.Add("dob", `".."`)
	f.Add("birthday", `"1980/12/1"`)
	f.Add("phone", "\"\xff\"")
	f.Fuzz(func(t *testing.T, name, value string) {
		doc := &customerv1.MatchRecord{}
		ev := projectiontest.NewEvent("acme", "p1", 1, projectiontest.Epoch, &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{
			TraitsUpdated: &eventv1.TraitsUpdated{Traits: []*eventv1.Trait{{Name: name, ValueJson: value}}},
		}})
		require.NoError(t, fold(doc, &eventv1.RecordedEvent{Event: ev, Position: 1}))
		require.LessOrEqual(t, len(doc.GetValues()), 1+len(addressFields))
		for _, v := range doc.GetValues() {
			require.LessOrEqual(t, len(v.GetValue()), maxValueBytes+len("00"))
			require.True(t, utf8.ValidString(v.GetValue()) || !utf8.ValidString(value))
		}
		_, err := proto.Marshal(doc)
		require.True(t, err == nil || !utf8.ValidString(value), "%v", err)
		require.LessOrEqual(t, len(keyTuples(doc)), linkage.MaxKeys)
	})
}

func FuzzPlace(f *testing.F) {
	f.Add(placeOf(1.5, "b", "a").append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlace(b)
		if err != nil {
			return
		}
		again, err := parsePlace(p.append(nil))
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}

func FuzzModel(f *testing.F) {
	data, err := proto.Marshal(modelToProto(fittedModel(f)))
	require.NoError(f, err)
	f.Add(data)
	a, b := folded(f, []string{"firstName", `"Ada"`, "dob", `"1980-01-01"`}), folded(f, []string{"firstName", `"Adda"`, "email", `"a@b.example"`})
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &eventv1.MatchModel{}
		if proto.Unmarshal(data, p) != nil {
			return
		}
		m, err := modelFromProto(p)
		if err != nil {
			return
		}
		score := m.Score(&a, &b)
		require.Positive(t, score.Probability)
		require.LessOrEqual(t, score.Probability, 1.0)
		require.Equal(t, score, m.Score(&b, &a))
	})
}
