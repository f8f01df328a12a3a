package pgview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/internal/guard"
	"github.com/parleyhq/parley/pkg/view/internal/wake"
)

// Config says where the views are.
type Config struct {
	// URL is the server's and database's address with user and password, as
	// libpq takes it: postgres://user:password@host:5432/database. Required.
	URL config.Secret
	// Schema is that of Parley's own tables, and what the names of the others
	// begin with: 1 to 20 lower case letters, digits and underscores, beginning
	// with a letter. Defaults to "parley".
	Schema string
	// QueryMode says how statements are sent. Defaults to CacheStatement.
	QueryMode QueryMode
	// MaxConns is the most connections at a time, at least 4; a snapshot, a scan
	// or a search holds one while it is open. One more listens for wakes. Defaults to 16.
	MaxConns int
	// Logger. Defaults to none.
	Logger *slog.Logger
	// Metrics takes the store's metrics. Defaults to none.
	Metrics prometheus.Registerer
}

// QueryMode says how statements are sent.
type QueryMode string

// The query modes.
const (
	// CacheStatement prepares statements once a connection: the fastest, for
	// direct connections.
	CacheStatement QueryMode = "cache_statement"
	// Exec uses the extended protocol and prepares nothing that outlives a
	// statement.
	Exec QueryMode = "exec"
	// SimpleProtocol sends plain text: for PgBouncer in transaction mode.
	SimpleProtocol QueryMode = "simple_protocol"
)

// Store is a view.Store in Postgres.
type Store struct {
	schema   string
	mode     QueryMode
	log      *slog.Logger
	pool     *pgxpool.Pool
	guard    *guard.Guard
	wake     wake.Hub
	listener *listener
	metrics  *metrics
	// long has a place for each connection that may be held for more than moments.
	long chan struct{}
	// lz4 says that the server compresses with it.
	lz4 bool

	mu sync.Mutex
	// generations that are open here, by number.
	generations map[int64]*shared
}

var _ view.Store = (*Store)(nil)

// shared is what all handles of one generation have in common.
type shared struct {
	ns      view.Namespace
	number  int64
	schema  string // its Postgres schema
	handles int    // under Store.mu

	// commit has something in it while a commit or fence is under way.
	commit chan struct{}
	// writer is what is known of the newest writer; under commit.
	writer writer
	// failed says that the last commit failed, so that the checkpoint may be
	// taken for what is expected anew.
	failed atomic.Bool
	// found is what the last look at the checkpoint after a failure saw.
	found atomic.Pointer[writer]
}

// writer is what a commit relies on.
type writer struct {
	// token is the newest that was given out here; 0 for none.
	token uint64
	// commits that there were so far; known only with known.
	commits int64
	known   bool
	// numbers are the next numbers of documents by text index and tenant.
	numbers map[numberKey]int32
	// filling says that texts were written in bulk and are not yet in their indexes' final places.
	filling bool
}

type numberKey struct {
	collection, index int
	tenant            string
}

var validSchema = regexp.MustCompile(`^[a-z][a-z0-9_]{0,19}$`)

const (
	defaultSchema = "parley"
	defaultConns  = 16
	minConns      = 4
)

// Open connects to the server, and makes Parley's own tables or brings them up
// to this version's. It fails with view.ErrInvalid, view.ErrServer,
// view.ErrNewerFormat and view.ErrUnavailable. No error has the URL's password.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	return open(ctx, cfg, hooks{})
}

// hooks are for tests.
type hooks struct {
	// version replaces the server's.
	version int
}

