package pgview_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
)

// follower commits as a projection does: after an error it goes on at the
// checkpoint. The commit at position n sets the document "one" to n, and adds
// some of its own.
type follower struct {
	*writer
	// acknowledged is the last position that a commit returned for.
	acknowledged atomic.Uint64
	unavailable  int
	unsure       int
}

func (f *follower) step(ctx context.Context, rows int) error {
	n := f.at.Position + 1
	f.b.Reset()
	f.put("one", fmt.Sprintf("round %d", n))
	for i := range rows {
		f.put(fmt.Sprintf("d%05d-%d", n, i), fmt.Sprintf("text of %d", n))
	}
	f.b.Checkpoint = f.at
	f.b.Checkpoint.Position = n
	err := f.gen.Commit(ctx, &f.b)
	if err != nil {
		return err
	}
	f.at.Position = n
	f.acknowledged.Store(n)
	return nil
}

// run commits until position to. What a commit may fail with is ErrUnavailable.
func (f *follower) run(ctx context.Context, to uint64, rows func() int) error {
	for f.at.Position < to {
		err := f.step(ctx, rows())
		for err != nil {
			if !errors.Is(err, view.ErrUnavailable) {
				return err
			}
			f.unavailable++
			if strings.Contains(err.Error(), "may have been made") {
				f.unsure++
			}
			var c view.Checkpoint
			if c, err = f.gen.Checkpoint(ctx); err != nil {
				select {
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
					return ctx.Err()
				}
				continue
			}
			if c.Position < f.acknowledged.Load() {
				return fmt.Errorf("at %d after %d was acknowledged", c.Position, f.acknowledged.Load())
			}
			f.at.Position = c.Position
		}
	}
	return nil
}

// check compares what is stored with what all commits up to the checkpoint make.
func check(t *testing.T, r view.Reader, documents func(n uint64) int) {
	t.Helper()
	c, err := r.Checkpoint(t.Context())
	require.NoError(t, err)
	seen := map[uint64]int{}
	for e, err := range r.Scan(t.Context(), "texts", "acme") {
		require.NoError(t, err)
		var n uint64
		if e.Key.ID == "one" {
			doc := &wrapperspb.StringValue{}
			require.NoError(t, proto.Unmarshal(e.Data, doc))
			require.Equal(t, fmt.Sprintf("round %d", c.Position), doc.GetValue())
			continue
		}
		_, err := fmt.Sscanf(e.Key.ID, "d%d-", &n)
		require.NoError(t, err)
		seen[n]++
	}
	require.Len(t, seen, int(c.Position))
	for n, got := range seen {
		require.LessOrEqual(t, n, c.Position)
		require.Equal(t, documents(n), got, "documents of commit %d", n)
	}
	// The indexes agree.
	total := 0
	q := view.Query{Tenant: "acme", Index: "value", Limit: view.MaxLimit}
	for {
		page, err := r.Query(t.Context(), "texts", q)
		require.NoError(t, err)
		total += len(page.Entries)
		if q.Cursor = page.Next; q.Cursor == nil {
			break
		}
	}
	want := 1
	for _, n := range seen {
		want += n
	}
	require.Equal(t, want, total)
	found := 0
	s := view.Search{Tenant: "acme", Index: "text", Text: "text of", Limit: view.MaxLimit}
	for {
		page, err := r.Search(t.Context(), "texts", s)
		require.NoError(t, err)
		found += len(page.Entries)
		if s.Cursor = page.Next; s.Cursor == nil {
			break
		}
	}
	require.Equal(t, want-1, found)
}

// TestRestart stops and kills the server under a load of commits and reads:
// nothing that was acknowledged is lost, nothing is there twice, no state is
// mixed, and everything goes on by itself.
func TestRestart(t *testing.T) {
	t.Parallel()
	cluster := postgres.Server(t)
	s := openStore(t, pgview.Config{URL: config.Secret(cluster.Database(t).URL()), MaxConns: 8})
	f := &follower{writer: newWriter(t, s)}
	require.NoError(t, f.step(t.Context(), 1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sizes := []int{1, 5, 2, 600}
	documents := func(n uint64) int {
		if n == 1 {
			return 1
		}
		return sizes[n%4]
	}
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	var reads atomic.Int64
	wake, stop := s.Wake("test")
	defer stop()
	wg.Go(func() {
		// Far more than there is time for.
		if err := f.run(ctx, 1<<40, func() int { return documents(f.at.Position + 1) }); err != nil && ctx.Err() == nil {
			errs <- fmt.Errorf("commits: %w", err)
		}
	})
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := readBoth(ctx, f.gen); err != nil && !errors.Is(err, view.ErrUnavailable) && ctx.Err() == nil {
					errs <- fmt.Errorf("reads: %w", err)
					return
				}
				reads.Add(1)
			}
		})
	}
	goesOn := func() {
		commits, before := f.acknowledged.Load(), reads.Load()
		require.Eventually(t, func() bool {
			return len(errs) > 0 || f.acknowledged.Load() > commits+10 && reads.Load() > before+10
		}, time.Minute, time.Millisecond)
	}
	for range 3 {
		goesOn()
		require.NoError(t, cluster.Stop())
		require.NoError(t, cluster.Start())
		goesOn()
		require.NoError(t, cluster.Kill())
		require.NoError(t, cluster.Start())
	}
	goesOn()
	cancel()
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
	require.Positive(t, f.unavailable)
	require.NotEmpty(t, wake)
	check(t, f.gen, documents)
}

