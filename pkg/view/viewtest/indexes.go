package viewtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/view"
)

func testRanges(t *testing.T, b Backend) {
	f := open(t, b)
	f.put("acme",
		person("c1", "", 10, "a@example.com", "b@example.com"),
		person("c2", "", -10, "a@example.com"),
		person("c3", "", 0, "a", "ab", "aé"),
		&customerv1.Customer{CustomerId: "unseen"},
		person("c4", "", 10))
	f.commit()
	mail := func(v string) []view.Tuple { return []view.Tuple{{view.String("email"), view.String(v)}} }
	seen := func(s int) view.Value { return view.Time(at(s).AsTime()) }
	for name, c := range map[string]struct {
		index string
		query view.Query
		want  []string
	}{
		"all by time":            {"last_seen", view.Query{}, []string{"c2", "c3", "c1", "c4"}},
		"reverse":                {"last_seen", view.Query{Reverse: true}, []string{"c4", "c1", "c3", "c2"}},
		"from is inclusive":      {"last_seen", view.Query{From: seen(0)}, []string{"c3", "c1", "c4"}},
		"to is exclusive":        {"last_seen", view.Query{To: seen(10)}, []string{"c2", "c3"}},
		"both":                   {"last_seen", view.Query{From: seen(-10), To: seen(1), Reverse: true}, []string{"c3", "c2"}},
		"nothing between":        {"last_seen", view.Query{From: seen(5), To: seen(1)}, []string{}},
		"equal time":             {"last_seen", view.Query{Prefixes: []view.Tuple{{seen(10)}}}, []string{"c1", "c4"}},
		"kind":                   {"identifier", view.Query{Prefixes: []view.Tuple{{view.String("email")}}}, []string{"c3", "c2", "c1", "c1", "c3", "c3"}},
		"no such kind":           {"identifier", view.Query{Prefixes: []view.Tuple{{view.String("emai")}}}, []string{}},
		"two columns":            {"identifier", view.Query{Prefixes: mail("a@example.com")}, []string{"c1", "c2"}},
		"a value is no prefix":   {"identifier", view.Query{Prefixes: mail("a@example")}, []string{}},
		"zero bytes are dropped": {"identifier", view.Query{Prefixes: mail("a\x00b")}, []string{"c3"}},
		"three columns": {"identifier", view.Query{Prefixes: []view.Tuple{
			{view.String("email"), view.String("b@example.com"), view.Int64(1)},
		}}, []string{"c1"}},
		"range of strings": {"identifier", view.Query{
			Prefixes: []view.Tuple{{view.String("email")}}, From: view.String("a@"), To: view.String("b"),
		}, []string{"c1", "c2", "c3", "c3"}},
		"range of numbers": {"identifier", view.Query{Prefixes: mail("b@example.com"), From: view.Int64(1), To: view.Int64(2)}, []string{"c1"}},
		"negative numbers": {"identifier", view.Query{Prefixes: mail("b@example.com"), From: view.Int64(-5), To: view.Int64(1)}, []string{}},
	} {
		got := f.ids(c.index, c.query)
		if name == "kind" || name == "range of strings" {
			// Their order among strings that hold others is by bytes.
			slices.Sort(got)
			slices.Sort(c.want)
		}
		require.Equal(t, c.want, got, name)
	}
}

