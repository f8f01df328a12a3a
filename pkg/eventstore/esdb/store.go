package esdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/metadata"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logid"
)

// Store is an eventstore.Store in an EventStoreDB or KurrentDB cluster. Open
// makes one.
type Store struct {
	cfg     Config
	conn    *connector
	metrics *metrics
	logID   uuid.UUID
	lanes   lanes
	slots   *semaphore.Weighted
	tails   tails

	// seen is the highest position of the log's own records that the driver
	// heard of. The head is never below it.
	seen atomic.Uint64

	mu      sync.Mutex
	closed  bool
	loops   sync.WaitGroup // what runs until Close
	appends sync.WaitGroup // what Close waits for

	// doubt: an append ended without its answer since the head was asked for.
	doubt atomic.Bool

	// onClosing and onClose call a function when Close begins and when it has
	// waited for the appends; the result takes it back.
	onClosing, onClose func(func()) (undo func())
	closing, life      context.CancelFunc
	closeOnce          sync.Once
}

var _ eventstore.Store = (*Store)(nil)

// logStream holds the log's id as its one record. The name is no tenant's.
const (
	logStream = logid.Stream
	logType   = "parley.log"
)

// Open connects to a cluster, and makes a log of it where it is none yet. It
// tries until ctx ends or Config.Patience does, then fails with
// eventstore.ErrUnavailable. It fails at once with ErrInvalid for a connection
// string that is malformed, with ErrDenied and with ErrUnfit. No error shows
// the password.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	conf, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults(conf)
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	conn, err := newConnector(ctx, conf, cfg.Logger, m)
	if err != nil {
		m.unregister()
		return nil, err
	}
	s := &Store{cfg: cfg, conn: conn, metrics: m, slots: semaphore.NewWeighted(int64(cfg.AppendsInFlight))}
	s.onClosing, s.closing = bell(ctx)
	s.onClose, s.life = bell(ctx)
	s.tails.s = s
	if err := s.identify(ctx); err != nil {
		err = fmt.Errorf("open event store at %s: %w", nodes(conf), err)
		if errors.Is(err, eventstore.ErrUnavailable) {
			err = fmt.Errorf("%w; is the cluster up, are host, port and TLS settings of the connection string right?", err)
		}
		return nil, errors.Join(err, s.Close())
	}
	conn.setVerify(s.verify)
	return s, nil
}

// bell returns how to be called when it rings, and how to ring it.
func bell(ctx context.Context) (on func(func()) (undo func()), ring context.CancelFunc) {
	rung, ring := context.WithCancel(context.WithoutCancel(ctx))
	return func(f func()) func() {
		undo := context.AfterFunc(rung, f)
		return func() { undo() }
	}, ring
}

// identify reads the log's id, or gives the log one; of two that do so at the
// same time one wins, and both read it.
func (s *Store) identify(ctx context.Context) error {
	op, cancel := s.operation(ctx)
	defer cancel()
	var pause backoff
	for {
		id, err := s.readLogID(op)
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			err = s.writeLogID(op)
			var conflict *eventstore.RevisionConflictError
			if err == nil || errors.As(err, &conflict) {
				continue
			}
		}
		if err == nil {
			s.logID = id
			if err = s.ask(op); err == nil {
				return nil
			}
		}
		if !mayRetry(err) || !pause.wait(op) {
			if op.Err() != nil {
				return ended(ctx, op, err)
			}
			return err
		}
	}
}

func (s *Store) readLogID(ctx context.Context) (uuid.UUID, error) {
	var id uuid.UUID
	err := s.once(ctx, ctx, func(ctx context.Context, l *link, trailer *metadata.MD) error {
		var err error
		id, err = readID(ctx, l.calls, trailer)
		return err
	})
	return id, err
}

// readID reads the log's id over one connection.
func readID(ctx context.Context, over *channel, trailer *metadata.MD) (uuid.UUID, error) {
	var found uuid.UUID
	err := read(ctx, over, streamRequest(logStream, 0, eventstore.Forwards, 1), trailer, func(resp *streams.ReadResp) (bool, error) {
		if resp.GetStreamNotFound() != nil {
			return false, eventstore.ErrStreamNotFound
		}
		e := resp.GetEvent().GetEvent()
		if e == nil {
			return true, nil
		}
		var err error
		found, err = toUUID(e.GetId())
		return false, err
	})
	if err == nil && found == uuid.Nil {
		err = fmt.Errorf("stream %s has no log id: %w", logStream, eventstore.ErrCorrupt)
	}
	return found, err
}

func (s *Store) writeLogID(ctx context.Context) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("draw a log id: %w", err)
	}
	_, err = s.send(ctx, ctx, logStream, eventstore.NoStream, []eventstore.NewRecord{{
		ID: id, Type: logType, ContentType: eventstore.ContentJSON, Data: []byte(`{"log_id":"` + id.String() + `"}`),
	}})
	return err
}

