package postgres_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/testkit/postgres"
)

func Example() {
	// In a test: t is its *testing.T.
	_ = func(t *testing.T) {
		db := postgres.Database(t)
		conn, err := pgx.Connect(t.Context(), db.URL())
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		_, err = conn.Exec(t.Context(), "CREATE TABLE ticket (id bigint PRIMARY KEY)")
		require.NoError(t, err)
	}
}

func ExampleServer() {
	// In a test: t is its *testing.T.
	_ = func(t *testing.T) {
		server := postgres.Server(t, postgres.Durable(), postgres.MaxConnections(20))
		db := server.Database(t)
		_, err := db.Connect(t).Exec(t.Context(), "CREATE TABLE ticket (id bigint PRIMARY KEY)")
		require.NoError(t, err)
		require.NoError(t, server.Kill())
		require.NoError(t, server.Start())
	}
}

// scan runs a query for one value.
func scan[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(context.Background(), sql, args...).Scan(&v), sql)
	return v
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(context.Background(), sql, args...)
	require.NoError(t, err, sql)
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	conn := db.Connect(t)
	require.Equal(t, db.Name(), scan[string](t, conn, "SELECT current_database()"))
	version, err := strconv.Atoi(scan[string](t, conn, "SHOW server_version_num"))
	require.NoError(t, err)
	require.Equal(t, version, db.Version())
	require.GreaterOrEqual(t, db.Version()/10000, postgres.MinVersion)
	require.Equal(t, "UTF8", scan[string](t, conn, "SHOW server_encoding"))
	require.Zero(t, scan[int](t, conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))

	// Everything in the database is the test's to do, but no more than that.
	exec(t, conn, "CREATE SCHEMA s")
	exec(t, conn, "CREATE TABLE s.t (id bigint PRIMARY KEY, doc jsonb)")
	exec(t, conn, `INSERT INTO s.t VALUES (1, '{"name": "Zoë"}')`)
	require.Equal(t, "Zoë", scan[string](t, conn, "SELECT doc->>'name' FROM s.t WHERE id = $1", 1))
	exec(t, conn, "DROP SCHEMA s CASCADE")
}

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	const databases = 8
	dbs := make([]*postgres.DB, databases)
	var wg sync.WaitGroup
	for i := range dbs {
		wg.Go(func() { dbs[i] = postgres.Database(t) })
	}
	wg.Wait()
	conns := make([]*pgx.Conn, databases)
	for i, db := range dbs {
		require.NotNil(t, db)
		conns[i] = db.Connect(t)
	}
	for i, conn := range conns {
		exec(t, conn, "CREATE TABLE who (i int)")
		exec(t, conn, "INSERT INTO who VALUES ($1)", i)
	}
	for i, conn := range conns {
		require.Equal(t, i, scan[int](t, conn, "SELECT i FROM who"), "one row, our own")
	}
}

func TestDatabaseGoesWithItsTest(t *testing.T) {
	t.Parallel()
	observer := postgres.Database(t).Connect(t)
	var gone *postgres.DB
	var left *pgx.Conn
	// It runs after the cleanups of what comes below and before those of the above.
	t.Cleanup(func() {
		require.Error(t, left.Ping(context.Background()), "the connection that the test left open")
		_, err := pgx.Connect(context.Background(), gone.URL())
		require.ErrorContains(t, err, "3D000", "no such database")
		require.Zero(t, scan[int](t, observer, "SELECT count(*) FROM pg_database WHERE datname = $1", gone.Name()))
	})
	gone = postgres.Database(t)
	var err error
	left, err = pgx.Connect(t.Context(), gone.URL())
	require.NoError(t, err)
	require.Equal(t, 1, scan[int](t, observer, "SELECT count(*) FROM pg_database WHERE datname = $1", gone.Name()))
}

func TestICULocale(t *testing.T) {
	t.Parallel()
	const sorted = "SELECT string_agg(c, '' ORDER BY c) FROM unnest(ARRAY['B', 'a', 'b', 'A']) c"
	db := postgres.Database(t)
	require.Equal(t, "ABab", scan[string](t, db.Connect(t), sorted))
	if db.Version() < 150000 {
		message := failure(t, func(tb testing.TB) { postgres.Database(tb, postgres.ICULocale("en-US")) })
		require.Contains(t, message, "need 15 or newer")
		return
	}
	db = postgres.Database(t, postgres.ICULocale("en-US"))
	require.Equal(t, "aAbB", scan[string](t, db.Connect(t), sorted))
}
