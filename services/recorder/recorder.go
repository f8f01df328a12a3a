package recorder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Recorder records what comes in. New makes one, Run runs it.
type Recorder struct {
	deps    Deps
	log     *slog.Logger
	checker *checker
	metrics *metrics

	index   *index // while Run runs; its goroutine's
	catcher *catcher
	// stampedBy is the version of the rules by which the batch in hand is stamped.
	stampedBy int

	mu      sync.Mutex
	failure error // why it is not recording now; nil while it is, or while another one does
	health  indexHealth

	// beforeCommit stands between an append and the index's commit, for tests
	// of a crash there.
	beforeCommit func() error
}

// Bus is what the recorder needs of the bus. *bus.Bus is one.
type Bus interface {
	// Consume hands out the ingress stream in order; see bus.Bus.
	Consume(ctx context.Context, opts bus.ConsumeOptions, handler bus.Handler) error
	// Reply answers whoever waits for what became of a message.
	Reply(replyTo string, reply *interactionv1.IngressReply) error
	// Healthy says what is wrong.
	Healthy() error
}

// Lease is the right to record. *bus.Lease is one.
type Lease interface {
	// Acquire waits until it is held, or ctx ends.
	Acquire(ctx context.Context) (*bus.Held, error)
}

// Deps is what a recorder stands on. Nothing of it is closed by the recorder.
type Deps struct {
	// Log is the event store. Required.
	Log eventstore.Store
	// Bus is where interactions come from. Required.
	Bus Bus
	// Lease is held by the one of several recorders that records; the others
	// stand by. Defaults to none: there is only one.
	Lease Lease
	// Codec makes records. Required.
	Codec *event.Codec
	// Validator checks events. Defaults to a new one.
	Validator *event.Validator
	// Resolver knows the identity rules and the secret. Required.
	Resolver *identity.Resolver
	// IndexDir is where the index is kept. It may be deleted while the recorder
	// is stopped. Required.
	IndexDir string
	// IndexCacheBytes is the size of the index's cache of blocks. Defaults to
	// 32 MiB.
	IndexCacheBytes int64
	// Consume says how much is taken at once. Its zero value is a good one.
	Consume bus.ConsumeOptions
	// AppendsInFlight is how many appends are made at once to a store that
	// cannot commit many together. Defaults to 64.
	AppendsInFlight int
	// NewcomersInOrder has such a store get to know profiles in the order in
	// which they came, one append after the other, so that customers are named
	// as they would be by a store that commits all at once. Defaults to no: which
	// one is the oldest of those that one commit brings is left to the store.
	NewcomersInOrder bool
	// Now defaults to time.Now. It is used for logs and metrics only.
	Now func() time.Time
	// Logger defaults to slog.Default.
	Logger *slog.Logger
	// Metrics defaults to none.
	Metrics prometheus.Registerer
}

// Bounds on one commit. An event brings at most a hundred and some records
// with it, so that a commit stays within the store's own bounds.
const (
	chunkRecords = 4000
	chunkBytes   = 4 << 20

	// maxConflicts in a row are tried again at once; then the bus's back-off is
	// waited for.
	maxConflicts = 8
)

var (
	errStarting = errors.New("the recorder's index is being brought up to the log")
	errStopped  = errors.New("the recorder does not run")
)