// verify looks whether a node that was just connected to holds this log.
func (s *Store) verify(ctx context.Context, over *channel) error {
	var trailer metadata.MD
	id, err := readID(ctx, over, &trailer)
	switch {
	case errors.Is(err, eventstore.ErrStreamNotFound):
		return fmt.Errorf("it holds no log, where log %s is expected: %w", s.logID, ErrUnfit)
	case err != nil:
		if failed := judge(err, trailer); failed != nil {
			return fmt.Errorf("read the log's id: %w", failed)
		}
		return err
	case id != s.logID:
		return fmt.Errorf("it holds log %s, not %s: %w", id, s.logID, ErrUnfit)
	}
	return nil
}

// LogID is eventstore.Store's.
func (s *Store) LogID() uuid.UUID { return s.logID }

// Capabilities is eventstore.Store's.
func (s *Store) Capabilities() eventstore.Capabilities {
	return eventstore.Capabilities{
		BatchAppend:    eventstore.Capability{Reason: "EventStoreDB commits one stream at a time"},
		DensePositions: eventstore.Capability{Reason: "EventStoreDB's positions are places in its log, in bytes"},
	}
}

// operation is the context of one call: it ends with the caller's, with the
// store's patience, and with the store.
func (s *Store) operation(ctx context.Context) (context.Context, context.CancelFunc) {
	op, cancel := s.until(ctx)
	op, stop := context.WithTimeoutCause(op, s.cfg.Patience, errPatience)
	return op, func() {
		stop()
		cancel()
	}
}

// until is a context that ends with the caller's and with the store.
func (s *Store) until(ctx context.Context) (context.Context, context.CancelFunc) {
	op, cancel := context.WithCancelCause(ctx)
	undo := s.onClose(func() { cancel(eventstore.ErrClosed) })
	return op, func() {
		undo()
		cancel(nil)
	}
}

// caller is what a call does with a connection. It hands back the trailer that
// came with an error.
type caller func(context.Context, *link, *metadata.MD) error

// once makes one call over the connection that there is, waiting for one until
// wait ends, and judges what came of it. Whatever it returns that is worth
// another try is a *callError.
func (s *Store) once(wait, ctx context.Context, call caller) error {
	l, err := s.conn.acquire(wait)
	if err != nil {
		return err
	}
	var trailer metadata.MD
	err = call(leaderOnly(ctx), l, &trailer)
	failed := judge(err, trailer)
	switch {
	case failed != nil && errors.Is(context.Cause(ctx), errPatience):
		// A node that does not answer: others get another connection.
		failed.verdict = away
		s.conn.release(l, failed)
	case ctx.Err() != nil:
		// It says nothing about the node.
		s.conn.release(l, nil)
	default:
		s.conn.release(l, failed)
	}
	if failed == nil {
		return nil
	}
	return failed
}

// retry makes a call that may be repeated until it succeeds, fails for good, or
// the store's patience ends. The patience begins anew with every success that
// progress tells of, so that a long read is not cut short.
func (s *Store) retry(ctx context.Context, call func(ctx context.Context, l *link, trailer *metadata.MD, progress func()) error) error {
	op, cancel := s.until(ctx)
	defer cancel()
	var pause backoff
	since := time.Now()
	for {
		wait, stop := context.WithDeadlineCause(op, since.Add(s.cfg.Patience), errPatience)
		progressed := false
		err := s.once(wait, op, func(ctx context.Context, l *link, trailer *metadata.MD) error {
			return call(ctx, l, trailer, func() { progressed = true })
		})
		switch {
		case err == nil:
		case op.Err() != nil:
			err = ended(ctx, op, err)
		case !mayRetry(err):
		case progressed:
			stop()
			pause.reset()
			since = time.Now()
			continue
		case pause.wait(wait):
			stop()
			continue
		default:
			err = ended(ctx, wait, err)
		}
		stop()
		return err
	}
}

// saw notes a position of the log's own records.
func (s *Store) saw(at eventstore.Position) {
	for {
		old := s.seen.Load()
		if uint64(at) <= old || s.seen.CompareAndSwap(old, uint64(at)) {
			return
		}
	}
}

func (s *Store) known() eventstore.Position { return eventstore.Position(s.seen.Load()) }

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// enter counts something that Close waits for, unless the store is closed.
func (s *Store) enter(group *sync.WaitGroup) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	group.Add(1)
	return true
}

// Close is eventstore.Store's. An append whose answer is on its way is waited
// for, for as long as it would have waited itself.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.closing()
		s.lanes.close()
		s.appends.Wait()
		s.life()
		s.loops.Wait()
		s.conn.close()
		s.metrics.unregister()
	})
	return nil
}
