package pgview_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
)

// What is benchmarked is a customer 360: documents with their newest
// interactions and a text index, and a timeline with a row for each
// interaction.
func benchCustomers() view.Collection {
	return view.Collection{
		Name: "customers", New: func() proto.Message { return &customerv1.Customer{} },
		Indexes: []view.Index{
			{Name: "text", Kind: view.Text, Extract: func(doc proto.Message) []view.Tuple {
				c := benchCustomer(doc)
				tuples := []view.Tuple{{view.String(c.GetDisplayName())}}
				for _, id := range c.GetIdentifiers() {
					tuples = append(tuples, view.Tuple{view.String(id.GetValue())})
				}
				return tuples
			}},
			{Name: "foreign_identifier", Columns: []view.ColumnType{view.ColumnString, view.ColumnString}, Extract: func(proto.Message) []view.Tuple { return nil }},
		},
	}
}

func benchCustomer(doc proto.Message) *customerv1.Customer {
	c, ok := doc.(*customerv1.Customer)
	if !ok {
		panic("not a customer")
	}
	return c
}

func benchTimeline() view.Collection {
	return view.Collection{
		Name: "timeline", Clustered: true, New: func() proto.Message { return &customerv1.InteractionSummary{} },
		Indexes: []view.Index{{
			Name: "profile_time", Columns: []view.ColumnType{view.ColumnString, view.ColumnTime, view.ColumnInt64, view.ColumnString},
			Extract: func(doc proto.Message) []view.Tuple {
				s, ok := doc.(*customerv1.InteractionSummary)
				if !ok {
					panic("not an interaction")
				}
				return []view.Tuple{{view.String(s.GetProfileId()), view.Time(s.GetTime().AsTime()), view.Int64(int64(s.GetSourceSequence())), view.String(s.GetEventId())}}
			},
		}},
	}
}

// benchmark is a replay in commits that are ready to be written.
type benchmark struct {
	commits [][]view.Op
	rows    int
	last    map[string]*customerv1.Customer
}

// interactions there are: PARLEY_BENCH_EVENTS, else 100,000, ten a customer.
func interactions(b *testing.B) int {
	b.Helper()
	if s := os.Getenv("PARLEY_BENCH_EVENTS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(b, err)
		return n
	}
	return 100_000
}

// newBenchmark makes a commit of every 8192 interactions, in sessions of eight.
func newBenchmark(b *testing.B) *benchmark {
	b.Helper()
	random := rand.New(rand.NewPCG(1, 1))
	n := interactions(b)
	m := &benchmark{last: map[string]*customerv1.Customer{}}
	priors := map[string]view.Prior{}
	customers, timeline := benchCustomers(), benchTimeline()
	start := time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)
	for at := 0; at < n; {
		var ops []view.Op
		touched := map[string]bool{}
		for to := min(at+8192, n); at < to; {
			id := fmt.Sprintf("%026d", random.IntN(n/10)*7919)
			c := m.last[id]
			if c == nil {
				c = newBenchCustomer(random, id, start)
				m.last[id], priors[id] = c, view.Absent()
			}
			touched[id] = true
			session := at / 8
			for range 8 {
				row := &customerv1.InteractionSummary{
					EventId: uuid.Must(uuid.NewRandomFromReader(randomReader{random})).String(), Type: "parley.web.page_viewed", Time: timestamppb.New(start.Add(time.Duration(at) * time.Second)),
					Channel: "web", Direction: 1, Conversation: fmt.Sprintf("session-%d", session), Summary: fmt.Sprintf("viewed /products/%d", random.IntN(1000)),
					ProfileId: c.GetProfileIds()[0], Position: uint64(at), SourceSequence: uint64(at),
				}
				c.RecentInteractions = append([]*customerv1.InteractionSummary{row}, c.GetRecentInteractions()[:min(19, len(c.GetRecentInteractions()))]...)
				c.InteractionCount++
				c.LastSeenTime = row.GetTime()
				ops = append(ops, op(b, &timeline, row.GetEventId(), row, view.Prior{}))
				at++
			}
		}
		for _, id := range sortedKeys(touched) {
			o := op(b, &customers, id, m.last[id], priors[id])
			o.Row.Meta = []byte("member of " + id)
			priors[id] = view.Was(o.Row.Terms)
			ops = append(ops, o)
		}
		m.commits = append(m.commits, ops)
		m.rows += len(ops)
	}
	return m
}

