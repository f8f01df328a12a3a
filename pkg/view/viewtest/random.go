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

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// testRandom compares a generation, through random commits and reopenings,
// with a map.
func testRandom(t *testing.T, b Backend) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &model{t: t, backend: b, random: rand.New(rand.NewPCG(seed, 1)), docs: map[string]*customerv1.Customer{}}
	m.open()
	for range 300 {
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
	f       *fixture
	at      uint64
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
		for range m.random.IntN(12) {
			id := fmt.Sprintf("c%02d", m.random.IntN(40))
			if m.random.IntN(4) == 0 {
				m.f.batch.Delete("customers", key("acme", id), m.prior(id))
				delete(m.docs, id)
				continue
			}
			doc := m.document(id)
			m.put(id, doc)
			m.docs[id] = doc
		}
		m.f.commit()
	}
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
	for _, query := range []string{"ada", "muller", "a", "exam 1@", "de cruz", "li", "m2", "e r"} {
		words := view.SearchWords(query)
		if len(words) == 0 {
			continue
		}
		require.Equal(m.t, m.containing(words), m.f.search(query, 1+m.random.IntN(9)), query)
	}
}

func (m *model) checkTimes() {
	ids := slices.SortedFunc(maps.Keys(m.docs), func(a, b string) int {
		return cmp.Or(m.docs[a].GetLastSeenTime().AsTime().Compare(m.docs[b].GetLastSeenTime().AsTime()), strings.Compare(a, b))
	})
	if ids == nil {
		ids = []string{}
	}
	require.Equal(m.t, ids, m.f.ids("last_seen", view.Query{}))
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
