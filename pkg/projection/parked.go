package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/wire"
)

// deadLettersCollection has a generation's dead letters, as pointers to the
// log. Their keys have no tenant: they are the operators'.
const deadLettersCollection = "parley_dead_letters"

const (
	// letterByPosition: all in the order of the log.
	letterByPosition = "position"
	// letterByState: the same of one state.
	letterByState = "state"
	// letterByProfile: those because of which a profile's customer waits.
	letterByProfile = "profile"
)

// deadLetters is the collection. A value is immutable and used by many.
var deadLetters = view.Collection{
	Name: deadLettersCollection,
	New:  func() proto.Message { return &opsv1.DeadLetter{} },
	Indexes: []view.Index{
		{Name: letterByPosition, Columns: []view.ColumnType{view.ColumnInt64}, Extract: func(doc proto.Message) []view.Tuple {
			l := asLetter(doc)
			return []view.Tuple{{positionValue(l.GetPosition())}}
		}},
		{Name: letterByState, Columns: []view.ColumnType{view.ColumnInt64, view.ColumnInt64}, Extract: func(doc proto.Message) []view.Tuple {
			l := asLetter(doc)
			return []view.Tuple{{view.Int64(int64(l.GetState())), positionValue(l.GetPosition())}}
		}},
		{Name: letterByProfile, Columns: []view.ColumnType{view.ColumnString, view.ColumnString, view.ColumnInt64}, Extract: func(doc proto.Message) []view.Tuple {
			l := asLetter(doc)
			if isSettled(l) {
				return nil
			}
			ids := l.GetProfileIds()
			if len(ids) == 0 {
				ids = []string{""} // of the tenant's, and of nobody
			}
			tuples := make([]view.Tuple, len(ids))
			for i, id := range ids {
				tuples[i] = view.Tuple{view.String(l.GetTenant()), view.String(id), positionValue(l.GetPosition())}
			}
			return tuples
		}},
	},
}

// isSettled says that nothing waits because of a letter, nor will it be folded.
func isSettled(l *opsv1.DeadLetter) bool {
	return l.GetState() == opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED || l.GetState() == opsv1.DeadLetterState_DEAD_LETTER_STATE_DIVERGED
}

func asLetter(doc proto.Message) *opsv1.DeadLetter {
	l, _ := doc.(*opsv1.DeadLetter) // nobody else writes there
	return l
}

func positionValue(position uint64) view.Value { return view.Int64(int64(position)) }

// letterKey orders as positions do.
func letterKey(position uint64) view.Key {
	const digits = 20
	id := strconv.FormatUint(position, 10)
	return view.Key{ID: "00000000000000000000"[:digits-len(id)] + id}
}

// parked knows a generation's dead letters: the events that could not be
// folded, and those that wait behind them because they are of the same
// customer. A customer waits if one of his profiles does, so he goes on waiting
// whoever he is merged with, and whichever of his profiles the event was of.
//
// Only the folding goroutine uses it. Changes since the last flush can be taken back.
type parked struct {
	now func() time.Time
	// profiles counts, for each profile that waits, the events because of which.
	profiles map[view.Key]int
	// failed are the positions of events that could not be folded, with when they were recorded.
	failed  map[uint64]time.Time
	waiting int
	// skips are the events that an operator decided not to fold: true once
	// that stands in the generation. skipped is the revision of the operations
	// stream up to which they are known.
	skips   map[uint64]bool
	skipped eventstore.Revision
	// diverged counts the events that were skipped when they had been folded.
	diverged int

	changes []letterChange
}

// letterChange is a dead letter as it was and as it is now; nil for none.
type letterChange struct{ was, is *opsv1.DeadLetter }

func newParked(now func() time.Time) *parked {
	return &parked{now: now, profiles: map[view.Key]int{}, failed: map[uint64]time.Time{}, skips: map[uint64]bool{}, skipped: eventstore.NoStream}
}

