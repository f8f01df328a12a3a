package postgres_test

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/testkit/postgres"
)

func TestNamedServer(t *testing.T) {
	t.Parallel()
	s := postgres.Server(t)
	role := s.Database(t)
	named := postgres.URLVariable + "=" + role.URL()
	conn := role.Connect(t)
	exists := func(name string) bool {
		return scan[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name)
	}

	c := startChild(t, "end", named)
	require.Equal(t, address(t, role.URL()), c.address)
	require.Empty(t, c.folder, "no cluster of its own")
	require.True(t, exists(c.database))
	require.NoError(t, c.goOn())
	require.Zero(t, c.wait())
	require.False(t, exists(c.database))

	killed := startChild(t, "kill", named)
	require.NoError(t, killed.kill())
	require.Equal(t, -1, killed.wait())
	require.True(t, exists(killed.database), "nobody was left to drop it")

	// What a later process drops: our own, old and unused.
	at := func(age time.Duration, rest string) string {
		return "parley_test_" + strconv.FormatInt(time.Now().Add(-age).Unix(), 36) + "_" + rest
	}
	old, used, others, foreign := at(25*time.Hour, "a_1"), at(25*time.Hour, "b_1"), at(25*time.Hour, "c_1"), "parley_tested_"+strconv.FormatInt(1, 36)+"_d_1"
	for _, name := range []string{old, used, foreign} {
		exec(t, conn, "CREATE DATABASE "+name)
	}
	admin, err := pgx.Connect(t.Context(), s.AdminURL())
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close(t.Context())) }()
	exec(t, admin, "CREATE DATABASE "+others)
	u, err := url.Parse(role.URL())
	require.NoError(t, err)
	u.Path = "/" + used
	user, err := pgx.Connect(t.Context(), u.String())
	require.NoError(t, err)
	defer func() { require.NoError(t, user.Close(t.Context())) }()

	c = startChild(t, "end", named)
	require.False(t, exists(old))
	for _, name := range []string{killed.database, used, others, foreign} {
		require.True(t, exists(name), name)
	}
	require.NoError(t, user.Ping(t.Context()))
	require.NoError(t, c.goOn())
	require.Zero(t, c.wait())
}

func TestNamedServerThatWillNotDo(t *testing.T) {
	t.Parallel()
	s := postgres.Server(t)
	admin, err := pgx.Connect(t.Context(), s.AdminURL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close(context.Background())) })
	exec(t, admin, "CREATE ROLE reader LOGIN PASSWORD 'secret'")
	asReader := "postgres://reader:secret@" + address(t, s.AdminURL()) + "/postgres?sslmode=disable"
	for name, c := range map[string]struct{ url, want string }{
		"no URL":         {"host=127.0.0.1 password=secret port=" + strings.Split(address(t, s.AdminURL()), ":")[1] + " user=postgres dbname=postgres", "not of the form postgres://"},
		"broken":         {"postgres://me:secret@127.0.0.1:port/", "read the server's URL"},
		"nobody listens": {"postgres://me:secret@127.0.0.1:1/", "connect to the server"},
		"no right":       {asReader, "the role reader may not create databases"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := childCommand(t, "end", postgres.URLVariable+"="+c.url).CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), c.want)
			require.Contains(t, string(out), "--- FAIL")
			require.NotContains(t, string(out), "secret")
			require.Contains(t, string(out), "the server that "+postgres.URLVariable+" names")
			require.Contains(t, string(out), "Let it name a running server as postgres://user:password@host:port/database")
		})
	}
}
