package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

func TestSplitKeepsEverythingWithinTheLimits(t *testing.T) {
	t.Parallel()
	for _, l := range []limits{
		{bytes: 1 << 20, hard: 1 << 20, events: 1000},
		{bytes: 1 << 20, hard: 1 << 20, events: 3},
		{bytes: 1000, hard: 5000, events: 1000},
		{bytes: 1, hard: 5000, events: 1000},
	} {
		for n := range 40 {
			whole := &interactionv1.IngressBatch{}
			for i := range n {
				whole.Events = append(whole.Events, &eventv1.Event{Id: fmt.Sprint(i), Source: strings.Repeat("x", i*i*3)})
			}
			for i := range n / 4 {
				whole.Quarantined = append(whole.Quarantined, &interactionv1.QuarantinedBody{Id: fmt.Sprint(i), Body: make([]byte, i*300)})
			}
			chunks, err := split(whole, l)
			require.NoError(t, err)
			merged := &interactionv1.IngressBatch{}
			for _, c := range chunks {
				part := &interactionv1.IngressBatch{}
				require.NoError(t, proto.Unmarshal(c.data, part))
				require.Equal(t, len(part.GetEvents()), c.events)
				require.LessOrEqual(t, c.events, l.events)
				require.LessOrEqual(t, len(c.data), l.hard)
				if len(part.GetEvents())+len(part.GetQuarantined()) > 1 {
					require.LessOrEqual(t, len(c.data), l.bytes)
				}
				require.LessOrEqual(t, cap(c.data), len(c.data), "the size was computed right")
				proto.Merge(merged, part)
			}
			require.True(t, proto.Equal(whole, merged))
		}
	}
	_, err := split(&interactionv1.IngressBatch{Events: []*eventv1.Event{{Source: strings.Repeat("x", 5000)}}}, limits{bytes: 10, hard: 5000, events: 10})
	require.ErrorIs(t, err, ErrTooLarge)
}

// delivery is a message as the consumer hands it out.
type delivery struct {
	jetstream.Msg
	consumer, stream uint64
	err              error
}

func (d delivery) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Consumer: d.consumer, Stream: d.stream}}, d.err
}
func (delivery) Subject() string      { return "ingress.default.web" }
func (delivery) Data() []byte         { return nil }
func (delivery) Headers() nats.Header { return nil }

func TestDeliveriesThatAreLostAreNoticed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   []delivery
		want []uint64
		ok   bool
	}{
		"in order":              {[]delivery{{consumer: 1, stream: 5}, {consumer: 2, stream: 6}}, []uint64{5, 6}, true},
		"deleted in between":    {[]delivery{{consumer: 1, stream: 5}, {consumer: 2, stream: 9}}, []uint64{5, 9}, true},
		"delivered again":       {[]delivery{{consumer: 1, stream: 5}, {consumer: 2, stream: 6}, {consumer: 3, stream: 5}, {consumer: 4, stream: 7}}, []uint64{5, 6, 7}, true},
		"lost":                  {[]delivery{{consumer: 1, stream: 5}, {consumer: 3, stream: 7}}, nil, false},
		"first lost":            {[]delivery{{consumer: 2, stream: 6}}, nil, false},
		"no consumer's message": {[]delivery{{err: errors.New("no metadata")}}, nil, false},
	} {
		s := &session{queue: newQueue(10, 1<<20)}
		for _, d := range c.in {
			s.deliver(d)
		}
		if !c.ok {
			require.Error(t, s.queue.failure(), name)
			continue
		}
		items, err := s.queue.take(t.Context(), nil, 10, 1<<20, 0)
		require.NoError(t, err, name)
		var got []uint64
		for _, it := range items {
			got = append(got, it.Sequence)
		}
		require.Equal(t, c.want, got, name)
	}
}

func TestQueueHoldsBackAndLetsGo(t *testing.T) {
	t.Parallel()
	q := newQueue(3, 1<<20)
	const n = 1000
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		for i := range uint64(n) {
			q.push(item{Message: Message{Sequence: i, Data: make([]byte, i%7)}})
		}
	}()
	var next uint64
	for next < n {
		items, err := q.take(t.Context(), nil, 2, 1<<20, 0)
		require.NoError(t, err)
		require.LessOrEqual(t, len(items), 2)
		for _, it := range items {
			require.Equal(t, next, it.Sequence)
			next++
		}
	}
	<-pushed
	require.Zero(t, q.bytes)

	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := q.take(ctx, nil, 1, 1, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	// A push that is held back is let go when the queue fails.
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		for range 10 {
			q.push(item{})
		}
	}()
	broken := errors.New("broken")
	q.fail(broken)
	q.fail(errors.New("later"))
	<-blocked
	_, err = q.take(t.Context(), nil, 1, 1, 0)
	require.ErrorIs(t, err, broken)
}

