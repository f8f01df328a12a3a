package projectiontest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/projection"
)

// Laws proves on the events, which must be in order, and on random parts of
// them, that the projection's functions keep the laws that the engine relies
// on. Events are told apart by nothing here: all are folded into one document,
// whichever profile they name.
//
//   - fold(all) = combine(fold(part), fold(rest)), for every partition in 2 to 4 parts
//   - combine is commutative and associative, and New() is its neutral element
//   - a finished document folds and combines on as an unfinished one does, and finishing again changes nothing
//   - Fold does not change the event, nor keep messages of it
//   - Combine does not change what it takes from, nor share it
//
// Documents are compared finished. A failure says the seed; rounds of 50 are usually enough.
func Laws[D proto.Message](t *testing.T, def projection.Customers[D], events []*eventv1.RecordedEvent, rounds int) {
	t.Helper()
	seed := rand.Uint64()
	for round := range rounds {
		l := laws[D]{T: t, def: def, random: rand.New(rand.NewPCG(seed, uint64(round))), where: fmt.Sprintf("seed %d, round %d", seed, round)}
		l.round(events)
	}
}

type laws[D proto.Message] struct {
	*testing.T
	def    projection.Customers[D]
	random *rand.Rand
	where  string
}

var who = projection.Customer{Tenant: "acme", ID: "p1", Profiles: []string{"p1", "p2", "p3"}}

func (l *laws[D]) round(events []*eventv1.RecordedEvent) {
	l.Helper()
	// A random piece, so that short histories are tried as well.
	from := l.random.IntN(len(events))
	events = events[from : from+1+l.random.IntN(len(events)-from)]
	parts := make([][]*eventv1.RecordedEvent, 2+l.random.IntN(3))
	for _, ev := range events {
		i := l.random.IntN(len(parts))
		parts[i] = append(parts[i], ev)
	}
	whole := l.fold(l.def.New(), events)
	docs := make([]D, len(parts))
	for i := range parts {
		docs[i] = l.fold(l.def.New(), parts[i])
	}
	l.equal(whole, l.combined(docs...), "fold(all) = combine(folds)")
	l.equal(l.fold(l.def.New(), events), whole, "the same events twice")

	a, b := docs[0], docs[1]
	l.equal(l.combined(a, b), l.combined(b, a), "combine is commutative")
	l.equal(l.combined(l.clone(a), l.combined(docs[1:]...)), l.combined(l.combined(docs[:len(docs)-1]...), docs[len(docs)-1]), "combine is associative")
	l.equal(a, l.combined(a), "New is neutral")
	neutral := l.clone(a)
	l.def.Combine(neutral, l.def.New())
	l.equal(a, neutral, "New is neutral")

	l.finishing(events, docs)
	l.sharing(docs)
}

// finishing proves that finished documents are as good as unfinished ones.
func (l *laws[D]) finishing(events []*eventv1.RecordedEvent, docs []D) {
	l.Helper()
	if l.def.Finish == nil {
		return
	}
	alone := projection.Customer{Tenant: "acme", ID: "p2", Profiles: []string{"p2"}}
	doc := l.def.New()
	for _, ev := range events {
		doc = l.fold(doc, []*eventv1.RecordedEvent{ev})
		if l.random.IntN(3) == 0 {
			l.def.Finish(doc, alone)
		}
	}
	l.equal(l.fold(l.def.New(), events), doc, "a finished document folds on")
	once := l.clone(doc)
	l.def.Finish(once, who)
	twice := l.clone(once)
	l.def.Finish(twice, alone)
	l.def.Finish(twice, who)
	l.same(once, twice, "finish overwrites what it derived")
	finished := make([]D, len(docs))
	for i := range docs {
		finished[i] = l.clone(docs[i])
		l.def.Finish(finished[i], alone)
	}
	l.equal(l.combined(docs...), l.combined(finished...), "finished documents combine")
	one := l.clone(finished[0])
	l.def.Finish(one, alone)
	l.same(finished[0], one, "finishing twice")
	l.same(l.reparsed(finished[0]), finished[0], "a document survives being stored")
}

// sharing proves that Combine neither changes nor keeps what it takes from.
func (l *laws[D]) sharing(docs []D) {
	l.Helper()
	before := make([]D, len(docs))
	sum := l.def.New()
	for i := range docs {
		before[i] = l.clone(docs[i])
		l.def.Combine(sum, docs[i])
		l.same(before[i], docs[i], "combine leaves what it takes from alone")
	}
	for i := range docs {
		l.def.Combine(sum, docs[i])
	}
	if l.def.Finish != nil {
		l.def.Finish(sum, who)
	}
	for i := range docs {
		l.same(before[i], docs[i], "the sum shares nothing with what it was made of")
	}
}

// fold folds events into a document, as the engine does: from memory that is
// overwritten afterwards.
func (l *laws[D]) fold(doc D, events []*eventv1.RecordedEvent) D {
	l.Helper()
	for _, ev := range events {
		used := proto.CloneOf(ev)
		require.NoError(l, l.def.Fold(doc, used), "%s: fold event %s", l.where, ev.GetEvent().GetId())
		require.True(l, proto.Equal(ev, used), "%s: fold changed event %s", l.where, ev.GetEvent().GetId())
		scramble(used)
	}
	return doc
}

// scramble empties a message and all within it, as decoding anew may do.
func scramble(ev *eventv1.RecordedEvent) {
	inner := []proto.Message{ev.GetEvent().GetOccurredTime(), ev.GetEvent().GetReceivedTime(), ev.GetRecordedTime(), ev.GetEvent().GetPayload()}
	for _, id := range ev.GetEvent().GetIdentifiers() {
		inner = append(inner, id)
	}
	for _, m := range inner {
		proto.Reset(m)
	}
	proto.Reset(ev)
}

func (l *laws[D]) combined(docs ...D) D {
	sum := l.def.New()
	for _, doc := range docs {
		l.def.Combine(sum, doc)
	}
	return sum
}

func (l *laws[D]) clone(doc D) D { return proto.CloneOf(doc) }

func (l *laws[D]) reparsed(doc D) D {
	data, err := proto.Marshal(doc)
	require.NoError(l, err)
	again := l.def.New()
	require.NoError(l, proto.Unmarshal(data, again))
	return again
}

// equal compares finished clones.
func (l *laws[D]) equal(want, got D, law string) {
	l.Helper()
	want, got = l.clone(want), l.clone(got)
	if l.def.Finish != nil {
		l.def.Finish(want, who)
		l.def.Finish(got, who)
	}
	l.same(want, got, law)
}

func (l *laws[D]) same(want, got D, law string) {
	l.Helper()
	if !proto.Equal(want, got) {
		l.Fatalf("%s: %s (-want +got):\n%s", l.where, law, cmp.Diff(want, got, protocmp.Transform()))
	}
}