func newBenchCustomer(random *rand.Rand, id string, start time.Time) *customerv1.Customer {
	name := func() string {
		s := ""
		for range 2 + random.IntN(3) {
			s += []string{"an", "ber", "ca", "dor", "el", "fi", "gran", "hel", "is", "jo", "ka", "lin", "mar", "na", "or", "pe", "qui", "ro", "sten", "ta"}[random.IntN(20)]
		}
		return s
	}
	first, last := name(), name()
	c := &customerv1.Customer{CustomerId: id, ProfileIds: []string{id}, DisplayName: first + " " + last, FirstSeenTime: timestamppb.New(start), PreferredChannel: "web"}
	for kind, value := range map[string]string{"email": first + "." + last + "@example.com", "user_id": fmt.Sprintf("user-%d", random.Uint32()), "phone": fmt.Sprintf("+49170%07d", random.IntN(1e7))} {
		c.Identifiers = append(c.Identifiers, &customerv1.CustomerIdentifier{Kind: kind, Value: value, ProfileId: id, FirstSeenTime: timestamppb.New(start), LastSeenTime: timestamppb.New(start), EventCount: 3})
	}
	return c
}

type randomReader struct{ *rand.Rand }

func (r randomReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func op(b *testing.B, c *view.Collection, id string, doc proto.Message, prior view.Prior) view.Op {
	b.Helper()
	data, err := view.MarshalDocument(doc)
	require.NoError(b, err)
	terms, err := c.Terms(doc)
	require.NoError(b, err)
	return view.Op{Collection: c.Name, Key: view.Key{Tenant: "acme", ID: id}, Row: view.Row{Data: data, Terms: terms}, Prior: prior}
}

// replay writes all commits.
func (m *benchmark) replay(b *testing.B, gen view.Generation) {
	b.Helper()
	token, err := gen.Fence(b.Context())
	require.NoError(b, err)
	var batch view.Batch
	for i, ops := range m.commits {
		batch.Reset()
		for _, o := range ops {
			if o.Collection == "timeline" {
				batch.AppendRow(o.Collection, o.Key, o.Row)
			} else {
				batch.PutRow(o.Collection, o.Key, o.Row, o.Prior)
			}
		}
		batch.Checkpoint = view.Checkpoint{Namespace: gen.Namespace(), Token: token, LogID: uuid.UUID{1}, Position: uint64(i + 1)}
		require.NoError(b, gen.Commit(b.Context(), &batch))
	}
}

func benchServer(b *testing.B) *postgres.DB {
	b.Helper()
	return postgres.Server(b, postgres.Durable(), postgres.SharedBuffers("512MB"), postgres.Setting("max_wal_size", "4GB")).Database(b)
}

// BenchmarkReplay writes commits of 8192 interactions and the customers that
// they change, beside the same rows written by hand: COPY into the timeline,
// COPY into a staging table and an upsert for documents, all values made
// beforehand.
func BenchmarkReplay(b *testing.B) {
	m := newBenchmark(b)
	generation := uint32(0)
	fresh := func(s *pgview.Store) view.Generation {
		generation++
		gen, err := s.Open(b.Context(), view.Namespace{Projection: "bench", Version: 1, Generation: generation}, benchCustomers(), benchTimeline())
		require.NoError(b, err)
		return gen
	}
	db := benchServer(b)
	s := openStore(b, pgview.Config{URL: config.Secret(db.URL())})
	conn := db.Connect(b)
	settle := func() {
		_, err := conn.Exec(b.Context(), "VACUUM ANALYZE")
		require.NoError(b, err)
	}
	report := func(b *testing.B) {
		b.ReportMetric(float64(m.rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		b.ReportMetric(float64(interactions(b))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("yardstick: by hand", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			gen := fresh(s)
			schema := fmt.Sprintf("parley_bench_v1_g%d", generation)
			prepared := m.byHand(b)
			settle()
			b.StartTimer()
			for _, p := range prepared {
				p.write(b, conn, schema)
			}
			b.StopTimer()
			require.NoError(b, gen.Close())
			require.NoError(b, s.Drop(b.Context(), gen.Namespace()))
			b.StartTimer()
		}
		report(b)
	})
	b.Run("driver", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			gen := fresh(s)
			settle()
			b.StartTimer()
			m.replay(b, gen)
			b.StopTimer()
			require.NoError(b, gen.Close())
			require.NoError(b, s.Drop(b.Context(), gen.Namespace()))
			b.StartTimer()
		}
		report(b)
	})
}

// handmade is a commit as a careful programmer has it ready.
type handmade struct {
	timeline, customers, texts [][]any
	position                   int
}

func (m *benchmark) byHand(b *testing.B) []handmade {
	b.Helper()
	var all []handmade
	numbers := map[string]int32{}
	for i, ops := range m.commits {
		h := handmade{position: i + 1}
		for _, o := range ops {
			if o.Collection == "timeline" {
				doc := &customerv1.InteractionSummary{}
				require.NoError(b, proto.Unmarshal(o.Row.Data, doc))
				text, err := protojson.Marshal(doc)
				require.NoError(b, err)
				h.timeline = append(h.timeline, []any{"acme", doc.GetProfileId(), doc.GetTime().AsTime(), int64(doc.GetSourceSequence()), doc.GetEventId(), doc.GetEventId(), string(text), nil})
				continue
			}
			doc := &customerv1.Customer{}
			require.NoError(b, proto.Unmarshal(o.Row.Data, doc))
			text, err := protojson.Marshal(doc)
			require.NoError(b, err)
			h.customers = append(h.customers, []any{"acme", o.Key.ID, string(text), o.Row.Meta, o.Row.Terms.AppendBinary(nil)})
			if !o.Prior.Exists() {
				n := int32(len(numbers))
				numbers[o.Key.ID] = n
				h.texts = append(h.texts, []any{"acme", o.Key.ID, n, o.Row.Terms.Text(0), pgview.Grams("acme", n, o.Row.Terms.Text(0))})
			}
		}
		all = append(all, h)
	}
	return all
}

func (h *handmade) write(b *testing.B, conn *pgx.Conn, schema string) {
	b.Helper()
	ctx := b.Context()
	tx, err := conn.Begin(ctx)
	require.NoError(b, err)
	copied := func(table pgx.Identifier, columns string, rows [][]any) {
		_, err := tx.CopyFrom(ctx, table, strings.Fields(columns), pgx.CopyFromRows(rows))
		require.NoError(b, err)
	}
	copied(pgx.Identifier{schema, "timeline"}, "tenant value_1 value_2 value_3 value_4 id document meta", h.timeline)
	_, err = tx.Exec(ctx, "CREATE TEMP TABLE staging (LIKE "+schema+".customers) ON COMMIT DROP")
	require.NoError(b, err)
	copied(pgx.Identifier{"staging"}, "tenant id document meta terms", h.customers)
	_, err = tx.Exec(ctx, "INSERT INTO "+schema+`.customers SELECT * FROM staging ON CONFLICT (tenant, id) DO UPDATE
		SET document = excluded.document, meta = excluded.meta, terms = excluded.terms`)
	require.NoError(b, err)
	copied(pgx.Identifier{schema, "customers__text"}, "tenant id number text grams", h.texts)
	_, err = tx.Exec(ctx, "UPDATE parley.generations SET position = $1 WHERE schema_name = $2", int64(h.position), schema)
	require.NoError(b, err)
	require.NoError(b, tx.Commit(ctx))
}

// BenchmarkLive commits what a few events change, and reads, beside plain
// statements that do the same.
func BenchmarkLive(b *testing.B) {
	m := newBenchmark(b)
	db := benchServer(b)
	for _, mode := range modes {
		s := openStore(b, pgview.Config{URL: config.Secret(db.URL()), QueryMode: mode, Schema: "bench_" + string(mode)[:4]})
		where := view.Namespace{Projection: "bench", Version: 1, Generation: 1}
		gen, err := s.Open(b.Context(), where, benchCustomers(), benchTimeline())
		require.NoError(b, err)
		m.replay(b, gen)
		live(b, string(mode), m, gen)
		require.NoError(b, gen.Close())
	}
	conn := db.Connect(b)
	ids := sortedIDs(m)
	b.Run("yardstick: select by key", func(b *testing.B) {
		i := 0
		for b.Loop() {
			var text []byte
			i++
			require.NoError(b, conn.QueryRow(b.Context(), "SELECT document FROM bench_cach_bench_v1_g1.customers WHERE tenant = 'acme' AND id = $1", ids[i*7919%len(ids)]).Scan(&text))
		}
	})
	b.Run("yardstick: select 20 in order", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			rows, err := conn.Query(b.Context(), "SELECT id, document FROM bench_cach_bench_v1_g1.timeline WHERE tenant = 'acme' AND value_1 = $1 ORDER BY value_2 DESC, value_3 DESC, value_4 DESC, id DESC LIMIT 20", ids[i*7919%len(ids)])
			require.NoError(b, err)
			for rows.Next() {
				var id string
				var text []byte
				require.NoError(b, rows.Scan(&id, &text))
			}
			require.NoError(b, rows.Err())
		}
	})
	b.Run("yardstick: one update", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			_, err := conn.Exec(b.Context(), "UPDATE bench_cach_bench_v1_g1.customers SET document = document WHERE tenant = 'acme' AND id = $1", ids[i*7919%len(ids)])
			require.NoError(b, err)
		}
	})
}

