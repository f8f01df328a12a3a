package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Cluster is a PostgreSQL server of a test's own with its data. Its methods may
// be called concurrently; Stop, Kill and Start wait for each other, and their
// errors end with the server's own words.
type Cluster struct {
	server *server
	port   *port

	mu  sync.Mutex // held for a word to the supervisor
	sup *supervisor
}

// Server starts a new cluster, which takes about a second, and removes it when
// the test ends. The test fails where there are no binaries to run.
func Server(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	binaries, err := provide(tb.Context(), thisMachine(), os.Getenv(URLVariable) == "")
	if err != nil {
		tb.Fatalf("no PostgreSQL for this test, which starts and stops one of its own: %v", err)
	}
	c, err := startCluster(tb.Context(), binaries, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the end of the server's log:\n%s", c.Log())
		}
		if err := c.close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// Database makes a new, empty database, which goes with the cluster. The
// cluster must be running.
func (c *Cluster) Database(tb testing.TB, opts ...DatabaseOption) *DB {
	tb.Helper()
	db, err := c.server.create(tb.Context(), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

// AdminURL reaches the cluster's database postgres as a superuser.
func (c *Cluster) AdminURL() string { return c.port.url("postgres", "postgres") }

// Version is the server's version as it numbers itself: 150018 is 15.18.
func (c *Cluster) Version() int { return c.server.version }

// Stop ends the server as an operator does (pg_ctl's mode fast): transactions
// under way are rolled back, sessions end, everything is written out. A stopped
// server refuses connections. It fails where the server is not running.
func (c *Cluster) Stop() error { return c.do("fast") }

// Kill ends the server at once, as a crash does (pg_ctl's mode immediate):
// nothing is written out, and the next Start recovers from the write-ahead log.
// It fails where the server is not running.
func (c *Cluster) Kill() error { return c.do("immediate") }

// Start starts the server again, on the same port with the same data, and
// returns once it takes connections. It fails where the server is running.
func (c *Cluster) Start() error { return c.do("start") }

func (c *Cluster) do(word string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sup.do(word)
}

// Log is the end of what the server has logged.
func (c *Cluster) Log() string { return c.sup.log() }

func (c *Cluster) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.sup.close(), c.port.close())
}

// testRole is whom tests connect as: no superuser, as in production.
const testRole = "parley"

// portAttempts is how often a cluster's first start may find its port taken.
const portAttempts = 5

// startCluster makes a cluster and starts it.
func startCluster(ctx context.Context, binaries string, o options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	sup, err := supervise(binaries, account)
	if err != nil {
		return nil, err
	}
	c := &Cluster{sup: sup}
	if err := c.begin(ctx, o); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// begin creates the cluster's data, starts it for the first time and prepares
// it for tests.
func (c *Cluster) begin(ctx context.Context, o options) error {
	if err := c.sup.do("init"); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := c.startOnFreePort(o)
		if err == nil {
			break
		}
		// Where a port can't be kept somebody may have been quicker.
		if attempt == portAttempts || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
		if err := c.port.close(); err != nil {
			return err
		}
	}
	var err error
	c.server, err = newServer(ctx, c.AdminURL(), c.port.url(testRole, "postgres"), testRole)
	if err != nil {
		return err
	}
	c.server.cluster = c
	err = c.server.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE ROLE "+testRole+" LOGIN CREATEDB")
		return err
	})
	if err != nil {
		return fmt.Errorf("create the role %s: %w", testRole, err)
	}
	return nil
}

func (c *Cluster) startOnFreePort(o options) (err error) {
	if c.port, err = reservePort(); err != nil {
		return err
	}
	if err := c.sup.configure(o.config(c.port.number)); err != nil {
		return err
	}
	return c.Start()
}
