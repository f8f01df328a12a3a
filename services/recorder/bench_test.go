package recorder

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

const (
	benchEvents     = 200_000
	benchPerMessage = 20
)

func benchMessages(b *testing.B, g *rig, events []*eventv1.Event) []bus.Message {
	b.Helper()
	var messages []bus.Message
	for i := 0; i+benchPerMessage <= len(events); i += benchPerMessage {
		m := g.message("acme", events[i:i+benchPerMessage]...)
		m.ReplyTo = ""
		messages = append(messages, m)
	}
	return messages
}

func benchLog(b *testing.B) *embedded.Store {
	b.Helper()
	s, err := embedded.Open(b.TempDir(), embedded.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	return s
}

// BenchmarkCheck does what needs no log: decode, check, normalise.
func BenchmarkCheck(b *testing.B) {
	g := newRig(b, openLog(b))
	messages := benchMessages(b, g, sessions(20_000, 2000))
	b.ReportAllocs()
	i := 0
	var items []item
	for b.Loop() {
		items = g.checker.items(items[:0], &messages[i%len(messages)])
		i++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i*benchPerMessage), "ns/event")
}

// BenchmarkRecord records messages of 20 events, 50 at a time, from the bytes
// on the bus to the index's commit, into a store on the disk.
func BenchmarkRecord(b *testing.B) {
	events := sessions(benchEvents, 10_000)
	g := newRig(b, benchLog(b))
	messages := benchMessages(b, g, events)
	const batch = 50
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		at := n * batch % len(messages)
		if n > 0 && at == 0 {
			// The same ids again would be duplicates.
			b.StopTimer()
			g = newRig(b, benchLog(b))
			b.StartTimer()
		}
		require.NoError(b, g.handle(b.Context(), messages[at:at+batch]))
		n++
	}
	perOp := float64(batch * benchPerMessage)
	b.ReportMetric(perOp*float64(n)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(b.Elapsed().Seconds()*1e9/perOp/float64(n), "ns/event")
}

// BenchmarkCatchUp makes the index anew from a log of interactions and what was
// decided about identities.
func BenchmarkCatchUp(b *testing.B) {
	g := newRig(b, benchLog(b))
	messages := benchMessages(b, g, sessions(benchEvents, 10_000))
	const batch = 200
	for i := 0; i < len(messages); i += batch {
		require.NoError(b, g.handle(b.Context(), messages[i:i+batch]))
	}
	head, err := g.store.Head(b.Context())
	require.NoError(b, err)
	n := 0
	for b.Loop() {
		x, err := openIndex(b.Context(), g.options(filepath.Join(b.TempDir(), strconv.Itoa(n))), g.store)
		require.NoError(b, err)
		require.NoError(b, g.catcher.catchUp(b.Context(), x))
		require.NoError(b, x.close())
		n++
	}
	b.ReportMetric(float64(head)*float64(n)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkRecordRemotely records as BenchmarkRecord does, into a store to which
// every append and every question takes half a millisecond: with one append at a
// time, which is the yardstick, with as many as the default, and with newcomers
// in order. Those are people whom the log does not know yet: 1 in 20 events of
// visits, and all of them in the other traffic.
func BenchmarkRecordRemotely(b *testing.B) {
	const batch, events = 50, 20_000
	for _, traffic := range []struct {
		name   string
		events func() []*eventv1.Event
	}{
		{"visits", func() []*eventv1.Event { return sessions(events, events/20) }},
		{"newcomers", func() []*eventv1.Event {
			all := make([]*eventv1.Event, events)
			for i := range all {
				all[i] = page(strconv.Itoa(i), "anonymous_id=device-"+strconv.Itoa(i))
			}
			return all
		}},
	} {
		for _, how := range []struct {
			name     string
			inFlight int
			inOrder  bool
		}{{"one", 1, false}, {"many", 64, false}, {"many-newcomers-in-order", 64, true}} {
			b.Run(traffic.name+"/"+how.name, func(b *testing.B) {
				begin := func() *rig {
					g := newRig(b, remoteLog(b))
					g.deps.AppendsInFlight, g.deps.NewcomersInOrder = how.inFlight, how.inOrder
					return g
				}
				g := begin()
				messages := benchMessages(b, g, traffic.events())
				n := 0
				for b.Loop() {
					at := n * batch % len(messages)
					if n > 0 && at == 0 {
						b.StopTimer()
						g = begin()
						b.StartTimer()
					}
					require.NoError(b, g.handle(b.Context(), messages[at:at+batch]))
					n++
				}
				b.ReportMetric(float64(batch*benchPerMessage*n)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// remoteLog is a store in memory that is half a millisecond away.
func remoteLog(b *testing.B) eventstore.Store {
	b.Helper()
	travel := func() { <-time.After(500 * time.Microsecond) }
	return &remote{
		Store: openLog(b),
		around: func(_ string, do appendOnce) (eventstore.Appended, error) {
			travel()
			return do()
		},
		asked: func() error {
			travel()
			return nil
		},
	}
}
