package bus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

func decode(t testing.TB, m bus.Message) *interactionv1.IngressBatch {
	t.Helper()
	b := &interactionv1.IngressBatch{}
	// Handlers call it, so it may not end the test.
	if err := proto.Unmarshal(m.Data, b); err != nil {
		t.Error(err)
	}
	return b
}

func TestWhatIsPublishedArrivesInOrder(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, numbers(0, 300)...)
	c := consume(t, b, bus.ConsumeOptions{MaxMessages: 64}, func(_ context.Context, messages []bus.Message) error {
		if len(messages) > 64 {
			return fmt.Errorf("%d messages at once", len(messages))
		}
		return nil
	})
	require.Equal(t, numbers(0, 300), c.until(300))
	publish(t, b, numbers(300, 300)...)
	require.Equal(t, numbers(0, 600), c.until(600))
	c.stop()
}

func TestMessagesAreCloudEvents(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	began := time.Now()
	require.NoError(t, b.Publisher().Publish(t.Context(), "acme", "email", batch(10, "a", "b")))
	got := make(chan bus.Message, 1)
	c := consume(t, b, bus.ConsumeOptions{}, func(_ context.Context, messages []bus.Message) error {
		got <- messages[0]
		return nil
	})
	c.until(2)
	m := <-got
	require.Equal(t, "ingress.acme.email", m.Subject)
	require.Equal(t, "acme", m.Tenant)
	require.Equal(t, "email", m.Channel)
	require.Equal(t, uint64(1), m.Sequence)
	require.Empty(t, m.ReplyTo)
	require.WithinRange(t, m.Published, began.Add(-time.Second), time.Now().Add(time.Second))
	require.Equal(t, []string{"1.0"}, m.Header[bus.HeaderSpecVersion])
	require.Equal(t, []string{"parley.ingress.batch"}, m.Header[bus.HeaderType])
	require.Equal(t, []string{"parley"}, m.Header[bus.HeaderSource])
	require.Equal(t, []string{"application/protobuf"}, m.Header[bus.HeaderContentType])
	require.Len(t, m.Header[bus.HeaderID][0], 36)
	require.Equal(t, byte('7'), m.Header[bus.HeaderID][0][14], "a UUIDv7")
	c.stop()
}

func TestOthersMayPublishOverTCP(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	nc := raw(t, b)
	for _, subject := range []string{"ingress.acme.web", "ingress.acme", "ingress.Acme.web", "ingress.acme.web.deeper"} {
		for _, reply := range []string{"_INBOX.x.1", "ingress.acme.web", "$JS.API.STREAM.DELETE.PARLEY_INGRESS", "_INBOX.*", ""} {
			_, err := nc.RequestMsgWithContext(t.Context(), &nats.Msg{
				Subject: subject, Data: []byte("{}"),
				Header: nats.Header{"ce-type": {"com.example.clicked"}, "ce-id": {"1"}, bus.HeaderReply: {reply}},
			})
			require.NoError(t, err)
		}
	}
	var got []bus.Message
	all := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		result <- b.Consume(ctx, bus.ConsumeOptions{}, func(_ context.Context, messages []bus.Message) error {
			got = append(got, messages...)
			if len(got) == 20 {
				close(all)
			}
			return nil
		})
	}()
	select {
	case <-all:
	case <-time.After(deadline):
		t.Fatal("messages are missing")
	}
	cancel()
	require.NoError(t, <-result)
	for i, m := range got {
		require.Equal(t, []byte("{}"), m.Data)
		require.Equal(t, []string{"com.example.clicked"}, m.Header[bus.HeaderType])
		if i < 5 {
			require.Equal(t, "acme", m.Tenant)
			require.Equal(t, "web", m.Channel)
		} else {
			require.Empty(t, m.Tenant+m.Channel, m.Subject)
		}
		want := ""
		if i%5 == 0 {
			want = "_INBOX.x.1"
		}
		require.Equal(t, want, m.ReplyTo, "only an inbox may be answered")
	}
	require.ErrorIs(t, b.Reply("ingress.acme.web", &interactionv1.IngressReply{}), bus.ErrInvalid)
	require.NoError(t, b.Reply("", &interactionv1.IngressReply{}))
}