func TestAcknowledgements(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer answer
		want   error
	}{
		"taken":           {answer{msg: &nats.Msg{Data: []byte(`{"stream":"PARLEY_INGRESS","seq":7}`)}}, nil},
		"full":            {answer{msg: &nats.Msg{Data: []byte(`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"PARLEY_INGRESS","seq":0}`)}}, ErrFull},
		"disk failing":    {answer{msg: &nats.Msg{Data: []byte(`{"error":{"code":503,"err_code":10077,"description":"no space"}}`)}}, ErrUnavailable},
		"account's limit": {answer{msg: &nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}}`)}}, ErrFull},
		"out of disk":     {answer{msg: &nats.Msg{Data: []byte(`{"error":{"code":503,"err_code":10023,"description":"insufficient resources"}}`)}}, ErrFull},
		"too large":       {answer{msg: &nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}`)}}, ErrTooLarge},
		"nobody there":    {answer{msg: &nats.Msg{Header: nats.Header{"Status": {"503"}}}}, ErrUnavailable},
		"another stream":  {answer{msg: &nats.Msg{Data: []byte(`{"stream":"THEIRS","seq":7}`)}}, ErrUnavailable},
		"no JSON":         {answer{msg: &nats.Msg{Data: []byte(`+ACK`)}}, ErrUnavailable},
		"connection lost": {answer{err: nats.ErrDisconnected}, ErrUnavailable},
	} {
		err := classify(t.Context(), c.answer.acknowledged())
		if c.want == nil {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, c.want, name)
		}
	}
}

func TestWhoWaitsHearsOfALostConnection(t *testing.T) {
	t.Parallel()
	in := newInbox(slog.New(slog.DiscardHandler))
	first, second, third := in.expect(), in.expect(), in.expect()
	in.forget(first)
	in.deliver(&nats.Msg{Subject: in.prefix + second.token})
	in.deliver(&nats.Msg{Subject: in.prefix + second.token})
	in.lost(nats.ErrDisconnected)
	require.Empty(t, first.answer)
	require.NoError(t, (<-second.answer).err)
	require.ErrorIs(t, (<-third.answer).err, nats.ErrDisconnected)
	require.Empty(t, in.waiters)
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	cfg := Config{Token: "hunter2", Password: "hunter2"}
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("config", "token", cfg.Token, "config", cfg)
	text, err := cfg.Token.MarshalText()
	require.NoError(t, err)
	all := out.String() + fmt.Sprintf("%v %+v %#v %s %q", cfg, cfg, cfg, cfg.Token, cfg.Token) + string(text)
	require.NotContains(t, all, "hunter2")
	require.Empty(t, Secret("").String())
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	require.Equal(t, time.Millisecond, backoff(0, time.Millisecond, time.Second))
	require.Equal(t, 8*time.Millisecond, backoff(3, time.Millisecond, time.Second))
	require.Equal(t, time.Second, backoff(1_000_000, time.Millisecond, time.Second))
}

func FuzzParseSubject(f *testing.F) {
	for _, s := range []string{"ingress.default.web", "ingress.a_1.in_person", "ingress..web", "ingress.a.b.c", "ingress.A.b", "ingress", "", "ingress._a.b", "ingress.a.1b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tenant, channel, ok := ParseSubject(s)
		if !ok {
			require.Empty(t, tenant+channel)
			return
		}
		again, err := Subject(tenant, channel)
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

func FuzzValidReply(f *testing.F) {
	for _, s := range []string{"_INBOX.a.1", "_INBOX.", "_INBOX.a..b", "_INBOX.*", "_INBOX.a b", "$JS.API.x", "_INBOX.a\r\nPUB x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if validReply("_INBOX", s) {
			require.True(t, strings.HasPrefix(s, "_INBOX."))
			require.False(t, strings.ContainsAny(s, "*> \t\r\n\x00"))
			require.NotContains(t, s, "..")
			require.False(t, strings.HasSuffix(s, "."))
		}
	})
}
