package serve_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/projection/projectiontest"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
	"github.com/parleyhq/parley/services/customer"
)

// poisonPath is that of the page whose view cannot be folded before it is mended.
const poisonPath = "/poison"

// poisonable is the customer 360, except that it stumbles over one page.
func poisonable(mended *atomic.Bool) projection.Customers[*customerv1.Customer] {
	model := customer.Definition()
	fold := model.Fold
	model.Fold = func(doc *customerv1.Customer, rec *eventv1.RecordedEvent) error {
		if !mended.Load() && rec.GetEvent().GetPayload().GetPageViewed().GetPath() == poisonPath {
			return errors.New("no fold for this")
		}
		return fold(doc, rec)
	}
	return model
}

// TestPoisonUnderLoad has one customer's event fail under a steady load of
// others' events: everyone else sees what he wrote within a second, also when
// what failed is mended and retried, and the one customer's events are folded in their
// order then. The same events are folded by a twin that never stumbles: in the end both
// hold the same, and where both are slow at once it is the machine.
func TestPoisonUnderLoad(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) view.Store{
		"pebble": func(t *testing.T) view.Store { return projectiontest.NewViews(t) },
		"postgres": func(t *testing.T) view.Store {
			views, err := pgview.Open(t.Context(), pgview.Config{URL: config.Secret(postgres.Database(t).URL())})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, views.Close()) })
			return views
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &poisoning{T: t, log: projectiontest.NewLog(t), written: map[string]int{}}
			p.engine, _ = projectiontest.Start(t, poisonable(&p.mended), p.log, open(t), projection.Options{})
			p.twin, _ = projectiontest.Start(t, customer.Definition(), p.log, projectiontest.NewViews(t), projection.Options{})
			p.run()
		})
	}
}

const (
	// The load: an event of somebody every so often, of each stretch so many.
	loadEvery   = 5 * time.Millisecond
	loadStretch = 150
	bystanders  = 60
	// mostLag is what the others' lag stays under.
	mostLag = time.Second
	// poisoned is whose event fails, absorbed is who turns out to be him while it waits.
	poisoned, absorbed = "p-poisoned", "p-absorbed"
)

// poisoning is the load, and what became of it.
type poisoning struct {
	*testing.T
	log          eventstore.Store
	engine, twin *customer.Engine
	mended       atomic.Bool

	n       int
	written map[string]int // events by profile
	waiting sync.WaitGroup

	mu   sync.Mutex
	lags []lag
}

// lag is how long a write took to be seen, from before it was appended.
type lag struct {
	stretch    string
	mine, twin time.Duration
}

func (p *poisoning) run() {
	p.stretch("before", func(int) {})
	p.stretch("poisoned", func(i int) {
		switch i {
		case loadStretch / 4:
			p.append(poisoned, page(poisonPath))
		case loadStretch / 2:
			p.append("", &eventv1.Payload{Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{
				CustomerId: poisoned, AbsorbedCustomerId: absorbed, AbsorbedProfileIds: []string{absorbed},
			}}})
		}
	})
	// Everybody's but his: they are told.
	p.waiting.Wait()
	head, err := p.log.Head(p.Context())
	require.NoError(p, err)
	for _, id := range []string{poisoned, absorbed} {
		require.ErrorIs(p, p.engine.Reader().Folded(p.Context(), "acme", id, head), projection.ErrDeadLetter)
	}
	status := p.engine.Status()
	require.Equal(p, 1, status.DeadLetters)
	require.Greater(p, status.Waiting, loadStretch/20)
	require.Equal(p, projection.Live, status.State)

	retried := make(chan error, 1)
	p.stretch("mended", func(i int) {
		if i == loadStretch/4 {
			p.mended.Store(true)
			go func() {
				left, err := p.engine.Retry(p.Context(), projection.By{}, view.Namespace{})
				if err == nil && left.Failed+left.Waiting > 0 {
					err = fmt.Errorf("%d failed and %d waiting are left", left.Failed, left.Waiting)
				}
				retried <- err
			}()
		}
	})
	require.NoError(p, <-retried)
	p.waiting.Wait()
	p.report()

	head, err = p.log.Head(p.Context())
	require.NoError(p, err)
	projectiontest.WaitFor(p, p.engine, head)
	projectiontest.WaitFor(p, p.twin, head)
	mine, _, err := p.engine.Reader().Document(p.Context(), "acme", absorbed)
	require.NoError(p, err)
	want, _, err := p.twin.Reader().Document(p.Context(), "acme", poisoned)
	require.NoError(p, err)
	require.True(p, proto.Equal(want, mine), "%s\n%s", want, mine)
	require.EqualValues(p, p.written[poisoned]+p.written[absorbed], mine.GetInteractionCount())
	digests := [2]string{}
	for i, e := range []*customer.Engine{p.engine, p.twin} {
		sum, err := e.Digest(p.Context())
		require.NoError(p, err)
		digests[i] = sum.String()
	}
	require.Equal(p, digests[1], digests[0])
}

