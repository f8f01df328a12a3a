package takeovertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

const (
	publishers = 4
	// askAgain is how long an answer is waited for before the same is published
	// once more, as a client does. A takeover takes longer.
	askAgain = 2 * time.Second
)

// strain is how much is published: events per second of all publishers together,
// and how many of them may wait to be recorded. A recorder that takes over finds
// about that many.
type strain struct{ perSecond, waiting int }

var tenants = []string{"acme", "globex"}

// load is what publishers publish, and what they know of it.
type load struct {
	t        *testing.T
	server   *server
	bus      *bus.Bus
	pace     *rate.Limiter
	strain   strain
	stopping atomic.Bool
	running  sync.WaitGroup

	mu sync.Mutex
	// accepted are the events that were published, by id; those that belong
	// into quarantine are only counted.
	accepted    map[string]*eventv1.Event
	quarantined int
	// answers of those who waited for one.
	answers  []*interactionv1.RecordResult
	commands map[string]*command
	mails    []string // Message-IDs of late
}

// command is one that was answered.
type command struct {
	*interactionv1.IdentityCommand
	tenant string
	result *interactionv1.IdentityResult
}

func begin(t *testing.T, s *server, b *bus.Bus, much strain, seed uint64) *load {
	t.Helper()
	l := &load{
		t: t, server: s, bus: b, pace: rate.NewLimiter(rate.Limit(much.perSecond), much.waiting), strain: much,
		accepted: map[string]*eventv1.Event{}, commands: map[string]*command{},
	}
	for number := range publishers {
		p := &publisher{load: l, number: number, rng: rand.New(rand.NewPCG(seed, uint64(100+number)))}
		l.running.Go(p.run)
	}
	for number, tenant := range tenants {
		d := &desk{load: l, tenant: tenant, rng: rand.New(rand.NewPCG(seed, uint64(200+number)))}
		l.running.Go(d.run)
	}
	t.Cleanup(l.stop)
	return l
}

// stop ends it between two publications.
func (l *load) stop() {
	l.stopping.Store(true)
	l.running.Wait()
}

// over says that a publisher should end.
func (l *load) over() bool { return l.stopping.Load() || l.t.Failed() }

// expect notes events before they are published.
func (l *load) expect(events []*eventv1.Event, bad int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ev := range events {
		l.accepted[ev.GetId()] = ev
	}
	l.quarantined += bad
}

// counts are the records that there will be beside identity events.
func (l *load) counts() (events, quarantined int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted), l.quarantined
}

// room waits until not too much waits to be recorded.
func (l *load) room() {
	for !l.over() {
		changed := l.server.watch()
		events, quarantined := l.counts()
		if events+quarantined-l.server.recorded() < l.strain.waiting {
			return
		}
		timer := time.NewTimer(reportEvery) // to see that it is over
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// ask publishes until it is answered; nil where that takes too long.
func (l *load) ask(tenant, channel string, batch *interactionv1.IngressBatch) *interactionv1.IngressReply {
	ctx, cancel := withDeadline()
	defer cancel()
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, askAgain)
		reply, err := l.bus.Publisher().PublishAndWait(once, tenant, channel, batch)
		given := once.Err() == nil
		cancel()
		switch {
		case err == nil:
			return reply
		case given:
			l.t.Errorf("publish: %v", err)
			return nil
		}
	}
	l.t.Error("nobody answers")
	return nil
}

// publisher is a gateway that takes traffic.
type publisher struct {
	*load
	number int
	rng    *rand.Rand
	made   int
	before []*interactionv1.IngressBatch // published of late
}

func (p *publisher) run() {
	for !p.over() {
		p.room()
		tenant := tenants[p.rng.IntN(len(tenants))]
		batch := &interactionv1.IngressBatch{}
		fresh, bad := []*eventv1.Event(nil), 0
		if len(p.before) > 0 && p.rng.IntN(12) == 0 {
			batch = p.before[p.rng.IntN(len(p.before))] // sent once more
			tenant = batch.GetEvents()[0].GetTenant()
		} else {
			for range 1 + p.rng.IntN(10) {
				fresh = append(fresh, p.event(tenant))
			}
			batch.Events = slices.Clone(fresh)
			for _, ev := range p.spoiled(tenant) {
				batch.Events = append(batch.Events, ev)
				bad++
			}
			if p.before = append(p.before, batch); len(p.before) > 20 {
				p.before = p.before[1:]
			}
		}
		p.expect(fresh, bad)
		ctx, cancel := withDeadline()
		if err := p.pace.WaitN(ctx, len(batch.GetEvents())); err != nil {
			p.t.Errorf("keep the pace: %v", err)
		}
		// One of them waits for what became of it.
		if p.number == 0 {
			if reply := p.ask(tenant, "web", batch); reply != nil {
				p.mu.Lock()
				p.answers = append(p.answers, reply.GetResults()...)
				p.mu.Unlock()
			}
		} else if err := p.bus.Publisher().Publish(ctx, tenant, "web", batch); err != nil {
			p.t.Errorf("publish: %v", err)
		}
		cancel()
	}
}

