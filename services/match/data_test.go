package match_test

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

func ts(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// labelled is a record of a public data set and who it really is.
type labelled struct {
	id, person string
	email      string
	traits     map[string]any
}

// sharedData is where public data sets lie: PARLEY_SHARED_DATA, or beside the
// repository.
func sharedData(t testing.TB, name string) [][]string {
	t.Helper()
	dir := os.Getenv("PARLEY_SHARED_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	file, err := os.Open(filepath.Join(dir, "identity", name))
	if os.IsNotExist(err) {
		t.Skipf("%s is not there: set PARLEY_SHARED_DATA to the directory of the data sets", filepath.Join(dir, "identity", name))
	}
	require.NoError(t, err)
	reader := csv.NewReader(file)
	reader.TrimLeadingSpace = true
	rows, err := reader.ReadAll()
	require.NoError(t, err)
	require.NoError(t, file.Close())
	for _, row := range rows {
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
	}
	return rows[1:]
}

// put adds a trait that has a value.
func put(traits map[string]any, name, value string) {
	if value != "" {
		traits[name] = value
	}
}

// splinkFake is the data of Splink's tutorial (Ministry of Justice, MIT
// licence): unique_id, first_name, surname, dob, city, email, cluster.
func splinkFake(t testing.TB) []labelled {
	var all []labelled
	for _, row := range sharedData(t, "splink_fake_1000.csv") {
		l := labelled{id: row[0], person: row[6], email: row[5], traits: map[string]any{}}
		put(l.traits, "firstName", row[1])
		put(l.traits, "lastName", row[2])
		put(l.traits, "birthday", row[3])
		put(l.traits, "email", row[5])
		if row[4] != "" {
			l.traits["address"] = map[string]any{"city": row[4]}
		}
		all = append(all, l)
	}
	return all
}

// febrl is a data set of Febrl (Christen, Australian National University):
// rec_id, given_name, surname, street_number, address_1, address_2, suburb,
// postcode, state, date_of_birth, soc_sec_id. Its traits keep these names.
func febrl(t testing.TB) []labelled {
	names := []string{"", "given_name", "surname", "street_number", "address_1", "address_2", "suburb", "postcode", "state", "date_of_birth", "soc_sec_id"}
	var all []labelled
	for _, row := range sharedData(t, "febrl1.csv") {
		l := labelled{id: row[0], person: strings.Split(row[0], "-")[1], traits: map[string]any{}}
		for i, name := range names {
			if name != "" {
				put(l.traits, name, row[i])
			}
		}
		all = append(all, l)
	}
	return all
}

func truePairs(all []labelled) int {
	count := map[string]int{}
	for _, l := range all {
		count[l.person]++
	}
	sum := 0
	for _, n := range count {
		sum += n * (n - 1) / 2
	}
	return sum
}

// scored is how right some pairs are.
type scored struct{ given, right, all int }

func (s scored) precision() float64 { return float64(s.right) / float64(max(1, s.given)) }
func (s scored) recall() float64    { return float64(s.right) / float64(s.all) }
func (s scored) f1() float64        { return 2 * float64(s.right) / float64(s.given+s.all) }

func (s scored) String() string {
	return fmt.Sprintf("%5d pairs  precision %.4f  recall %.4f  F1 %.4f", s.given, s.precision(), s.recall(), s.f1())
}

// Public data through the whole way, from identify calls to suggestions. Who is
// who only serves to count.
func TestPublicData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		load func(testing.TB) []labelled
		f1   float64 // floor of the best
	}{{"splink_fake_1000", splinkFake, 0.96}, {"febrl1", febrl, 0.99}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			all := c.load(t)
			t.Logf("%d records, %d true pairs", len(all), truePairs(all))
			deterministic(t, all)
			require.GreaterOrEqual(t, probabilistic(t, all), c.f1)
		})
	}
}

// deterministic counts what the identity rules alone join: each record is a
// device of its own, which said its address.
func deterministic(t *testing.T, all []labelled) {
	h := newHouse(t)
	for _, l := range all {
		ids := []string{"anonymous_id", "device " + l.id}
		if l.email != "" {
			ids = append(ids, "email", l.email)
		}
		h.identify(ids, l.traits)
	}
	of := map[string]string{} // customer, by record
	for _, l := range all {
		of[l.id] = h.customer("anonymous_id", "device "+l.id)
	}
	s := together(all, of)
	t.Logf("deterministic rules, an address each      %v", s)
	if s.given > 0 {
		require.GreaterOrEqual(t, s.precision(), 0.99)
	}
	h.fit(&customerv1.FitMatchModelRequest{Seed: 1})
	for _, least := range []float64{0.95, 0.5} {
		joined := map[string]string{}
		root := func(id string) string {
			for joined[id] != "" {
				id = joined[id]
			}
			return id
		}
		for _, p := range h.list(&customerv1.ListMergeCandidatesRequest{MinProbability: least}) {
			if a, b := root(p.GetCustomerId()), root(p.GetOtherCustomerId()); a != b {
				joined[a] = b
			}
		}
		both := map[string]string{}
		for id, customer := range of {
			both[id] = root(customer)
		}
		t.Logf("  and their customers' candidates, %.3f   %v", least, together(all, both))
	}
}

// together counts the pairs of records that are of one customer.
func together(all []labelled, of map[string]string) scored {
	by := map[string]map[string]int{}
	for _, l := range all {
		id := of[l.id]
		if by[id] == nil {
			by[id] = map[string]int{}
		}
		by[id][l.person]++
	}
	s := scored{all: truePairs(all)}
	for _, persons := range by {
		n := 0
		for _, same := range persons {
			n += same
			s.right += same * (same - 1) / 2
		}
		s.given += n * (n - 1) / 2
	}
	return s
}

// probabilistic counts what is suggested where nothing links: each record is an
// account of its own. It gives the best F1 of any threshold.
func probabilistic(t *testing.T, all []labelled) float64 {
	h := newHouse(t)
	person := map[string]string{}
	for _, l := range all {
		h.identify([]string{"user_id", "user " + l.id}, l.traits)
		person[h.profile("user_id", "user "+l.id)] = l.person
	}
	h.fit(&customerv1.FitMatchModelRequest{Seed: 1, MinProbability: 0.001})
	pairs := h.list(&customerv1.ListMergeCandidatesRequest{MinProbability: 0.001, PageSize: 500})
	require.True(t, slices.IsSortedFunc(pairs, func(x, y *customerv1.MergeCandidate) int { return cmp.Compare(y.GetProbability(), x.GetProbability()) }))
	s, best, at := scored{all: truePairs(all)}, scored{all: 1}, 0.0
	shown := []float64{0.999, 0.99, 0.95, 0.9, 0.7, 0.5, 0.3, 0.1, 0}
	for i, p := range pairs {
		s.given++
		if person[p.GetCustomerId()] == person[p.GetOtherCustomerId()] {
			s.right++
		}
		last := i+1 == len(pairs)
		if last || pairs[i+1].GetProbability() < p.GetProbability() {
			if s.f1() > best.f1() {
				best, at = s, p.GetProbability()
			}
			for shown[0] > 0 && (last || pairs[i+1].GetProbability() < shown[0]) {
				t.Logf("candidates, an account each, from %.3f    %v", shown[0], s)
				shown = shown[1:]
			}
		}
	}
	t.Logf("candidates, the best threshold, %.4f    %v", at, best)
	return best.f1()
}
