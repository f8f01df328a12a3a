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
	r      *runner
	token  uint64
	feed   *feed
	state  foldState
	parked *parked

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
	// gentle says that it gives way to reads.
	gentle bool
	// checkpointed is the position of the last commit.
	checkpointed eventstore.Position
}

type commit struct {
	batch   *view.Batch
	number  uint64
	events  int
	newest  time.Time
	letters letterCounts
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
const maxDirty = 8192

func (r *runner) session(ctx context.Context, token uint64) (err error) {
	s := &session{r: r, token: token, commits: make(chan commit), results: make(chan error, 1)}
	if err := s.begin(ctx); err != nil {
		return err
	}
	r.setState(CatchingUp, nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.feed, err = r.startReading(ctx, s.position); err != nil {
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
	return errors.Join(err, s.feed.stop())
}

// begin brings up what is stored.
func (s *session) begin(ctx context.Context) (err error) {
	r := s.r
	if s.position, err = r.checkpoint(ctx); err != nil {
		return err
	}
	s.checkpointed = s.position
	s.parked = newParked(r.deps.Now)
	if err := s.parked.load(ctx, r.gen); err != nil {
		return err
	}
	if err := s.parked.loadSkips(ctx, r.deps, r.name); err != nil {
		return err
	}
	s.state = r.def.newState(r.gen, &r.opts, r.deps.Now)
	s.state.reset(s.position == 0, s.parked)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letters, r.begun = s.parked.counts(), true
	for _, d := range r.drains {
		d.restart()
	}
	if s.parked.waiting > 0 && len(r.drains) == 0 {
		// What it waited for may have been mended or skipped right before the process ended.
		r.drains = append(r.drains, newDrain(func(uint64) bool { return false }))
	}
	return nil
}

// loop folds what is read until something fails.
func (s *session) loop(ctx context.Context) error {
	timer := time.NewTimer(s.r.opts.CommitDelay)
	defer timer.Stop()
	ready := make(chan struct{})
	close(ready)
	// What the session before was asked it may not have heard.
	if err := s.heed(ctx); err != nil {
		return err
	}
	for {
		if err := s.maybeFlush(ctx); err != nil {
			return err
		}
		// A drain goes on between two chunks, whether there are any or not.
		var drain chan struct{}
		if s.r.draining() {
			drain = ready
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
		case <-s.r.asked:
			if err := s.heed(ctx); err != nil {
				return err
			}
		case <-drain:
			if err := s.drainSome(ctx); err != nil {
				return err
			}
		case c, ok := <-s.feed.ordered:
			if !ok {
				err := s.feed.failure()
				if errors.Is(err, errScanOver) {
					if err := s.settle(ctx); err != nil {
						return err
					}
				}
				return err
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
	if !c.caughtUp {
		// What is skipped meanwhile is often of events that are still to come.
		if err := s.parked.loadSkips(ctx, s.r.deps, s.r.name); err != nil {
			return err
		}
	}
	events := c.events
	if s.r.scan != "" {
		events = c.of(s.r.types)
	}
	for i := 0; i < len(events); {
		position := eventstore.Position(events[i].GetPosition())
		if err := s.holdBack(ctx, position); err != nil {
			return err
		}
		s.r.read(events[i].GetRecordedTime().AsTime())
		n := s.ordinary(c, events[i:])
		var err error
		if n > 0 {
			err = s.fold(ctx, events[i:i+n])
		} else {
			n = 1
			err = s.takeAlone(ctx, c, events[i])
		}
		if err != nil {
			return err
		}
		if err := s.r.pace.pause(ctx, n); err != nil {
			return err
		}
		i += n
	}
	if err := s.holdBack(ctx, c.position); err != nil {
		return err
	}
	if s.caughtUp && !c.caughtUp {
		s.r.setState(CatchingUp, nil)
	}
	s.position, s.caughtUp = max(s.position, c.position), c.caughtUp
	s.feed.release(c)
	return nil
}

// ordinary is how many of a chunk's events that are left can be folded
// together: up to one that has to be taken alone, and not beyond the limit.
func (s *session) ordinary(c *chunk, events []*eventv1.RecordedEvent) int {
	limit, _ := s.r.holder.get()
	n := 0
	for _, rec := range events[:min(len(events), s.r.opts.CommitEvents, s.r.pace.portion())] {
		position := rec.GetPosition()
		if _, suspect := s.r.suspects[position]; suspect || c.special[position] != nil || eventstore.Position(position) > limit {
			break
		}
		n++
	}
	return n
}

// takeAlone folds an event with everything before it committed.
func (s *session) takeAlone(ctx context.Context, c *chunk, rec *eventv1.RecordedEvent) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	special := c.special[rec.GetPosition()]
	switch {
	case special != nil && special.skips != nil:
		return s.skip(ctx, rec, special.skips)
	case special != nil:
		if _, skipped := s.parked.skips[rec.GetPosition()]; skipped {
			return s.foldAlone(ctx, rec)
		}
		return s.park(ctx, rec, 1, special.err)
	}
	var err error
	attempts := s.r.suspects[rec.GetPosition()]
	for {
		if err = s.foldAlone(ctx, rec); err == nil || !isFoldError(err) {
			break
		}
		s.r.metrics.foldErrors.Inc()
		s.state.abandon()
		if attempts++; attempts >= s.r.opts.FoldAttempts {
			break
		}
		if !sleep(ctx, s.r.opts.RetryDelay) {
			return ctx.Err()
		}
	}
	delete(s.r.suspects, rec.GetPosition())
	if err == nil || !isFoldError(err) {
		return err
	}
	return s.park(ctx, rec, attempts, err)
}

func (s *session) foldAlone(ctx context.Context, rec *eventv1.RecordedEvent) error {
	if err := s.fold(ctx, []*eventv1.RecordedEvent{rec}); err != nil {
		return err
	}
	return s.settle(ctx)
}

// park makes a dead letter of an event.
func (s *session) park(ctx context.Context, rec *eventv1.RecordedEvent, attempts int, cause error) error {
	counts := s.parked.counts()
	if counts.failed >= s.r.opts.MaxDeadLetters {
		return &TooManyDeadLettersError{Projection: s.r.name, Failed: counts.failed, Waiting: counts.waiting, Err: cause}
	}
	if err := s.state.park(ctx, rec, attempts, cause); err != nil {
		return err
	}
	s.r.metrics.parked.Inc()
	ev := rec.GetEvent()
	s.r.log.Error("an event could not be folded and is a dead letter; later ones of the same customer wait behind it",
		"position", rec.GetPosition(), "event_id", ev.GetId(), "type", ev.GetType(), "tenant", ev.GetTenant(), "attempts", attempts, "error", cause)
	s.took(rec, 1)
	return s.settle(ctx)
}

func (s *session) fold(ctx context.Context, events []*eventv1.RecordedEvent) error {
	if s.events == 0 {
		s.since = s.r.deps.Now()
	}
	if gentle := s.r.pace.gives(); gentle != s.gentle {
		s.gentle = gentle
		var rest func()
		if gentle {
			rest = func() { s.r.pace.breathe(ctx) }
		}
		s.state.gently(rest)
	}
	if err := s.state.fold(ctx, events, nil); err != nil {
		return identify(err, events)
	}
	if n := s.parked.waiting; n > s.r.opts.MaxWaiting {
		return &TooManyDeadLettersError{Projection: s.r.name, Failed: len(s.parked.failed), Waiting: n}
	}
	s.took(events[len(events)-1], len(events))
	if s.full() {
		return s.flush(ctx)
	}
	return nil
}

// took notes that events were taken, of which last is the last.
func (s *session) took(last *eventv1.RecordedEvent, n int) {
	s.position = eventstore.Position(last.GetPosition())
	s.newest = last.GetRecordedTime().AsTime()
	s.events += n
}

// identify completes an error that knows only the position.
func identify(err error, events []*eventv1.RecordedEvent) error {
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
	return s.events >= o.CommitEvents || s.gentle && s.events >= gentleCommit || s.state.pendingBytes() >= o.CommitBytes ||
		s.state.pendingDocuments() >= maxDirty
}

// maybeFlush commits what there is if it is time to: at once when the log's
// end is reached, unless a commit is under way already.
func (s *session) maybeFlush(ctx context.Context) error {
	if s.position == s.r.position() && s.events == 0 && !s.busy {
		s.idle()
		return nil
	}
	now := s.r.deps.Now()
	waited := now.Sub(s.since)
	due := s.full() || s.events > 0 && waited >= max(s.r.opts.CommitDelay, s.r.liveDelay())
	// Under steady load the end may never be seen: what is recent is live too.
	live := s.caughtUp || s.events > 0 && now.Sub(s.newest) < liveAge
	if live && s.events > 0 && waited < s.r.liveDelay() && !s.r.waiters.waited() {
		live = false
	}
	if due || !s.busy && live && (len(s.feed.ordered) == 0 || waited >= liveDelay) {
		return s.flush(ctx)
	}
	return nil
}

// idle notes that everything read is committed.
func (s *session) idle() {
	if s.caughtUp {
		s.r.setState(Live, nil)
		s.state.evict(s.r.opts.LiveCacheBytes, s.committed)
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
	if err := s.state.flush(ctx, batch, number); err != nil {
		return err
	}
	s.flushed = number
	if batch.Len() == 0 && s.position < s.checkpointed+idleCheckpoint {
		// Nothing to store: the checkpoint may stay behind, readers need not.
		s.committed = number
		s.r.committed(commit{events: s.events, newest: s.newest, letters: s.parked.counts()}, s.position)
		s.events = 0
		s.idle()
		return nil
	}
	batch.Checkpoint = view.Checkpoint{
		Namespace: s.r.ns, Token: s.token, LogID: s.r.deps.Log.LogID(), Position: uint64(s.position),
	}
	s.busy = true
	s.commits <- commit{batch: batch, number: number, events: s.events, newest: s.newest, letters: s.parked.counts()}
	s.checkpointed = s.position
	s.events = 0
	limit := s.r.opts.ReplayCacheBytes
	if s.caughtUp {
		limit = s.r.opts.LiveCacheBytes
	}
	s.state.evict(limit, s.committed)
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
