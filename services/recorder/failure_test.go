package recorder

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

func TestRebuiltIndexIsTheSame(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	events := sessions(3000, 60)
	var messages []bus.Message
	for i := 0; i < len(events); i += 20 {
		messages = append(messages, g.message("acme", events[i:min(i+20, len(events))]...))
	}
	for i := 0; i < len(messages); i += 10 {
		g.record(messages[i:min(i+10, len(messages))]...)
	}
	g.requireIndexIsLog()
	require.Len(t, g.stored(), len(events))
	head, err := g.store.Head(t.Context())
	require.NoError(t, err)

	g.reopen(true)
	for _, r := range g.record(messages...) {
		for _, o := range outcomes(r) {
			require.Equal(t, duplicate, o)
		}
	}
	again, err := g.store.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head, again, "nothing is appended twice, no decision either")
	require.Zero(t, g.index.graph.Changed())
}

func TestWithoutBatchAppends(t *testing.T) {
	t.Parallel()
	batch, single := newRig(t, openLog(t)), newRig(t, &remote{Store: openLog(t)})
	single.deps.NewcomersInOrder = true
	for _, g := range []*rig{batch, single} {
		events := sessions(400, 20)
		for i := 0; i < len(events); i += 50 {
			for _, o := range outcomes(g.recordEvents(events[i : i+50]...)) {
				require.Equal(t, recorded, o)
			}
		}
		g.requireIndexIsLog()
	}
	require.Equal(t, batch.byStream(), single.byStream(), "the same streams")
	require.Equal(t, batch.portableIndex(), single.portableIndex(), "and the same of everything that is known")
}

func TestStoreFailsBetweenAppends(t *testing.T) {
	t.Parallel()
	const appends = 3 // all decisions; pages 1 and 2; page 3
	for cut := range appends + 1 {
		var left atomic.Int64
		left.Store(int64(cut))
		store := &remote{Store: openLog(t)}
		g := newRig(t, store)
		m := g.message("acme",
			page("1", "anonymous_id=a"), page("2", "anonymous_id=a user_id=7 email=ada@example.com"), page("3", "email=ada@example.com phone=+14158675309"),
		)
		store.around = func(_ string, do appendOnce) (eventstore.Appended, error) {
			if left.Add(-1) < 0 {
				return eventstore.Appended{}, away()
			}
			return do()
		}
		err := g.handle(t.Context(), []bus.Message{m})
		if cut == appends {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, errInjected)
			require.ErrorIs(t, g.Healthy(), eventstore.ErrUnavailable, "readiness says what is wrong")
		}
		store.around = nil
		g.record(m)
		require.NoError(t, g.Healthy())
		require.Len(t, g.stored(), 3)
		links := 0
		for _, l := range g.lines() {
			if strings.HasSuffix(l, "link.asserted") {
				links++
			}
		}
		require.Equal(t, 3, links, "no decision twice, none lost")
		g.requireIndexIsLog()
	}
}

func TestCrashBetweenAppendAndCommit(t *testing.T) {
	t.Parallel()
	for _, drop := range []bool{false, true} {
		g := newRig(t, openLog(t))
		m := g.message("acme", page("1", "anonymous_id=a"), page("2", "anonymous_id=a user_id=7"))
		g.beforeCommit = func() error { return errInjected }
		require.ErrorIs(t, g.handle(t.Context(), []bus.Message{m}), errInjected)
		require.Empty(t, g.bus.replies, "nobody was told")
		require.Len(t, g.stored(), 2, "but it is in the log")
		g.beforeCommit = nil
		if drop {
			g.reopen(true)
		}
		require.Equal(t, []interactionv1.RecordOutcome{duplicate, duplicate}, outcomes(g.record(m)[0]))
		require.Len(t, g.stored(), 2)
		g.requireIndexIsLog()
	}
}

// Two recorders on one log: whoever is late looks again, and nothing is
// recorded or decided twice.
func TestSecondWriter(t *testing.T) {
	t.Parallel()
	store := openLog(t)
	a, b := newRig(t, store), newRig(t, store)
	ma := a.message("acme", page("1", "anonymous_id=a user_id=7"))
	a.record(ma)
	// b has not seen it: its index is behind, and its expectations would be wrong.
	require.Equal(t, []interactionv1.RecordOutcome{duplicate, recorded},
		outcomes(b.recordEvents(page("1", "anonymous_id=a user_id=7"), page("2", "anonymous_id=a email=ada@example.com"))))

	// Now a is overtaken between its look at the head and its append.
	overtake := &overtaken{Store: store}
	c := newRig(t, overtake)
	overtake.once = func() {
		b.recordEvents(page("3", "user_id=7 phone=+14158675309"))
	}
	require.Equal(t, []interactionv1.RecordOutcome{duplicate, recorded},
		outcomes(c.recordEvents(page("3", "user_id=7 phone=+14158675309"), page("4", "user_id=7 card=1"))))
	require.Nil(t, overtake.once, "it was overtaken")
	require.Len(t, c.stored(), 4)
	links := map[string]bool{}
	for _, rec := range c.records() {
		if rec.Type != "parley.link.asserted" {
			continue
		}
		ev, err := c.deps.Codec.Decode(rec)
		require.NoError(t, err)
		l := ev.GetEvent().GetPayload().GetLinkAsserted()
		pair := l.GetProfileId() + l.GetOtherProfileId()
		require.False(t, links[pair], "decided once")
		links[pair] = true
	}
	require.Len(t, links, 4)
	c.requireIndexIsLog()
}

