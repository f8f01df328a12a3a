package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// DB is a database of one test. It may be used concurrently.
type DB struct {
	url     string
	name    string
	version int
}

// Database makes a new, empty database on the server that all tests of this
// process share, and drops it when the test ends, with whoever is connected to
// it. The first call starts the server, which takes about a second. The test
// fails where there is none.
//
// It may be called from parallel tests, and often. What the databases share is
// the server: its connections (200 on a throw-away cluster), roles and load.
func Database(tb testing.TB, opts ...DatabaseOption) *DB {
	tb.Helper()
	s, err := sharedServer()
	if err != nil {
		tb.Fatalf("no PostgreSQL for this test: %v", err)
	}
	db, err := s.create(tb.Context(), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.drop(context.Background(), db.name); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// URL is where the database is reached, as pgx and libpq take it.
func (db *DB) URL() string { return db.url }

// Name is the database's name, which needs no quotes.
func (db *DB) Name() string { return db.name }

// Version is the server's version as it numbers itself: 150018 is 15.18.
func (db *DB) Version() int { return db.version }

// Connect opens a connection to the database and closes it when the test ends.
func (db *DB) Connect(tb testing.TB) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), db.url)
	if err != nil {
		tb.Fatalf("connect to database %s: %v", db.name, err)
	}
	tb.Cleanup(func() {
		// The server may be gone on purpose.
		_ = conn.Close(context.Background())
	})
	return conn
}