// readBoth reads the checkpoint and a document that goes with it.
func readBoth(ctx context.Context, gen view.Generation) (err error) {
	s, err := gen.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	c, err := s.Checkpoint(ctx)
	if err != nil {
		return err
	}
	got, err := view.GetDocument(ctx, s, "texts", view.Key{Tenant: "acme", ID: "one"}, &wrapperspb.StringValue{})
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("round %d", c.Position); got.GetValue() != want {
		return fmt.Errorf("%q at checkpoint %d", got.GetValue(), c.Position)
	}
	_, err = gen.Get(ctx, "texts", view.Key{Tenant: "acme", ID: "one"})
	return err
}

// proxy stands between a store and its server, and cuts connections.
type proxy struct {
	listener net.Listener
	to       string
	// after is asked for each connection after how many bytes from the server
	// it is cut; 0 for never.
	after func() int64
	wg    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// cut cuts all connections there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) keep(c net.Conn) (forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}
}

func newProxy(t *testing.T, db *postgres.DB, after func() int64) (*proxy, config.Secret) {
	t.Helper()
	u, err := url.Parse(db.URL())
	require.NoError(t, err)
	p := &proxy{to: u.Host, after: after, conns: map[net.Conn]struct{}{}}
	p.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		require.NoError(t, p.listener.Close())
		p.wg.Wait()
	})
	u.Host = p.listener.Addr().String()
	return p, config.Secret(u.String())
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.pass(client) })
	}
}

func (p *proxy) pass(client net.Conn) {
	defer p.keep(client)()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = client.Close()
		return
	}
	var back io.Reader = server
	if n := p.after(); n > 0 {
		back = io.LimitReader(server, n)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	// What the client sends still arrives: the server may commit and nobody hears of it.
	_, _ = io.Copy(client, back)
	_ = client.Close()
	<-done
}

// TestCutConnections cuts connections at random moments, also between a commit
// and the news of it: each commit is there once.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			seed := testseed.Of(t)
			random := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			cuts := rand.New(rand.NewPCG(seed, 2)) // under mu
			calm := atomic.Bool{}
			calm.Store(true)
			p, u := newProxy(t, postgres.Database(t), func() int64 {
				mu.Lock()
				defer mu.Unlock()
				if calm.Load() {
					return 0
				}
				return 500 + cuts.Int64N(2500)
			})
			s := openStore(t, pgview.Config{URL: u, QueryMode: mode, MaxConns: 4})
			f := &follower{writer: newWriter(t, s)}
			calm.Store(false)
			p.cut()
			sizes := map[uint64]int{}
			const rounds = 150
			for f.at.Position < rounds || f.unsure == 0 && f.at.Position < 20*rounds {
				next := f.at.Position + 1
				if _, known := sizes[next]; !known {
					sizes[next] = 1 + random.IntN(5)
					if random.IntN(20) == 0 {
						sizes[next] = 300
					}
				}
				require.NoError(t, f.run(t.Context(), next, func() int { return sizes[f.at.Position+1] }))
			}
			calm.Store(true)
			p.cut()
			t.Logf("%d commits failed, of %d nobody knew the outcome", f.unavailable, f.unsure)
			require.Positive(t, f.unsure)
			require.NoError(t, s.Close())
			s = openStore(t, pgview.Config{URL: u, QueryMode: mode, MaxConns: 4})
			check(t, newWriter(t, s).gen, func(n uint64) int { return sizes[n] })
		})
	}
}

