package viewtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

var theLog = uuid.MustParse("11111111-2222-4333-8444-555555555555")

func testDocuments(t *testing.T, b Backend) {
	f := open(t, b)
	ada := person("c1", "Ada", 1, "ada@example.com")
	f.put("acme", ada, &customerv1.Customer{CustomerId: "empty"})
	f.batch.PutBytes("notes", key("acme", "n1"), []byte("opaque \x00\xff"))
	f.batch.PutBytes("notes", key("acme", "n2"), nil)
	f.commit()

	data, err := f.Get(t.Context(), "customers", key("acme", "c1"))
	require.NoError(t, err)
	want, err := view.MarshalDocument(ada)
	require.NoError(t, err)
	require.Equal(t, want, data)
	got, err := view.GetDocument(t.Context(), f, "customers", key("acme", "c1"), &customerv1.Customer{})
	require.NoError(t, err)
	require.True(t, proto.Equal(ada, got))
	_, err = f.Get(t.Context(), "customers", key("acme", "nobody"))
	require.ErrorIs(t, err, view.ErrNotFound)
	_, err = view.GetDocument(t.Context(), f, "customers", key("acme", "nobody"), &customerv1.Customer{})
	require.ErrorIs(t, err, view.ErrNotFound)
	note, err := f.Get(t.Context(), "notes", key("acme", "n1"))
	require.NoError(t, err)
	require.Equal(t, "opaque \x00\xff", string(note))

	many, err := f.GetMany(t.Context(), "notes", []view.Key{key("acme", "n2"), key("acme", "n9"), key("acme", "n1")})
	require.NoError(t, err)
	require.Len(t, many, 3)
	require.NotNil(t, many[0])
	require.Empty(t, many[0])
	require.Nil(t, many[1])
	require.NotEmpty(t, many[2])

	// What is handed out belongs to the caller.
	for i := range data {
		data[i] = 0
	}
	data, err = f.Get(t.Context(), "customers", key("acme", "c1"))
	require.NoError(t, err)
	require.Equal(t, want, data)

	f.batch.Delete("customers", key("acme", "c1"), view.Prior{})
	f.batch.Delete("customers", key("acme", "never"), view.Prior{})
	f.commit()
	_, err = f.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrNotFound)
}

func testBatchLast(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("acme", person("c1", "First", 1), person("c1", "Second", 2))
	f.put("acme", person("c2", "Going", 1))
	f.batch.Delete("customers", key("acme", "c2"), view.Prior{})
	require.Equal(t, 2, f.batch.Len())
	f.commit()
	require.Equal(t, []string{"c1"}, f.ids("last_seen", view.Query{}))
	require.Empty(t, f.ids("last_seen", view.Query{To: view.Time(at(2).AsTime())}), "the first one's entry must not be there")

	// What the writer knows beforehand is of what is stored, also the second time.
	row, err := f.Load(t.Context(), "customers", key("acme", "c1"))
	require.NoError(t, err)
	c := customers()
	for _, seen := range []int{5, 6} {
		doc := person("c1", "Third", seen)
		terms, err := c.Terms(doc)
		require.NoError(t, err)
		data, err := view.MarshalDocument(doc)
		require.NoError(t, err)
		f.batch.PutRow("customers", key("acme", "c1"), view.Row{Data: data, Meta: []byte("kept"), Terms: terms}, view.Was(row.Terms))
	}
	f.commit()
	require.Equal(t, []string{"c1"}, f.ids("last_seen", view.Query{From: view.Time(at(6).AsTime())}))
	require.Equal(t, []string{"c1"}, f.ids("last_seen", view.Query{}))
	row, err = f.Load(t.Context(), "customers", key("acme", "c1"))
	require.NoError(t, err)
	require.Equal(t, "kept", string(row.Meta))
}

func testFencing(t *testing.T, b Backend) {
	f := open(t, b)
	c, err := f.Checkpoint(t.Context())
	require.NoError(t, err)
	require.True(t, c.IsZero())
	f.put("acme", person("c1", "Ada", 1))
	f.commit()
	c, err = f.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, checkpoint(f.token, 1), c)

	other, err := f.store.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	newer, err := other.Fence(t.Context())
	require.NoError(t, err)
	require.Greater(t, newer, f.token)

	f.put("acme", person("c1", "Stale", 9))
	f.batch.Checkpoint = checkpoint(f.token, 2)
	require.ErrorIs(t, f.Commit(t.Context(), &f.batch), view.ErrFenced)
	f.batch.Checkpoint = checkpoint(newer+1, 2)
	require.ErrorIs(t, f.Commit(t.Context(), &f.batch), view.ErrInvalid, "a token that was never given out")
	f.batch.Checkpoint = checkpoint(newer, 2)
	f.batch.Checkpoint.Namespace.Generation++
	require.ErrorIs(t, f.Commit(t.Context(), &f.batch), view.ErrInvalid, "another generation's")

	got, err := view.GetDocument(t.Context(), other, "customers", key("acme", "c1"), &customerv1.Customer{})
	require.NoError(t, err)
	require.Equal(t, "Ada", got.GetDisplayName())
	c, err = other.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Position)

	f.batch.Checkpoint = checkpoint(newer, 2)
	require.NoError(t, other.Commit(t.Context(), &f.batch))
	require.NoError(t, other.Close())
}

