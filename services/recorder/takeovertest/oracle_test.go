package takeovertest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/recorder"
)

// tap hears all that is published, in its order: everything goes over one
// connection, whose messages reach it and the ingress stream alike.
type tap struct {
	mu       sync.Mutex
	messages []bus.Message
}

func listen(t *testing.T, address string) *tap {
	t.Helper()
	nc, err := nats.Connect("nats://" + address)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	p := &tap{}
	sub, err := nc.Subscribe("ingress.>", func(m *nats.Msg) {
		tenant, channel, _ := bus.ParseSubject(m.Subject)
		p.mu.Lock()
		defer p.mu.Unlock()
		number := len(p.messages)
		p.messages = append(p.messages, bus.Message{
			Subject: m.Subject, Tenant: tenant, Channel: channel, Header: m.Header, Data: m.Data,
			Sequence: uint64(number + 1), Published: begun, ReplyTo: strconv.Itoa(number),
		})
	})
	require.NoError(t, err)
	require.NoError(t, sub.SetPendingLimits(-1, -1))
	require.NoError(t, nc.Flush())
	return p
}

func (p *tap) heard() []bus.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.messages[:len(p.messages):len(p.messages)]
}

// undisturbed stands in for NATS: it hands messages over in batches that have
// nothing to do with those of before, and keeps the answers.
type undisturbed struct {
	messages []bus.Message
	rng      *rand.Rand
	answers  map[string]*interactionv1.IngressReply
	done     chan struct{}
}

func (u *undisturbed) Consume(ctx context.Context, _ bus.ConsumeOptions, handler bus.Handler) error {
	for rest := u.messages; len(rest) > 0; {
		n := 1 + u.rng.IntN(min(len(rest), 200))
		if err := handler(ctx, rest[:n]); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
		rest = rest[n:]
	}
	close(u.done)
	<-ctx.Done()
	return nil
}

func (u *undisturbed) Reply(to string, reply *interactionv1.IngressReply) error {
	u.answers[to] = reply
	return nil
}

func (u *undisturbed) Healthy() error { return nil }

// record runs a recorder of its own until it has taken all of u.
func record(t *testing.T, store eventstore.Store, u *undisturbed, dir string) {
	t.Helper()
	rec, err := newRecorder(recorder.Deps{Log: store, Bus: u, IndexDir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- rec.Run(ctx) }()
	timer := time.NewTimer(10 * deadline)
	defer timer.Stop()
	select {
	case <-u.done:
		cancel()
		err = <-ended
	case err = <-ended:
	case <-timer.C:
		cancel()
		require.NoError(t, <-ended)
		require.Fail(t, "an undisturbed recorder does not come to the end")
	}
	require.NoError(t, err)
}

// checkUndisturbed compares the log with that of one recorder that nobody
// disturbs, record by record (of each stream, where streams have no common
// order), and what was answered to commands with what it answers.
func checkUndisturbed(t *testing.T, store eventstore.Store, messages []bus.Message, l *load, seed uint64, batches bool) {
	t.Helper()
	other := openStore(t)
	u := &undisturbed{
		messages: messages, rng: rand.New(rand.NewPCG(seed, 3)), answers: map[string]*interactionv1.IngressReply{}, done: make(chan struct{}),
	}
	record(t, other, u, t.TempDir())

	first := map[string]*interactionv1.IdentityResult{}
	for i := range messages {
		batch := &interactionv1.IngressBatch{}
		require.NoError(t, proto.Unmarshal(messages[i].Data, batch))
		if id := batch.GetCommand().GetId(); id != "" && first[id] == nil {
			first[id] = u.answers[messages[i].ReplyTo].GetCommand()
		}
	}
	for id, c := range l.commands {
		want, got := proto.CloneOf(first[id]), proto.CloneOf(c.result)
		got.Repeated = false
		if want.GetRefusal() != none {
			// Beside the reason, whom it was about: not recalled for a repetition.
			want.CustomerId, want.OtherCustomerId, got.CustomerId, got.OtherCustomerId = "", "", "", ""
		}
		require.True(t, proto.Equal(want, got), "command %v was answered with %v, undisturbed with %v", c, got, want)
	}

	codec := event.NewCodec()
	if !batches {
		want, got := byStream(t, codec, other), byStream(t, codec, store)
		for stream := range want {
			require.Equal(t, want[stream], got[stream], "an undisturbed recorder writes %s otherwise", stream)
		}
		require.Len(t, got, len(want), "an undisturbed recorder writes fewer streams")
		return
	}
	next, stop := iterate(t, other)
	defer stop()
	for got, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		want := next()
		require.NotNil(t, want, "the log has more than an undisturbed recorder writes, from position %d on: %s %s", got.Position, got.Stream, got.ID)
		place := func(r *eventstore.Record) []any {
			return []any{r.Position, r.Stream, r.Revision, r.Type, r.ID, r.ContentType, string(r.Metadata)}
		}
		require.Equal(t, place(want), place(got), "an undisturbed recorder writes otherwise")
		require.Equal(t, content(t, codec, want), content(t, codec, got), "position %d: %s %s", got.Position, got.Stream, got.Type)
	}
	require.Nil(t, next(), "the log lacks what an undisturbed recorder writes")
}

