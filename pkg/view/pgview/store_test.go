package pgview_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
)

var ns = view.Namespace{Projection: "test", Version: 1, Generation: 1}

// texts are documents of one string each, searchable and ordered.
func texts() view.Collection {
	as := func(doc proto.Message) string {
		s, ok := doc.(*wrapperspb.StringValue)
		if !ok {
			panic("not a text")
		}
		return s.GetValue()
	}
	return view.Collection{
		Name: "texts", New: func() proto.Message { return &wrapperspb.StringValue{} },
		Indexes: []view.Index{
			{Name: "text", Kind: view.Text, Extract: func(doc proto.Message) []view.Tuple { return []view.Tuple{{view.String(as(doc))}} }},
			{Name: "value", Columns: []view.ColumnType{view.ColumnString}, Extract: func(doc proto.Message) []view.Tuple {
				return []view.Tuple{{view.String(as(doc))}}
			}},
		},
	}
}

func openStore(t testing.TB, cfg pgview.Config) *pgview.Store {
	t.Helper()
	s, err := pgview.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

type writer struct {
	t   testing.TB
	gen view.Generation
	at  view.Checkpoint
	b   view.Batch
}

func newWriter(t testing.TB, s view.Store) *writer {
	t.Helper()
	gen, err := s.Open(t.Context(), ns, texts())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, gen.Close()) })
	w := &writer{t: t, gen: gen}
	w.fence()
	return w
}

// fence takes over, as of what is stored.
func (w *writer) fence() {
	w.t.Helper()
	token, err := w.gen.Fence(w.t.Context())
	require.NoError(w.t, err)
	c, err := w.gen.Checkpoint(w.t.Context())
	require.NoError(w.t, err)
	w.at = view.Checkpoint{Namespace: ns, Token: token, LogID: uuid.UUID{1}, Position: c.Position}
}

func (w *writer) put(id, text string) {
	w.t.Helper()
	c := texts()
	require.NoError(w.t, w.b.Put(&c, view.Key{Tenant: "acme", ID: id}, wrapperspb.String(text)))
}

func (w *writer) commit() error {
	w.at.Position++
	w.b.Checkpoint = w.at
	err := w.gen.Commit(w.t.Context(), &w.b)
	w.b.Reset()
	return err
}

func (w *writer) get(id string) string {
	w.t.Helper()
	got, err := view.GetDocument(w.t.Context(), w.gen, "texts", view.Key{Tenant: "acme", ID: id}, &wrapperspb.StringValue{})
	require.NoError(w.t, err)
	return got.GetValue()
}

func (w *writer) search(text string) []string {
	w.t.Helper()
	page, err := w.gen.Search(w.t.Context(), "texts", view.Search{Tenant: "acme", Index: "text", Text: text, Limit: 1000})
	require.NoError(w.t, err)
	require.Nil(w.t, page.Next)
	var ids []string
	for _, e := range page.Entries {
		ids = append(ids, e.Key.ID)
	}
	return ids
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]pgview.Config{
		"no URL":             {},
		"schema":             {URL: "postgres://localhost", Schema: "Parley"},
		"schema of Postgres": {URL: "postgres://localhost", Schema: "pg_parley"},
		"long schema":        {URL: "postgres://localhost", Schema: strings.Repeat("x", 21)},
		"mode":               {URL: "postgres://localhost", QueryMode: "fast"},
		"connections":        {URL: "postgres://localhost", MaxConns: 3},
	} {
		_, err := pgview.Open(t.Context(), cfg)
		require.ErrorIs(t, err, view.ErrInvalid, name)
	}
}

// TestSecret has addresses of all kinds that do not work: the password is in no error.
func TestSecret(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t/pass word?#:x"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refused := listener.Addr().String()
	require.NoError(t, listener.Close())
	escaped := url.QueryEscape(secret)
	for name, x := range map[string]struct {
		url  string
		want error
	}{
		"refused":          {"postgres://user:" + escaped + "@" + refused + "/db", view.ErrUnavailable},
		"refused, keyword": {fmt.Sprintf("host=127.0.0.1 port=%s user=user password='%s' dbname=db", refused[strings.LastIndex(refused, ":")+1:], secret), view.ErrUnavailable},
		"unescaped":        {"postgres://user:" + secret + "@" + refused + "/db", view.ErrInvalid},
		"port":             {"postgres://user:" + escaped + "@127.0.0.1:port/db", view.ErrInvalid},
		"port, unescaped":  {"postgres://user:" + secret + "@127.0.0.1:port/db", view.ErrInvalid},
		"sslmode":          {"postgres://user:" + escaped + "@127.0.0.1/db?sslmode=perhaps", view.ErrInvalid},
		"keyword":          {"user=user password='" + secret + "' port=x", view.ErrInvalid},
		"other scheme":     {"mysql://user:" + escaped + "@127.0.0.1/db", view.ErrInvalid},
	} {
		_, err := pgview.Open(t.Context(), pgview.Config{URL: config.Secret(x.url)})
		require.ErrorIs(t, err, x.want, name)
		for _, part := range []string{"s3cr3t", "pass word", "pass+word"} {
			require.NotContains(t, fmt.Sprintf("%v %+v", err, err), part, name)
		}
	}
}

