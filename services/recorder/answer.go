package recorder

import (
	"context"
	"fmt"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// answer tells whoever waits for it what became of each message of which all
// items are done, from the message at answered on, and says how many messages that
// makes. Nobody's waiting holds the recording up: what cannot be answered is
// logged, the producer asks again by repeating.
func (r *Recorder) answer(ctx context.Context, batch []bus.Message, items []item, ends []int, answered, done int) int {
	for ; answered < len(batch) && ends[answered] <= done; answered++ {
		m := &batch[answered]
		if m.ReplyTo == "" {
			continue
		}
		begin := 0
		if answered > 0 {
			begin = ends[answered-1]
		}
		reply, err := r.reply(ctx, items[begin:ends[answered]])
		if err == nil {
			err = r.deps.Bus.Reply(m.ReplyTo, reply)
		}
		if err != nil {
			r.log.Warn("a producer got no answer", "tenant", m.Tenant, "error", err)
		}
	}
	return answered
}

func (r *Recorder) reply(ctx context.Context, items []item) (*interactionv1.IngressReply, error) {
	reply := &interactionv1.IngressReply{LogId: r.deps.Log.LogID().String(), Position: uint64(r.index.position)}
	for i := range items {
		it := &items[i]
		if it.body != nil {
			continue
		}
		if it.command != nil {
			if it.result.GetRepeated() {
				if err := r.recall(ctx, it); err != nil {
					return nil, err
				}
			}
			reply.Command = it.result
			continue
		}
		if err := r.locate(ctx, it); err != nil {
			return nil, err
		}
		result := &interactionv1.RecordResult{Outcome: it.outcome, Stream: it.stream, Position: uint64(it.position)}
		if it.ev != nil {
			result.EventId = it.ev.GetId()
		}
		if it.reject != nil {
			result.Reason = reasonText(it.reject)
		}
		reply.Results = append(reply.Results, result)
	}
	return reply, nil
}

// locate finds where an item stands in the log: its position, where it was only
// expected, and the stream of a duplicate.
func (r *Recorder) locate(ctx context.Context, it *item) error {
	if it.outcome == interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED {
		if !it.known {
			it.position = r.index.position // behind it, whatever its own is
		}
		return nil
	}
	if !it.known {
		e, found, err := r.index.event(eventKey{it.tenant, it.id})
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("event %s is not in the index", it.id)
		}
		it.position, it.known = e.position, true
	}
	if it.stream != "" {
		return nil
	}
	if r.deps.Log.Capabilities().DensePositions.Supported {
		for rec, err := range r.deps.Log.ReadAll(ctx, eventstore.ReadAllOptions{From: it.position - 1, Limit: 1}) {
			if err != nil {
				return fmt.Errorf("read position %d: %w", it.position, err)
			}
			if rec.ID == it.id && event.TenantOf(rec.Stream) == it.tenant {
				it.stream = rec.Stream
			}
		}
		return nil
	}
	// A place between records is none that can be read from. The stream is the
	// one that the event would go to, unless the rules have changed since: then
	// it goes untold.
	conversation, err := r.index.resolve(it.ev, it.conversation, mailsOf(it.ev.GetPayload()))
	if err != nil {
		return err
	}
	stream := event.InteractionStream(it.tenant, it.ev.GetChannel(), conversation)
	rec, err := r.recordAt(ctx, stream, it.position)
	if err == nil && rec != nil && rec.ID == it.id {
		it.stream = stream
	}
	return err
}

// recordAt finds a stream's record by its position; nil where it has none
// there. Positions grow along a stream, so that it takes few looks.
func (r *Recorder) recordAt(ctx context.Context, stream string, position eventstore.Position) (*eventstore.Record, error) {
	last, err := r.index.revision(stream)
	if err != nil {
		return nil, err
	}
	for low, high := eventstore.Revision(0), last; low <= high; {
		middle := low + (high-low)/2
		var found *eventstore.Record
		for rec, err := range r.deps.Log.ReadStream(ctx, stream, eventstore.ReadStreamOptions{From: middle, Limit: 1}) {
			if err != nil {
				return nil, fmt.Errorf("read revision %d of %s: %w", int64(middle), stream, err)
			}
			found = rec
		}
		switch {
		case found == nil:
			return nil, nil
		case found.Position < position:
			low = middle + 1
		case found.Position > position:
			high = middle - 1
		default:
			return found, nil
		}
	}
	return nil, nil
}

// reasonText puts the code before the reason, for programs and for people.
func reasonText(r *rejection) string { return r.code + ": " + fit(r.reason, maxReasonBytes) }