func sortedIDs(m *benchmark) []string {
	seen := map[string]bool{}
	for id := range m.last {
		seen[id] = true
	}
	return sortedKeys(seen)
}

func live(b *testing.B, mode string, m *benchmark, gen view.Generation) {
	b.Helper()
	ids := sortedIDs(m)
	customers, timeline := benchCustomers(), benchTimeline()
	token, err := gen.Fence(b.Context())
	require.NoError(b, err)
	position := uint64(1 << 20)
	b.Run(mode+"/commit of 1 customer and 1 row", func(b *testing.B) {
		var batch view.Batch
		for b.Loop() {
			position++
			id := ids[int(position*7919)%len(ids)]
			c := m.last[id]
			row := &customerv1.InteractionSummary{EventId: fmt.Sprint(mode, position), ProfileId: id, Time: timestamppb.Now(), Position: position}
			o := op(b, &customers, id, c, view.Prior{})
			batch.Reset()
			batch.PutRow("customers", o.Key, o.Row, view.Was(o.Row.Terms))
			o = op(b, &timeline, row.GetEventId(), row, view.Prior{})
			batch.AppendRow("timeline", o.Key, o.Row)
			batch.Checkpoint = view.Checkpoint{Namespace: gen.Namespace(), Token: token, LogID: uuid.UUID{1}, Position: position}
			require.NoError(b, gen.Commit(context.Background(), &batch))
		}
	})
	b.Run(mode+"/get", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			_, err := gen.Get(b.Context(), "customers", view.Key{Tenant: "acme", ID: ids[i*7919%len(ids)]})
			require.NoError(b, err)
		}
	})
	b.Run(mode+"/get 500", func(b *testing.B) {
		keys := make([]view.Key, 500)
		for i := range keys {
			keys[i] = view.Key{Tenant: "acme", ID: ids[i*7919%len(ids)]}
		}
		for b.Loop() {
			all, err := gen.GetMany(b.Context(), "customers", keys)
			require.NoError(b, err)
			require.NotNil(b, all[499])
		}
	})
	for _, profiles := range []int{1, 5, 200} {
		b.Run(fmt.Sprintf("%s/query 20 of %d prefixes", mode, profiles), func(b *testing.B) {
			i := 0
			for b.Loop() {
				q := view.Query{Tenant: "acme", Index: "profile_time", Reverse: true, Limit: 20}
				for range profiles {
					i++
					q.Prefixes = append(q.Prefixes, view.Tuple{view.String(ids[i*7919%len(ids)])})
				}
				page, err := gen.Query(b.Context(), "timeline", q)
				require.NoError(b, err)
				require.NotEmpty(b, page.Entries)
			}
		})
	}
	for name, text := range map[string]string{"one": m.last[ids[len(ids)/2]].GetIdentifiers()[0].GetValue(), "many": "example", "none": "granzelhelstenqui", "two letters": "an"} {
		b.Run(mode+"/search "+name, func(b *testing.B) {
			calls := 0
			for b.Loop() {
				q := view.Search{Tenant: "acme", Index: "text", Text: text, Limit: 20}
				for found := 0; found < q.Limit; {
					page, err := gen.Search(b.Context(), "customers", q)
					require.NoError(b, err)
					calls++
					found += len(page.Entries)
					if q.Cursor = page.Next; q.Cursor == nil {
						break
					}
				}
			}
			b.ReportMetric(float64(calls)/float64(b.N), "calls")
		})
	}
}