// answer replies to each message as the recorder does.
func answer(b *bus.Bus, t testing.TB) func(context.Context, []bus.Message) error {
	return func(_ context.Context, messages []bus.Message) error {
		for _, m := range messages {
			reply := &interactionv1.IngressReply{LogId: "log", Position: m.Sequence * 10}
			for _, ev := range decode(t, m).GetEvents() {
				reply.Results = append(reply.Results, &interactionv1.RecordResult{EventId: ev.GetId()})
			}
			if err := b.Reply(m.ReplyTo, reply); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestRepliesOfChunksAreMergedInOrder(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	cfg := external(b)
	cfg.ChunkBytes, cfg.ChunkEvents = 4096, 7
	gateway := open(t, cfg)
	c := consume(t, b, bus.ConsumeOptions{MaxMessages: 2}, answer(b, t))

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	all := numbers(0, 100)
	sent := batch(300, all...)
	sent.Quarantined = []*interactionv1.QuarantinedBody{{Id: "q", Body: make([]byte, 5000)}}
	reply, err := gateway.Publisher().PublishAndWait(ctx, "default", "web", sent)
	require.NoError(t, err)
	var got []string
	for _, r := range reply.GetResults() {
		got = append(got, r.GetEventId())
	}
	require.Equal(t, all, got)
	require.Equal(t, "log", reply.GetLogId())
	backlog, err := b.Pending(ctx)
	require.NoError(t, err)
	require.NotZero(t, backlog.MaxBytes)
	require.GreaterOrEqual(t, reply.GetPosition(), uint64(100/7*10), "the last chunk's position")
	c.stop()
}

func TestWaitingForTheRecorderEndsWithTheContext(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := b.Publisher().PublishAndWait(ctx, "default", "web", batch(10, "a"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, bus.ErrUnavailable)
	backlog, err := b.Pending(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), backlog.Messages, "it was taken all the same")
}

func TestWaitingForTheRecorderEndsWithTheBus(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	result := make(chan error, 1)
	go func() {
		_, err := b.Publisher().PublishAndWait(t.Context(), "default", "web", batch(10, "a"))
		result <- err
	}()
	eventually(t, "published", func() bool {
		backlog, err := b.Pending(t.Context())
		return err == nil && backlog.Messages == 1
	})
	require.NoError(t, b.Close())
	require.ErrorIs(t, <-result, bus.ErrUnavailable)
	require.ErrorIs(t, b.Publisher().Publish(t.Context(), "default", "web", batch(10, "a")), bus.ErrUnavailable)
	require.ErrorIs(t, b.Consume(t.Context(), bus.ConsumeOptions{}, nil), bus.ErrUnavailable)
	require.ErrorIs(t, b.Healthy(), bus.ErrUnavailable)
	_, err := b.Pending(t.Context())
	require.ErrorIs(t, err, bus.ErrUnavailable)
}

func TestRefusedBeforeAnythingIsPublished(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	p := b.Publisher()
	large := batch(10, "a", "b")
	large.Events = append(large.Events, event("c", 2<<20))
	for name, c := range map[string]struct {
		tenant, channel string
		batch           *interactionv1.IngressBatch
		want            error
	}{
		"one event too large": {"default", "web", large, bus.ErrTooLarge},
		"tenant with a dot":   {"a.b", "web", batch(1, "a"), bus.ErrInvalid},
		"wildcard tenant":     {"*", "web", batch(1, "a"), bus.ErrInvalid},
		"no channel":          {"default", "", batch(1, "a"), bus.ErrInvalid},
		"nothing at all":      {"default", "web", &interactionv1.IngressBatch{}, nil},
	} {
		err := p.Publish(t.Context(), c.tenant, c.channel, c.batch)
		if c.want == nil {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, c.want, name)
		}
	}
	backlog, err := b.Pending(t.Context())
	require.NoError(t, err)
	require.Zero(t, backlog.Messages)
}

func TestEventsOverTheChunkBoundTravelAlone(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	sent := batch(10, "a")
	sent.Events = append(sent.Events, event("b", 900_000), event("c", 10))
	require.NoError(t, b.Publisher().Publish(t.Context(), "default", "web", sent))
	c := consume(t, b, bus.ConsumeOptions{MaxBytes: 1000}, nil)
	require.Equal(t, []string{"a", "b", "c"}, c.until(3))
	c.stop()
}

func TestFullStreamRefusesAndDropsNothing(t *testing.T) {
	t.Parallel()
	cfg := embedded(t)
	cfg.MaxIngressBytes = 1 << 20
	b := open(t, cfg)
	taken := 0
	var err error
	for ; err == nil; taken++ {
		require.Less(t, taken, 1000)
		err = b.Publisher().Publish(t.Context(), "default", "web", batch(10_000, numbers(taken, 1)...))
	}
	taken--
	require.ErrorIs(t, err, bus.ErrFull)
	require.NotErrorIs(t, err, bus.ErrUnavailable)
	require.Greater(t, taken, 50)
	require.NoError(t, b.Healthy(), "being full is no failure of the bus")

	c := consume(t, b, bus.ConsumeOptions{}, nil)
	require.Equal(t, numbers(0, taken), c.until(taken))
	eventually(t, "room again", func() bool {
		return b.Publisher().Publish(t.Context(), "default", "web", batch(10_000, numbers(taken, 1)...)) == nil
	})
	require.Equal(t, numbers(0, taken+1), c.until(taken+1))
	c.stop()
}

func TestPublishingManyChunksThroughLittleRoom(t *testing.T) {
	t.Parallel()
	cfg := embedded(t)
	cfg.MaxInFlightBytes = 2 << 20
	b := open(t, cfg)
	results := make(chan error, 4)
	for i := range 4 {
		go func() {
			results <- b.Publisher().Publish(t.Context(), "default", "web", batch(100_000, numbers(i*100, 80)...))
		}()
	}
	for range 4 {
		require.NoError(t, <-results)
	}
	c := consume(t, b, bus.ConsumeOptions{}, nil)
	require.Len(t, c.until(320), 320)
	c.stop()
}

func TestPublishEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.Publisher().Publish(ctx, "default", "web", batch(10, "a"))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, bus.ErrUnavailable)
	backlog, err := b.Pending(t.Context())
	require.NoError(t, err)
	require.Zero(t, backlog.Messages)
}