// count takes a letter into account, or out of it.
func (p *parked) count(l *opsv1.DeadLetter, n int) {
	if l == nil {
		return
	}
	switch l.GetState() {
	case opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED:
		p.skips[l.GetPosition()] = n > 0
		return
	case opsv1.DeadLetterState_DEAD_LETTER_STATE_DIVERGED:
		p.diverged += n
		return
	case opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED:
		if n > 0 {
			p.failed[l.GetPosition()] = l.GetRecordedTime().AsTime()
		} else {
			delete(p.failed, l.GetPosition())
		}
	case opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING, opsv1.DeadLetterState_DEAD_LETTER_STATE_UNSPECIFIED:
		p.waiting += n
	}
	for _, id := range l.GetProfileIds() {
		key := view.Key{Tenant: l.GetTenant(), ID: id}
		if p.profiles[key] += n; p.profiles[key] == 0 {
			delete(p.profiles, key)
		}
	}
}

// change replaces a letter by another; nil for none.
func (p *parked) change(was, is *opsv1.DeadLetter) {
	p.count(was, -1)
	p.count(is, 1)
	p.changes = append(p.changes, letterChange{was: was, is: is})
}

// abandon takes back what changed since the last flush.
func (p *parked) abandon() {
	for _, c := range slices.Backward(p.changes) {
		p.count(c.is, -1)
		p.count(c.was, 1)
	}
	p.changes = p.changes[:0]
}

// flush puts what changed into batch.
func (p *parked) flush(batch *view.Batch) error {
	for _, c := range p.changes {
		prior := view.Absent()
		if c.was != nil {
			terms, err := deadLetters.Terms(c.was)
			if err != nil {
				return fmt.Errorf("dead letter at position %d: %w", c.was.GetPosition(), err)
			}
			prior = view.Was(terms)
		}
		if c.is == nil {
			batch.Delete(deadLettersCollection, letterKey(c.was.GetPosition()), prior)
			continue
		}
		terms, err := deadLetters.Terms(c.is)
		if err != nil {
			return fmt.Errorf("dead letter at position %d: %w", c.is.GetPosition(), err)
		}
		data, err := view.MarshalDocument(c.is)
		if err != nil {
			return fmt.Errorf("dead letter at position %d: %w", c.is.GetPosition(), err)
		}
		batch.PutRow(deadLettersCollection, letterKey(c.is.GetPosition()), view.Row{Data: data, Terms: terms}, prior)
	}
	p.changes = p.changes[:0]
	return nil
}

// load reads what is stored.
func (p *parked) load(ctx context.Context, r view.Reader) error {
	for letter, err := range letters(ctx, r, view.Query{Index: letterByPosition}) {
		if err != nil {
			return err
		}
		p.count(letter, 1)
	}
	return nil
}

// letters goes over the dead letters that a query finds.
func letters(ctx context.Context, r view.Reader, q view.Query) func(yield func(*opsv1.DeadLetter, error) bool) {
	return func(yield func(*opsv1.DeadLetter, error) bool) {
		q.Limit = view.MaxLimit
		for {
			page, err := r.Query(ctx, deadLettersCollection, q)
			if err != nil {
				yield(nil, fmt.Errorf("read dead letters: %w", err))
				return
			}
			for _, e := range page.Entries {
				letter, err := parseLetter(e.Data)
				if !yield(letter, err) || err != nil {
					return
				}
			}
			if q.Cursor = page.Next; q.Cursor == nil {
				return
			}
		}
	}
}

func parseLetter(data []byte) (*opsv1.DeadLetter, error) {
	letter := &opsv1.DeadLetter{}
	if err := wire.Unmarshal(data, letter); err != nil {
		return nil, fmt.Errorf("dead letter: %w: %w", view.ErrCorrupt, err)
	}
	return letter, nil
}

// getLetter reads the dead letter at a position, nil where there is none.
func getLetter(ctx context.Context, r view.Reader, position uint64) (*opsv1.DeadLetter, error) {
	data, err := r.Get(ctx, deadLettersCollection, letterKey(position))
	if errors.Is(err, view.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter at position %d: %w", position, err)
	}
	return parseLetter(data)
}