func testPages(t *testing.T, b Backend) {
	f := open(t, b)
	var want []string
	for i := range 57 {
		id := fmt.Sprintf("c%03d", i)
		f.put("acme", person(id, "", i/5)) // five of each time
		want = append(want, id)
	}
	f.commit()
	for _, reverse := range []bool{false, true} {
		for _, limit := range []int{1, 4, 5, 57, 58} {
			q := view.Query{Tenant: "acme", Index: "last_seen", Reverse: reverse, Limit: limit}
			var got []string
			for {
				page, err := f.Query(t.Context(), "customers", q)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page.Entries), limit)
				got = append(got, idsOf(page)...)
				if page.Next == nil {
					break
				}
				require.Len(t, page.Entries, limit)
				q.Cursor = page.Next
			}
			if reverse {
				slices.Reverse(got)
			}
			require.Equal(t, want, got, "limit %d", limit)
		}
	}

	// Documents that come and go between pages shift nothing.
	q := view.Query{Tenant: "acme", Index: "last_seen", Limit: 10}
	page, err := f.Query(t.Context(), "customers", q)
	require.NoError(t, err)
	f.put("acme", person("before", "", -1))
	f.batch.Delete("customers", key("acme", "c009"), view.Prior{})
	f.batch.Delete("customers", key("acme", "c010"), view.Prior{})
	f.commit()
	q.Cursor = page.Next
	page, err = f.Query(t.Context(), "customers", q)
	require.NoError(t, err)
	require.Equal(t, want[11:21], idsOf(page))

	// A cursor is of its query only.
	for _, other := range []view.Query{
		{Tenant: "beta", Index: "last_seen"},
		{Tenant: "acme", Index: "last_seen", Reverse: true},
		{Tenant: "acme", Index: "last_seen", From: view.Time(at(1).AsTime())},
		{Tenant: "acme", Index: "identifier"},
	} {
		other.Limit, other.Cursor = 10, page.Next
		_, err = f.Query(t.Context(), "customers", other)
		require.ErrorIs(t, err, view.ErrInvalidCursor)
	}
	for _, junk := range [][]byte{{0}, []byte("junk that is long enough"), page.Next[:8]} {
		q.Cursor = junk
		_, err = f.Query(t.Context(), "customers", q)
		require.ErrorIs(t, err, view.ErrInvalidCursor)
	}
}

func testMergedPrefixes(t *testing.T, b Backend) {
	f := open(t, b)
	var all []*customerv1.InteractionSummary
	for i := range 120 {
		row := &customerv1.InteractionSummary{
			EventId: fmt.Sprintf("e%03d", i), ProfileId: fmt.Sprintf("p%d", i*7%5), Time: at(i * 13 % 40),
			Position: uint64(i), Channel: []string{"web", "phone"}[i%2],
		}
		all = append(all, row)
	}
	f.putRow("acme", all...)
	f.commit()
	for _, profiles := range [][]string{{"p0"}, {"p1", "p3"}, {"p4", "p0", "p2", "nobody", "p0"}} {
		var want []*customerv1.InteractionSummary
		for _, row := range all {
			if slices.Contains(profiles, row.GetProfileId()) {
				want = append(want, row)
			}
		}
		slices.SortFunc(want, func(a, b *customerv1.InteractionSummary) int {
			if d := a.GetTime().AsTime().Compare(b.GetTime().AsTime()); d != 0 {
				return d
			}
			return int(a.GetPosition()) - int(b.GetPosition())
		})
		var ids []string
		for _, row := range want {
			ids = append(ids, row.GetEventId())
		}
		for _, reverse := range []bool{false, true} {
			for _, limit := range []int{1, 7, 200} {
				q := view.Query{Tenant: "acme", Index: "by_time", Reverse: reverse, Limit: limit}
				for _, p := range profiles {
					q.Prefixes = append(q.Prefixes, view.Tuple{view.String(p)})
				}
				var got []string
				for {
					page, err := f.Query(t.Context(), "interactions", q)
					require.NoError(t, err)
					got = append(got, idsOf(page)...)
					if q.Cursor = page.Next; q.Cursor == nil {
						break
					}
				}
				if reverse {
					slices.Reverse(got)
				}
				require.Equal(t, ids, got, "%v limit %d", profiles, limit)
			}
		}
	}
	// A range applies behind each prefix.
	page, err := f.Query(t.Context(), "interactions", view.Query{
		Tenant: "acme", Index: "by_time", Limit: 100,
		Prefixes: []view.Tuple{{view.String("p1")}, {view.String("p2")}},
		From:     view.Time(at(10).AsTime()), To: view.Time(at(15).AsTime()),
	})
	require.NoError(t, err)
	want := 0
	for _, row := range all {
		seconds := row.GetTime().GetSeconds() - at(0).GetSeconds()
		if (row.GetProfileId() == "p1" || row.GetProfileId() == "p2") && seconds >= 10 && seconds < 15 {
			want++
		}
	}
	require.NotZero(t, want)
	require.Len(t, page.Entries, want)

	// A document under several prefixes at the same place comes once.
	f.put("acme", &customerv1.Customer{CustomerId: "c1", Identifiers: []*customerv1.CustomerIdentifier{
		{Kind: "email", Value: "same", EventCount: 1}, {Kind: "phone", Value: "same", EventCount: 1},
	}})
	f.commit()
	require.Equal(t, []string{"c1"}, f.ids("identifier", view.Query{
		Prefixes: []view.Tuple{{view.String("email")}, {view.String("phone")}},
	}))
}

