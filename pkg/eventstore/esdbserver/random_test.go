package esdbserver_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
	"github.com/parleyhq/parley/pkg/testkit/testseed"
)

// modelStream is the simplest thing that behaves as a stream does.
type modelStream struct {
	ids        []uuid.UUID
	before     int // the first revision that is shown
	maxCount   int
	marked     bool
	tombstoned bool
}

func (s *modelStream) deleted() bool { return s.marked && s.before >= len(s.ids) }

// tail is how far back any looks.
const tail = 128

type outcome string

const (
	done     outcome = "ok"
	conflict outcome = "conflict"
	gone     outcome = "deleted"
)

// matches says whether ids stand from a revision on.
func (s *modelStream) matches(at int, ids []uuid.UUID) bool {
	return at >= 0 && at+len(ids) <= len(s.ids) && slices.Equal(s.ids[at:at+len(ids)], ids)
}

// append answers what the server must, and with the last revision.
func (s *modelStream) append(expected esdb.ExpectedRevision, ids []uuid.UUID) (outcome, int) {
	if s.tombstoned {
		return gone, 0
	}
	at := func(revision int) (outcome, int) {
		if revision == len(s.ids)-1 {
			s.ids = append(s.ids, ids...)
			return done, len(s.ids) - 1
		}
		if s.matches(revision+1, ids) {
			return done, revision + len(ids)
		}
		return conflict, 0
	}
	switch v := expected.(type) {
	case esdb.NoStream:
		if o, last := at(-1); o == done || !s.marked || s.before == 0 {
			return o, last
		}
		return at(s.before - 1)
	case esdb.StreamRevision:
		return at(int(v.Value))
	case esdb.StreamExists:
		if len(s.ids) == 0 || s.deleted() {
			return conflict, 0
		}
	}
	recent := s.ids[max(0, len(s.ids)-tail):]
	// An exact append can have put the same events there again: the last ones
	// count.
	for i := len(recent) - 1; i >= 0; i-- {
		if recent[i] != ids[len(ids)-1] {
			continue
		}
		last := len(s.ids) - len(recent) + i
		if s.matches(last-len(ids)+1, ids) {
			return done, last
		}
		return conflict, 0
	}
	if slices.Contains(recent, ids[0]) {
		return conflict, 0
	}
	return at(len(s.ids) - 1)
}

// remove answers what deleting must.
func (s *modelStream) remove(expected esdb.ExpectedRevision, forGood bool) outcome {
	if s.tombstoned {
		return gone
	}
	ok := true
	switch v := expected.(type) {
	case esdb.NoStream:
		ok = len(s.ids) == 0 || s.deleted()
	case esdb.StreamExists:
		ok = len(s.ids) > 0 && !s.deleted()
	case esdb.StreamRevision:
		ok = int(v.Value) == len(s.ids)-1
	}
	switch {
	case !ok:
		return conflict
	case forGood:
		s.tombstoned = true
	default:
		s.before, s.marked = len(s.ids), true
	}
	return done
}

// read is what readers are shown, `revision id`.
func (s *modelStream) read(from int, back bool, count int) []string {
	first := s.before
	if s.maxCount > 0 {
		first = max(first, len(s.ids)-s.maxCount)
	}
	out := []string{}
	if back {
		for i := min(from, len(s.ids)-1); i >= first && len(out) < count; i-- {
			out = append(out, fmt.Sprintf("%d %s", i, s.ids[i]))
		}
		return out
	}
	for i := max(from, first); i < len(s.ids) && len(out) < count; i++ {
		out = append(out, fmt.Sprintf("%d %s", i, s.ids[i]))
	}
	return out
}

type machine struct {
	*fixture

	rng     *rand.Rand
	streams map[string]*modelStream
	past    []past
	server  *esdbservertest.Restartable
}

// past is an append that can be repeated.
type past struct {
	stream   string
	expected esdb.ExpectedRevision
	events   []esdb.EventData
}

func TestRandomOperations(t *testing.T) {
	t.Parallel()
	seed := testseed.Of(t)
	store := openStore(t)
	m := &machine{
		fixture: &fixture{TB: t, ctx: t.Context(), store: store},
		rng:     rand.New(rand.NewPCG(seed, 0)), streams: map[string]*modelStream{},
		server: esdbservertest.NewRestartable(t, esdbserver.Config{Store: store}),
	}
	m.server.Start()
	m.client = m.connect(m.server.URL())
	for range 1000 {
		m.step()
	}
	for name, s := range m.streams {
		m.compare(name, s, 0, false, 1<<20)
		m.compare(name, s, 1<<20, true, 1<<20)
	}
}

