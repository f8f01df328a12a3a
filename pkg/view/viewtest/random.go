package viewtest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/testkit/testseed"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// testRandom compares a generation, through random commits and reopenings,
// with a map.
func testRandom(t *testing.T, b Backend) { runRandom(t, b, 300, 40, 12) }

// testRandomLarge has commits that a driver may write in another way.
func testRandomLarge(t *testing.T, b Backend) { runRandom(t, b, 10, 1500, 900) }

// runRandom makes so many steps over so many documents, so many in a commit.
func runRandom(t *testing.T, b Backend, steps, documents, most int) {
	seed := testseed.Of(t)
	m := &model{
		t: t, backend: b, random: rand.New(rand.NewPCG(seed, 1)), documents: documents, most: most,
		docs: map[string]*customerv1.Customer{}, rows: map[string]*customerv1.InteractionSummary{},
	}
	m.open()
	for range steps {
		m.step()
	}
	m.check()
	m.close()
}

type model struct {
	t       *testing.T
	backend Backend
	random  *rand.Rand
	docs    map[string]*customerv1.Customer
	rows    map[string]*customerv1.InteractionSummary
	// documents there may be, and the most in one commit.
	documents, most int
	f               *fixture
	at              uint64
}

var names = []string{"Ada", "Grace", "Alan", "Barbara", "Edsger", "Müller", "de la Cruz", "Li"}

func (m *model) open() {
	store := m.backend.Open(m.t)
	gen, err := store.Open(m.t.Context(), theNamespace, collections()...)
	require.NoError(m.t, err)
	token, err := gen.Fence(m.t.Context())
	require.NoError(m.t, err)
	c, err := gen.Checkpoint(m.t.Context())
	require.NoError(m.t, err)
	require.Equal(m.t, m.at, c.Position)
	m.f = &fixture{Generation: gen, t: m.t, store: store, token: token, position: m.at}
}

func (m *model) close() {
	m.at = m.f.position
	m.f.close()
}

func (m *model) document(id string) *customerv1.Customer {
	name := ""
	for range m.random.IntN(3) {
		name += " " + names[m.random.IntN(len(names))]
	}
	doc := person(id, name, m.random.IntN(20))
	for range m.random.IntN(4) {
		doc.Identifiers = append(doc.Identifiers, &customerv1.CustomerIdentifier{
			Kind: "email", Value: fmt.Sprintf("m%d@example.com", m.random.IntN(30)), EventCount: m.random.Int64N(7) - 3,
		})
	}
	return doc
}

func (m *model) step() {
	switch m.random.IntN(20) {
	case 0:
		m.close()
		m.open()
	case 1:
		m.check()
	default:
		for range m.random.IntN(m.most) {
			id := fmt.Sprintf("c%02d", m.random.IntN(m.documents))
			switch m.random.IntN(6) {
			case 0:
				m.f.batch.Delete("customers", key("acme", id), m.prior(id))
				delete(m.docs, id)
			case 1, 2:
				m.row(m.random.IntN(m.documents))
			default:
				doc := m.document(id)
				m.put(id, doc)
				m.docs[id] = doc
			}
		}
		m.f.commit()
	}
}

// row puts or deletes a row, whose tuples follow from its number.
func (m *model) row(n int) {
	row := &customerv1.InteractionSummary{
		EventId: fmt.Sprintf("e%04d", n), ProfileId: fmt.Sprintf("p%d", n%7), Time: at(n * 31 % 97), Position: uint64(n % 3), Channel: []string{"web", "phone", ""}[n%3],
		Summary: names[m.random.IntN(len(names))],
	}
	if m.random.IntN(3) == 0 {
		c := interactions()
		require.NoError(m.t, m.f.batch.DeleteRow(&c, key("acme", row.GetEventId()), row))
		delete(m.rows, row.GetEventId())
		return
	}
	m.f.putRow("acme", row)
	m.rows[row.GetEventId()] = row
}

func (m *model) put(id string, doc *customerv1.Customer) {
	c := customers()
	terms, err := c.Terms(doc)
	require.NoError(m.t, err)
	data, err := view.MarshalDocument(doc)
	require.NoError(m.t, err)
	m.f.batch.PutRow("customers", key("acme", id), view.Row{Data: data, Terms: terms}, m.prior(id))
}

// prior is, now and then, what a writer knows.
func (m *model) prior(id string) view.Prior {
	if m.random.IntN(2) == 0 {
		return view.Prior{}
	}
	row, err := m.f.Load(m.t.Context(), "customers", key("acme", id))
	if err != nil {
		require.ErrorIs(m.t, err, view.ErrNotFound)
		return view.Absent()
	}
	return view.Was(row.Terms)
}