// TestServer has servers that cannot be used: each error says what to do.
func TestServer(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	u, err := url.Parse(db.URL())
	require.NoError(t, err)
	nowhere := *u
	nowhere.Path = "/parley_nowhere"
	_, err = pgview.Open(t.Context(), pgview.Config{URL: config.Secret(nowhere.String())})
	require.ErrorIs(t, err, view.ErrServer)
	require.ErrorContains(t, err, "create the database")

	_, err = pgview.OpenAs(t.Context(), pgview.Config{URL: config.Secret(db.URL())}, 120019)
	require.ErrorIs(t, err, view.ErrServer)
	require.ErrorContains(t, err, "Postgres 12.19, at least 13 is needed")

	readOnly := *u
	q := readOnly.Query()
	q.Set("options", "-c default_transaction_read_only=on")
	readOnly.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	_, err = pgview.Open(t.Context(), pgview.Config{URL: config.Secret(readOnly.String())})
	require.ErrorIs(t, err, view.ErrServer)
	require.ErrorContains(t, err, "primary")

	conn := db.Connect(t)
	_, err = conn.Exec(t.Context(), `CREATE SCHEMA theirs_test_v1_g1`)
	require.NoError(t, err)
	s := openStore(t, pgview.Config{URL: config.Secret(db.URL()), Schema: "theirs"})
	_, err = s.Open(t.Context(), ns, texts())
	require.ErrorIs(t, err, view.ErrServer)
	require.ErrorContains(t, err, "theirs_test_v1_g1")
	all, err := s.Namespaces(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
}

// TestRights has a user who may not make anything.
func TestRights(t *testing.T) {
	t.Parallel()
	cluster := postgres.Server(t)
	db := cluster.Database(t)
	admin := db.URL()
	u, err := url.Parse(cluster.AdminURL())
	require.NoError(t, err)
	u.Path = "/" + db.Name()
	conn, err := pgconn.Connect(t.Context(), u.String())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `CREATE ROLE visitor LOGIN PASSWORD 'hidden'; REVOKE CREATE ON DATABASE `+db.Name()+` FROM PUBLIC`).ReadAll()
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	visitor, err := url.Parse(admin)
	require.NoError(t, err)
	visitor.User = url.UserPassword("visitor", "hidden")
	_, err = pgview.Open(t.Context(), pgview.Config{URL: config.Secret(visitor.String())})
	require.ErrorIs(t, err, view.ErrServer)
	require.ErrorContains(t, err, "GRANT CREATE")
	require.NotContains(t, err.Error(), "hidden")
	nobody := *visitor
	nobody.User = url.UserPassword("nobody", "hidden")
	_, err = pgview.Open(t.Context(), pgview.Config{URL: config.Secret(nobody.String())})
	require.ErrorIs(t, err, view.ErrServer)
	require.ErrorContains(t, err, "check the URL")
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	cfg := pgview.Config{URL: config.Secret(db.URL()), MaxConns: 4}
	var wg sync.WaitGroup
	errs := make(chan error, 10)
	for range 10 {
		wg.Go(func() {
			s, err := pgview.Open(t.Context(), cfg)
			if err == nil {
				_, err = s.Open(t.Context(), ns, texts())
				err = errors.Join(err, s.Close())
			}
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	conn := db.Connect(t)
	var versions, generations int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM parley.migrations), (SELECT count(*) FROM parley.generations)`).Scan(&versions, &generations))
	require.Equal(t, 1, versions)
	require.Equal(t, 1, generations)

	_, err := conn.Exec(t.Context(), `INSERT INTO parley.migrations (version) VALUES (99)`)
	require.NoError(t, err)
	_, err = pgview.Open(t.Context(), cfg)
	require.ErrorIs(t, err, view.ErrNewerFormat)
	require.ErrorContains(t, err, "version 99")
	require.ErrorContains(t, err, "start the newer binary")
}

// TestShape has messages that lost a field since their documents were written.
func TestShape(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	s := openStore(t, pgview.Config{URL: config.Secret(db.URL())})
	w := newWriter(t, s)
	w.put("1", "text")
	require.NoError(t, w.commit())
	conn := db.Connect(t)
	// A field more than before is noted.
	_, err := conn.Exec(t.Context(), `UPDATE parley.generations SET shape = ''`)
	require.NoError(t, err)
	gen, err := s.Open(t.Context(), ns, texts())
	require.NoError(t, err)
	require.NoError(t, gen.Close())
	var shape string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT shape FROM parley.generations`).Scan(&shape))
	require.Equal(t, "google.protobuf.StringValue 1 value string", shape)
	_, err = conn.Exec(t.Context(), `UPDATE parley.generations SET shape = shape || E'\ngoogle.protobuf.StringValue 2 language string'`)
	require.NoError(t, err)
	_, err = s.Open(t.Context(), ns, texts())
	require.ErrorIs(t, err, view.ErrSchema)
	require.ErrorContains(t, err, "language")
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	all := pgview.Names("a", "a__b", "a", long, long+"y", long)
	seen := map[string]bool{}
	for _, name := range all {
		require.LessOrEqual(t, len(name), 63)
		require.False(t, seen[name], name)
		seen[name] = true
	}
	require.Equal(t, []string{"a", "a__b"}, all[:2])
	require.Equal(t, all, pgview.Names("a", "a__b", "a", long, long+"y", long))
	require.Equal(t, "parley_customer_v2_g1", pgview.SchemaName("parley", view.Namespace{Projection: "customer", Version: 2, Generation: 1}, 7, false))
	require.Equal(t, "parley_customer_v2_g1_n7", pgview.SchemaName("parley", view.Namespace{Projection: "customer", Version: 2, Generation: 1}, 7, true))
	one := pgview.SchemaName("parley", view.Namespace{Projection: long, Version: 2, Generation: 1}, 7, false)
	two := pgview.SchemaName("parley", view.Namespace{Projection: long, Version: 2, Generation: 2}, 7, false)
	require.LessOrEqual(t, len(one), 63)
	require.NotEqual(t, one, two)
}

