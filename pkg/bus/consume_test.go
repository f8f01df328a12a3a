package bus_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
)

var errHandler = errors.New("not now")

func TestFailedBatchIsRetriedInPlace(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, numbers(0, 40)...)
	var tries [][]string
	c := consume(t, b, bus.ConsumeOptions{MaxMessages: 8, RetryMin: time.Millisecond, RetryMax: 4 * time.Millisecond},
		func(_ context.Context, messages []bus.Message) error {
			tries = append(tries, ids(t, messages))
			if len(tries)%4 != 0 {
				return errHandler
			}
			return nil
		})
	// More arrives meanwhile and must neither join the batch nor overtake it.
	publish(t, b, numbers(40, 40)...)
	require.Equal(t, numbers(0, 80), c.until(80))
	c.stop()
	for i := range tries {
		if i%4 != 0 {
			require.Equal(t, tries[i-1], tries[i], "the same batch again")
		}
	}
}

func TestWhatIsThereIsHandedOutAtOnce(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, numbers(0, 100)...)
	var sizes []int
	entered, release := make(chan struct{}, 10), make(chan struct{})
	c := consume(t, b, bus.ConsumeOptions{MaxMessages: 50, MaxWait: 5 * time.Second}, func(_ context.Context, messages []bus.Message) error {
		sizes = append(sizes, len(messages))
		entered <- struct{}{}
		<-release
		return nil
	})
	for range 2 {
		<-entered
		release <- struct{}{}
	}
	c.until(100)
	c.stop()
	require.Equal(t, []int{50, 50}, sizes, "lingering ends when the batch is full")

	publish(t, b, numbers(100, 5)...)
	sizes = nil
	c = consume(t, b, bus.ConsumeOptions{MaxBytes: 1}, func(_ context.Context, messages []bus.Message) error {
		sizes = append(sizes, len(messages))
		return nil
	})
	c.until(5)
	c.stop()
	require.Equal(t, []int{1, 1, 1, 1, 1}, sizes, "one message is a batch however large")
}

func TestDrainCompletesWhatWasBegun(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, numbers(0, 10)...)
	entered, release := make(chan struct{}), make(chan struct{})
	var handlerErr error
	c := consume(t, b, bus.ConsumeOptions{MaxMessages: 3}, func(ctx context.Context, _ []bus.Message) error {
		close(entered)
		<-release
		handlerErr = ctx.Err()
		return nil
	})
	<-entered
	c.cancel()
	close(release)
	require.NoError(t, c.ended())
	require.NoError(t, handlerErr, "it may complete")
	begun := len(c.seen)
	require.NotZero(t, begun)

	// What was handled is acknowledged; the rest is left for the next one.
	c = consume(t, b, bus.ConsumeOptions{}, nil)
	require.Equal(t, numbers(begun, 10-begun), c.until(10-begun))
	c.stop()
}

func TestDrainDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, "a")
	entered := make(chan struct{})
	c := consume(t, b, bus.ConsumeOptions{DrainTimeout: 20 * time.Millisecond}, func(ctx context.Context, _ []bus.Message) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	<-entered
	c.stop()
	c = consume(t, b, bus.ConsumeOptions{}, nil)
	require.Equal(t, []string{"a"}, c.until(1), "what failed while draining comes again")
	c.stop()
}

func TestClosingTheBusEndsConsuming(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, "a")
	entered := make(chan struct{})
	c := consume(t, b, bus.ConsumeOptions{RetryMin: time.Hour, RetryMax: time.Hour}, func(context.Context, []bus.Message) error {
		close(entered)
		return errHandler
	})
	<-entered
	require.NoError(t, b.Close())
	require.NoError(t, c.ended())
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	other := open(t, external(b))
	publish(t, b, numbers(0, 50)...)

	first := consume(t, b, bus.ConsumeOptions{MaxMessages: 10}, nil)
	require.Equal(t, numbers(0, 50), first.until(50))
	second := consume(t, other, bus.ConsumeOptions{MaxMessages: 10}, nil)
	require.ErrorIs(t, first.ended(), bus.ErrTakenOver)
	publish(t, b, numbers(50, 50)...)
	eventually(t, "the rest", func() bool {
		second.mu.Lock()
		defer second.mu.Unlock()
		return len(second.seen) > 0 && second.seen[len(second.seen)-1] == "000099"
	})
	got := second.until(50)
	require.Equal(t, numbers(100-len(got), len(got)), got, "in order and without a gap")
	second.stop()
}

