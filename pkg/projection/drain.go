package projection

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// drain folds dead letters once more: all in the order of the log, those that
// failed only where it is asked for, those that waited where nothing of the
// same customer stays before them. It does so in portions, between which new
// events are folded; these go on waiting behind what is left.
type drain struct {
	// retry says which of those that failed are tried.
	retry func(position uint64) bool
	// next is where to go on.
	next uint64
	// singly, up to this position: one of a portion could not be folded.
	singly uint64
	// waiting counts, by profile, the letters that stay.
	waiting map[view.Key]int
	folded  uint64

	once sync.Once
	done chan struct{}
	err  error
}

// drainPortion is how many dead letters are taken at once.
const drainPortion = 512

func newDrain(retry func(position uint64) bool) *drain {
	d := &drain{retry: retry, done: make(chan struct{})}
	d.restart()
	return d
}

// restart begins anew. What was folded is no dead letter any more.
func (d *drain) restart() { d.next, d.singly, d.waiting = 0, 0, map[view.Key]int{} }

func (d *drain) finish(err error) {
	d.once.Do(func() {
		d.err = err
		close(d.done)
	})
}

// retry asks for a drain; none of the positions are all.
func (r *runner) retry(positions []uint64) *drain {
	wanted := map[uint64]bool{}
	for _, p := range positions {
		wanted[p] = true
	}
	d := newDrain(func(position uint64) bool { return len(wanted) == 0 || wanted[position] })
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		d.finish(fmt.Errorf("generation %s: %w", r.ns, errNotRunning))
		return d
	}
	r.drains = append(r.drains, d)
	wakeUp(r.asked)
	return d
}

// draining says that there is something to drain.
func (r *runner) draining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.drains) > 0
}

// portion is what is folded of dead letters at once.
type portion struct {
	letters []*opsv1.DeadLetter
	// stays says which of them are not folded.
	stays []bool
	// waiting are the profiles of those that stay, with those of the portions before.
	waiting map[view.Key]int
	added   []view.Key
}

// hold keeps the i-th letter, and the profiles by which others wait for it.
func (p *portion) hold(i int, keys []view.Key) {
	p.stays[i] = true
	for _, key := range keys {
		p.waiting[key]++
		p.added = append(p.added, key)
	}
	for _, id := range p.letters[i].GetProfileIds() {
		key := view.Key{Tenant: p.letters[i].GetTenant(), ID: id}
		p.waiting[key]++
		p.added = append(p.added, key)
	}
}

// takeBack undoes what hold did.
func (p *portion) takeBack() {
	for _, key := range p.added {
		if p.waiting[key]--; p.waiting[key] == 0 {
			delete(p.waiting, key)
		}
	}
}

// drainSome folds the next dead letters of the first drain.
func (s *session) drainSome(ctx context.Context) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.r.mu.Lock()
	d := s.r.drains[0]
	s.r.mu.Unlock()
	found, err := s.nextLetters(ctx, d)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		s.r.mu.Lock()
		s.r.drains = s.r.drains[1:]
		s.r.mu.Unlock()
		d.finish(nil)
		return nil
	}
	p := &portion{letters: found, stays: make([]bool, len(found)), waiting: d.waiting}
	err = s.foldLetters(ctx, d, p)
	last := found[len(found)-1].GetPosition()
	switch {
	case err == nil:
		d.next = last + 1
		return nil
	case !isFoldError(err):
		return err
	}
	s.r.metrics.foldErrors.Inc()
	s.state.abandon()
	p.takeBack()
	if len(found) > 1 {
		d.singly = last
		return nil
	}
	p.hold(0, nil)
	s.parked.change(found[0], s.parked.failedLetter(found[0], 1, err))
	d.next = last + 1
	return s.settle(ctx)
}

