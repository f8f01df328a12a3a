package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/bus"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// deadline is how long a test waits for what must come.
const deadline = 30 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func quiet() bus.Option { return bus.WithLogger(slog.New(slog.DiscardHandler)) }

// embedded is a configuration for a server of its own on any free port.
func embedded(t testing.TB) bus.Config {
	t.Helper()
	return bus.Config{Listen: "127.0.0.1:0", DataDir: t.TempDir()}
}

// external is a configuration for a client of b's embedded server.
func external(b *bus.Bus) bus.Config {
	return bus.Config{URL: "nats://" + b.Addr(), Replicas: 1}
}

func open(t testing.TB, cfg bus.Config, opts ...bus.Option) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), cfg, append([]bus.Option{quiet()}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// raw is a plain NATS connection, such as somebody else's program has.
func raw(t testing.TB, b *bus.Bus, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("nats://"+b.Addr(), opts...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func event(id string, size int) *eventv1.Event {
	return &eventv1.Event{Id: id, Tenant: "default", Type: "parley.track", Source: strings.Repeat("s", size)}
}

func batch(size int, ids ...string) *interactionv1.IngressBatch {
	b := &interactionv1.IngressBatch{}
	for _, id := range ids {
		b.Events = append(b.Events, event(id, size))
	}
	return b
}

func numbers(from, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%06d", from+i)
	}
	return ids
}

func publish(t testing.TB, b *bus.Bus, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, b.Publisher().Publish(t.Context(), "default", "web", batch(10, id)))
	}
}

// ids are the ids of the events in messages, in their order.
func ids(t testing.TB, messages []bus.Message) []string {
	t.Helper()
	var out []string
	for i := range messages {
		for _, ev := range decode(t, messages[i]).GetEvents() {
			out = append(out, ev.GetId())
		}
	}
	return out
}

// consuming runs a Consume in the background.
type consuming struct {
	t      testing.TB
	cancel context.CancelFunc
	result chan error

	mu      sync.Mutex
	seen    []string
	changed chan struct{}
}

// consume collects the ids of everything that hook lets pass.
func consume(t testing.TB, b *bus.Bus, opts bus.ConsumeOptions, hook func(ctx context.Context, batch []bus.Message) error) *consuming {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &consuming{t: t, cancel: cancel, result: make(chan error, 1), changed: make(chan struct{})}
	go func() {
		c.result <- b.Consume(ctx, opts, func(ctx context.Context, messages []bus.Message) error {
			if hook != nil {
				if err := hook(ctx, messages); err != nil {
					return err
				}
			}
			c.mu.Lock()
			c.seen = append(c.seen, ids(t, messages)...)
			close(c.changed)
			c.changed = make(chan struct{})
			c.mu.Unlock()
			return nil
		})
	}()
	t.Cleanup(cancel)
	return c
}

// until waits for n ids and answers all that there are.
func (c *consuming) until(n int) []string {
	c.t.Helper()
	timeout := time.After(deadline)
	for {
		c.mu.Lock()
		seen, changed := c.seen[:len(c.seen):len(c.seen)], c.changed
		c.mu.Unlock()
		if len(seen) >= n {
			return seen
		}
		select {
		case <-changed:
		case err := <-c.result:
			c.t.Fatalf("Consume ended after %d of %d events: %v", len(seen), n, err)
		case <-timeout:
			c.t.Fatalf("%d of %d events came", len(seen), n)
		}
	}
}

// stop ends it and waits.
func (c *consuming) stop() {
	c.t.Helper()
	c.cancel()
	require.NoError(c.t, c.ended())
}

func (c *consuming) ended() error {
	c.t.Helper()
	select {
	case err := <-c.result:
		return err
	case <-time.After(deadline):
		c.t.Fatal("Consume has not ended")
		return nil
	}
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, deadline, 5*time.Millisecond, what)
}