func testCommitWhole(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("acme", person("c1", "Ada", 1))
	f.commit()
	f.put("acme", person("c1", "Changed", 2), person("c2", "New", 2))
	f.batch.PutBytes("nowhere", key("acme", "x"), nil)
	f.batch.Checkpoint = checkpoint(f.token, 2)
	require.ErrorIs(t, f.Commit(t.Context(), &f.batch), view.ErrInvalid)
	require.Equal(t, []string{"c1"}, f.ids("last_seen", view.Query{}))
	require.Empty(t, f.ids("last_seen", view.Query{From: view.Time(at(2).AsTime())}))
	c, err := f.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Position)

	// The same batch without the mistake goes through.
	f.batch.Reset()
	f.put("acme", person("c1", "Changed", 2), person("c2", "New", 2))
	f.commit()
	require.Equal(t, []string{"c1", "c2"}, f.ids("last_seen", view.Query{}))
	for _, word := range []string{"ada", "changed", "new"} {
		page, err := f.Search(t.Context(), "customers", view.Search{Tenant: "acme", Index: "text", Text: word, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, word != "ada", len(page.Entries) == 1, word)
	}
}

func testReopen(t *testing.T, b Backend) {
	store := b.Open(t)
	var tokens []uint64
	for i := range 3 {
		gen, err := store.Open(t.Context(), theNamespace, collections()...)
		require.NoError(t, err)
		c, err := gen.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(i), c.Position)
		token, err := gen.Fence(t.Context())
		require.NoError(t, err)
		for _, before := range tokens {
			require.Greater(t, token, before)
		}
		tokens = append(tokens, token)
		f := &fixture{Generation: gen, t: t, store: store, token: token, position: c.Position}
		f.put("acme", person(fmt.Sprintf("c%d", i), "Ada Lovelace", i))
		f.commit()
		page, err := gen.Search(t.Context(), "customers", view.Search{Tenant: "acme", Index: "text", Text: "lovel", Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Entries, i+1)
		require.NoError(t, gen.Close())
		require.NoError(t, store.Close())
		require.NoError(t, store.Close(), "closing twice")
		store = b.Open(t)
	}
	require.NoError(t, store.Close())
}

func testSchema(t *testing.T, b Backend) {
	store := b.Open(t)
	gen, err := store.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	changed := collections()
	changed[0].Indexes = changed[0].Indexes[:2]
	_, err = store.Open(t.Context(), theNamespace, changed...)
	require.ErrorIs(t, err, view.ErrSchema)
	require.NoError(t, gen.Close())
	require.NoError(t, store.Close())
	store = b.Open(t)
	_, err = store.Open(t.Context(), theNamespace, changed...)
	require.ErrorIs(t, err, view.ErrSchema)
	next := theNamespace
	next.Version++
	gen, err = store.Open(t.Context(), next, changed...)
	require.NoError(t, err)
	require.NoError(t, gen.Close())

	twice := append(collections(), view.Collection{Name: "notes"})
	_, err = store.Open(t.Context(), view.Namespace{Projection: "other", Version: 1}, twice...)
	require.ErrorIs(t, err, view.ErrInvalid)
	_, err = store.Open(t.Context(), view.Namespace{Projection: "Not a name"}, collections()...)
	require.ErrorIs(t, err, view.ErrInvalid)
	require.NoError(t, store.Close())
}