// nextLetters are those that a drain has still to look at.
func (s *session) nextLetters(ctx context.Context, d *drain) ([]*opsv1.DeadLetter, error) {
	limit := drainPortion
	if d.singly > 0 && d.next <= d.singly {
		limit = 1
	}
	page, err := s.r.gen.Query(ctx, deadLettersCollection, view.Query{Index: letterByPosition, From: positionValue(d.next), Limit: limit})
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	found := make([]*opsv1.DeadLetter, len(page.Entries))
	for i := range page.Entries {
		if found[i], err = parseLetter(page.Entries[i].Data); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// foldLetters folds those of a portion that need not stay, and commits.
func (s *session) foldLetters(ctx context.Context, d *drain, p *portion) error {
	events := make([]*eventv1.RecordedEvent, len(p.letters))
	failed := map[int]error{}
	for i, letter := range p.letters {
		rec, err := s.eventOf(ctx, d, letter)
		if err != nil && !isFoldError(err) {
			return err
		}
		if err != nil {
			failed[i] = err
		}
		if rec == nil {
			p.stays[i] = true
			rec = placeholder(letter)
		}
		events[i] = rec
	}
	if err := s.state.fold(ctx, events, p); err != nil {
		return identify(err, events)
	}
	folded := 0
	for i, letter := range p.letters {
		switch {
		case failed[i] != nil:
			s.parked.change(letter, s.parked.failedLetter(letter, 1, failed[i]))
		case !p.stays[i]:
			s.parked.change(letter, nil)
			folded++
		}
	}
	s.events += folded
	if err := s.settle(ctx); err != nil {
		return err
	}
	d.folded += uint64(folded)
	return nil
}

// eventOf reads a letter's event; nil where it stays a letter in any case.
func (s *session) eventOf(ctx context.Context, d *drain, letter *opsv1.DeadLetter) (*eventv1.RecordedEvent, error) {
	switch letter.GetState() {
	case opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED, opsv1.DeadLetterState_DEAD_LETTER_STATE_DIVERGED:
		return nil, nil
	case opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED:
		if !d.retry(letter.GetPosition()) {
			return nil, nil
		}
	case opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING, opsv1.DeadLetterState_DEAD_LETTER_STATE_UNSPECIFIED:
	}
	for _, id := range letter.GetProfileIds() {
		if d.waiting[view.Key{Tenant: letter.GetTenant(), ID: id}] > 0 {
			return nil, nil
		}
	}
	rec, err := recordAt(ctx, s.r.deps.Log, eventstore.Position(letter.GetPosition()))
	if err != nil {
		return nil, err
	}
	ev := &eventv1.RecordedEvent{}
	if err := decodeSafely(s.r.deps.Codec, rec, ev); err != nil {
		return nil, &FoldError{
			Projection: s.r.name, Stream: rec.Stream, Position: rec.Position, EventID: letter.GetEventId(), Type: rec.Type,
			Err: fmt.Errorf("decode: %w", err),
		}
	}
	return ev, nil
}

// recordAt reads one record of the log.
func recordAt(ctx context.Context, log eventstore.Store, position eventstore.Position) (*eventstore.Record, error) {
	for rec, err := range log.ReadAll(ctx, eventstore.ReadAllOptions{From: position - 1, Limit: 1}) {
		if err != nil {
			return nil, fmt.Errorf("read the event at position %d: %w", position, err)
		}
		if rec.Position == position {
			return rec, nil
		}
	}
	return nil, fmt.Errorf("read the event at position %d: %w: the log has none there", position, eventstore.ErrCorrupt)
}

// placeholder stands for the event of a letter that stays.
func placeholder(letter *opsv1.DeadLetter) *eventv1.RecordedEvent {
	ev := &eventv1.Event{Tenant: letter.GetTenant(), Id: letter.GetEventId(), Type: letter.GetType()}
	if len(letter.GetProfileIds()) > 0 {
		ev.ProfileId = letter.GetProfileIds()[0]
	}
	return &eventv1.RecordedEvent{Event: ev, Position: letter.GetPosition(), Stream: letter.GetStream(), RecordedTime: letter.GetRecordedTime()}
}

// skip takes an operator's word that an event is not to be folded. Everything
// before it is committed.
func (s *session) skip(ctx context.Context, rec *eventv1.RecordedEvent, skip *eventv1.DeadLetterSkipped) error {
	position, err := s.r.deps.skippedAt(ctx, rec.GetPosition(), skip)
	if err != nil {
		return err
	}
	if skip.GetProjection() == s.r.name && position < rec.GetPosition() {
		letter, err := getLetter(ctx, s.r.gen, position)
		if err != nil {
			return err
		}
		if letter == nil {
			s.r.log.Error("an event was skipped that this generation had folded already: it differs from what a rebuild gives; rebuild it",
				"position", position)
			s.parked.change(nil, &opsv1.DeadLetter{
				Position: position, EventId: skip.GetEventId(), Error: skip.GetReason(),
				State: opsv1.DeadLetterState_DEAD_LETTER_STATE_DIVERGED, ParkedTime: timestamppb.New(s.r.deps.Now()),
			})
		} else if !isSettled(letter) {
			s.parked.change(letter, &opsv1.DeadLetter{
				Position: letter.GetPosition(), Tenant: letter.GetTenant(), EventId: letter.GetEventId(), Type: letter.GetType(),
				Stream: letter.GetStream(), RecordedTime: letter.GetRecordedTime(), Attempts: letter.GetAttempts(),
				State: opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED, Error: skip.GetReason(),
				ParkedTime: letter.GetParkedTime(), TriedTime: timestamppb.New(s.r.deps.Now()),
			})
			s.r.mu.Lock()
			s.r.drains = append(s.r.drains, newDrain(func(uint64) bool { return false }))
			s.r.mu.Unlock()
		}
	}
	return s.foldAlone(ctx, rec)
}
