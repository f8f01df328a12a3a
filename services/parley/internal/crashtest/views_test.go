package crashtest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pebbleview"
	"github.com/parleyhq/parley/pkg/view/pgview"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
	"github.com/parleyhq/parley/services/customer"
	"github.com/parleyhq/parley/services/match"
)

// place is where the views of a process are kept. Only flags may be called
// while a process has them open.
type place interface {
	// flags tell a process of it.
	flags() []string
	// clear deletes all there is.
	clear(t *testing.T)
	// open opens what a process has left.
	open(t *testing.T) view.Store
	// copies is how many generations there is anything of, whether or not the
	// store knows of it; -1 where one cannot look past the store.
	copies(t *testing.T) int
}

// embeddedViews are those in a data directory.
type embeddedViews struct{ dir string }

func (embeddedViews) flags() []string { return nil }

func (v embeddedViews) path() string { return filepath.Join(v.dir, "views") }

func (v embeddedViews) clear(t *testing.T) {
	t.Helper()
	require.NoError(t, os.RemoveAll(v.path()))
}

func (v embeddedViews) open(t *testing.T) view.Store {
	t.Helper()
	views, err := pebbleview.Open(v.path(), pebbleview.Options{})
	require.NoError(t, err)
	return views
}

func (embeddedViews) copies(*testing.T) int { return -1 }

// databaseViews are those in a database of Postgres.
type databaseViews struct{ db *postgres.DB }

func (v databaseViews) flags() []string { return []string{"--views", v.db.URL()} }

// schemas are those of generations, and Parley's own.
func (v databaseViews) schemas(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, 'parley')")
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

func (v databaseViews) connect(t *testing.T) (conn *pgx.Conn, done func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), v.db.URL())
	require.NoError(t, err)
	return conn, func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }
}

func (v databaseViews) clear(t *testing.T) {
	t.Helper()
	conn, done := v.connect(t)
	defer done()
	for _, name := range v.schemas(t, conn) {
		_, err := conn.Exec(t.Context(), "DROP SCHEMA "+pgx.Identifier{name}.Sanitize()+" CASCADE")
		require.NoError(t, err)
	}
}

func (v databaseViews) open(t *testing.T) view.Store {
	t.Helper()
	views, err := pgview.Open(t.Context(), pgview.Config{URL: config.Secret(v.db.URL())})
	require.NoError(t, err)
	return views
}

func (v databaseViews) copies(t *testing.T) int {
	t.Helper()
	conn, done := v.connect(t)
	defer done()
	return len(v.schemas(t, conn)) - 1
}

// projections that can be rebuilt.
var projections = []string{customer.Name, match.Name}

// feedViews is the generation of the index of events, which is never rebuilt.
var feedViews = view.Namespace{Projection: "feed", Version: 1, Generation: 1}

// stored are the digests of what serves in a store, by projection.
func stored(t *testing.T, log eventstore.Store, views view.Store) map[string]string {
	t.Helper()
	return map[string]string{
		customer.Name: digest(t, customer.Definition(), log, views, false),
		// It commits now and then only, so that it may be behind when the process ends.
		match.Name: digest(t, match.Definition(), log, views, true),
	}
}

// replayed are those of a fresh fold of the whole log.
func replayed(t *testing.T, log eventstore.Store) map[string]string {
	t.Helper()
	views, err := pebbleview.Open("views", pebbleview.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, views.Close()) }()
	return map[string]string{
		customer.Name: digest(t, customer.Definition(), log, views, true),
		match.Name:    digest(t, match.Definition(), log, views, true),
	}
}

// digest is that of what a projection holds, filled up to the log's head if
// wanted.
func digest[D proto.Message](t *testing.T, def projection.Customers[D], log eventstore.Store, views view.Store, fill bool) string {
	t.Helper()
	engine, err := projection.New(t.Context(), def, projection.Deps{Log: log, Codec: event.NewCodec(), Views: views})
	require.NoError(t, err)
	defer func() { require.NoError(t, engine.Close()) }()
	if fill {
		head, err := log.Head(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- engine.Run(ctx) }()
		err = engine.WaitFor(ctx, head)
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, err)
	}
	sum, err := engine.Digest(t.Context())
	require.NoError(t, err)
	return sum.String()
}

// requireSettled checks that a place holds the generations that serve, and
// nothing that somebody began and never ended.
func requireSettled(t *testing.T, where place, serving map[string]view.Namespace) {
	t.Helper()
	views := where.open(t)
	defer func() { require.NoError(t, views.Close()) }()
	want := []string{feedViews.String()}
	for _, name := range projections {
		want = append(want, serving[name].String())
		stored, err := views.Control(t.Context(), name)
		require.NoError(t, err)
		c := &opsv1.ProjectionControl{}
		require.NoError(t, proto.Unmarshal(stored.Data, c))
		require.Len(t, c.GetGenerations(), 1, "%s: %s", name, c)
		require.True(t, proto.Equal(c.GetServing(), c.GetGenerations()[0].GetName()), "%s: %s", name, c)
		require.Nil(t, c.GetPrevious(), name)
		require.Nil(t, c.GetPause(), name)
		require.Empty(t, c.GetRetries(), name)
		g := c.GetGenerations()[0]
		require.False(t, g.GetScratch() || g.GetDropped() || g.GetRetired() || g.GetSwitchWhenReady(), "%s: %s", name, c)
	}
	all, err := views.Namespaces(t.Context())
	require.NoError(t, err)
	var got []string
	for _, ns := range all {
		got = append(got, ns.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)
	if n := where.copies(t); n >= 0 {
		require.Equal(t, len(want), n, "copies of %s", strings.Join(want, ", "))
	}
}
