package recorder

import (
	"context"
	"errors"
	"fmt"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// appendFunc is eventstore.Store's Append.
type appendFunc func(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error)

// errStuck is a defect. Nothing is acknowledged then.
var errStuck = errors.New("the plan cannot be appended")

// spread appends parts, each once those that it waits for stand in the log, at
// most so many at a time, and gives the last position. After a failure it
// begins no more, waits for those in flight and returns the first error: which
// parts stand in the log then is for the log to say.
func spread(ctx context.Context, s *parts, inFlight int, appendTo appendFunc) (eventstore.Position, error) {
	type outcome struct {
		part     int
		position eventstore.Position
		err      error
	}
	waiting := make([]int, len(s.list)) // for how many
	behind := make([][]int, len(s.list))
	var urgent, ready queue
	enqueue := func(i int) {
		if s.list[i].urgent {
			urgent.push(i)
		} else {
			ready.push(i)
		}
	}
	for i := range s.list {
		waiting[i] = len(s.list[i].after)
		for _, j := range s.list[i].after {
			behind[j] = append(behind[j], i)
		}
		if waiting[i] == 0 {
			enqueue(i)
		}
	}
	outcomes := make(chan outcome, inFlight)
	begin := func(i int) {
		a := s.list[i].StreamAppend
		go func() {
			appended, err := appendTo(ctx, a.Stream, a.Expected, a.Records...)
			if err != nil {
				err = fmt.Errorf("append %d records to %s: %w", len(a.Records), a.Stream, err)
			}
			outcomes <- outcome{i, appended.Position, err}
		}()
	}
	var last eventstore.Position
	var failed error
	for flying, left := 0, len(s.list); ; {
		for failed == nil && flying < inFlight {
			i, ok := urgent.pop()
			if !ok {
				i, ok = ready.pop()
			}
			if !ok {
				break
			}
			begin(i)
			flying++
		}
		if flying == 0 {
			if failed == nil && left > 0 {
				failed = fmt.Errorf("%d of %d appends wait for each other: %w", left, len(s.list), errStuck)
			}
			return last, failed
		}
		done := <-outcomes
		flying--
		left--
		if done.err != nil {
			if failed == nil {
				failed = done.err
			}
			continue
		}
		last = max(last, done.position)
		for _, i := range behind[done.part] {
			if waiting[i]--; waiting[i] == 0 {
				enqueue(i)
			}
		}
	}
}

// queue hands out in the order in which it got.
type queue struct {
	items []int
	next  int
}

func (q *queue) push(i int) { q.items = append(q.items, i) }

func (q *queue) pop() (int, bool) {
	if q.next == len(q.items) {
		return 0, false
	}
	q.next++
	return q.items[q.next-1], true
}