// TestLongNames has names that Postgres would cut, and collections whose names
// are those of another's indexes.
func TestLongNames(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	s := openStore(t, pgview.Config{URL: config.Secret(db.URL()), Schema: strings.Repeat("p", 20)})
	long := strings.Repeat("x", 63)
	var declared []view.Collection
	for _, name := range []string{long + "a", long + "b", "select", "1", "_", "texts", "texts__text", "texts__value", "texts_pkey", "texts__text_number", "texts__text_grams"} {
		c := texts()
		c.Name = name
		if name == long+"a" {
			c.Indexes[0].Name, c.Indexes[1].Name = long+"a", long+"b"
		}
		declared = append(declared, c)
	}
	where := view.Namespace{Projection: long + "a", Version: 1<<32 - 1, Generation: 1<<32 - 1}
	gen, err := s.Open(t.Context(), where, declared...)
	require.NoError(t, err)
	token, err := gen.Fence(t.Context())
	require.NoError(t, err)
	var b view.Batch
	for i := range declared {
		require.NoError(t, b.Put(&declared[i], view.Key{Tenant: "acme", ID: "1"}, wrapperspb.String("text of "+declared[i].Name)))
	}
	b.Checkpoint = view.Checkpoint{Namespace: where, Token: token, LogID: uuid.UUID{1}, Position: 1<<64 - 1}
	require.NoError(t, gen.Commit(t.Context(), &b))
	c, err := gen.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, b.Checkpoint, c)
	for i := range declared {
		page, err := gen.Search(t.Context(), declared[i].Name, view.Search{Tenant: "acme", Index: declared[i].Indexes[0].Name, Text: "text of", Limit: 2})
		require.NoError(t, err)
		require.Len(t, page.Entries, 1)
		page, err = gen.Query(t.Context(), declared[i].Name, view.Query{Tenant: "acme", Index: declared[i].Indexes[1].Name, Limit: 2})
		require.NoError(t, err)
		require.Len(t, page.Entries, 1)
		require.Contains(t, string(page.Entries[0].Data), "text of "+declared[i].Name)
	}
	require.NoError(t, gen.Close())
	all, err := s.Namespaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []view.Namespace{where}, all)
	require.NoError(t, s.Drop(t.Context(), where))
	var left int
	require.NoError(t, db.Connect(t).QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'ppp%' AND nspname <> $1`, strings.Repeat("p", 20)).Scan(&left))
	require.Zero(t, left)
}

// TestSQL reads views as people with SQL do.
func TestSQL(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	w := newWriter(t, openStore(t, pgview.Config{URL: config.Secret(db.URL())}))
	w.put("1", `Ada "the first" Lovelace`)
	require.NoError(t, w.commit())
	conn := db.Connect(t)
	var document, value string
	var position int64
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT t.document #>> '{}', v.value_1, g.position FROM parley_test_v1_g1.texts t
		JOIN parley_test_v1_g1.texts__value v USING (tenant, id), parley.generations g WHERE g.schema_name = 'parley_test_v1_g1'`).Scan(&document, &value, &position))
	require.Equal(t, `Ada "the first" Lovelace`, document)
	require.Equal(t, document, value)
	require.Equal(t, int64(1), position)
}