func TestTakeoverFromOneThatIsStuck(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, numbers(0, 20)...)
	failed := make(chan struct{}, 1000)
	first := consume(t, b, bus.ConsumeOptions{MaxMessages: 5, RetryMin: time.Millisecond, RetryMax: time.Millisecond},
		func(context.Context, []bus.Message) error {
			select {
			case failed <- struct{}{}:
			default:
			}
			return errHandler
		})
	<-failed
	second := consume(t, b, bus.ConsumeOptions{}, nil)
	require.Equal(t, numbers(0, 20), second.until(20))
	require.ErrorIs(t, first.ended(), bus.ErrTakenOver)
	second.stop()
}

func TestOperatorDeletesTheConsumer(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	js, err := jetstream.New(raw(t, b))
	require.NoError(t, err)
	c := consume(t, b, bus.ConsumeOptions{}, nil)
	for i := range 5 {
		publish(t, b, numbers(i*20, 20)...)
		c.until(i*20 + 20)
		require.NoError(t, js.DeleteConsumer(t.Context(), bus.StreamName, bus.ConsumerName))
	}
	publish(t, b, numbers(100, 20)...)
	require.Equal(t, numbers(0, 120), c.until(120))
	c.stop()
}

func TestOperatorDeletesMessagesAndTheStream(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	js, err := jetstream.New(raw(t, b))
	require.NoError(t, err)
	publish(t, b, numbers(0, 10)...)
	stream, err := js.Stream(t.Context(), bus.StreamName)
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), 5))
	c := consume(t, b, bus.ConsumeOptions{}, nil)
	require.Equal(t, append(numbers(0, 4), numbers(5, 5)...), c.until(9), "a deleted message is no gap")

	require.NoError(t, js.DeleteStream(t.Context(), bus.StreamName))
	eventually(t, "the stream again", func() bool {
		return b.Publisher().Publish(t.Context(), "default", "web", batch(10, "again")) == nil
	})
	got := c.until(10)
	require.Equal(t, "again", got[len(got)-1], "a new stream's sequences begin anew")
	c.stop()
}

func TestAcknowledgedIsPurged(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	publish(t, b, numbers(0, 100)...)
	backlog, err := b.Pending(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(100), backlog.Messages)
	require.NotZero(t, backlog.Bytes)
	c := consume(t, b, bus.ConsumeOptions{}, nil)
	c.until(100)
	eventually(t, "purged while consuming goes on", func() bool {
		backlog, err := b.Pending(t.Context())
		return err == nil && backlog.Messages == 0 && backlog.Bytes == 0
	})
	publish(t, b, numbers(100, 3)...)
	c.until(103)
	c.stop()
	backlog, err = b.Pending(t.Context())
	require.NoError(t, err)
	require.Zero(t, backlog.Bytes, "and at the end")
}

func TestNothingIsLostOrSwappedOnConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	proxy := newProxy(t, b.Addr())
	client := open(t, bus.Config{URL: "nats://" + proxy.addr(), Replicas: 1})
	const n = 1000
	publish(t, b, numbers(0, n)...)
	cut := 0
	c := consume(t, client, bus.ConsumeOptions{MaxMessages: 20}, func(context.Context, []bus.Message) error {
		// In the middle of what was asked for ahead.
		if cut++; cut%4 == 0 && cut < 40 {
			proxy.cut()
		}
		return nil
	})
	// Within one Consume the floor is known, so nothing comes twice either.
	require.Equal(t, numbers(0, n), c.until(n))
	c.stop()
}

// proxy passes TCP on and cuts it.
type proxy struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{l: l, to: to}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) serve() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		pass := func(dst, src net.Conn) {
			_, _ = io.Copy(dst, src)
			_ = dst.Close()
			_ = src.Close()
		}
		p.wg.Go(func() { pass(in, out) })
		p.wg.Go(func() { pass(out, in) })
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// The backlog counts what was acknowledged to its publisher at once, also while
// the consumer has it in hand.
func TestBacklogCountsWhatWasJustPublished(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	release := make(chan struct{})
	c := consume(t, b, bus.ConsumeOptions{}, func(ctx context.Context, _ []bus.Message) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	for i := range 300 {
		publish(t, b, numbers(i, 1)...)
		backlog, err := b.Pending(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(i+1), backlog.Messages)
	}
	close(release)
	c.until(300)
	eventually(t, "handled", func() bool {
		backlog, err := b.Pending(t.Context())
		return err == nil && backlog.Messages == 0
	})
	c.stop()
}
