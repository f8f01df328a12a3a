package viewtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// search finds everything, page by page, sorted: the order is the driver's.
func (f *fixture) search(text string, limit int) []string {
	f.t.Helper()
	s := view.Search{Tenant: "acme", Index: "text", Text: text, Limit: limit}
	ids := []string{}
	for calls := 0; ; calls++ {
		require.Less(f.t, calls, 10_000, "search does not end")
		page, err := f.Search(f.t.Context(), "customers", s)
		require.NoError(f.t, err)
		require.LessOrEqual(f.t, len(page.Entries), limit)
		ids = append(ids, idsOf(page)...)
		if s.Cursor = page.Next; s.Cursor == nil {
			break
		}
	}
	slices.Sort(ids)
	return ids
}

func testSearch(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("acme",
		person("c1", "Ada Lovelace", 1, "ada.lovelace@example.com", "+491701234567"),
		person("c2", "Jürgen Müller-Lüdenscheidt", 1, "juergen@example.org"),
		person("c3", "Ærøskøbing Straße", 1),
		person("c4", "李小龙", 1),
		person("c5", "Zoë   de\tla  Cruz", 1, "zoe@example.com"),
		person("c6", "ﬁnal ＦＵＬＬ width", 1),
		person("c7", "İstanbul ΣΊΣΥΦΟΣ", 1),
		&customerv1.Customer{CustomerId: "nobody"})
	f.commit()
	for query, want := range map[string][]string{
		"ada":               {"c1"},
		"LOVE":              {"c1"},
		"lace ada":          {"c1"},
		"ada muller":        {},
		"da":                {"c1"},
		"ad ace":            {"c1"},
		"muller":            {"c2"},
		"MÜLLER":            {"c2"},
		"uller-lud":         {"c2"},
		"example":           {"c1", "c2", "c5"},
		"example.com":       {"c1", "c5"},
		"+49 170 1234":      {"c1"},
		"1701234567":        {"c1"},
		"strasse":           {"c3"},
		"straße":            {"c3"},
		"aero kob":          {"c3"},
		"李小":                {"c4"},
		"小龙":                {"c4"},
		"小 李":               {"c4"},
		"zoe":               {"c5"},
		"de la cruz":        {"c5"},
		"e c z":             {"c5"},
		"final full":        {"c6"},
		"istanbul":          {"c7"},
		"σισυφος":           {"c7"},
		"ecalevol":          {},
		"adalovelace":       {},
		"com+49":            {},
		"ada ada.lovelace@": {"c1"},
	} {
		require.Equal(t, want, f.search(query, 10), query)
	}
	require.NotContains(t, f.search("com", 10), "nobody")
}

func testSearchFollows(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("acme", person("c1", "Ada Lovelace", 1), person("c2", "Ada Byron", 1))
	f.commit()
	require.Equal(t, []string{"c1", "c2"}, f.search("ada", 10))
	f.put("acme", person("c1", "Augusta King", 1))
	f.commit()
	require.Equal(t, []string{"c2"}, f.search("ada", 10))
	require.Equal(t, []string{"c1"}, f.search("augusta", 10))
	// Without any text, and back.
	f.put("acme", person("c1", "", 1))
	f.commit()
	require.Empty(t, f.search("augusta", 10))
	f.put("acme", person("c1", "Augusta Ada", 1))
	f.commit()
	require.Equal(t, []string{"c1", "c2"}, f.search("ada", 10))
	f.batch.Delete("customers", key("acme", "c2"), view.Prior{})
	f.commit()
	require.Equal(t, []string{"c1"}, f.search("ada", 10))
	require.Empty(t, f.search("byron", 10))
	f.put("acme", person("c2", "Lord Byron", 1))
	f.commit()
	require.Equal(t, []string{"c2"}, f.search("byron", 10))
	require.Equal(t, []string{"c1"}, f.search("ada", 10))
	// Something else changes: the text stays found.
	f.put("acme", person("c2", "Lord Byron", 99))
	f.commit()
	require.Equal(t, []string{"c2"}, f.search("byron", 10))
}

// testSearchPages has more documents than any driver looks at in one portion.
func testSearchPages(t *testing.T, b Backend) {
	f := open(t, b)
	var even, all []string
	const many = 6000
	for i := range many {
		id := fmt.Sprintf("c%05d", i)
		name := "odd customer"
		if i%2 == 0 {
			name = "even customer"
			even = append(even, id)
		}
		all = append(all, id)
		f.put("acme", person(id, name, i, fmt.Sprintf("%05d@example.com", i)))
		if i%1000 == 999 {
			f.commit()
		}
	}
	require.Equal(t, even, f.search("even", 997))
	require.Equal(t, all, f.search("customer exam", view.MaxLimit))
	require.Equal(t, []string{"c04711"}, f.search("04711@", 1))
	require.Empty(t, f.search("even odd", 10))
	s := view.Search{Tenant: "acme", Index: "text", Text: "even", Limit: 3}
	page, err := f.Search(t.Context(), "customers", s)
	require.NoError(t, err)
	require.NotNil(t, page.Next)
	s.Text, s.Cursor = "odd", page.Next
	_, err = f.Search(t.Context(), "customers", s)
	require.ErrorIs(t, err, view.ErrInvalidCursor)
}