// TestHangingWriter has a process that stopped in the middle of a commit: its
// successor does not wait for it.
func TestHangingWriter(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	s := openStore(t, pgview.Config{URL: config.Secret(db.URL())})
	w := newWriter(t, s)
	w.put("1", "before")
	require.NoError(t, w.commit())
	hanging := db.Connect(t)
	hang := func() {
		for _, sql := range []string{
			"BEGIN",
			fmt.Sprintf("SELECT parley.begin_commit(%d, number, %d, commits, log_id, 77) FROM parley.generations", pgview.LockClass(s), w.at.Token),
			"UPDATE parley_test_v1_g1.texts SET document = '\"stale\"'",
		} {
			_, err := hanging.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
	}
	hang()
	begin := time.Now()
	w.fence()
	require.Less(t, time.Since(begin), 30*time.Second)
	require.Equal(t, uint64(1), w.at.Position)
	var pg *pgconn.PgError
	_, err := hanging.Exec(t.Context(), "COMMIT")
	require.Error(t, err)
	require.True(t, !errors.As(err, &pg) || pg.Code == "57P01", err)
	w.put("1", "after")
	require.NoError(t, w.commit())
	require.Equal(t, "after", w.get("1"))

	// Dropping does not wait either.
	hanging = db.Connect(t)
	hang()
	require.NoError(t, w.gen.Close())
	require.NoError(t, s.Drop(t.Context(), ns))
}

// TestLostCommits has a server that comes back without its last commits, as a
// standby may that took over: the writer notices, and goes on where it is.
func TestLostCommits(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	w := newWriter(t, openStore(t, pgview.Config{URL: config.Secret(db.URL())}))
	for i := range 3 {
		w.put(fmt.Sprint(i), "text")
		require.NoError(t, w.commit())
	}
	_, err := db.Connect(t).Exec(t.Context(), `UPDATE parley.generations SET commits = commits - 1, position = 2; DELETE FROM parley_test_v1_g1.texts WHERE id = '2'; DELETE FROM parley_test_v1_g1.texts__text WHERE id = '2'`)
	require.NoError(t, err)
	// Looking does not make it right.
	_, err = w.gen.Checkpoint(t.Context())
	require.NoError(t, err)
	for range 2 {
		w.put("3", "text")
		err = w.commit()
		require.ErrorIs(t, err, view.ErrUnavailable)
		require.ErrorContains(t, err, "read the checkpoint")
	}
	c, err := w.gen.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(2), c.Position)
	w.at.Position = c.Position
	w.put("2", "text")
	require.NoError(t, w.commit())
	require.Equal(t, []string{"0", "1", "2"}, w.search("text"))
}

// TestWakeReconnects ends the connection that listens.
func TestWakeReconnects(t *testing.T) {
	t.Parallel()
	db := postgres.Database(t)
	cfg := pgview.Config{URL: config.Secret(db.URL())}
	w := newWriter(t, openStore(t, cfg))
	other := openStore(t, cfg)
	wake, stop := other.Wake("test")
	defer stop()
	conn := db.Connect(t)
	woken := func() bool {
		w.put("1", "text")
		require.NoError(t, w.commit())
		select {
		case <-wake:
			return true
		case <-time.After(10 * time.Millisecond):
			return false
		}
	}
	for range 2 {
		require.Eventually(t, woken, time.Minute, time.Millisecond)
		require.Eventually(t, func() bool {
			var ended int
			err := conn.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`).Scan(&ended)
			return err == nil && ended == 1
		}, time.Minute, time.Millisecond)
	}
	require.Eventually(t, woken, time.Minute, time.Millisecond)
}

// TestCloseWaits closes while calls are under way.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	s, err := pgview.Open(t.Context(), pgview.Config{URL: config.Secret(postgres.Database(t).URL()), MaxConns: 4})
	require.NoError(t, err)
	w := newWriter(t, s)
	for i := range 20 {
		w.put(fmt.Sprint(i), "some text")
	}
	require.NoError(t, w.commit())
	started := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for first := true; ; first = false {
				_, err := w.gen.Search(context.Background(), "texts", view.Search{Tenant: "acme", Index: "text", Text: "some", Limit: 100})
				if err != nil {
					require.ErrorIs(t, err, view.ErrClosed)
					return
				}
				if first {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	require.NoError(t, s.Close())
	wg.Wait()
	_, err = s.Control(context.Background(), "test")
	require.ErrorIs(t, err, view.ErrClosed)
}

// TestStartsAndStops opens and closes stores from ten goroutines, followers and all.
func TestStartsAndStops(t *testing.T) {
	t.Parallel()
	cfg := pgview.Config{URL: config.Secret(postgres.Database(t).URL()), MaxConns: 4}
	var wg sync.WaitGroup
	errs := make(chan error, 50)
	for range 10 {
		wg.Go(func() {
			for range 5 {
				s, err := pgview.Open(t.Context(), cfg)
				if err == nil {
					_, stop := s.Wake("test")
					stop()
					err = s.Close()
				}
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}