// TestInterruptedDrop leaves tables behind, as a crash does: they are removed
// later, and the generation is not there meanwhile.
func TestInterruptedDrop(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	cfg := pgview.Config{URL: config.Secret(db.URL())}
	s, err := pgview.Open(t.Context(), cfg)
	require.NoError(t, err)
	gen, err := s.Open(t.Context(), ns, texts())
	require.NoError(t, err)
	require.NoError(t, gen.Close())
	conn := db.Connect(t)
	interrupt := func() {
		_, err := conn.Exec(t.Context(), `UPDATE parley.generations SET dropped_time = now() WHERE NOT removed; DROP TABLE parley_test_v1_g1.texts__value`)
		require.NoError(t, err)
	}
	left := func() (n int) {
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'parley_test%'`).Scan(&n))
		return n
	}
	interrupt()
	all, err := s.Namespaces(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	require.NoError(t, s.Drop(t.Context(), ns), "going on with it")
	require.Zero(t, left())
	require.ErrorIs(t, s.Drop(t.Context(), ns), view.ErrNotFound)
	gen, err = s.Open(t.Context(), ns, texts())
	require.NoError(t, err)
	require.NoError(t, gen.Close())
	require.Equal(t, 1, left())
	_, err = conn.Exec(t.Context(), `UPDATE parley.generations SET dropped_time = now() WHERE NOT removed`)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s, err = pgview.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.Zero(t, left(), "opening cleans up")
	require.NoError(t, s.Close())
}

// TestRaisedErrors has a server that fails in the middle of a commit.
func TestRaisedErrors(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	w := newWriter(t, openStore(t, pgview.Config{URL: config.Secret(db.URL())}))
	w.put("1", "before")
	require.NoError(t, w.commit())
	conn := db.Connect(t)
	for code, want := range map[string]error{
		"53100": view.ErrFull, "53200": view.ErrFull, "40001": view.ErrUnavailable, "40P01": view.ErrUnavailable, "57014": view.ErrUnavailable,
		"25006": view.ErrUnavailable, "54000": view.ErrInvalid, "XX001": view.ErrCorrupt, "42501": view.ErrServer,
	} {
		_, err := conn.Exec(t.Context(), `CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '`+code+`', MESSAGE = 'as asked'; END $$;
			CREATE OR REPLACE TRIGGER fail BEFORE INSERT OR UPDATE ON parley_test_v1_g1.texts__text FOR EACH ROW EXECUTE FUNCTION fail()`)
		require.NoError(t, err)
		for _, n := range []int{1, 2 * pgview.FewDocuments} {
			for i := range n {
				w.put(fmt.Sprint(i), "never")
			}
			err := w.commit()
			require.ErrorIs(t, err, want, code)
			require.NotContains(t, err.Error(), "may have been made")
			w.at.Position--
			require.Equal(t, "before", w.get("1"))
			require.Equal(t, []string{"1"}, w.search("before"))
		}
		_, err = conn.Exec(t.Context(), `DROP TRIGGER fail ON parley_test_v1_g1.texts__text`)
		require.NoError(t, err)
		w.put("1", "before")
		require.NoError(t, w.commit(), code)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"08006": view.ErrUnavailable, "57P01": view.ErrUnavailable, "57P03": view.ErrUnavailable, "53300": view.ErrUnavailable, "25P03": view.ErrUnavailable,
		"28P01": view.ErrServer, "28000": view.ErrServer, "3D000": view.ErrServer, "42P01": view.ErrDropped, "3F000": view.ErrDropped,
		"23505": view.ErrCorrupt, "21000": view.ErrCorrupt, "XX000": view.ErrUnavailable, "PV001": view.ErrDropped, "PV002": view.ErrFenced,
		"PV003": view.ErrInvalid, "PV004": view.ErrUnavailable,
	} {
		require.ErrorIs(t, pgview.Classify(t.Context(), fmt.Errorf("doing: %w", &pgconn.PgError{Code: code})), want, code)
	}
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, &net.OpError{Err: errors.New("refused")}, pgconn.ErrConnClosed, context.DeadlineExceeded} {
		require.ErrorIs(t, pgview.Classify(t.Context(), fmt.Errorf("doing: %w", err)), view.ErrUnavailable)
	}
	// Who gives up is not told that the server is away.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NotErrorIs(t, pgview.Classify(ended, context.Canceled), view.ErrUnavailable)
	require.ErrorIs(t, pgview.Classify(ended, context.Canceled), context.Canceled)
	require.NoError(t, pgview.Classify(t.Context(), nil))
}

// TestBoundedSearch looks for what many documents seem to have and none has:
// each call ends soon, and together they end.
func TestBoundedSearch(t *testing.T) {
	t.Parallel()
	w := newWriter(t, openStore(t, pgview.Config{URL: config.Secret(postgres.Database(t).URL())}))
	const many = 6 * pgview.BlockSize
	for i := range many {
		w.put(fmt.Sprintf("%06d", i), "abc bcd cde def") // has all triples of abcdef
		if i%5000 == 4999 {
			require.NoError(t, w.commit())
		}
	}
	require.NoError(t, w.commit())
	for _, text := range []string{"abcdef", "x y z"} {
		q := view.Search{Tenant: "acme", Index: "text", Text: text, Limit: 10}
		pages := 0
		for {
			page, err := w.gen.Search(t.Context(), "texts", q)
			require.NoError(t, err)
			require.Empty(t, page.Entries)
			pages++
			if page.Next == nil {
				break
			}
			q.Cursor = page.Next
		}
		require.Equal(t, 2, pages, "three blocks are over 10,000 candidates")
	}
}

// TestManySnapshots has more readers than there are connections for: they wait
// for each other, and nobody else waits for them.
func TestManySnapshots(t *testing.T) {
	t.Parallel()
	w := newWriter(t, openStore(t, pgview.Config{URL: config.Secret(postgres.Database(t).URL()), MaxConns: 4}))
	w.put("1", "text")
	require.NoError(t, w.commit())
	one, err := w.gen.Snapshot(t.Context())
	require.NoError(t, err)
	two, err := w.gen.Snapshot(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = w.gen.Snapshot(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	w.put("1", "another text")
	require.NoError(t, w.commit())
	require.Equal(t, "another text", w.get("1"))
	require.NoError(t, one.Close())
	three, err := w.gen.Snapshot(t.Context())
	require.NoError(t, err)
	// A snapshot may be used by several at once, also from within a scan.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for e, err := range three.Scan(t.Context(), "texts", "acme") {
				if err == nil {
					_, err = three.Get(t.Context(), "texts", e.Key)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, two.Close())
	require.NoError(t, three.Close())
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	cfg := pgview.Config{URL: config.Secret(postgres.Database(t).URL()), Metrics: registry}
	s, err := pgview.Open(t.Context(), cfg)
	require.NoError(t, err)
	_, err = pgview.Open(t.Context(), cfg)
	require.Error(t, err, "registered twice")
	gen, err := s.Open(t.Context(), ns, texts())
	require.NoError(t, err)
	w := &writer{t: t, gen: gen}
	w.fence()
	for _, n := range []int{1, 2 * pgview.FewDocuments} {
		for i := range n {
			w.put(fmt.Sprint(i), "text")
		}
		require.NoError(t, w.commit())
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	require.Equal(t, 1, got["parley_postgres_commits_total round_trip"])
	require.Equal(t, 1, got["parley_postgres_commits_total copy"])
	require.Equal(t, 2*pgview.FewDocuments, got["parley_postgres_documents_total copy"])
	require.Equal(t, 16, got["parley_postgres_connections most"])
	require.Positive(t, got["parley_postgres_connections_made_total"])
	require.NoError(t, gen.Close())
	require.NoError(t, s.Close())
	families, err = registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families)
}
