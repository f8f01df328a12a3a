package match_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/identity/match"
)

// labelled are records and, by place, the person each is of.
type labelled struct {
	records []match.Record
	person  []string
}

func (l *labelled) truePairs() int {
	count := map[string]int{}
	for _, p := range l.person {
		count[p]++
	}
	sum := 0
	for _, n := range count {
		sum += n * (n - 1) / 2
	}
	return sum
}

// sharedData is where public data sets lie: PARLEY_SHARED_DATA, or beside the
// repository.
func sharedData(t testing.TB, name string) [][]string {
	t.Helper()
	dir := os.Getenv("PARLEY_SHARED_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "data")
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

// splinkFake is the data of Splink's tutorial (Ministry of Justice, MIT
// licence): unique_id, first_name, surname, dob, city, email, cluster.
func splinkFake(t testing.TB) *labelled {
	out := &labelled{}
	for _, row := range sharedData(t, "splink_fake_1000.csv") {
		r := match.Record{ID: recordID(row[0]), Given: row[1], Family: row[2], BirthDate: row[3], City: row[4]}
		if row[5] != "" {
			r.Emails = []string{row[5]}
		}
		out.records = append(out.records, r)
		out.person = append(out.person, row[6])
	}
	return out
}

// febrl is a data set of Febrl (Christen, Australian National University):
// rec_id, given_name, surname, street_number, address_1, address_2, suburb,
// postcode, state, date_of_birth, soc_sec_id.
func febrl(t testing.TB) *labelled {
	out := &labelled{}
	for _, row := range sharedData(t, "febrl1.csv") {
		r := match.Record{
			ID: row[0], Given: row[1], Family: row[2], Number: row[3], Street: row[4],
			City: row[6], Postcode: row[7], State: row[8], BirthDate: row[9],
		}
		if row[10] != "" {
			r.NationalIDs = []string{row[10]}
		}
		out.records = append(out.records, r)
		out.person = append(out.person, strings.Split(row[0], "-")[1])
	}
	return out
}

func recordID(s string) string {
	const idLen = 26
	return strings.Repeat("0", max(0, idLen-len(s))) + s
}

func itoa(n int) string { return strconv.Itoa(n) }
