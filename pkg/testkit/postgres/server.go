package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// MinVersion is the oldest major version of PostgreSQL that will do: the first
// that drops a database which is in use.
const MinVersion = 13

// icuVersion is the major version that brought databases with an ICU locale.
const icuVersion = 15

// callDeadline is how long creating or dropping may take; generous, for a
// machine that runs other tests meanwhile.
const callDeadline = 60 * time.Second

// namePrefix begins the name of every database of ours. The seconds at which
// its process began follow in base 36, then what keeps processes apart.
const namePrefix = "parley_test_"

// abandonedAfter is the age at which a database that nobody is connected to
// cannot belong to a running test any more.
const abandonedAfter = 24 * time.Hour

// server creates and drops databases. It may be used concurrently.
type server struct {
	admin   *pgx.ConnConfig // whoever creates and drops
	tester  url.URL         // whoever tests, but for the database
	owner   string          // of new databases; empty: whoever creates them
	version int
	prefix  string // of this process's databases
	made    atomic.Int64
	// cluster is what the server runs in, and by which it lives: its files stay
	// open as long as they can be reached. None where the server is not ours.
	cluster *Cluster
}

// newServer reaches a running server and checks its version. Databases are
// created as the role of adminURL and used as that of testerURL, whose database
// is of no account.
func newServer(ctx context.Context, adminURL, testerURL, owner string) (*server, error) {
	admin, err := pgx.ParseConfig(adminURL)
	if err != nil {
		return nil, fmt.Errorf("read the server's URL: %w", err)
	}
	tester, err := url.Parse(testerURL)
	if err != nil || (tester.Scheme != "postgres" && tester.Scheme != "postgresql") {
		// The error would show the password.
		return nil, errors.New("the server's URL is not of the form postgres://user:password@host:port/database")
	}
	s := &server{
		admin: admin, tester: *tester, owner: owner,
		prefix: namePrefix + strconv.FormatInt(time.Now().Unix(), 36) + "_" + strings.ToLower(rand.Text()[:8]),
	}
	err = s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var number string
		if err := conn.QueryRow(ctx, "SHOW server_version_num").Scan(&number); err != nil {
			return fmt.Errorf("ask the server for its version: %w", err)
		}
		s.version, err = strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("ask the server for its version: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.version/10000 < MinVersion {
		return nil, fmt.Errorf("the server is PostgreSQL %d: need %d or newer", s.version/10000, MinVersion)
	}
	return s, nil
}

// mayCreate checks that the role can do what is wanted of it.
func (s *server) mayCreate(ctx context.Context) error {
	var may bool
	err := s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&may)
	})
	if err != nil {
		return fmt.Errorf("ask for the role's rights: %w", err)
	}
	if !may {
		return fmt.Errorf("the role %s may not create databases", s.admin.User)
	}
	return nil
}

// create makes a new, empty database.
func (s *server) create(ctx context.Context, opts ...DatabaseOption) (*DB, error) {
	var o databaseOptions
	for _, opt := range opts {
		opt(&o)
	}
	name := s.prefix + "_" + strconv.FormatInt(s.made.Add(1), 10)
	// template0 has nothing of what a site may have put into template1.
	sql := "CREATE DATABASE " + name + " TEMPLATE template0"
	if o.icuLocale != "" {
		if s.version/10000 < icuVersion {
			return nil, fmt.Errorf("create database %s with the ICU locale %s: the server is PostgreSQL %d, need %d or newer", name, o.icuLocale, s.version/10000, icuVersion)
		}
		sql += " LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE '" + strings.ReplaceAll(o.icuLocale, "'", "''") + "'"
	}
	if s.owner != "" {
		sql += " OWNER " + s.owner
	}
	err := s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create database %s: %w", name, err)
	}
	u := s.tester
	u.Path, u.RawPath = "/"+name, ""
	return &DB{url: u.String(), name: name, version: s.version}, nil
}

// drop removes a database with all its connections.
func (s *server) drop(ctx context.Context, name string) error {
	err := s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		return err
	})
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// dropAbandoned removes what killed processes left on a server that outlives
// them.
func (s *server) dropAbandoned(ctx context.Context) error {
	var names []string
	err := s.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		// Our own only: what other roles have open we might not see.
		rows, err := conn.Query(ctx, `SELECT datname FROM pg_database d
			WHERE starts_with(datname, $1) AND datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user)
			AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)`, namePrefix)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return fmt.Errorf("look for abandoned databases: %w", err)
	}
	for _, name := range names {
		if !abandoned(name, time.Now()) {
			continue
		}
		// Another process may be dropping it as well.
		if err := s.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// abandoned reports whether a database's name says that it is old.
func abandoned(name string, now time.Time) bool {
	begun, _, ok := strings.Cut(strings.TrimPrefix(name, namePrefix), "_")
	seconds, err := strconv.ParseInt(begun, 36, 64)
	return ok && err == nil && now.Sub(time.Unix(seconds, 0)) > abandonedAfter
}

// do connects as whoever creates and drops, for one call.
func (s *server) do(ctx context.Context, call func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, callDeadline)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return call(ctx, conn)
}
