package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
	"github.com/parleyhq/parley/services/customer"
)

// TestCrashTakeover pauses the process that folds at a random moment, in the
// middle of a commit or of anything else, has another one take the projection
// over from it, and lets it go on: it thinks that it still folds. It writes
// over nothing, stands by from then on, and is itself taken over from the other in the next
// round. Often a rebuild is under way.
//
// The two are engines with stores, connections and leases of their own over one
// log: processes of their own they cannot be, since the log belongs to one.
func TestCrashTakeover(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	h := &takeover{T: t, log: projectiontest.NewLog(t), lease: &lease{changed: make(chan struct{})}}
	h.rng = rand.New(rand.NewPCG(seed, 5))
	h.history = history{rng: rand.New(rand.NewPCG(seed, 6))}
	db := postgres.Database(t)
	h.clean, _ = projectiontest.Start(t, customer.Definition(), h.log, projectiontest.NewViews(t), projection.Options{})
	one, two := h.join(db, "one"), h.join(db, "two")
	h.until("one of them folds", func() bool { return h.lease.holder() != nil })
	for range rounds(6) {
		if h.lease.holder() == one {
			h.round(one, two)
		} else {
			h.round(two, one)
		}
	}
	for _, p := range []*member{one, two} {
		p.stop()
		require.NoError(t, p.views.Close())
	}
	t.Logf("paused %s; of the commits that were sent after a pause %d were refused; %d rebuilds", h.paused, h.refused.Load(), h.rebuilds)
}

// takeover is two processes that share views and a log.
type takeover struct {
	*testing.T
	log     eventstore.Store
	lease   *lease
	rng     *rand.Rand
	history history
	// clean folds the same log by itself.
	clean *customer.Engine

	// taken is set while the one that was paused has been taken over from.
	taken    atomic.Bool
	refused  atomic.Int64
	rebuilds int
	paused   pauses
}

// pauses counts how processes were paused.
type pauses struct{ calls, wire, both int }

func (p pauses) String() string {
	return fmt.Sprintf("%d × between two calls, %d × with the server told half of it, %d × both", p.calls, p.wire, p.both)
}

// member is one of the processes.
type member struct {
	name   string
	calls  *freezer
	wire   *wire
	views  view.Store
	engine *customer.Engine
	stop   func()
}

// join starts one.
func (h *takeover) join(db *postgres.DB, name string) *member {
	h.Helper()
	m := &member{name: name, calls: newFreezer()}
	var u string
	m.wire, u = newWire(h.T, db)
	views, err := pgview.Open(h.Context(), pgview.Config{URL: config.Secret(u)})
	require.NoError(h, err)
	m.views = views
	h.Cleanup(func() { require.NoError(h, views.Close()) })
	m.engine, m.stop = projectiontest.StartWith(h.T, customer.Definition(), projection.Deps{
		Log:     &freezingLog{Store: h.log, f: m.calls},
		Views:   &freezingViews{Store: views, f: m.calls, committed: func(paused bool, err error) { h.committed(m, paused, err) }},
		Lease:   h.lease.of(m),
		Process: name,
		Options: projection.Options{CommitEvents: 32, ReadBatch: 16, PollInterval: 20 * time.Millisecond, RetryDelay: 5 * time.Millisecond},
	})
	h.Cleanup(func() { m.goOn() })
	return m
}

func (m *member) goOn() {
	m.calls.thaw()
	m.wire.thaw()
}

func (m *member) isPaused() bool { return m.calls.isFrozen() || m.wire.isFrozen() }

// committed sees the commits of all.
func (h *takeover) committed(m *member, paused bool, err error) {
	if !paused || !h.taken.Load() {
		return
	}
	switch {
	case errors.Is(err, view.ErrFenced):
		h.refused.Add(1)
	case err == nil:
		h.Errorf("%s was paused before a commit, was taken over from, and the commit was taken", m.name)
	}
}

