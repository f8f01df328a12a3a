package pgview_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/testkit/testseed"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
	"github.com/parleyhq/parley/pkg/view/pgview"
	"github.com/parleyhq/parley/pkg/view/viewtest"
)

// agreeCollections have an index of every kind over documents of all shapes.
func agreeCollections() []view.Collection {
	identifiers := view.Index{
		Name: "identifier", Columns: []view.ColumnType{view.ColumnString, view.ColumnBytes, view.ColumnInt64},
		Extract: func(doc proto.Message) []view.Tuple {
			var tuples []view.Tuple
			for _, id := range benchCustomer(doc).GetIdentifiers() {
				tuples = append(tuples, view.Tuple{view.String(id.GetKind()), view.Bytes([]byte(id.GetValue())), view.Int64(id.GetEventCount())})
			}
			return tuples
		},
	}
	seen := view.Index{
		Name: "seen", Columns: []view.ColumnType{view.ColumnTime, view.ColumnString},
		Extract: func(doc proto.Message) []view.Tuple {
			return []view.Tuple{{view.Time(benchCustomer(doc).GetLastSeenTime().AsTime()), view.String(benchCustomer(doc).GetPreferredChannel())}}
		},
	}
	text := view.Index{Name: "text", Kind: view.Text, Extract: func(doc proto.Message) []view.Tuple {
		return []view.Tuple{{view.String(benchCustomer(doc).GetDisplayName())}, {view.String(benchCustomer(doc).GetPreferredChannel())}}
	}}
	newCustomer := func() proto.Message { return &customerv1.Customer{} }
	return []view.Collection{
		{Name: "documents", New: newCustomer, Indexes: []view.Index{identifiers, text, seen}},
		{Name: "rows", New: newCustomer, Clustered: true, Indexes: []view.Index{seen, identifiers}},
		{Name: "plain", New: viewtest.Nasty},
	}
}

// TestAgree makes the same random commits in Postgres and in the embedded
// store, and asks both the same.
func TestAgree(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			seed := testseed.Of(t)
			pebble, err := pebbleview.Open("views", pebbleview.Options{FS: vfs.NewMem()})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, pebble.Close()) })
			pg := openStore(t, pgview.Config{URL: config.Secret(postgres.Database(t, postgres.ICULocale("de")).URL()), QueryMode: mode})
			a := &agreement{t: t, random: rand.New(rand.NewPCG(seed, 1)), rows: map[view.Key]*customerv1.Customer{}}
			for _, s := range []view.Store{pebble, pg} {
				gen, err := s.Open(t.Context(), ns, agreeCollections()...)
				require.NoError(t, err)
				_, err = gen.Fence(t.Context())
				require.NoError(t, err)
				a.gens = append(a.gens, gen)
			}
			for round := range 8 {
				a.commit(round)
				a.compare()
			}
			for _, gen := range a.gens {
				require.NoError(t, gen.Close())
			}
		})
	}
}

type agreement struct {
	t      *testing.T
	random *rand.Rand
	gens   []view.Generation
	// rows of the clustered collection, which are deleted by what they were.
	rows map[view.Key]*customerv1.Customer
	// values that queries are likely to find.
	values []*customerv1.Customer
}

func (a *agreement) key() view.Key {
	return view.Key{Tenant: []string{"acme", "acme2", ""}[a.random.IntN(3)], ID: fmt.Sprintf("%c%d", []rune("aAäZ李")[a.random.IntN(5)], a.random.IntN(60))}
}

func (a *agreement) customer() *customerv1.Customer {
	c := &customerv1.Customer{}
	viewtest.Fill(a.random, c)
	c.DisplayName = []string{"Ada Lovelace", "Zoë de la Cruz", "李小龙", "abc bcd cde", "", "x y"}[a.random.IntN(6)]
	a.values = append(a.values, c)
	return c
}