// stretch is a part of the load; also is called before each event.
func (p *poisoning) stretch(name string, also func(i int)) {
	p.Helper()
	ticker := time.NewTicker(loadEvery)
	defer ticker.Stop()
	for i := range loadStretch {
		<-ticker.C
		also(i)
		who := fmt.Sprintf("p-%d", p.n%bystanders)
		switch i % 10 {
		case 3:
			who = poisoned
		case 7:
			who = absorbed
		}
		begun := time.Now()
		position := p.append(who, p.deed())
		if who != poisoned && who != absorbed {
			count := p.written[who]
			p.waiting.Go(func() { p.measure(name, who, count, begun, position) })
		}
	}
}

// deed is something that customers do, in which the order shows.
func (p *poisoning) deed() *eventv1.Payload {
	switch p.n % 3 {
	case 0:
		return &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
			Provenance: eventv1.TraitProvenance_TRAIT_PROVENANCE_STATED, Traits: []*eventv1.Trait{{Name: "name", ValueJson: fmt.Sprintf(`"Number %d"`, p.n)}},
		}}}
	case 1:
		return &eventv1.Payload{Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{
			OrderId: fmt.Sprintf("order-%d", p.n), Total: &typev1.Money{CurrencyCode: "EUR", Units: int64(p.n)},
		}}}
	default:
		return page(fmt.Sprintf("/page-%d", p.n))
	}
}

func page(path string) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: path}}}
}

func (p *poisoning) append(profile string, payload *eventv1.Payload) eventstore.Position {
	p.Helper()
	p.n++
	if profile != "" {
		p.written[profile]++
	}
	return projectiontest.Append(p, p.log, projectiontest.NewEvent("acme", profile, p.n, projectiontest.Epoch.Add(time.Duration(p.n)*time.Second), payload))
}

// measure waits until a write is seen by both, each by its own clock.
func (p *poisoning) measure(stretch, who string, count int, begun time.Time, position eventstore.Position) {
	l := lag{stretch: stretch}
	var both sync.WaitGroup
	for _, one := range []struct {
		engine *customer.Engine
		took   *time.Duration
	}{{p.engine, &l.mine}, {p.twin, &l.twin}} {
		both.Go(func() {
			if err := seen(p.Context(), one.engine, who, count, position); err != nil {
				p.Errorf("what %s did at %d is not seen: %v", who, position, err)
			}
			*one.took = time.Since(begun)
		})
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lags = append(p.lags, l)
}

// seen reads as a service does that was given a token.
func seen(ctx context.Context, engine *customer.Engine, who string, count int, position eventstore.Position) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	if err := engine.WaitFor(ctx, position); err != nil {
		return err
	}
	r := engine.Reader()
	if err := r.Folded(ctx, "acme", who, position); err != nil {
		return err
	}
	doc, _, err := r.Document(ctx, "acme", who)
	if err == nil && doc.GetInteractionCount() < int64(count) {
		err = fmt.Errorf("%d interactions, want %d", doc.GetInteractionCount(), count)
	}
	return err
}

// report checks the lags and says what they were.
func (p *poisoning) report() {
	p.Helper()
	require.NotEmpty(p, p.lags)
	var lines []string
	// A machine that is slow without any poison is given as much again.
	allowed := mostLag
	for _, l := range p.lags {
		if l.stretch == "before" {
			allowed = max(allowed, 2*l.mine)
		}
	}
	for _, stretch := range []string{"before", "poisoned", "mended"} {
		var mine, twin []time.Duration
		for _, l := range p.lags {
			if l.stretch != stretch {
				continue
			}
			mine, twin = append(mine, l.mine), append(twin, l.twin)
			if l.mine >= allowed && l.twin < l.mine/2 {
				p.Errorf("%s: somebody else waited %s, without the poison %s", stretch, l.mine, l.twin)
			}
		}
		slices.Sort(mine)
		slices.Sort(twin)
		show := func(all []time.Duration) string {
			return fmt.Sprintf("p50 %s, p99 %s, most %s", round(all[len(all)/2]), round(all[len(all)*99/100]), round(all[len(all)-1]))
		}
		lines = append(lines, fmt.Sprintf("%s: %d writes, %s; the twin %s", stretch, len(mine), show(mine), show(twin)))
	}
	p.Logf("lag of everybody else\n%s", strings.Join(lines, "\n"))
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