// append appends some events, and gives the last one's position.
func (h *takeover) append(n int) eventstore.Position {
	h.Helper()
	return projectiontest.Append(h.T, h.log, h.history.events(n)...)
}

func (h *takeover) round(folds, standsBy *member) {
	h.Helper()
	rebuild := h.rng.IntN(2) == 0
	h.same(h.append(50), folds, standsBy)
	before := folds.engine.Status().Namespace
	if rebuild {
		h.rebuilds++
		// Whoever is asked, the one that folds does it.
		_, err := standsBy.engine.Rebuild(h.Context(), projection.By{}, projection.RebuildOptions{SwitchWhenReady: true})
		require.NoError(h, err)
	}
	h.pause(folds, rebuild)

	// Its time is over, and nobody tells it.
	tell := h.lease.expire()
	h.until(standsBy.name+" takes its turn", func() bool { return h.lease.holder() == standsBy })
	last := h.append(100)
	projectiontest.WaitFor(h, standsBy.engine, last)
	h.until(standsBy.name+" folds", func() bool { return standsBy.engine.Status().State == projection.Live })
	if rebuild {
		h.until("the rebuild comes to its end", func() bool { return standsBy.engine.Status().Namespace != before })
	}
	h.taken.Store(true)
	if h.rng.IntN(2) == 0 {
		tell() // it hears of it as soon as it goes on
	}
	folds.goOn()
	// Some are appended while it finds out, and it reads on as one that stands by.
	h.same(h.append(50), folds, standsBy)
	h.until(folds.name+" reads what serves", func() bool {
		return folds.engine.Status().Namespace == standsBy.engine.Status().Namespace
	})
	h.until("one folds and the other stands by", func() bool { return h.lease.holder() != nil })
	h.same(h.append(50), folds, standsBy)
	h.taken.Store(false)
	tell()
	h.drop(h.lease.holder())
}

// pause pauses a process at a random moment of its work.
func (h *takeover) pause(m *member, rebuild bool) {
	h.Helper()
	const most = 200
	kind := h.rng.IntN(3)
	if kind != 1 {
		m.calls.arm(h.rng.IntN(most))
	}
	if kind != 0 {
		m.wire.arm(h.rng.IntN(most))
	}
	switch kind {
	case 0:
		h.paused.calls++
	case 1:
		h.paused.wire++
	default:
		h.paused.both++
	}
	h.until(m.name+" has work enough to be paused in", func() bool {
		h.append(10)
		return m.isPaused()
	})
	if kind == 2 {
		m.calls.freeze()
		m.wire.freeze()
	}
}

// same checks that all hold the same as of a position, and that readers of all
// of them come to see it.
func (h *takeover) same(position eventstore.Position, members ...*member) {
	h.Helper()
	projectiontest.WaitFor(h, h.clean, position)
	want, err := h.clean.Digest(h.Context())
	require.NoError(h, err)
	for _, m := range members {
		ctx, cancel := context.WithTimeout(h.Context(), patience)
		begun := time.Now()
		err := m.engine.WaitFor(ctx, position)
		for err != nil && time.Since(begun) < 20*time.Second {
			err = m.engine.WaitFor(ctx, position)
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				h.Logf("%s %s %v %v", time.Since(begun), m.name, m.engine.Position(), m.engine.Status())
			}
		}
		cancel()
		require.NoError(h, err, "%s waits for position %d", m.name, position)
		got, err := m.engine.Digest(h.Context())
		require.NoError(h, err)
		require.Equal(h, want.String(), got.String(), "what %s reads", m.name)
	}
}

// drop drops what served before, so that the next rebuild can begin.
func (h *takeover) drop(m *member) {
	h.Helper()
	h.until("what served before is dropped", func() bool {
		report, err := m.engine.Report(h.Context())
		require.NoError(h, err)
		if len(report.GetGenerations()) == 1 {
			return true
		}
		g := report.GetGenerations()[1]
		err = m.engine.Drop(h.Context(), projection.By{}, view.Namespace{Projection: customer.Name, Version: g.GetVersion(), Generation: g.GetGeneration()})
		if !errors.Is(err, projection.ErrUnknownGeneration) {
			require.NoError(h, err)
		}
		return false
	})
}

