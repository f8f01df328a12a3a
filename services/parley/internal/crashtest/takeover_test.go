package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
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
	"github.com/parleyhq/parley/pkg/testkit/testseed"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
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
	seed := testseed.Of(t)
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
	t.Logf("paused %s; of the commits that were sent after a pause %d were refused; %d rebuilds", h.tally(), h.refused.Load(), h.rebuilds)
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
	paused   [workMoments]int
}

// moment of work at which a process is paused.
type workMoment int

const (
	betweenCalls workMoment = iota
	beforeCommit
	inCommit
	inExchange
	workMoments
)

func (m workMoment) String() string {
	return [...]string{"between two calls", "before a commit is sent", "in the middle of a commit", "in the middle of any exchange with the server"}[m]
}

// member is one of the processes.
type member struct {
	name   string
	calls  *freezer
	wire   *wire
	views  view.Store
	engine *customer.Engine
	stop   func()
	// commits until the process, or its wire, is armed; below 0 for not at all.
	commits atomic.Int64
	armed   func()
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
		Log: &freezingLog{Store: h.log, f: m.calls},
		Views: &freezingViews{
			Store: views, f: m.calls, committing: m.committing, committed: func(paused bool, err error) { h.committed(m, paused, err) },
		},
		Lease:   h.lease.of(m),
		Process: name,
		Options: projection.Options{CommitEvents: 32, ReadBatch: 16, PollInterval: 20 * time.Millisecond, RetryDelay: 5 * time.Millisecond},
	})
	h.Cleanup(func() { m.goOn() })
	return m
}

// committing counts the commits.
func (m *member) committing() {
	if m.commits.Add(-1) == 0 {
		m.armed()
	}
}

func (m *member) goOn() {
	m.commits.Store(0)
	m.calls.thaw()
	m.wire.thaw()
}

func (h *takeover) tally() string {
	var parts []string
	for kind, n := range h.paused {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n, workMoment(kind)))
		}
	}
	return strings.Join(parts, ", ")
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
	dropped := make(chan error, 1)
	if h.rng.IntN(2) == 0 {
		go func() { dropped <- h.drop(standsBy) }()
	} else {
		dropped <- h.drop(standsBy)
	}
	if rebuild {
		h.rebuilds++
		// Whoever is asked, the one that folds does it.
		_, err := standsBy.engine.Rebuild(h.Context(), projection.By{}, projection.RebuildOptions{SwitchWhenReady: true})
		require.NoError(h, err)
	}
	h.pause(folds)

	// Its time is over, and nobody tells it.
	tell := h.lease.expire()
	h.until(standsBy.name+" takes its turn", func() bool { return h.lease.holder() == standsBy })
	last := h.append(100)
	h.wait(standsBy, last)
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
	require.NoError(h, <-dropped)
}

// pause pauses a process at a random moment of its work.
func (h *takeover) pause(m *member) {
	h.Helper()
	const calls, commits, packets = 150, 8, 5
	n, k, kind := h.rng.IntN(calls), 1+h.rng.IntN(commits), workMoment(h.rng.IntN(int(workMoments)))
	h.paused[kind]++
	switch kind {
	case betweenCalls:
		m.calls.arm(n)
	case inExchange:
		m.wire.arm(n)
	case beforeCommit:
		m.armed = m.calls.freeze
		m.commits.Store(int64(k))
	default:
		m.armed = func() { m.wire.arm(n % packets) }
		m.commits.Store(int64(k))
	}
	// It gets enough work to be paused in.
	deadline := time.Now().Add(patience)
	for h.append(5); !m.isPaused(); h.append(5) {
		require.True(h, time.Now().Before(deadline), "%s works on", m.name)
		wait(5*time.Millisecond, h.Context().Done())
	}
	// Whatever it was that stopped it, now all of it does.
	m.calls.freeze()
	m.wire.freeze()
}

// same checks that all hold the same as of a position, and that readers of all
// of them come to see it.
func (h *takeover) same(position eventstore.Position, members ...*member) {
	h.Helper()
	projectiontest.WaitFor(h, h.clean, position)
	want, err := h.clean.Digest(h.Context())
	require.NoError(h, err)
	for _, m := range members {
		h.wait(m, position)
		got, err := m.engine.Digest(h.Context())
		require.NoError(h, err)
		require.Equal(h, want.String(), got.String(), "what %s reads", m.name)
	}
}

// wait waits for a position, as a read does that was given a token: that does
// not fail because somebody else folds now.
func (h *takeover) wait(m *member, position eventstore.Position) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	require.NoError(h, m.engine.WaitFor(ctx, position), "%s waits for position %d", m.name, position)
}

// drop drops what served before, if anything did, so that another rebuild can begin.
func (h *takeover) drop(m *member) error {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	report, err := m.engine.Report(ctx)
	if err != nil {
		return err
	}
	for _, g := range report.GetGenerations() {
		if r := g.GetRole(); r == opsv1.GenerationRole_GENERATION_ROLE_SERVING || r == opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE {
			continue
		}
		if err := m.engine.Drop(ctx, projection.By{}, namespace(customer.Name, g)); err != nil && !errors.Is(err, projection.ErrUnknownGeneration) {
			return err
		}
	}
	return nil
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
