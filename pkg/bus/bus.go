package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Bus is a connection to NATS with the ingress stream set up. All methods may
// be called concurrently.
type Bus struct {
	cfg     Config
	logger  *slog.Logger
	metrics *metrics
	newID   func() (uuid.UUID, error)

	embedded  *embedded // nil at an external NATS
	nc        *nats.Conn
	js        jetstream.JetStream
	publisher *Publisher

	closing chan struct{} // closed when Close begins
	mu      sync.Mutex    // guards closed and calls.Add
	closed  bool
	calls   sync.WaitGroup // calls that Close waits for
	done    chan struct{}  // closed when Close is through
}

// Option sets what a Bus depends on.
type Option func(*options)

type options struct {
	logger     *slog.Logger
	registerer prometheus.Registerer
	newID      func() (uuid.UUID, error)
}

// WithLogger sets where the bus and the embedded server log. Defaults to
// slog.Default.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithMetrics registers the bus's metrics until Close. Defaults to none.
func WithMetrics(r prometheus.Registerer) Option { return func(o *options) { o.registerer = r } }

// WithIDs sets where the ids of CloudEvents come from. Defaults to
// uuid.NewV7.
func WithIDs(f func() (uuid.UUID, error)) Option { return func(o *options) { o.newID = f } }

// Open starts the embedded server or connects to the external one, and sets up
// the ingress stream. It fails with ErrInvalid, ErrAddressInUse, ErrInUse,
// ErrUnavailable and ErrIncompatible. ctx bounds opening only.
func Open(ctx context.Context, cfg Config, opts ...Option) (_ *Bus, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	o := options{logger: slog.Default(), newID: uuid.NewV7}
	for _, opt := range opts {
		opt(&o)
	}
	b := &Bus{
		cfg: cfg, logger: o.logger, newID: o.newID,
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if cfg.embedded() {
		// Not bounded by ConnectTimeout: bringing back a large stream takes
		// the time that it takes.
		if b.embedded, err = startEmbedded(ctx, cfg, o.logger); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	in := newInbox(o.logger)
	if b.nc, err = connect(ctx, cfg, b.embedded, in.lost, o.logger); err != nil {
		return nil, err
	}
	if err := in.open(b.nc); err != nil {
		return nil, err
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	if err := b.reconcile(ctx); err != nil {
		return nil, err
	}
	if b.metrics, err = newMetrics(o.registerer, b); err != nil {
		return nil, err
	}
	b.publisher = newPublisher(b, in)
	return b, nil
}

// Publisher is the way in. There is one, shared by everybody.
func (b *Bus) Publisher() *Publisher { return b.publisher }

// Addr is where other processes reach the embedded server, host:port; empty at
// an external NATS.
func (b *Bus) Addr() string {
	if b.embedded == nil {
		return ""
	}
	return b.embedded.addr()
}

// Healthy says what is wrong, without asking the server: nil, or ErrUnavailable
// while there is no connection or no JetStream.
func (b *Bus) Healthy() error {
	select {
	case <-b.closing:
		return errClosed
	default:
	}
	if b.embedded != nil {
		if err := b.embedded.healthy(); err != nil {
			return err
		}
	}
	if s := b.nc.Status(); s != nats.CONNECTED {
		return fmt.Errorf("%w: the connection to NATS is %s", ErrUnavailable, s)
	}
	return nil
}

// Backlog is what the ingress stream holds.
type Backlog struct {
	// Messages that are not yet acknowledged by the recorder.
	Messages uint64
	// Bytes in the stream, also those acknowledged and not yet purged, of
	// MaxBytes.
	Bytes    uint64
	MaxBytes int64
}

// Pending asks NATS for the backlog. It fails with ErrUnavailable.
func (b *Bus) Pending(ctx context.Context) (Backlog, error) {
	if !b.begin() {
		return Backlog{}, errClosed
	}
	defer b.calls.Done()
	stream, err := b.js.Stream(ctx, StreamName)
	if err != nil {
		return Backlog{}, fmt.Errorf("ask for the ingress stream: %w", classify(ctx, err))
	}
	info := stream.CachedInfo()
	backlog := Backlog{Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes}
	consumer, err := stream.Consumer(ctx, ConsumerName)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return backlog, nil
	}
	if err != nil {
		return Backlog{}, fmt.Errorf("ask for the ingress consumer: %w", classify(ctx, err))
	}
	// Not the consumer's own count, which lags behind what was just published.
	floor := consumer.CachedInfo().AckFloor.Stream
	if first := info.State.FirstSeq; first > 0 {
		floor = max(floor, first-1)
	}
	backlog.Messages = info.State.LastSeq - min(floor, info.State.LastSeq)
	return backlog, nil
}

// Reply answers whoever waits at a Message's ReplyTo. An empty one is answered
// by doing nothing. It is sent once, not acknowledged.
func (b *Bus) Reply(replyTo string, reply *interactionv1.IngressReply) error {
	if replyTo == "" {
		return nil
	}
	if !validReply(b.cfg.InboxPrefix, replyTo) {
		return fmt.Errorf("reply to an ingress batch: %w reply subject %q", ErrInvalid, replyTo)
	}
	data, err := proto.Marshal(reply)
	if err != nil {
		return fmt.Errorf("encode an ingress reply: %w", err)
	}
	if err := b.nc.Publish(replyTo, data); err != nil {
		return fmt.Errorf("reply to an ingress batch: %w", classify(context.Background(), err))
	}
	return nil
}

// Close ends every call on the bus, waits for them, and stops the embedded
// server. A Consume ends as with its context. A second call waits for the
// first.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.done
		return nil
	}
	b.closed = true
	close(b.closing)
	b.mu.Unlock()
	defer close(b.done)

	b.calls.Wait()
	b.metrics.unregister()
	if b.nc != nil {
		b.nc.Close()
	}
	if b.embedded != nil {
		return b.embedded.stop()
	}
	return nil
}

// begin keeps Close waiting until calls.Done, or says that it is too late.
func (b *Bus) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.calls.Add(1)
	return true
}