// byStream is the content of a log, stream by stream.
func byStream(t *testing.T, codec *event.Codec, store eventstore.Store) map[string][]string {
	t.Helper()
	streams := map[string][]string{}
	for rec, err := range store.ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		streams[rec.Stream] = append(streams[rec.Stream],
			fmt.Sprintf("%d %s %s %d %s %x", int64(rec.Revision), rec.ID, rec.Type, rec.ContentType, rec.Metadata, content(t, codec, rec)))
	}
	return streams
}

func iterate(t *testing.T, store eventstore.Store) (next func() *eventstore.Record, stop func()) {
	t.Helper()
	records := make(chan *eventstore.Record)
	ctx, cancel := context.WithCancel(t.Context())
	var failure error
	go func() {
		defer close(records)
		for rec, err := range store.ReadAll(ctx, eventstore.ReadAllOptions{}) {
			if err != nil {
				failure = err
				return
			}
			select {
			case records <- rec:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() *eventstore.Record {
			t.Helper()
			rec, ok := <-records
			if !ok {
				require.NoError(t, failure)
			}
			return rec
		}, func() {
			cancel()
			for range records {
				continue
			}
		}
}

// content is a record's data without the time at which NATS took a message,
// which the tap does not hear.
func content(t *testing.T, codec *event.Codec, rec *eventstore.Record) string {
	t.Helper()
	var m proto.Message
	switch {
	case rec.Type == event.TypeQuarantine:
		body := &interactionv1.QuarantinedBody{}
		require.NoError(t, proto.Unmarshal(rec.Data, body))
		body.ReceivedTime = nil
		m = body
	case identity.IsIdentityType(rec.Type):
		ev := &eventv1.RecordedEvent{}
		require.NoError(t, codec.DecodeInto(rec, ev))
		if ev.GetEvent().GetSource() != deskSource {
			return string(rec.Data)
		}
		ev.Event.ReceivedTime = nil
		m = ev.GetEvent()
	default:
		return string(rec.Data)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return string(data)
}

// checkIndexes compares the indexes that recorders left behind with one made
// from the log alone.
func checkIndexes(t *testing.T, store eventstore.Store, dirs ...string) {
	t.Helper()
	fresh := t.TempDir()
	record(t, store, &undisturbed{done: make(chan struct{})}, fresh)
	want := indexIn(t, fresh)
	require.NotEmpty(t, want)
	for _, dir := range dirs {
		got := indexIn(t, dir)
		for k, v := range want {
			require.Equal(t, v, got[k], "index %s, key %q", dir, k)
		}
		require.Len(t, got, len(want), "index %s", dir)
	}
}

// indexIn is all that an index holds.
func indexIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	db, err := pebble.Open(filepath.Join(dir, "index"), &pebble.Options{ReadOnly: true, Logger: silent{}})
	require.NoError(t, err)
	it, err := db.NewIter(nil)
	require.NoError(t, err)
	all := map[string]string{}
	for it.First(); it.Valid(); it.Next() {
		all[string(it.Key())] = string(it.Value())
	}
	require.NoError(t, it.Error())
	require.NoError(t, it.Close())
	require.NoError(t, db.Close())
	return all
}

// silent is a logger for Pebble.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}