func open(ctx context.Context, cfg Config, h hooks) (*Store, error) {
	cfg.Schema = cmp.Or(cfg.Schema, defaultSchema)
	cfg.QueryMode = cmp.Or(cfg.QueryMode, CacheStatement)
	cfg.MaxConns = cmp.Or(cfg.MaxConns, defaultConns)
	s := &Store{schema: cfg.Schema, mode: cfg.QueryMode, log: cfg.Logger, guard: guard.New(), generations: map[int64]*shared{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open views in Postgres: %w", err)
	}
	s.long = make(chan struct{}, cfg.MaxConns/2)
	if err := s.connect(ctx, cfg, h); err != nil {
		return nil, fmt.Errorf("open views in Postgres: %w", scrub(err, cfg.URL))
	}
	return s, nil
}

func (cfg *Config) validate() error {
	switch {
	case cfg.URL == "":
		return fmt.Errorf("no URL is given: %w", view.ErrInvalid)
	case !validSchema.MatchString(cfg.Schema) || len(cfg.Schema) >= 3 && cfg.Schema[:3] == "pg_":
		return fmt.Errorf("schema %q, want 1 to 20 lower case letters, digits and underscores, a letter first, not pg_: %w", cfg.Schema, view.ErrInvalid)
	case cfg.QueryMode != CacheStatement && cfg.QueryMode != Exec && cfg.QueryMode != SimpleProtocol:
		return fmt.Errorf("query mode %q, want %s, %s or %s: %w", cfg.QueryMode, CacheStatement, Exec, SimpleProtocol, view.ErrInvalid)
	case cfg.MaxConns < minConns:
		return fmt.Errorf("%d connections, want at least %d: %w", cfg.MaxConns, minConns, view.ErrInvalid)
	}
	return nil
}

func (s *Store) connect(ctx context.Context, cfg Config, h hooks) (err error) {
	poolConfig, err := poolConfig(cfg)
	if err != nil {
		return err
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, poolConfig); err != nil {
		return classify(ctx, err)
	}
	s.listener = newListener(s, poolConfig.ConnConfig)
	err = s.prepare(ctx, h)
	if err == nil {
		s.metrics, err = newMetrics(s.pool, cfg.Metrics)
	}
	if err != nil {
		s.pool.Close()
	}
	return err
}

// prepare looks at the server and at what is there.
func (s *Store) prepare(ctx context.Context, h hooks) error {
	if err := s.checkServer(ctx, h); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	// What another process began to drop and never came to an end with.
	if err := s.finishDrops(ctx); err != nil {
		s.log.Warn("tables of dropped generations are still there", "error", classify(ctx, err))
	}
	return ctx.Err()
}

// Failed is view.Store's. Postgres comes back, so nothing ever fails for good.
func (s *Store) Failed() error { return nil }

// Shared is view.Store's.
func (s *Store) Shared() bool { return true }

// Close is view.Store's. It waits for calls that are under way, open snapshots
// among them.
func (s *Store) Close() error {
	if !s.guard.Close() {
		return nil
	}
	s.listener.close()
	<-s.guard.Idle()
	s.metrics.unregister()
	s.pool.Close()
	return nil
}

// Namespaces is view.Store's.
func (s *Store) Namespaces(ctx context.Context) ([]view.Namespace, error) {
	if err := s.guard.Enter(ctx); err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	defer s.guard.Leave()
	all, err := s.namespaces(ctx)
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", classify(ctx, err))
	}
	return all, nil
}

func (s *Store) namespaces(ctx context.Context) ([]view.Namespace, error) {
	rows, err := s.pool.Query(ctx, `SELECT projection, version, generation FROM `+s.own("generations")+
		` WHERE dropped_time IS NULL ORDER BY projection, version, generation`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []view.Namespace
	for rows.Next() {
		var projection string
		var version, generation int64
		if err := rows.Scan(&projection, &version, &generation); err != nil {
			return nil, err
		}
		all = append(all, view.Namespace{Projection: projection, Version: uint32(version), Generation: uint32(generation)})
	}
	return all, rows.Err()
}

// own is the name of one of Parley's own tables.
func (s *Store) own(table string) string { return quote(s.schema) + "." + quote(table) }

// release gives up a handle of a generation.
func (s *Store) release(sh *shared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.handles--; sh.handles == 0 {
		delete(s.generations, sh.number)
	}
}

// lockCommit waits until no commit or fence is under way; unlockCommit ends it.
func (sh *shared) lockCommit(ctx context.Context) error {
	select {
	case sh.commit <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (sh *shared) unlockCommit() { <-sh.commit }

var errInterrupted = errors.New("another session holds what this one waits for")