func (h *takeover) until(what string, is func() bool) {
	h.Helper()
	require.Eventually(h, is, patience, time.Millisecond, what)
}

// lease is the right to fold. Whose time has expired is not told before
// somebody does it.
type lease struct {
	mu      sync.Mutex
	held    *held
	changed chan struct{}
}

type held struct {
	by   *member
	lost chan struct{}
	once sync.Once
}

// lose tells the holder that it has lost the lease.
func (h *held) lose() { h.once.Do(func() { close(h.lost) }) }

func (l *lease) holder() *member {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return nil
	}
	return l.held.by
}

// expire takes the lease from its holder, for whoever waits for it; tell is to
// let the old holder know.
func (l *lease) expire() (tell func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.held
	l.give(nil)
	return before.lose
}

func (l *lease) give(h *held) {
	l.held = h
	close(l.changed)
	l.changed = make(chan struct{})
}

// of is the lease as one process sees it.
func (l *lease) of(m *member) projection.Lease { return &leaseOf{lease: l, by: m} }

type leaseOf struct {
	lease *lease
	by    *member
}

// Acquire is projection.Lease's.
func (l *leaseOf) Acquire(ctx context.Context) (<-chan struct{}, func(), error) {
	for {
		l.lease.mu.Lock()
		if l.lease.held == nil {
			h := &held{by: l.by, lost: make(chan struct{})}
			l.lease.give(h)
			l.lease.mu.Unlock()
			return h.lost, func() { l.release(h) }, nil
		}
		changed := l.lease.changed
		l.lease.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (l *leaseOf) release(h *held) {
	h.lose()
	l.lease.mu.Lock()
	defer l.lease.mu.Unlock()
	if l.lease.held == h {
		l.lease.give(nil)
	}
}

// history is what customers do, and who turns out to be whom.
type history struct {
	rng       *rand.Rand
	n         int
	customers [][]string // each with his profiles
}

func (h *history) events(n int) []*eventv1.Event {
	all := make([]*eventv1.Event, n)
	for i := range all {
		all[i] = h.event()
	}
	return all
}

func (h *history) event() *eventv1.Event {
	const few = 20
	h.n++
	at := projectiontest.Epoch.Add(time.Duration(h.n) * time.Second)
	if len(h.customers) < few || h.rng.IntN(10) == 0 {
		h.customers = append(h.customers, []string{fmt.Sprintf("p%d", h.n)})
	}
	who := h.rng.IntN(len(h.customers))
	if other := h.rng.IntN(len(h.customers)); who != other && h.rng.IntN(12) == 0 {
		merged := &eventv1.CustomersMerged{
			CustomerId: h.customers[who][0], AbsorbedCustomerId: h.customers[other][0], AbsorbedProfileIds: h.customers[other],
		}
		h.customers[who] = append(h.customers[who], h.customers[other]...)
		h.customers = append(h.customers[:other], h.customers[other+1:]...)
		return projectiontest.NewEvent("acme", "", h.n, at, &eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: merged}})
	}
	profile := h.customers[who][h.rng.IntN(len(h.customers[who]))]
	payload := &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: fmt.Sprintf("/%d", h.n)}}}
	switch h.rng.IntN(3) {
	case 0:
		payload.Kind = &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
			Provenance: eventv1.TraitProvenance_TRAIT_PROVENANCE_STATED, Traits: []*eventv1.Trait{{Name: "name", ValueJson: fmt.Sprintf(`"Number %d"`, h.n)}},
		}}
	case 1:
		payload.Kind = &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{
			OrderId: fmt.Sprintf("order-%d", h.n), Total: &typev1.Money{CurrencyCode: "EUR", Units: int64(h.n)},
		}}
	}
	return projectiontest.NewEvent("acme", profile, h.n, at, payload)
}