func (m *machine) step() {
	name := []string{"a", "b", "c", "$sys", "~til", "x.y"}[m.rng.IntN(6)]
	if m.rng.IntN(3) == 0 {
		name = fmt.Sprintf("s%d", m.rng.IntN(30))
	}
	s := m.streams[name]
	if s == nil {
		s = &modelStream{}
		m.streams[name] = s
	}
	switch n := m.rng.IntN(100); {
	case n < 45:
		m.append(past{name, m.expectation(s), eventsOf(name, 0, 1+m.rng.IntN(1+m.rng.IntN(40)))})
	case n < 60 && len(m.past) > 0:
		p := m.past[len(m.past)-1-m.rng.IntN(min(len(m.past), 20))]
		if m.rng.IntN(3) == 0 {
			p.expected = m.expectation(m.streams[p.stream])
		}
		if m.rng.IntN(6) == 0 {
			p.events = p.events[m.rng.IntN(len(p.events)):]
		}
		m.append(p)
	case n < 64:
		m.direct(name, s)
	case n < 68:
		expected := m.expectation(s)
		_, err := m.client.DeleteStream(m.ctx, name, esdb.DeleteStreamOptions{ExpectedRevision: expected})
		m.same(s.remove(expected, false), err)
	case n < 70:
		expected := m.expectation(s)
		_, err := m.client.TombstoneStream(m.ctx, name, esdb.TombstoneStreamOptions{ExpectedRevision: expected})
		m.same(s.remove(expected, true), err)
	case n < 74:
		m.setMetadata(name, s)
	case n < 98:
		m.compare(name, s, m.rng.IntN(len(s.ids)+3), m.rng.IntN(2) == 0, m.rng.IntN(30))
	default:
		require.NoError(m, m.client.Close())
		m.server.Stop()
		m.server.Start()
		m.client = m.connect(m.server.URL())
	}
}

func (m *machine) expectation(s *modelStream) esdb.ExpectedRevision {
	switch m.rng.IntN(8) {
	case 0:
		return esdb.NoStream{}
	case 1, 2:
		return esdb.Any{}
	case 3:
		return esdb.StreamExists{}
	case 4:
		return esdb.Revision(uint64(m.rng.IntN(len(s.ids) + 3)))
	default:
		if len(s.ids) == 0 {
			return esdb.NoStream{}
		}
		return esdb.Revision(uint64(len(s.ids) - 1))
	}
}

func (m *machine) append(p past) {
	ids := make([]uuid.UUID, len(p.events))
	for i := range ids {
		ids[i] = p.events[i].EventID
	}
	want, last := m.streams[p.stream].append(p.expected, ids)
	result, err := m.client.AppendToStream(m.ctx, p.stream, esdb.AppendToStreamOptions{ExpectedRevision: p.expected}, p.events...)
	m.same(want, err)
	if want == done {
		require.EqualValues(m, last, result.NextExpectedVersion)
		m.past = append(m.past, p)
	}
}

// direct appends past the server, as Parley does; to no stream that clients
// have deleted for good.
func (m *machine) direct(name string, s *modelStream) {
	if s.tombstoned || name[0] == '$' || name[0] == '~' {
		return
	}
	id := uuid.New()
	_, err := m.store.Append(m.ctx, name, eventstore.Any, eventstore.NewRecord{ID: id, Type: "direct"})
	require.NoError(m, err)
	s.ids = append(s.ids, id)
}

func (m *machine) setMetadata(name string, s *modelStream) {
	if s.tombstoned {
		return
	}
	s.marked, s.before, s.maxCount = false, m.rng.IntN(len(s.ids)+1), m.rng.IntN(4)
	var meta esdb.StreamMetadata
	meta.SetTruncateBefore(uint64(s.before))
	if s.maxCount > 0 {
		meta.SetMaxCount(uint64(s.maxCount))
	}
	_, err := m.client.SetStreamMetadata(m.ctx, name, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, meta)
	require.NoError(m, err)
}

func (m *machine) same(want outcome, err error) {
	m.Helper()
	got := done
	if err != nil {
		got = conflict
		var typed *esdb.Error
		require.ErrorAs(m, err, &typed)
		if typed.Code() == esdb.ErrorCodeStreamDeleted {
			got = gone
		} else {
			require.ErrorContains(m, err, "wrong expected version")
		}
	}
	require.Equal(m, want, got, "%v", err)
}

func (m *machine) compare(name string, s *modelStream, from int, back bool, count int) {
	m.Helper()
	opts := esdb.ReadStreamOptions{From: esdb.Revision(uint64(from))}
	if back {
		opts.Direction = esdb.Backwards
	}
	events, err := collect(m.client.ReadStream(m.ctx, name, opts, uint64(count)))
	switch {
	case s.tombstoned:
		m.fails(err, esdb.ErrorCodeStreamDeleted, "")
		return
	case len(s.ids) == 0 || s.deleted():
		m.fails(err, esdb.ErrorCodeResourceNotFound, "")
		return
	}
	require.NoError(m, err)
	got := []string{}
	for _, e := range events {
		got = append(got, fmt.Sprintf("%d %s", e.Event.EventNumber, e.Event.EventID))
	}
	require.Equal(m, s.read(from, back, count), got, "%s from %d, back %v, %d", name, from, back, count)
}