// letterOf is a new letter for an event.
func (p *parked) letterOf(rec *eventv1.RecordedEvent, state opsv1.DeadLetterState, profiles []view.Key) *opsv1.DeadLetter {
	ev := rec.GetEvent()
	l := &opsv1.DeadLetter{
		Position: rec.GetPosition(), Tenant: ev.GetTenant(), EventId: ev.GetId(), Type: ev.GetType(), Stream: rec.GetStream(),
		// The event's memory is used again.
		RecordedTime: proto.CloneOf(rec.GetRecordedTime()),
		State:        state, ParkedTime: timestamppb.New(p.now()),
	}
	for _, key := range profiles {
		if key.Validate() == nil && !slices.Contains(l.ProfileIds, key.ID) {
			l.ProfileIds = append(l.ProfileIds, key.ID)
		}
	}
	return l
}

// failedLetter is a letter once its event could not be folded.
func (p *parked) failedLetter(l *opsv1.DeadLetter, attempts int, err error) *opsv1.DeadLetter {
	l = proto.CloneOf(l)
	l.State = opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED
	l.Attempts += uint32(attempts)
	l.TriedTime = timestamppb.New(p.now())
	l.Error, l.Stack = describe(err)
	return l
}

// Bounds on what is kept of an error.
const (
	maxErrorText = 4 << 10
	maxStack     = 16 << 10
)

// describe is an error in words, without what every fold's error says, and its
// stack where it was a panic.
func describe(err error) (text, stack string) {
	var fe *FoldError
	if errors.As(err, &fe) {
		err = fe.Err
	}
	text = err.Error()
	var p *panicError
	if errors.As(err, &p) {
		stack = string(p.stack)
		text = fmt.Sprintf("panic: %v", p.value)
	}
	return cutText(text, maxErrorText), cutText(stack, maxStack)
}

// cutText keeps at most the bytes given, whole characters.
func cutText(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	for !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// letterCounts are for others than the folding goroutine.
type letterCounts struct {
	failed, waiting, diverged int
	oldest                    time.Time
}

func (p *parked) counts() letterCounts {
	c := letterCounts{failed: len(p.failed), waiting: p.waiting, diverged: p.diverged}
	for _, at := range p.failed {
		if c.oldest.IsZero() || at.Before(c.oldest) {
			c.oldest = at
		}
	}
	return c
}

// TooManyDeadLettersError says that a projection halted rather than set more
// events aside.
type TooManyDeadLettersError struct {
	Projection string
	// Failed and Waiting events that there are already.
	Failed, Waiting int
	// Err is the one that was too many, where it failed.
	Err error
}

func (e *TooManyDeadLettersError) Error() string {
	msg := fmt.Sprintf("%s halted: %d dead letters and %d events behind them are as many as may be set aside; mend the fold or skip them, then resume",
		e.Projection, e.Failed, e.Waiting)
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

func (e *TooManyDeadLettersError) Unwrap() error { return e.Err }

// loadSkips reads which events operators have decided not to fold since it was
// last read, so that whoever comes to them later passes them over.
func (p *parked) loadSkips(ctx context.Context, deps *Deps, projection string) error {
	log := deps.Log
	head, err := log.StreamHead(ctx, event.OperationsStream())
	if err != nil {
		return fmt.Errorf("read skipped dead letters: %w", err)
	}
	if head <= p.skipped {
		return nil
	}
	for rec, err := range log.ReadStream(ctx, event.OperationsStream(), eventstore.ReadStreamOptions{From: p.skipped + 1}) {
		if err != nil {
			return fmt.Errorf("read skipped dead letters: %w", err)
		}
		p.skipped = rec.Revision
		if rec.Type != typeSkipped {
			continue
		}
		ev := &eventv1.RecordedEvent{}
		if err := decodeSafely(deps.Codec, rec, ev); err != nil {
			return fmt.Errorf("read skipped dead letters: position %d: %w", rec.Position, err)
		}
		skip := ev.GetEvent().GetPayload().GetDeadLetterSkipped()
		position, err := deps.skippedAt(ctx, uint64(rec.Position), skip)
		if err != nil {
			return fmt.Errorf("read skipped dead letters: %w", err)
		}
		if _, known := p.skips[position]; !known && skip.GetProjection() == projection {
			p.skips[position] = false
		}
	}
	return nil
}
