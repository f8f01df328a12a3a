// Package viewtest holds every driver of view to its contract.
package viewtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// Backend is a place where a driver keeps its data, apart from every other.
type Backend interface {
	// Open opens a store on the data; the test closes it. It may be opened again then.
	Open(t *testing.T) view.Store
}

// Run runs the whole suite. Factory makes a new, empty backend.
func Run(t *testing.T, factory func(t *testing.T) Backend) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(t *testing.T, b Backend)
	}{
		{"documents", testDocuments},
		{"batches take the last", testBatchLast},
		{"checkpoint and fencing", testFencing},
		{"commit is whole", testCommitWhole},
		{"reopening", testReopen},
		{"schema", testSchema},
		{"namespaces and drop", testNamespaces},
		{"snapshots", testSnapshots},
		{"scan and digest", testScanDigest},
		{"ordered ranges", testRanges},
		{"ordered pages", testPages},
		{"merged prefixes", testMergedPrefixes},
		{"indexes follow documents", testIndexesFollow},
		{"clustered", testClustered},
		{"search", testSearch},
		{"search follows documents", testSearchFollows},
		{"search pages", testSearchPages},
		{"tenants are walls", testTenants},
		{"invalid requests", testInvalid},
		{"closed", testClosed},
		{"reads beside commits", testConcurrent},
		{"control", testControl},
		{"control under concurrency", testControlConcurrent},
		{"wake", testWake},
		{"exact documents", testExact},
		{"kept or refused", testKeptOrRefused},
		{"large entries", testLargeEntries},
		{"order of all types", testOrder},
		{"several processes", testShared},
		{"dropped elsewhere", testDroppedElsewhere},
		{"random operations", testRandom},
		{"random operations, many at once", testRandomLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, factory(t))
		})
	}
}

// The collections of the suite: customers by key, interactions clustered, and
// opaque notes.
func collections() []view.Collection {
	return []view.Collection{customers(), interactions(), {Name: "notes"}}
}

func customers() view.Collection {
	return view.Collection{
		Name: "customers", New: func() proto.Message { return &customerv1.Customer{} },
		Indexes: []view.Index{
			{
				Name: "last_seen", Columns: []view.ColumnType{view.ColumnTime},
				Extract: func(doc proto.Message) []view.Tuple {
					if c := asCustomer(doc); c.GetLastSeenTime() != nil {
						return []view.Tuple{{view.Time(c.GetLastSeenTime().AsTime())}}
					}
					return nil
				},
			},
			{
				Name: "text", Kind: view.Text,
				Extract: func(doc proto.Message) []view.Tuple {
					c := asCustomer(doc)
					tuples := []view.Tuple{{view.String(c.GetDisplayName())}}
					for _, id := range c.GetIdentifiers() {
						tuples = append(tuples, view.Tuple{view.String(id.GetValue())})
					}
					return tuples
				},
			},
			{
				Name: "identifier", Columns: []view.ColumnType{view.ColumnString, view.ColumnString, view.ColumnInt64},
				Extract: func(doc proto.Message) []view.Tuple {
					var tuples []view.Tuple
					for _, id := range asCustomer(doc).GetIdentifiers() {
						tuples = append(tuples, view.Tuple{view.String(id.GetKind()), view.String(id.GetValue()), view.Int64(id.GetEventCount())})
					}
					return tuples
				},
			},
		},
	}
}

func asCustomer(doc proto.Message) *customerv1.Customer {
	c, ok := doc.(*customerv1.Customer)
	if !ok {
		panic("not a customer")
	}
	return c
}

func interactions() view.Collection {
	as := func(doc proto.Message) *customerv1.InteractionSummary {
		s, ok := doc.(*customerv1.InteractionSummary)
		if !ok {
			panic("not an interaction")
		}
		return s
	}
	return view.Collection{
		Name: "interactions", Clustered: true,
		New: func() proto.Message { return &customerv1.InteractionSummary{} },
		Indexes: []view.Index{
			{
				Name: "by_time", Columns: []view.ColumnType{view.ColumnString, view.ColumnTime, view.ColumnInt64},
				Extract: func(doc proto.Message) []view.Tuple {
					s := as(doc)
					return []view.Tuple{{view.String(s.GetProfileId()), view.Time(s.GetTime().AsTime()), view.Int64(int64(s.GetPosition()))}}
				},
			},
			{
				Name: "by_channel", Columns: []view.ColumnType{view.ColumnBytes, view.ColumnTime},
				Extract: func(doc proto.Message) []view.Tuple {
					s := as(doc)
					return []view.Tuple{{view.Bytes([]byte(s.GetChannel())), view.Time(s.GetTime().AsTime())}}
				},
			},
		},
	}
}

var theNamespace = view.Namespace{Projection: "suite", Version: 1, Generation: 1}

// at is a moment of the suite.
func at(seconds int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second))
}

func key(tenant, id string) view.Key { return view.Key{Tenant: tenant, ID: id} }

func person(id, name string, seen int, identifiers ...string) *customerv1.Customer {
	c := &customerv1.Customer{CustomerId: id, DisplayName: name, LastSeenTime: at(seen)}
	for i, value := range identifiers {
		c.Identifiers = append(c.Identifiers, &customerv1.CustomerIdentifier{Kind: "email", Value: value, EventCount: int64(i)})
	}
	return c
}

// fixture is an open generation with a writer.
type fixture struct {
	view.Generation
	t        *testing.T
	store    view.Store
	token    uint64
	position uint64
	batch    view.Batch
}

func open(t *testing.T, b Backend) *fixture {
	t.Helper()
	store := b.Open(t)
	gen, err := store.Open(t.Context(), theNamespace, collections()...)
	require.NoError(t, err)
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	f := &fixture{Generation: gen, t: t, store: store, token: token}
	t.Cleanup(f.close)
	return f
}

func (f *fixture) close() {
	require.NoError(f.t, f.Close())
	require.NoError(f.t, f.store.Close())
}

func (f *fixture) put(tenant string, docs ...*customerv1.Customer) {
	f.t.Helper()
	c := customers()
	for _, doc := range docs {
		require.NoError(f.t, f.batch.Put(&c, key(tenant, doc.GetCustomerId()), doc))
	}
}

func (f *fixture) putRow(tenant string, rows ...*customerv1.InteractionSummary) {
	f.t.Helper()
	c := interactions()
	for _, row := range rows {
		require.NoError(f.t, f.batch.Put(&c, key(tenant, row.GetEventId()), row))
	}
}

func (f *fixture) commit() {
	f.t.Helper()
	f.position++
	f.batch.Checkpoint = checkpoint(f.token, f.position)
	require.NoError(f.t, f.Commit(context.WithoutCancel(f.t.Context()), &f.batch))
	f.batch.Reset()
}

func checkpoint(token, position uint64) view.Checkpoint {
	return view.Checkpoint{Namespace: theNamespace, Token: token, LogID: theLog, Position: position}
}

func (f *fixture) ids(index string, q view.Query) []string {
	f.t.Helper()
	q.Index = index
	q.Tenant = "acme"
	q.Limit = view.MaxLimit
	page, err := f.Query(f.t.Context(), "customers", q)
	require.NoError(f.t, err)
	require.Nil(f.t, page.Next)
	return idsOf(page)
}

func idsOf(page view.Page) []string {
	ids := []string{}
	for _, e := range page.Entries {
		ids = append(ids, e.Key.ID)
	}
	return ids
}