func (a *agreement) commit(round int) {
	var b view.Batch
	declared := agreeCollections()
	n := a.random.IntN(30)
	if round%4 == 3 {
		n = 400
	}
	for range n {
		k := a.key()
		switch a.random.IntN(8) {
		case 0:
			b.Delete("documents", k, view.Prior{})
		case 1:
			if a.random.IntN(4) > 0 {
				continue // they are large
			}
			doc := viewtest.Nasty()
			viewtest.Fill(a.random, doc)
			require.NoError(a.t, b.Put(&declared[2], k, doc))
		case 2:
			if row := a.rows[k]; row != nil {
				require.NoError(a.t, b.DeleteRow(&declared[1], k, row))
				delete(a.rows, k)
			}
		case 3, 4:
			row := a.rows[k]
			if row == nil {
				row = a.customer()
			}
			require.NoError(a.t, b.Put(&declared[1], k, row))
			a.rows[k] = row
		default:
			doc := a.customer()
			row, err := a.gens[0].Load(a.t.Context(), "documents", k)
			prior := view.Absent()
			if err == nil {
				prior = view.Was(row.Terms)
			}
			if a.random.IntN(3) == 0 {
				prior = view.Prior{}
			}
			data, err := view.MarshalDocument(doc)
			require.NoError(a.t, err)
			terms, err := declared[0].Terms(doc)
			require.NoError(a.t, err)
			b.PutRow("documents", k, view.Row{Data: data, Meta: []byte(doc.GetPreferredChannel()), Terms: terms}, prior)
		}
	}
	for _, gen := range a.gens {
		b.Checkpoint = view.Checkpoint{Namespace: ns, Token: 1, LogID: uuid.UUID{1}, Position: uint64(round + 1)}
		require.NoError(a.t, gen.Commit(a.t.Context(), &b))
	}
}

func both[T any](a *agreement, ask func(gen view.Generation) T, what ...any) T {
	a.t.Helper()
	one, two := ask(a.gens[0]), ask(a.gens[1])
	require.Equal(a.t, one, two, what...)
	return one
}

func (a *agreement) compare() {
	t := a.t
	both(a, func(gen view.Generation) string {
		d, err := gen.Digest(t.Context())
		require.NoError(t, err)
		return d.String()
	})
	for _, c := range agreeCollections() {
		both(a, func(gen view.Generation) (all []view.Entry) {
			for e, err := range gen.Scan(t.Context(), c.Name, []string{"", "acme"}[len(a.values)%2]) {
				require.NoError(t, err)
				all = append(all, e)
			}
			return all
		})
	}
	for range 15 {
		a.query()
		a.search()
	}
	k := a.key()
	both(a, func(gen view.Generation) view.Row {
		row, err := gen.Load(t.Context(), "documents", k)
		if err != nil {
			require.ErrorIs(t, err, view.ErrNotFound)
		}
		return row
	})
}

// query asks for a few pages of something that is likely to be there.
func (a *agreement) query() {
	declared := agreeCollections()[a.random.IntN(2)]
	index := declared.Indexes[a.random.IntN(len(declared.Indexes))]
	if index.Kind == view.Text || len(a.values) == 0 {
		return
	}
	tuple := func() view.Tuple {
		for range 50 {
			if tuples := index.Extract(a.values[a.random.IntN(len(a.values))]); len(tuples) > 0 {
				return tuples[0]
			}
		}
		return nil
	}
	q := view.Query{Tenant: a.key().Tenant, Index: index.Name, Reverse: a.random.IntN(2) == 0, Limit: 1 + a.random.IntN(12)}
	n := a.random.IntN(len(index.Columns) + 1)
	for range a.random.IntN(4) {
		if prefix := tuple(); prefix != nil {
			q.Prefixes = append(q.Prefixes, prefix[:n])
		}
	}
	if len(q.Prefixes) == 0 {
		n = 0
	}
	if bound := tuple(); bound != nil && n < len(index.Columns) {
		if a.random.IntN(3) == 0 {
			q.From = bound[n]
		}
		if other := tuple(); a.random.IntN(3) == 0 {
			q.To = other[n]
		}
	}
	for range 4 {
		page := both(a, func(gen view.Generation) view.Page {
			page, err := gen.Query(a.t.Context(), declared.Name, q)
			require.NoError(a.t, err)
			if len(page.Entries) == 0 {
				page.Entries = nil
			}
			return page
		}, "%s %+v", declared.Name, q)
		if q.Cursor = page.Next; q.Cursor == nil {
			return
		}
	}
}

func (a *agreement) search() {
	text := []string{"ada", "love lace", "de la", "zoe cruz", "李小", "小龙", "bcd", "abcde", "x y", "an", "web"}[a.random.IntN(11)]
	tenant, limit := a.key().Tenant, 1+a.random.IntN(12)
	both(a, func(gen view.Generation) []string {
		ids := []string{}
		s := view.Search{Tenant: tenant, Index: "text", Text: text, Limit: limit}
		for {
			page, err := gen.Search(a.t.Context(), "documents", s)
			require.NoError(a.t, err)
			for _, e := range page.Entries {
				ids = append(ids, e.Key.ID)
			}
			if s.Cursor = page.Next; s.Cursor == nil {
				slices.Sort(ids)
				return ids
			}
		}
	}, text)
}