func testIndexesFollow(t *testing.T, b Backend) {
	f := open(t, b)
	mails := func() []string {
		return f.ids("identifier", view.Query{Prefixes: []view.Tuple{{view.String("email")}}})
	}
	f.put("acme", person("c1", "", 1, "a", "b", "c"))
	f.commit()
	require.Len(t, mails(), 3)
	f.put("acme", person("c1", "", 2, "a", "x"))
	f.commit()
	require.Len(t, mails(), 2)
	require.Empty(t, f.ids("last_seen", view.Query{To: view.Time(at(2).AsTime())}))
	// The same again, also when the writer knows it.
	row, err := f.Load(t.Context(), "customers", key("acme", "c1"))
	require.NoError(t, err)
	f.batch.PutRow("customers", key("acme", "c1"), row, view.Was(row.Terms))
	f.commit()
	require.Len(t, mails(), 2)
	f.batch.Delete("customers", key("acme", "c1"), view.Was(row.Terms))
	f.commit()
	require.Empty(t, mails())
	require.Empty(t, f.ids("last_seen", view.Query{}))
	// A writer that knows that there is nothing.
	f.batch.PutRow("customers", key("acme", "c1"), row, view.Absent())
	f.commit()
	require.Len(t, mails(), 2)
	// Twice the same tuple is one entry.
	f.put("acme", &customerv1.Customer{CustomerId: "c1", Identifiers: []*customerv1.CustomerIdentifier{
		{Kind: "email", Value: "same"}, {Kind: "email", Value: "same"},
	}})
	f.commit()
	require.Equal(t, []string{"c1"}, mails())
}

func testClustered(t *testing.T, b Backend) {
	f := open(t, b)
	row := func(id, profile, channel string, seconds int) *customerv1.InteractionSummary {
		return &customerv1.InteractionSummary{EventId: id, ProfileId: profile, Channel: channel, Time: at(seconds), Summary: "about " + id}
	}
	f.putRow("acme", row("e1", "p1", "web", 3), row("e2", "p1", "phone", 1), row("e3", "p2", "web", 2))
	f.commit()
	f.putRow("acme", row("e1", "p1", "web", 3)) // again
	f.commit()
	query := func(index string, prefix view.Value) []view.Entry {
		page, err := f.Query(t.Context(), "interactions", view.Query{
			Tenant: "acme", Index: index, Limit: 10, Prefixes: []view.Tuple{{prefix}},
		})
		require.NoError(t, err)
		return page.Entries
	}
	require.Equal(t, []string{"e2", "e1"}, idsOf(view.Page{Entries: query("by_time", view.String("p1"))}))
	web := query("by_channel", view.Bytes([]byte("web")))
	require.Equal(t, []string{"e3", "e1"}, idsOf(view.Page{Entries: web}))
	want, err := view.MarshalDocument(row("e3", "p2", "web", 2))
	require.NoError(t, err)
	require.Equal(t, want, web[0].Data)

	_, err = f.Get(t.Context(), "interactions", key("acme", "e1"))
	require.ErrorIs(t, err, view.ErrInvalid)
	_, err = f.GetMany(t.Context(), "interactions", []view.Key{key("acme", "e1")})
	require.ErrorIs(t, err, view.ErrInvalid)
	_, err = f.Load(t.Context(), "interactions", key("acme", "e1"))
	require.ErrorIs(t, err, view.ErrInvalid)

	c := interactions()
	require.NoError(t, f.batch.DeleteRow(&c, key("acme", "e1"), row("e1", "p1", "web", 3)))
	f.commit()
	require.Equal(t, []string{"e2"}, idsOf(view.Page{Entries: query("by_time", view.String("p1"))}))
	require.Equal(t, []string{"e3"}, idsOf(view.Page{Entries: query("by_channel", view.Bytes([]byte("web")))}))

	// Deleted and put again at the same place, as something else, in one commit.
	require.NoError(t, f.batch.DeleteRow(&c, key("acme", "e3"), row("e3", "p2", "web", 2)))
	f.putRow("acme", row("e3", "p2", "phone", 2))
	f.commit()
	require.Empty(t, query("by_channel", view.Bytes([]byte("web"))))
	require.Equal(t, []string{"e2", "e3"}, idsOf(view.Page{Entries: query("by_channel", view.Bytes([]byte("phone")))}))
	f.putRow("acme", row("e4", "p4", "web", 2))
	require.NoError(t, f.batch.DeleteRow(&c, key("acme", "e4"), row("e4", "p4", "web", 2)))
	f.commit()
	require.Empty(t, query("by_channel", view.Bytes([]byte("web"))))
	require.Empty(t, query("by_time", view.String("p4")))
}

