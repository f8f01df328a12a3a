package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// session is one attempt to follow the log, from the checkpoint on. While one
// commit is being written the events of the next are folded.
type session struct {
	r     *runner
	token uint64
	ra    *readAhead

	batches [2]view.Batch
	// number of the last flush, and of the last that was committed.
	flushed, committed uint64
	commits            chan commit
	results            chan error
	busy               bool

	// What was folded and not flushed.
	position eventstore.Position
	events   int
	since    time.Time
	newest   time.Time
	caughtUp bool
	// checkpointed is the position of the last commit.
	checkpointed eventstore.Position
}

type commit struct {
	batch  *view.Batch
	number uint64
	events int
	newest time.Time
}

// idleCheckpoint is after how many positions without anything to store the
// checkpoint is moved nevertheless.
const idleCheckpoint = 10_000

// Events younger than liveAge when they are folded are not part of a replay:
// whoever caused them waits for them, so they are committed after liveDelay at
// the latest, or when there is nothing else to fold.
const (
	liveAge   = 2 * time.Second
	liveDelay = 5 * time.Millisecond
)

// maxDirty bounds the documents that wait for a commit.
const maxDirty = 4096

func (r *runner) session(ctx context.Context, token uint64) (err error) {
	position, err := r.checkpoint(ctx)
	if err != nil {
		return err
	}
	r.state.reset(position == 0)
	r.setState(CatchingUp, nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{
		r: r, token: token, position: position, checkpointed: position,
		commits: make(chan commit), results: make(chan error, 1),
	}
	if s.ra, err = r.startReading(ctx, position); err != nil {
		return err
	}
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		s.commitAll(ctx)
	}()
	err = s.loop(ctx)
	// In this order: a commit under way is finished, the log let go.
	close(s.commits)
	<-committed
	cancel()
	return errors.Join(err, s.ra.stop())
}

// loop folds what is read until something fails.
func (s *session) loop(ctx context.Context) error {
	timer := time.NewTimer(s.r.opts.CommitDelay)
	defer timer.Stop()
	for {
		if err := s.maybeFlush(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.results:
			if err := s.finished(err); err != nil {
				return err
			}
		case <-timer.C:
			timer.Reset(s.r.opts.CommitDelay)
		case <-s.r.waiters.asked:
		case c, ok := <-s.ra.ordered:
			if !ok {
				s.ra.done.Wait()
				return s.ra.err
			}
			if err := s.take(ctx, c); err != nil {
				return err
			}
		}
	}
}

// take folds a chunk.
func (s *session) take(ctx context.Context, c *chunk) error {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	events := c.events
	for len(events) > 0 {
		n, alone := s.portion(events)
		if err := s.fold(ctx, events[:n], alone); err != nil {
			return err
		}
		events = events[n:]
	}
	if c.err != nil {
		// All before it is committed first, so that the position says where it halts.
		if err := s.settle(ctx); err != nil {
			return err
		}
		return c.err
	}
	if s.caughtUp && !c.caughtUp {
		s.r.setState(CatchingUp, nil)
	}
	s.position, s.caughtUp = max(s.position, c.position), c.caughtUp
	s.ra.release(c)
	return nil
}

// portion is how many of the events to fold next: up to the one that is
// poison, that one alone, or what is left.
func (s *session) portion(events []*eventv1.RecordedEvent) (n int, alone bool) {
	bad := uint64(s.r.poison.position)
	n = min(len(events), s.r.opts.CommitEvents)
	if bad == 0 || events[0].GetPosition() > bad {
		return n, false
	}
	if events[0].GetPosition() == bad {
		return 1, true
	}
	for i := range events[:n] {
		if events[i].GetPosition() == bad {
			return i, false
		}
	}
	return n, false
}

