package crashtest

import (
	"context"
	"iter"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
)

// freezer stops whatever passes it, as a process that is paused stops: in the
// middle of whatever it is doing, and without noticing.
type freezer struct {
	mu sync.Mutex
	// left passes until it freezes; below 0: it does not by itself.
	left int
	// thawed is closed but while it is frozen.
	thawed chan struct{}
	frozen bool
}

func newFreezer() *freezer {
	f := &freezer{left: -1, thawed: make(chan struct{})}
	close(f.thawed)
	return f
}

// arm freezes after some more passes.
func (f *freezer) arm(passes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = passes
}

// freeze freezes now.
func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.freezeLocked()
}

func (f *freezer) freezeLocked() {
	if !f.frozen {
		f.frozen, f.thawed, f.left = true, make(chan struct{}), -1
	}
}

func (f *freezer) isFrozen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frozen
}

func (f *freezer) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen {
		f.frozen = false
		close(f.thawed)
	}
	f.left = -1
}

// pass waits while it is frozen, and counts; true where it had to wait.
func (f *freezer) pass() (waited bool) {
	f.mu.Lock()
	if f.left == 0 {
		f.freezeLocked()
	}
	if f.left > 0 {
		f.left--
	}
	waited = f.frozen
	thawed := f.thawed
	f.mu.Unlock()
	<-thawed
	return waited
}

// frozenCall passes a freezer before and after a call.
func frozenCall[T any](f *freezer, call func() (T, error)) (T, error) {
	f.pass()
	result, err := call()
	f.pass()
	return result, err
}

func frozenError(f *freezer, call func() error) error {
	_, err := frozenCall(f, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// freezingViews are views whose calls stop with a process.
type freezingViews struct {
	view.Store
	f *freezer
	// committing is told before each commit is sent, committed afterwards: whether
	// the process was paused right before, and what came of it.
	committing func()
	committed  func(pausedBefore bool, err error)
}

// Open is view.Store's.
func (v *freezingViews) Open(ctx context.Context, ns view.Namespace, collections ...view.Collection) (view.Generation, error) {
	gen, err := frozenCall(v.f, func() (view.Generation, error) { return v.Store.Open(ctx, ns, collections...) })
	if err != nil {
		return nil, err
	}
	return &freezingGeneration{Generation: gen, views: v}, nil
}

// Drop is view.Store's.
func (v *freezingViews) Drop(ctx context.Context, ns view.Namespace) error {
	return frozenError(v.f, func() error { return v.Store.Drop(ctx, ns) })
}

// Control is view.Store's.
func (v *freezingViews) Control(ctx context.Context, projection string) (view.Control, error) {
	return frozenCall(v.f, func() (view.Control, error) { return v.Store.Control(ctx, projection) })
}

// SaveControl is view.Store's.
func (v *freezingViews) SaveControl(ctx context.Context, projection string, c view.Control) (uint64, error) {
	return frozenCall(v.f, func() (uint64, error) { return v.Store.SaveControl(ctx, projection, c) })
}

type freezingGeneration struct {
	view.Generation
	views *freezingViews
}

// Fence is view.Generation's.
func (g *freezingGeneration) Fence(ctx context.Context) (uint64, error) {
	return frozenCall(g.views.f, func() (uint64, error) { return g.Generation.Fence(ctx) })
}

// Commit is view.Generation's.
func (g *freezingGeneration) Commit(ctx context.Context, b *view.Batch) error {
	g.views.committing()
	paused := g.views.f.pass()
	err := g.Generation.Commit(ctx, b)
	g.views.committed(paused, err)
	g.views.f.pass()
	return err
}

// Checkpoint is view.Reader's.
func (g *freezingGeneration) Checkpoint(ctx context.Context) (view.Checkpoint, error) {
	return frozenCall(g.views.f, func() (view.Checkpoint, error) { return g.Generation.Checkpoint(ctx) })
}

// Get is view.Reader's.
func (g *freezingGeneration) Get(ctx context.Context, collection string, key view.Key) ([]byte, error) {
	return frozenCall(g.views.f, func() ([]byte, error) { return g.Generation.Get(ctx, collection, key) })
}

// GetMany is view.Reader's.
func (g *freezingGeneration) GetMany(ctx context.Context, collection string, keys []view.Key) ([][]byte, error) {
	return frozenCall(g.views.f, func() ([][]byte, error) { return g.Generation.GetMany(ctx, collection, keys) })
}

// Load is view.Reader's.
func (g *freezingGeneration) Load(ctx context.Context, collection string, key view.Key) (view.Row, error) {
	return frozenCall(g.views.f, func() (view.Row, error) { return g.Generation.Load(ctx, collection, key) })
}

// Query is view.Reader's.
func (g *freezingGeneration) Query(ctx context.Context, collection string, q view.Query) (view.Page, error) {
	return frozenCall(g.views.f, func() (view.Page, error) { return g.Generation.Query(ctx, collection, q) })
}

// Scan is view.Reader's.
func (g *freezingGeneration) Scan(ctx context.Context, collection, tenant string) iter.Seq2[view.Entry, error] {
	g.views.f.pass()
	return g.Generation.Scan(ctx, collection, tenant)
}

// freezingLog is a log that a paused process reads no further.
type freezingLog struct {
	eventstore.Store
	f *freezer
}

// Subscribe is eventstore.Store's.
func (l *freezingLog) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	sub, err := frozenCall(l.f, func() (eventstore.Subscription, error) { return l.Store.Subscribe(ctx, opts) })
	if err != nil {
		return nil, err
	}
	return &freezingSubscription{Subscription: sub, f: l.f}, nil
}

type freezingSubscription struct {
	eventstore.Subscription
	f *freezer
}

// Next is eventstore.Subscription's.
func (s *freezingSubscription) Next(ctx context.Context) (eventstore.Batch, error) {
	return frozenCall(s.f, func() (eventstore.Batch, error) { return s.Subscription.Next(ctx) })
}

// wire is what a process reaches its Postgres by. While it is frozen nothing
// comes through in either direction, whatever the server has been told half of.
type wire struct {
	*freezer
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// newWire gives a wire and the URL at its near end.
func newWire(t *testing.T, db *postgres.DB) (*wire, string) {
	t.Helper()
	u, err := url.Parse(db.URL())
	require.NoError(t, err)
	w := &wire{freezer: newFreezer(), to: u.Host, conns: map[net.Conn]struct{}{}}
	w.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.wg.Go(w.serve)
	t.Cleanup(func() {
		w.thaw()
		require.NoError(t, w.listener.Close())
		w.cut()
		w.wg.Wait()
	})
	u.Host = w.listener.Addr().String()
	return w, u.String()
}

func (w *wire) serve() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() {
			far, err := net.Dial("tcp", w.to)
			if err != nil {
				_ = near.Close()
				return
			}
			defer w.keep(near, far)()
			var both sync.WaitGroup
			both.Go(func() { w.carry(far, near) })
			both.Go(func() { w.carry(near, far) })
			both.Wait()
		})
	}
}

// carry takes what comes from one end to the other, and closes both when one does.
func (w *wire) carry(to, from net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		w.pass()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}

func (w *wire) keep(conns ...net.Conn) (forget func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.conns[c] = struct{}{}
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range conns {
			delete(w.conns, c)
		}
	}
}

// cut cuts all connections there are.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
}