func (m *model) check() {
	got := map[string]*customerv1.Customer{}
	for e, err := range m.f.Scan(m.t.Context(), "customers", "acme") {
		require.NoError(m.t, err)
		doc := &customerv1.Customer{}
		require.NoError(m.t, proto.Unmarshal(e.Data, doc))
		got[e.Key.ID] = doc
	}
	require.Equal(m.t, slices.Sorted(maps.Keys(m.docs)), slices.Sorted(maps.Keys(got)))
	for id, doc := range m.docs {
		require.True(m.t, proto.Equal(doc, got[id]), id)
	}
	m.checkTimes()
	m.checkIdentifiers()
	m.checkRows()
	for _, query := range []string{"ada", "muller", "a", "exam 1@", "de cruz", "li", "m2", "e r"} {
		words := view.SearchWords(query)
		if len(words) == 0 {
			continue
		}
		require.Equal(m.t, m.containing(words), m.f.search(query, 1+m.random.IntN(9)), query)
	}
}

// checkRows compares the rows, by each of their indexes.
func (m *model) checkRows() {
	ids := slices.Collect(maps.Keys(m.rows))
	byTime := func(a, b string) int {
		return cmp.Or(m.rows[a].GetTime().AsTime().Compare(m.rows[b].GetTime().AsTime()), cmp.Compare(m.rows[a].GetPosition(), m.rows[b].GetPosition()), strings.Compare(a, b))
	}
	sortBy(ids, func(a, b string) int {
		return cmp.Or(strings.Compare(m.rows[a].GetProfileId(), m.rows[b].GetProfileId()), byTime(a, b))
	})
	var got []string
	for e, err := range m.f.Scan(m.t.Context(), "interactions", "acme") {
		require.NoError(m.t, err)
		row := &customerv1.InteractionSummary{}
		require.NoError(m.t, proto.Unmarshal(e.Data, row))
		require.True(m.t, proto.Equal(m.rows[e.Key.ID], row), e.Key.ID)
		got = append(got, e.Key.ID)
	}
	require.Equal(m.t, ids, got)
	q := view.Query{Tenant: "acme", Index: "by_time", Limit: 1 + m.random.IntN(60), Reverse: m.random.IntN(2) == 0}
	require.Equal(m.t, reversed(ids, q.Reverse), pages(m.t, m.f, "interactions", q))
	// Of some profiles, merged.
	q.Prefixes = []view.Tuple{{view.String("p1")}, {view.String("p5")}, {view.String("p3")}}
	some := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains([]string{"p1", "p5", "p3"}, m.rows[id].GetProfileId()) })
	sortBy(some, byTime)
	if len(some) == 0 {
		some = nil
	}
	require.Equal(m.t, reversed(some, q.Reverse), pages(m.t, m.f, "interactions", q))
	q.Index, q.Prefixes = "by_channel", []view.Tuple{{view.Bytes([]byte("web"))}}
	web := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return m.rows[id].GetChannel() != "web" })
	sortBy(web, func(a, b string) int {
		return cmp.Or(m.rows[a].GetTime().AsTime().Compare(m.rows[b].GetTime().AsTime()), strings.Compare(a, b))
	})
	if len(web) == 0 {
		web = nil
	}
	require.Equal(m.t, reversed(web, q.Reverse), pages(m.t, m.f, "interactions", q))
}

func (m *model) checkTimes() {
	ids := slices.SortedFunc(maps.Keys(m.docs), func(a, b string) int {
		return cmp.Or(m.docs[a].GetLastSeenTime().AsTime().Compare(m.docs[b].GetLastSeenTime().AsTime()), strings.Compare(a, b))
	})
	require.Equal(m.t, ids, pages(m.t, m.f, "customers", view.Query{Tenant: "acme", Index: "last_seen", Limit: view.MaxLimit}))
}

func (m *model) checkIdentifiers() {
	for i := range 30 {
		value := fmt.Sprintf("m%d@example.com", i)
		want := map[string]int{}
		for id, doc := range m.docs {
			counts := map[int64]bool{}
			for _, identifier := range doc.GetIdentifiers() {
				if identifier.GetValue() == value {
					counts[identifier.GetEventCount()] = true
				}
			}
			if len(counts) > 0 {
				want[id] = len(counts)
			}
		}
		got := map[string]int{}
		for _, id := range m.f.ids("identifier", view.Query{Prefixes: []view.Tuple{{view.String("email"), view.String(value)}}}) {
			got[id]++
		}
		require.Equal(m.t, want, got, value)
	}
}

func (m *model) containing(words []string) []string {
	ids := []string{}
	for id, doc := range m.docs {
		texts := []string{view.NormalizeText(doc.GetDisplayName())}
		for _, identifier := range doc.GetIdentifiers() {
			texts = append(texts, view.NormalizeText(identifier.GetValue()))
		}
		text := strings.Join(texts, "\n")
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