// New makes a recorder; it does nothing before Run.
func New(deps Deps) (*Recorder, error) {
	switch {
	case deps.Log == nil, deps.Bus == nil, deps.Codec == nil, deps.Resolver == nil:
		return nil, errors.New("recorder: Log, Bus, Codec and Resolver are required")
	case deps.IndexDir == "":
		return nil, errors.New("recorder: IndexDir is required")
	}
	if deps.Validator == nil {
		v, err := event.NewValidator(&interactionv1.QuarantinedBody{})
		if err != nil {
			return nil, fmt.Errorf("recorder: %w", err)
		}
		deps.Validator = v
	}
	if deps.IndexCacheBytes <= 0 {
		deps.IndexCacheBytes = 32 << 20
	}
	if deps.AppendsInFlight <= 0 {
		deps.AppendsInFlight = 64
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	r := &Recorder{deps: deps, log: deps.Logger, metrics: newMetrics(deps.Metrics), failure: errStopped}
	r.checker = &checker{validator: deps.Validator, resolver: deps.Resolver, metrics: r.metrics, log: r.log}
	r.catcher = &catcher{store: deps.Log, codec: deps.Codec, log: r.log, now: deps.Now, skipped: r.metrics.unreadable.Inc}
	return r, nil
}

// Run brings the index up to the log and then records until ctx ends; the
// batch in hand is completed. It returns nil then, and otherwise only where it
// cannot begin, or, without a lease, with bus.ErrTakenOver where another recorder has begun.
// With one it records while it holds it, and stands by while another one does:
// it follows the log then. One Run at a time.
func (r *Recorder) Run(ctx context.Context) (err error) {
	r.setFailure(errStarting)
	defer func() { r.setFailure(errors.Join(errStopped, err)) }()
	if err := r.metrics.register(); err != nil {
		return err
	}
	defer r.metrics.unregister()

	r.health.set(nil)
	r.index = nil
	defer r.closeIndex()
	if err := r.start(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	r.setFailure(nil)
	if r.deps.Lease != nil {
		return r.takeTurns(ctx)
	}
	r.metrics.active.Set(1)
	defer r.metrics.active.Set(0)
	if err := r.deps.Bus.Consume(ctx, r.deps.Consume, r.handle); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

func (r *Recorder) indexOptions() indexOptions {
	return indexOptions{
		dir: r.deps.IndexDir, cacheBytes: r.deps.IndexCacheBytes, resolver: r.deps.Resolver, log: r.log, health: &r.health,
	}
}

func (r *Recorder) closeIndex() {
	if r.index == nil {
		return
	}
	if err := r.index.close(); err != nil {
		r.log.Warn("closing the recorder's index", "error", err)
	}
}

// begin opens the index, if it is not open yet, and brings it up to the log.
func (r *Recorder) begin(ctx context.Context) error {
	if r.index == nil {
		x, err := openIndex(ctx, r.indexOptions(), r.deps.Log)
		if err != nil {
			return err
		}
		r.index = x
	}
	return r.catcher.catchUp(ctx, r.index)
}

// start begins before anything is consumed, however often the store fails to
// answer.
func (r *Recorder) start(ctx context.Context) error {
	const shortest, longest = 100 * time.Millisecond, time.Second
	for wait := shortest; ; wait = min(2*wait, longest) {
		err := r.begin(ctx)
		if err == nil {
			r.metrics.position.Set(float64(r.index.position))
			return nil
		}
		if !errors.Is(err, eventstore.ErrUnavailable) && ctx.Err() == nil {
			return err
		}
		r.setFailure(err)
		r.log.Warn("the recorder cannot read the log yet", "error", err, "retry_in", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Healthy says why nothing is being recorded now; nil while all is well.
func (r *Recorder) Healthy() error {
	r.mu.Lock()
	err := r.failure
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if err := r.health.failure(); err != nil {
		return err
	}
	return r.deps.Bus.Healthy()
}

func (r *Recorder) setFailure(err error) {
	r.mu.Lock()
	r.failure = err
	r.mu.Unlock()
}

// handle records a batch of messages. An error brings the same batch again.
func (r *Recorder) handle(ctx context.Context, batch []bus.Message) (err error) {
	if len(batch) == 1 {
		ctx = batch[0].Context(ctx)
	}
	ctx, span := otel.Tracer("parley/recorder").Start(ctx, "recorder.batch")
	span.SetAttributes(attribute.Int("messages", len(batch)))
	defer func() {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
			r.metrics.failures.Inc()
			r.log.Warn("a batch could not be recorded; it will be tried again", "messages", len(batch), "error", err)
		}
		r.setFailure(err)
		span.End()
	}()

	// Before anything is stamped: the rules by which it is may have changed.
	if err := r.catcher.catchUp(ctx, r.index); err != nil {
		return err
	}
	r.stampedBy = r.index.rulesVersion
	var items []item
	ends := make([]int, len(batch)) // of each message's items
	for i := range batch {
		items = r.checker.items(items, &batch[i])
		ends[i] = len(items)
	}
	done, answered := 0, 0
	for caughtUp := true; done < len(items); {
		n, err := r.record(ctx, items[done:], caughtUp)
		if err != nil {
			return err
		}
		done += n
		caughtUp = false
		answered = r.answer(ctx, batch, items, ends, answered, done)
	}
	r.answer(ctx, batch, items, ends, answered, done)
	if len(batch) > 0 {
		r.metrics.lag.Set(max(0, r.deps.Now().Sub(batch[0].Published).Seconds()))
	}
	return nil
}

// record makes one commit of as many items as fit, and says how many. caughtUp
// says that the index is up to the log already.
func (r *Recorder) record(ctx context.Context, items []item, caughtUp bool) (int, error) {
	most := len(items)
	for conflicts := 0; ; caughtUp = false {
		if !caughtUp {
			if err := r.catcher.catchUp(ctx, r.index); err != nil {
				return 0, err
			}
		}
		r.restamp(items)
		n, p, err := r.prepare(items[:most])
		if err != nil {
			return 0, err
		}
		if p.count == 0 {
			return n, r.settle(ctx, p, items[:n], 0)
		}
		last, err := r.append(ctx, p)
		switch {
		case err == nil:
			return n, r.settle(ctx, p, items[:n], last)
		case isConflict(err):
			r.metrics.conflicts.Inc()
			if conflicts++; conflicts > maxConflicts {
				return 0, err
			}
			r.log.Info("somebody else wrote; preparing again", "error", err)
		case errors.Is(err, eventstore.ErrInvalid), errors.Is(err, eventstore.ErrTooLarge):
			// Every record was checked by itself, so it is one that should
			// not be: alone it shows which.
			if n == 1 {
				items[0].reject = &rejection{codeStoreRefused, err.Error()}
			}
			most = 1
		default:
			return 0, err
		}
	}
}

// restamp stamps items anew where the rules have changed since they were.
func (r *Recorder) restamp(items []item) {
	if r.stampedBy == r.index.rulesVersion {
		return
	}
	r.stampedBy = r.index.rulesVersion
	for i := range items {
		it := &items[i]
		if it.ev == nil || it.reject != nil {
			continue
		}
		it.ev = &eventv1.Event{}
		if err := proto.Unmarshal(it.raw, it.ev); err != nil {
			it.reject = &rejection{codeUndecodable, "no Event: " + err.Error()}
			continue
		}
		r.checker.check(it)
	}
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*eventstore.RevisionConflictError](err)
	return ok
}
