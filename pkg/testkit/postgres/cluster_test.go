package postgres_test

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/testkit/postgres"
)

// address is what a URL connects to.
func address(t testing.TB, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u.Host
}

// refuses reports whether nobody listens at an address.
func refuses(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

func TestServerOutage(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*postgres.Cluster) error{
		"stopped": (*postgres.Cluster).Stop,
		"killed":  (*postgres.Cluster).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := postgres.Server(t)
			db := c.Database(t)
			conn := db.Connect(t)
			exec(t, conn, "CREATE TABLE t (i int)")
			exec(t, conn, "INSERT INTO t SELECT generate_series(1, 1000)")
			open := db.Connect(t)
			exec(t, open, "BEGIN")
			exec(t, open, "INSERT INTO t VALUES (0)")

			require.NoError(t, end(c))
			require.Error(t, conn.Ping(t.Context()))
			require.True(t, refuses(address(t, db.URL())))
			require.ErrorContains(t, c.Stop(), "Is server running?")
			require.ErrorContains(t, c.Kill(), "Is server running?")

			require.NoError(t, c.Start())
			require.ErrorContains(t, c.Start(), `lock file "postmaster.pid" already exists`)
			again := db.Connect(t)
			require.Equal(t, 1000, scan[int](t, again, "SELECT count(*) FROM t"))
			recovered := "database system was not properly shut down"
			if name == "killed" {
				require.Contains(t, c.Log(), recovered)
			} else {
				require.NotContains(t, c.Log(), recovered)
			}
		})
	}
}

// A server that goes down by itself is started as one that was stopped.
func TestServerThatCrashed(t *testing.T) {
	t.Parallel()
	c := postgres.Server(t)
	db := c.Database(t)
	conn := db.Connect(t)
	exec(t, conn, "CREATE TABLE t AS SELECT 1 AS i")
	content, err := os.ReadFile(filepath.Join(c.Folder(), "data", "postmaster.pid"))
	require.NoError(t, err)
	pid, _, _ := strings.Cut(string(content), "\n")
	signal(t, pid, syscall.SIGKILL)
	eventually(t, "its sessions end", func() bool { return conn.Ping(context.Background()) != nil })
	eventually(t, "it starts, once all that was left of it is gone", func() bool { return c.Start() == nil })
	require.Equal(t, 1, scan[int](t, db.Connect(t), "SELECT i FROM t"))
}

func TestServersAreApartAndGoWithTheirTest(t *testing.T) {
	t.Parallel()
	var clusters []*postgres.Cluster
	// The first cleanup is the last to run.
	t.Cleanup(func() {
		require.Len(t, clusters, 2)
		for _, c := range clusters {
			require.NoDirExists(t, c.Folder())
			require.True(t, refuses(address(t, c.AdminURL())))
			require.Empty(t, c.Log())
		}
	})
	running, stopped := postgres.Server(t), postgres.Server(t)
	clusters = []*postgres.Cluster{running, stopped}
	for _, c := range clusters {
		require.DirExists(t, c.Folder())
	}
	db := running.Database(t)
	require.NoError(t, stopped.Stop())
	require.NoError(t, db.Connect(t).Ping(t.Context()))
}

func TestSettings(t *testing.T) {
	t.Parallel()
	show := func(c *postgres.Cluster, name string) string {
		conn, err := pgx.Connect(t.Context(), c.AdminURL())
		require.NoError(t, err)
		defer func() { _ = conn.Close(context.Background()) }()
		return scan[string](t, conn, "SELECT current_setting($1)", name)
	}
	plain := postgres.Server(t)
	for name, want := range map[string]string{
		"fsync": "off", "synchronous_commit": "on", "full_page_writes": "on",
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "",
	} {
		require.Equal(t, want, show(plain, name), name)
	}
	require.Equal(t, "on", show(plain, "is_superuser"))

	const odd = `it's 5\n of \ and "more"`
	set := postgres.Server(t, postgres.Durable(), postgres.MaxConnections(17), postgres.SharedBuffers("5MB"),
		postgres.Setting("cluster_name", "first"), postgres.Setting("parley.odd", odd), postgres.Setting("cluster_name", "second"))
	for name, want := range map[string]string{
		"fsync": "on", "max_connections": "17", "shared_buffers": "5MB", "parley.odd": odd, "cluster_name": "second",
	} {
		require.Equal(t, want, show(set, name), name)
	}
}

func TestServerThatCannotStart(t *testing.T) {
	t.Parallel()
	message := failure(t, func(tb testing.TB) { postgres.Server(tb, postgres.Setting("no_such_thing", "1")) })
	require.Contains(t, message, "start PostgreSQL")
	require.Contains(t, message, `unrecognized configuration parameter "no_such_thing"`, "the server's own words")
	message = failure(t, func(tb testing.TB) { postgres.Server(tb, postgres.Setting("fsync = on #", "1")) })
	require.Contains(t, message, "no name of a setting")
}
