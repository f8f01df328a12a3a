package viewtest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/testkit/testseed"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// testExact stores random documents of all shapes: they come back as they were,
// by all ways, and their digest is what they say, not what the driver makes of them.
func testExact(t *testing.T, b Backend) {
	seed := testseed.Of(t)
	random := rand.New(rand.NewPCG(seed, 1))
	declared := []view.Collection{
		{Name: "nasty", New: Nasty},
		{Name: "customers", New: func() proto.Message { return &customerv1.Customer{} }},
		{Name: "notes"},
	}
	store := b.Open(t)
	gen, err := store.Open(t.Context(), theNamespace, declared...)
	require.NoError(t, err)
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	want := map[string]map[view.Key]view.Row{}
	var batch view.Batch
	position := uint64(0)
	commit := func() {
		position++
		batch.Checkpoint = checkpoint(token, position)
		require.NoError(t, gen.Commit(t.Context(), &batch))
		batch.Reset()
	}
	// Few in one commit, and many in another.
	for _, n := range []int{10, 130} {
		for i := range n {
			for j := range declared {
				c := &declared[j]
				if c.Name == "nasty" && i%4 > 0 {
					continue // they are large
				}
				row := view.Row{Data: []byte(text(random) + "\x00\xff"), Meta: []byte(pick(random, "", "meta\x00\xff"))}
				if c.New != nil {
					doc := c.New()
					Fill(random, doc)
					data, err := view.MarshalDocument(doc)
					require.NoError(t, err)
					row.Data = data
				}
				k := key(pick(random, "acme", "beta", ""), fmt.Sprintf("%s %d", pick(random, "id", `"q'\`, "é李\U0001F600"), i))
				batch.PutRow(c.Name, k, row, view.Prior{})
				if want[c.Name] == nil {
					want[c.Name] = map[view.Key]view.Row{}
				}
				want[c.Name][k] = row
			}
		}
		commit()
	}
	digest, err := gen.Digest(t.Context())
	require.NoError(t, err)
	for i := range declared {
		c := &declared[i]
		sum := view.NewDigester(c)
		var keys []view.Key
		for k, row := range want[c.Name] {
			keys = append(keys, k)
			_, err := sum.Add(view.Entry{Key: k, Data: row.Data, Meta: row.Meta})
			require.NoError(t, err)
			data, err := gen.Get(t.Context(), c.Name, k)
			require.NoError(t, err)
			require.Equal(t, string(row.Data), string(data))
			loaded, err := gen.Load(t.Context(), c.Name, k)
			require.NoError(t, err)
			require.Equal(t, string(row.Data), string(loaded.Data))
			require.Equal(t, string(row.Meta), string(loaded.Meta))
		}
		require.Equal(t, sum.Sum(), digest.Collections[i])
		all, err := gen.GetMany(t.Context(), c.Name, keys)
		require.NoError(t, err)
		for j, k := range keys {
			require.Equal(t, string(want[c.Name][k].Data), string(all[j]))
		}
		n := 0
		for e, err := range gen.Scan(t.Context(), c.Name, "") {
			require.NoError(t, err)
			require.Equal(t, string(want[c.Name][e.Key].Data), string(e.Data))
			require.Equal(t, string(want[c.Name][e.Key].Meta), string(e.Meta))
			n++
		}
		require.Equal(t, len(keys), n)
	}
	require.NoError(t, gen.Close())
	require.NoError(t, store.Close())
}

// testKeptOrRefused has documents that not every driver can keep: each is
// kept exactly, or refused with all of its commit.
func testKeptOrRefused(t *testing.T, b Backend) {
	f := open(t, b)
	marshalled := func(c *customerv1.Customer) []byte {
		data, err := view.MarshalDocument(c)
		require.NoError(t, err)
		return data
	}
	nested := marshalled(&customerv1.Customer{Orders: &customerv1.OrderSummary{LastOrder: &customerv1.LastOrder{OrderId: "a\x00b"}}})
	for name, data := range map[string][]byte{
		"U+0000":        marshalled(person("c1", "Ada\x00Lovelace", 1)),
		"U+0000 within": nested,
		"unknown field": WithUnknown(marshalled(person("c1", "Ada", 1))),
	} {
		f.batch.PutRow("customers", key("acme", "c1"), view.Row{Data: data}, view.Prior{})
		f.batch.PutBytes("notes", key("acme", name), []byte(name))
		f.batch.Checkpoint = checkpoint(f.token, f.position+1)
		err := f.Commit(t.Context(), &f.batch)
		f.batch.Reset()
		_, noteErr := f.Get(t.Context(), "notes", key("acme", name))
		if err != nil {
			require.ErrorIs(t, err, view.ErrInvalid, name)
			require.ErrorContains(t, err, "c1 of customers", name)
			require.ErrorIs(t, noteErr, view.ErrNotFound, name)
			continue
		}
		f.position++
		require.NoError(t, noteErr, name)
		got, err := f.Get(t.Context(), "customers", key("acme", "c1"))
		require.NoError(t, err, name)
		require.Equal(t, data, got, name)
	}
	f.put("acme", person("c1", "Ada", 1))
	f.commit()
}

// testLargeEntries has the largest keys and index entries that there may be.
func testLargeEntries(t *testing.T, b Backend) {
	random := rand.New(rand.NewPCG(1, 1))
	// Nothing that could be compressed.
	long := func() string {
		s := make([]byte, view.MaxKeyBytes)
		for i := range s {
			s[i] = byte(1 + random.IntN(127))
		}
		return string(s)
	}
	str, number := view.ColumnString, view.ColumnInt64
	values := []string{long(), long(), long()}
	tuple := view.Tuple{
		view.String(values[0]), view.Int64(1), view.Bytes([]byte(values[1])), view.Int64(2), view.String(values[2]), view.Int64(3), view.Int64(4), view.Int64(5),
	}
	index := view.Index{
		Name: "large", Columns: []view.ColumnType{str, number, view.ColumnBytes, number, str, number, number, number},
		Extract: func(proto.Message) []view.Tuple { return []view.Tuple{tuple} },
	}
	newCustomer := func() proto.Message { return &customerv1.Customer{} }
	declared := []view.Collection{
		{Name: "documents", New: newCustomer, Indexes: []view.Index{index}},
		{Name: "rows", New: newCustomer, Clustered: true, Indexes: []view.Index{index, {Name: "also", Columns: index.Columns, Extract: index.Extract}}},
	}
	store := b.Open(t)
	gen, err := store.Open(t.Context(), theNamespace, declared...)
	require.NoError(t, err)
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	k := key(long(), long())
	var batch view.Batch
	for i := range declared {
		require.NoError(t, batch.Put(&declared[i], k, person("c1", "Ada", 1)))
	}
	batch.Checkpoint = checkpoint(token, 1)
	require.NoError(t, gen.Commit(t.Context(), &batch))
	for _, c := range declared {
		for _, x := range c.Indexes {
			page, err := gen.Query(t.Context(), c.Name, view.Query{Tenant: k.Tenant, Index: x.Name, Prefixes: []view.Tuple{tuple}, Limit: 1})
			require.NoError(t, err)
			require.Equal(t, []string{k.ID}, idsOf(page))
			page, err = gen.Query(t.Context(), c.Name, view.Query{Tenant: k.Tenant, Index: x.Name, Prefixes: []view.Tuple{{view.String(values[0] + "cut off")}}, Limit: 1})
			require.NoError(t, err)
			require.Equal(t, []string{k.ID}, idsOf(page), "what is too long is cut in queries too")
		}
	}
	require.NoError(t, gen.Close())
	require.NoError(t, store.Close())
}

// testOrder compares the order of every type of column with that of tuples.
func testOrder(t *testing.T, b Backend) {
	var tuples []view.Tuple
	// By id, so that Extract can tell.
	index := view.Index{
		Name: "by", Columns: []view.ColumnType{view.ColumnString, view.ColumnBytes, view.ColumnInt64, view.ColumnTime},
		Extract: func(doc proto.Message) []view.Tuple {
			return []view.Tuple{tuples[asCustomer(doc).GetInteractionCount()]}
		},
	}
	moments := []view.Value{
		view.Time(at(-1 << 40).AsTime()), view.Time(at(-70_000_000_000).AsTime()), view.Time(at(-3_000_000_000).AsTime()), view.Time(at(0).AsTime()), view.Time(at(1 << 40).AsTime()),
	}
	for _, s := range []string{"", "A", "B", "Z", "a", "ab", "a b", "aé", "z", "ä", "é", "\x01", "\x7f", "李", "\U0001F600", "\uffff"} {
		for _, raw := range []string{"", "\x00", "\x00\x00", "\x00\x01", "\x01", "\xff", "\xff\x00"} {
			tuples = append(tuples, view.Tuple{view.String(s), view.Bytes([]byte(raw)), view.Int64(int64(len(tuples)%5 - 2)), moments[len(tuples)%5]})
		}
	}
	for _, n := range []int64{-1 << 63, -1, 0, 1, 1<<63 - 1} {
		for _, at := range moments {
			tuples = append(tuples, view.Tuple{view.String("n"), view.Bytes(nil), view.Int64(n), at})
		}
	}
	declared := []view.Collection{
		{Name: "documents", New: func() proto.Message { return &customerv1.Customer{} }, Indexes: []view.Index{index}},
		{Name: "rows", New: func() proto.Message { return &customerv1.Customer{} }, Clustered: true, Indexes: []view.Index{index}},
	}
	store := b.Open(t)
	gen, err := store.Open(t.Context(), theNamespace, declared...)
	require.NoError(t, err)
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	var batch view.Batch
	order := make([]int, len(tuples))
	for i := range tuples {
		order[i] = i
		for j := range declared {
			doc := &customerv1.Customer{InteractionCount: int64(i)}
			require.NoError(t, batch.Put(&declared[j], key("acme", fmt.Sprintf("%04d", i)), doc))
		}
	}
	batch.Checkpoint = checkpoint(token, 1)
	require.NoError(t, gen.Commit(t.Context(), &batch))
	sortBy(order, func(a, b int) int { return tuples[a].Compare(tuples[b]) })
	want := make([]string, len(order))
	for i, n := range order {
		want[i] = fmt.Sprintf("%04d", n)
	}
	for _, c := range declared {
		for _, reverse := range []bool{false, true} {
			for _, limit := range []int{7, 1000} {
				require.Equal(t, reversed(want, reverse), pages(t, gen, c.Name, view.Query{Tenant: "acme", Index: "by", Limit: limit, Reverse: reverse}))
			}
		}
		// Every value as a bound, and as a cursor's place.
		for i, n := range order {
			from := view.Query{Tenant: "acme", Index: "by", Limit: 1000, From: tuples[n][0]}
			first := i
			for first > 0 && tuples[order[first-1]][0] == tuples[n][0] {
				first--
			}
			require.Equal(t, want[first:], pages(t, gen, c.Name, from))
		}
	}
	require.NoError(t, gen.Close())
	require.NoError(t, store.Close())
}

// pages is all ids of a query, page by page.
func pages(t *testing.T, r view.Reader, collection string, q view.Query) []string {
	t.Helper()
	var all []string
	for {
		page, err := r.Query(t.Context(), collection, q)
		require.NoError(t, err)
		all = append(all, idsOf(page)...)
		if q.Cursor = page.Next; q.Cursor == nil {
			return all
		}
	}
}