func (s *session) fold(ctx context.Context, events []*eventv1.RecordedEvent, alone bool) error {
	if alone {
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	if s.events == 0 {
		s.since = s.r.deps.Now()
	}
	if err := s.r.state.fold(ctx, events); err != nil {
		return s.identify(err, events)
	}
	last := events[len(events)-1]
	s.position = eventstore.Position(last.GetPosition())
	s.newest = last.GetRecordedTime().AsTime()
	s.events += len(events)
	if alone {
		if err := s.settle(ctx); err != nil {
			return s.identify(err, events)
		}
		s.r.poison = poison{}
		return nil
	}
	if s.full() {
		return s.flush(ctx)
	}
	return nil
}

// identify completes an error that knows only the position.
func (s *session) identify(err error, events []*eventv1.RecordedEvent) error {
	var fe *FoldError
	if errors.As(err, &fe) && fe.EventID == "" {
		for _, rec := range events {
			if eventstore.Position(rec.GetPosition()) == fe.Position {
				fe.Stream, fe.EventID, fe.Type = rec.GetStream(), rec.GetEvent().GetId(), rec.GetEvent().GetType()
			}
		}
	}
	return err
}

// full says that no more should wait for the next commit.
func (s *session) full() bool {
	o := &s.r.opts
	return s.events >= o.CommitEvents || s.r.state.pendingBytes() >= o.CommitBytes ||
		s.r.state.pendingDocuments() >= maxDirty
}

// maybeFlush commits what there is if it is time to: at once when the log's
// end is reached, unless a commit is under way already.
func (s *session) maybeFlush(ctx context.Context) error {
	if s.position == s.r.Position() && s.events == 0 && !s.busy {
		s.idle()
		return nil
	}
	now := s.r.deps.Now()
	waited := now.Sub(s.since)
	due := s.full() || s.events > 0 && waited >= max(s.r.opts.CommitDelay, s.r.opts.LiveDelay)
	// Under steady load the end may never be seen: what is recent is live too.
	live := s.caughtUp || s.events > 0 && now.Sub(s.newest) < liveAge
	if live && s.events > 0 && waited < s.r.opts.LiveDelay && !s.r.waiters.waited() {
		live = false
	}
	if due || !s.busy && live && (len(s.ra.ordered) == 0 || waited >= liveDelay) {
		return s.flush(ctx)
	}
	return nil
}

// idle notes that everything read is committed.
func (s *session) idle() {
	if s.caughtUp {
		s.r.setState(Live, nil)
		s.r.state.evict(s.r.opts.LiveCacheBytes, s.committed)
	}
}

// flush hands what was folded to the committer, which must be done with the
// commit before.
func (s *session) flush(ctx context.Context) error {
	if err := s.join(ctx); err != nil {
		return err
	}
	number := s.flushed + 1
	batch := &s.batches[number%2]
	batch.Reset()
	if err := s.r.state.flush(ctx, batch, number); err != nil {
		return err
	}
	s.flushed = number
	if batch.Len() == 0 && s.position < s.checkpointed+idleCheckpoint {
		// Nothing to store: the checkpoint may stay behind, readers need not.
		s.committed = number
		s.events = 0
		s.r.committed(commit{newest: s.newest}, s.position)
		s.idle()
		return nil
	}
	batch.Checkpoint = view.Checkpoint{
		Namespace: s.r.gen.Namespace(), Token: s.token, LogID: s.r.deps.Log.LogID(), Position: uint64(s.position),
	}
	s.busy = true
	s.commits <- commit{batch: batch, number: number, events: s.events, newest: s.newest}
	s.checkpointed = s.position
	s.events = 0
	limit := s.r.opts.ReplayCacheBytes
	if s.caughtUp {
		limit = s.r.opts.LiveCacheBytes
	}
	s.r.state.evict(limit, s.committed)
	return nil
}

// settle commits all that was folded and waits for it.
func (s *session) settle(ctx context.Context) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.join(ctx)
}

// join waits for the commit under way.
func (s *session) join(ctx context.Context) error {
	if !s.busy {
		return nil
	}
	select {
	case err := <-s.results:
		return s.finished(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) finished(err error) error {
	s.busy = false
	if err != nil {
		return err
	}
	s.committed = s.flushed
	return nil
}

// commitAll writes one commit after the other.
func (s *session) commitAll(ctx context.Context) {
	for c := range s.commits {
		begin := s.r.deps.Now()
		err := s.r.gen.Commit(ctx, c.batch)
		if err != nil {
			s.results <- fmt.Errorf("commit at position %d: %w", c.batch.Checkpoint.Position, err)
			continue
		}
		s.r.metrics.commitSeconds.Observe(s.r.deps.Now().Sub(begin).Seconds())
		s.r.committed(c, eventstore.Position(c.batch.Checkpoint.Position))
		s.results <- nil
	}
}

// committed tells everybody of a commit.
func (r *runner) committed(c commit, position eventstore.Position) {
	r.mu.Lock()
	r.rate.add(r.deps.Now(), c.events)
	if !c.newest.IsZero() {
		r.newest = c.newest
	}
	r.mu.Unlock()
	r.metrics.events.Add(float64(c.events))
	r.waiters.advance(uint64(position))
	if c.batch != nil {
		r.hub.committed(r.documents, c.batch)
	}
}