func testNamespaces(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("acme", person("c1", "Old", 1))
	f.commit()
	next := view.Namespace{Projection: "suite", Version: 1, Generation: 2}
	gen, err := f.store.Open(t.Context(), next, collections()...)
	require.NoError(t, err)
	_, err = gen.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrNotFound, "generations know nothing of each other")
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	var batch view.Batch
	c := customers()
	require.NoError(t, batch.Put(&c, key("acme", "c1"), person("c1", "New", 1)))
	batch.Checkpoint = view.Checkpoint{Namespace: next, Token: token, LogID: theLog, Position: 7}
	require.NoError(t, gen.Commit(t.Context(), &batch))

	all, err := f.store.Namespaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []view.Namespace{theNamespace, next}, all)
	other, err := f.store.Open(t.Context(), next, collections()...)
	require.NoError(t, err)
	require.ErrorIs(t, f.store.Drop(t.Context(), next), view.ErrInUse)
	require.NoError(t, other.Close())
	require.ErrorIs(t, f.store.Drop(t.Context(), next), view.ErrInUse, "a handle is still open")
	require.NoError(t, gen.Close())
	require.ErrorIs(t, f.store.Drop(t.Context(), view.Namespace{Projection: "Not a name"}), view.ErrInvalid)
	require.NoError(t, f.store.Drop(t.Context(), next))
	require.ErrorIs(t, f.store.Drop(t.Context(), next), view.ErrNotFound)
	all, err = f.store.Namespaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []view.Namespace{theNamespace}, all)

	gen, err = f.store.Open(t.Context(), next, collections()...)
	require.NoError(t, err)
	_, err = gen.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrNotFound, "what was dropped does not come back")
	checkpoint, err := gen.Checkpoint(t.Context())
	require.NoError(t, err)
	require.True(t, checkpoint.IsZero())
	require.NoError(t, gen.Close())
	got, err := view.GetDocument(t.Context(), f, "customers", key("acme", "c1"), &customerv1.Customer{})
	require.NoError(t, err)
	require.Equal(t, "Old", got.GetDisplayName())
}

func testSnapshots(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("acme", person("c1", "Ada", 1))
	f.commit()
	s, err := f.Snapshot(t.Context())
	require.NoError(t, err)
	f.put("acme", person("c1", "Changed", 2), person("c2", "New", 3))
	f.commit()
	got, err := view.GetDocument(t.Context(), s, "customers", key("acme", "c1"), &customerv1.Customer{})
	require.NoError(t, err)
	require.Equal(t, "Ada", got.GetDisplayName())
	page, err := s.Query(t.Context(), "customers", view.Query{Tenant: "acme", Index: "last_seen", Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"c1"}, idsOf(page))
	page, err = s.Search(t.Context(), "customers", view.Search{Tenant: "acme", Index: "text", Text: "ada", Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Entries, 1)
	c, err := s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Position)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrClosed)
}

func testScanDigest(t *testing.T, b Backend) {
	f := open(t, b)
	empty, err := f.Digest(t.Context())
	require.NoError(t, err)
	write := func(ids ...int) {
		for _, i := range ids {
			f.put("acme", person(fmt.Sprintf("c%02d", i), "Ada", i, fmt.Sprintf("a%d@example.com", i)))
			f.putRow("beta", &customerv1.InteractionSummary{EventId: fmt.Sprintf("e%02d", i), ProfileId: "p", Time: at(100 - i)})
			f.commit()
		}
	}
	write(3, 1, 2)
	first, err := f.Digest(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, empty.String(), first.String())
	require.Equal(t, int64(3), first.Collections[0].Documents)

	for i := range 3 {
		f.batch.Delete("customers", key("acme", fmt.Sprintf("c%02d", i+1)), view.Prior{})
		c := interactions()
		require.NoError(t, f.batch.DeleteRow(&c, key("beta", fmt.Sprintf("e%02d", i+1)),
			&customerv1.InteractionSummary{ProfileId: "p", Time: at(100 - i - 1)}))
	}
	f.commit()
	again, err := f.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, empty.String(), again.String())
	write(1, 2, 3)
	again, err = f.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, first.String(), again.String(), "the order of writing says nothing")
	f.put("acme", person("c01", "Other", 1))
	f.commit()
	again, err = f.Digest(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first.String(), again.String())

	var ids []string
	for e, err := range f.Scan(t.Context(), "customers", "") {
		require.NoError(t, err)
		ids = append(ids, e.Key.Tenant+"/"+e.Key.ID)
	}
	require.Equal(t, []string{"acme/c01", "acme/c02", "acme/c03"}, ids)
	ids = nil
	for e, err := range f.Scan(t.Context(), "interactions", "beta") {
		require.NoError(t, err)
		ids = append(ids, e.Key.ID)
	}
	require.Equal(t, []string{"e03", "e02", "e01"}, ids, "a clustered collection is in its index's order")
	for e, err := range f.Scan(t.Context(), "customers", "beta") {
		t.Fatal("nobody there", e, err)
	}
	for _, err := range f.Scan(t.Context(), "nowhere", "") {
		require.ErrorIs(t, err, view.ErrInvalid)
	}
	// A scan may be left, and other calls made within it.
	for e, err := range f.Scan(t.Context(), "customers", "acme") {
		require.NoError(t, err)
		_, err = f.Get(t.Context(), "customers", e.Key)
		require.NoError(t, err)
		break
	}
}