// overtaken lets somebody else write just before an append.
type overtaken struct {
	eventstore.Store
	once func()
}

func (o *overtaken) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	if f := o.once; f != nil {
		o.once = nil
		f()
	}
	return o.Store.AppendBatch(ctx, appends)
}

// Somebody else writes to other streams between look and append: there is no
// conflict, but positions are not those expected.
func TestOthersWriteBetween(t *testing.T) {
	t.Parallel()
	overtake := &overtaken{Store: openLog(t)}
	g := newRig(t, overtake)
	foreign := page("foreign", "")
	foreign.ProfileId = profileOf("acme", "anonymous_id=a")
	overtake.once = func() {
		rec, err := g.deps.Codec.Encode(foreign)
		require.NoError(t, err)
		_, err = overtake.Append(t.Context(), "acme.ticket-1", eventstore.NoStream, rec)
		require.NoError(t, err)
	}
	reply := g.recordEvents(page("1", "user_id=7 anonymous_id=a"))
	require.EqualValues(t, 4, reply.GetResults()[0].GetPosition())
	require.EqualValues(t, 4, reply.GetPosition())
	g.requireIndexIsLog()
}

func TestStoreRefusesOneItem(t *testing.T) {
	t.Parallel()
	refuse := &refusing{Store: openLog(t), bad: "bad"}
	g := newRig(t, refuse)
	bad := page("bad", "user_id=7")
	bad.Conversation = "bad"
	require.Equal(t, []interactionv1.RecordOutcome{recorded, inQuarantine, recorded},
		outcomes(g.recordEvents(page("1", "user_id=7"), bad, page("2", "user_id=7"))))
	require.Equal(t, codeStoreRefused, g.quarantined()[0].GetCode())
	g.requireIndexIsLog()
}

// refusing is a store that finds something wrong that nobody else did.
type refusing struct {
	eventstore.Store
	bad string
}

func (s *refusing) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	for _, a := range appends {
		if strings.HasSuffix(a.Stream, "-"+s.bad) {
			return nil, fmt.Errorf("stream %s: %w", a.Stream, eventstore.ErrInvalid)
		}
	}
	return s.Store.AppendBatch(ctx, appends)
}

func TestLargeBatchesAreCut(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	events := sessions(chunkRecords+1500, 500)
	var messages []bus.Message
	for i := 0; i < len(events); i += 500 {
		messages = append(messages, g.message("acme", events[i:i+500]...))
	}
	last := uint64(0)
	for _, r := range g.record(messages...) {
		require.Len(t, r.GetResults(), 500)
		for _, x := range r.GetResults() {
			require.Equal(t, recorded, x.GetOutcome())
			require.Greater(t, x.GetPosition(), last, "in the order of arrival")
			last = x.GetPosition()
		}
	}
	g.requireIndexIsLog()
}

// panicking panics at one profile, as a defect would.
type panicking struct {
	identity.State
	at string
}

func (p panicking) Profile(tenant, id string) (identity.Profile, bool, error) {
	if id == p.at {
		panic("a defect")
	}
	return p.State.Profile(tenant, id)
}

func TestPanicStopsOneEventOnly(t *testing.T) {
	t.Parallel()
	g := newRig(t, openLog(t))
	g.index.graph = identity.NewGraph(g.deps.Resolver.Rules, panicking{g.index, profileOf("acme", "user_id=8")})
	reply := g.recordEvents(page("1", "user_id=7 anonymous_id=a"), page("2", "user_id=8 anonymous_id=b"), page("3", "user_id=9 anonymous_id=c"))
	require.Equal(t, []interactionv1.RecordOutcome{recorded, inQuarantine, recorded}, outcomes(reply))
	require.Equal(t, codePanic, g.quarantined()[0].GetCode())
	g.index.graph = identity.NewGraph(g.deps.Resolver.Rules, g.index)
	g.requireIndexIsLog()
}