var begun = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)

// envelope is an event without identifiers and payload.
func envelope(tenant, source string, number int, at time.Time) *eventv1.Event {
	name := fmt.Sprint(number)
	return &eventv1.Event{
		Id: event.DeterministicID(tenant, source, name).String(), Tenant: tenant, Source: source, SourceId: name,
		SourceSequence: uint64(number), ContentDigest: event.ContentDigest([]byte(name)), Channel: "web",
		OccurredTime: timestamppb.New(at), ReceivedTime: timestamppb.New(begun.Add(24 * time.Hour)),
		TimeQuality: eventv1.TimeQuality_TIME_QUALITY_AS_SAID, Direction: eventv1.Direction_DIRECTION_INBOUND,
	}
}

func identifier(kind, format string, args ...any) *eventv1.Identifier {
	return &eventv1.Identifier{Kind: kind, Value: fmt.Sprintf(format, args...)}
}

// event is a page view, a chat message or a mail of one of some dozen people at
// a time, who are others as time goes by. Some identifiers are somebody else's,
// and some events occurred long before.
func (p *publisher) event(tenant string) *eventv1.Event {
	p.made++
	at := begun.Add(time.Duration(p.made) * 100 * time.Millisecond)
	if p.rng.IntN(8) == 0 {
		at = at.Add(-time.Duration(p.rng.Int64N(int64(10 * time.Minute))))
	}
	ev := envelope(tenant, fmt.Sprintf("web/%d", p.number), p.made, at)
	person := p.made/10 + p.rng.IntN(12)
	someone := func() int {
		if p.rng.IntN(12) == 0 {
			return person + p.rng.IntN(6)
		}
		return person
	}
	if p.rng.IntN(3) > 0 {
		ev.Identifiers = append(ev.Identifiers, identifier("anonymous_id", "device-%d-%d", someone(), p.rng.IntN(2)))
	}
	if p.rng.IntN(2) > 0 {
		ev.Identifiers = append(ev.Identifiers, identifier("user_id", "user-%d", someone()))
	}
	if p.rng.IntN(2) > 0 {
		ev.Identifiers = append(ev.Identifiers, identifier("email", "person%d@customers.example", someone()))
	}
	if p.rng.IntN(6) == 0 {
		ev.Identifiers = append(ev.Identifiers, identifier("phone", "030/%06d", 901000+someone()%1000)) // read by the rules' region
	}
	switch p.rng.IntN(5) {
	case 0:
		p.mail(ev)
	case 1:
		ev.Channel, ev.Conversation = "chat", fmt.Sprintf("room-%d", p.made/20)
		fallthrough
	default:
		ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{
			Path: "/pricing", Url: "https://shop.example/pricing", Title: "Tea", IpAddress: "192.0.2.7",
		}}}
	}
	event.Stamp(ev)
	return ev
}

// mail makes it a mail that answers one of late, or one that is yet to come.
func (p *publisher) mail(ev *eventv1.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	received := &eventv1.EmailReceived{MessageId: fmt.Sprintf("%d.%d@mail.example", p.number, p.made), Subject: "Tea"}
	other := func() string {
		if len(p.mails) == 0 || p.rng.IntN(5) == 0 {
			return fmt.Sprintf("%d.%d@mail.example", p.rng.IntN(publishers), p.made+p.rng.IntN(20))
		}
		return p.mails[p.rng.IntN(len(p.mails))]
	}
	if p.rng.IntN(3) > 0 {
		received.InReplyTo = other()
		received.References = []string{other(), received.GetInReplyTo()}
	}
	if p.mails = append(p.mails, received.GetMessageId()); len(p.mails) > 40 {
		p.mails = p.mails[1:]
	}
	ev.Channel = "email"
	ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_EmailReceived{EmailReceived: received}}
}

// spoiled are now and then events that belong into quarantine: one that cannot
// be, or the id of one before with other content.
func (p *publisher) spoiled(tenant string) []*eventv1.Event {
	switch p.rng.IntN(40) {
	case 0:
		ev := p.event(tenant)
		ev.Channel = "ticket"
		return []*eventv1.Event{ev}
	case 1:
		if len(p.before) == 0 {
			return nil
		}
		ev := proto.CloneOf(p.before[0].GetEvents()[0])
		if ev.GetTenant() != tenant {
			return nil
		}
		p.made++
		ev.ContentDigest = event.ContentDigest([]byte("another"), fmt.Append(nil, p.made))
		return []*eventv1.Event{ev}
	default:
		return nil
	}
}

// last publishes one event more and waits until it is recorded: then all
// before it are.
func (l *load) last(number int) {
	l.t.Helper()
	ev := envelope(tenants[0], lastSource, number, begun)
	ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/", Url: "https://shop.example/"}}}
	event.Stamp(ev)
	l.expect([]*eventv1.Event{ev}, 0)
	reply := l.ask(tenants[0], "web", &interactionv1.IngressBatch{Events: []*eventv1.Event{ev}})
	require.NotNil(l.t, reply)
	require.Len(l.t, reply.GetResults(), 1)
}

const lastSource = "web/last"