func testTenants(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("a", person("c1", "Ada of a", 1, "ada@example.com"))
	f.put("ab", person("c1", "Ada of ab", 1, "ada@example.com"))
	f.putRow("a", &customerv1.InteractionSummary{EventId: "e1", ProfileId: "p", Time: at(1)})
	f.commit()
	for tenant, want := range map[string]int{"a": 1, "ab": 1, "b": 0, "": 0} {
		page, err := f.Query(t.Context(), "customers", view.Query{Tenant: tenant, Index: "last_seen", Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Entries, want, tenant)
		page, err = f.Search(t.Context(), "customers", view.Search{Tenant: tenant, Index: "text", Text: "ada", Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Entries, want, tenant)
		for _, e := range page.Entries {
			require.Equal(t, tenant, e.Key.Tenant)
			require.Contains(t, string(e.Data), "Ada of "+tenant)
		}
	}
	page, err := f.Query(t.Context(), "interactions", view.Query{Tenant: "ab", Index: "by_time", Limit: 10})
	require.NoError(t, err)
	require.Empty(t, page.Entries)
	_, err = f.Get(t.Context(), "customers", key("b", "c1"))
	require.ErrorIs(t, err, view.ErrNotFound)
}

func testClosed(t *testing.T, b Backend) {
	store := b.Open(t)
	gen, err := store.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	other, err := store.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	require.NoError(t, store.Failed())
	require.NoError(t, gen.Close())
	require.NoError(t, gen.Close())
	_, err = gen.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrClosed)
	_, err = other.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrNotFound, "handles are closed one by one")
	require.NoError(t, store.Close())
	_, err = other.Get(t.Context(), "customers", key("acme", "c1"))
	require.ErrorIs(t, err, view.ErrClosed)
	for name, call := range map[string]func(ctx context.Context) error{
		"fence":      func(ctx context.Context) error { _, err := other.Fence(ctx); return err },
		"commit":     func(ctx context.Context) error { return other.Commit(ctx, &view.Batch{}) },
		"checkpoint": func(ctx context.Context) error { _, err := other.Checkpoint(ctx); return err },
		"digest":     func(ctx context.Context) error { _, err := other.Digest(ctx); return err },
		"query": func(ctx context.Context) error {
			_, err := other.Query(ctx, "customers", view.Query{Index: "last_seen", Limit: 1})
			return err
		},
		"search": func(ctx context.Context) error {
			_, err := other.Search(ctx, "customers", view.Search{Index: "text", Text: "xx", Limit: 1})
			return err
		},
		"scan": func(ctx context.Context) error {
			for _, err := range other.Scan(ctx, "customers", "") {
				return err
			}
			return nil
		},
		"open":       func(ctx context.Context) error { _, err := store.Open(ctx, theNamespace, collections()...); return err },
		"namespaces": func(ctx context.Context) error { _, err := store.Namespaces(ctx); return err },
		"drop":       func(ctx context.Context) error { return store.Drop(ctx, theNamespace) },
		"control":    func(ctx context.Context) error { _, err := store.Control(ctx, "suite"); return err },
		"save control": func(ctx context.Context) error {
			_, err := store.SaveControl(ctx, "suite", view.Control{})
			return err
		},
	} {
		require.ErrorIs(t, call(t.Context()), view.ErrClosed, name)
	}
	require.NoError(t, other.Close())
}

// testConcurrent reads while commits go on: two documents that every commit
// sets alike are never seen apart.
func testConcurrent(t *testing.T, b Backend) {
	f := open(t, b)
	write := func(i int) {
		name := fmt.Sprintf("Round %06d", i)
		f.put("acme", person("c1", name, i), person("c2", name, i))
		f.commit()
	}
	write(0)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := readAlike(ctx, f); err != nil && !errors.Is(err, context.Canceled) {
					errs <- err
					return
				}
			}
		})
	}
	for i := range 200 {
		write(i + 1)
	}
	cancel()
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
}

func readAlike(ctx context.Context, f *fixture) error {
	page, err := f.Query(ctx, "customers", view.Query{Tenant: "acme", Index: "last_seen", Limit: 10})
	if err != nil {
		return err
	}
	found, err := f.Search(ctx, "customers", view.Search{Tenant: "acme", Index: "text", Text: "round", Limit: 10})
	if err != nil {
		return err
	}
	many, err := f.GetMany(ctx, "customers", []view.Key{key("acme", "c1"), key("acme", "c2")})
	if err != nil {
		return err
	}
	for _, entries := range [][]view.Entry{page.Entries, found.Entries, {{Data: many[0]}, {Data: many[1]}}} {
		if len(entries) != 2 {
			return fmt.Errorf("%d documents instead of 2", len(entries))
		}
		var one, two customerv1.Customer
		if err := errors.Join(proto.Unmarshal(entries[0].Data, &one), proto.Unmarshal(entries[1].Data, &two)); err != nil {
			return err
		}
		if one.GetDisplayName() != two.GetDisplayName() {
			return fmt.Errorf("saw %s and %s together", one.GetDisplayName(), two.GetDisplayName())
		}
	}
	return nil
}