func testInvalid(t *testing.T, b Backend) {
	f := open(t, b)
	str := view.String("x")
	for name, q := range map[string]view.Query{
		"unknown index":    {Index: "nope", Limit: 1},
		"text index":       {Index: "text", Limit: 1},
		"no limit":         {Index: "identifier"},
		"limit too large":  {Index: "identifier", Limit: view.MaxLimit + 1},
		"prefix type":      {Index: "identifier", Limit: 1, Prefixes: []view.Tuple{{view.Int64(1)}}},
		"prefix too long":  {Index: "identifier", Limit: 1, Prefixes: []view.Tuple{{str, str, view.Int64(1), str}}},
		"prefixes differ":  {Index: "identifier", Limit: 1, Prefixes: []view.Tuple{{str}, {str, str}}},
		"bound type":       {Index: "identifier", Limit: 1, From: view.Int64(1)},
		"bound behind end": {Index: "last_seen", Limit: 1, Prefixes: []view.Tuple{{view.Time(at(0).AsTime())}}, To: str},
	} {
		_, err := f.Query(t.Context(), "customers", q)
		require.ErrorIs(t, err, view.ErrInvalid, name)
	}
	_, err := f.Query(t.Context(), "nope", view.Query{Index: "last_seen", Limit: 1})
	require.ErrorIs(t, err, view.ErrInvalid)
	for name, s := range map[string]view.Search{
		"ordered index": {Index: "identifier", Text: "ab", Limit: 1},
		"unknown index": {Index: "nope", Text: "ab", Limit: 1},
		"too short":     {Index: "text", Text: " a ", Limit: 1},
		"empty":         {Index: "text", Limit: 1},
		"no limit":      {Index: "text", Text: "ab"},
		"no text":       {Index: "text", Text: "\xff\xfe", Limit: 1},
		"too long":      {Index: "text", Text: string(make([]byte, view.MaxSearchBytes+1)), Limit: 1},
	} {
		_, err := f.Search(t.Context(), "customers", s)
		require.ErrorIs(t, err, view.ErrInvalid, name)
	}
	c := customers()
	for _, k := range []view.Key{{}, key("acme", ""), key("acme", "a\x00b"), key("a\x00", "b"), key("a\xff", "b"), key("acme", "\xff"), key("acme", string(make([]byte, view.MaxKeyBytes+1)))} {
		f.batch.Reset()
		require.NoError(t, f.batch.Put(&c, k, person("x", "", 1)))
		f.batch.Checkpoint = checkpoint(f.token, 1)
		require.ErrorIs(t, f.Commit(t.Context(), &f.batch), view.ErrInvalid)
	}
	f.batch.Reset()
	c.Indexes[0].Columns = []view.ColumnType{view.ColumnString}
	require.ErrorIs(t, f.batch.Put(&c, key("acme", "c1"), person("c1", "", 1)), view.ErrInvalid)
}
