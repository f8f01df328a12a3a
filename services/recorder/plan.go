package recorder

import (
	"errors"
	"fmt"
	"slices"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// plan is what one commit appends.
type plan struct {
	base eventstore.Position // the log's head, as far as the index knows
	// appends are made in one commit; where the store has none, parts instead.
	appends []eventstore.StreamAppend
	parts   *parts
	count   int
	bytes   int
	// decisions is how many of the records are identity events.
	decisions int
}

// next is where the next record will stand if nobody else writes, positions
// count records and all goes in one commit. Otherwise it only says what comes
// behind what.
func (p *plan) next() eventstore.Position { return p.base + 1 + eventstore.Position(p.count) }

// add plans records that belong together.
func (p *plan) add(x *index, stream string, b bonds, records ...eventstore.NewRecord) error {
	revision, err := x.revision(stream)
	if err != nil {
		return err
	}
	a := eventstore.StreamAppend{Stream: stream, Expected: revision, Records: records}
	if p.parts != nil {
		p.parts.add(a, b)
	} else if n := len(p.appends); n > 0 && p.appends[n-1].Stream == stream {
		p.appends[n-1].Records = append(p.appends[n-1].Records, records...)
	} else {
		p.appends = append(p.appends, a)
	}
	x.streams[stream] = revision + eventstore.Revision(len(records))
	p.count += len(records)
	for i := range records {
		p.bytes += len(records[i].Data) + len(records[i].Metadata)
	}
	return nil
}

// prepare plans items from the first on until the commit is full. The index
// is at its checkpoint. An item that fails goes to quarantine, and the plan is
// made anew without it.
func (r *Recorder) prepare(items []item) (int, *plan, error) {
	for {
		p := &plan{base: r.index.position}
		if !r.deps.Log.Capabilities().BatchAppend.Supported {
			p.parts = newParts(r.deps.NewcomersInOrder)
		}
		n, err := r.fill(p, items)
		if err == nil {
			return n, p, nil
		}
		r.index.discard()
		own, ok := errors.AsType[*itemError](err)
		if !ok || items[n].reject != nil {
			return 0, nil, fmt.Errorf("prepare: %w", err)
		}
		items[n].reject = &own.rejection
	}
}

// turns says that all before next has to be in the log before it is planned, where
// not all of a plan gets there at once: a command is about what the log has, and
// what came before new rules is decided by the old ones, also when it comes again.
func turns(last, next *item) bool {
	return (last.command != nil) != (next.command != nil) || next.command.GetChangeRules() != nil
}

// fill plans items until the commit is full, and says how many, or which one
// failed.
func (r *Recorder) fill(p *plan, items []item) (int, error) {
	for i := range items {
		if p.count >= chunkRecords || p.bytes >= chunkBytes || len(r.index.rules) > 0 {
			return i, nil
		}
		if p.parts != nil && p.count > 0 && turns(&items[i-1], &items[i]) {
			return i, nil
		}
		if err := r.place(r.index, p, &items[i]); err != nil {
			return i, err
		}
	}
	return len(items), nil
}

// itemError is a failure that is the item's own, seen when a part of it was
// planned already.
type itemError struct{ rejection }

func (e *itemError) Error() string { return e.code + ": " + e.reason }

// place plans one item against the log as the index knows it. After an error
// the index holds part of it and must be discarded.
func (r *Recorder) place(x *index, p *plan, it *item) (err error) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("an event cannot be prepared", "tenant", it.tenant, "panic", fmt.Sprint(v))
			err = &itemError{rejection{codePanic, "a defect of Parley: preparing it panics"}}
		}
	}()
	if it.reject != nil || it.body != nil {
		return r.placeQuarantine(x, p, it)
	}
	if it.command != nil {
		return r.placeCommand(x, p, it)
	}
	d := toDigest(it.ev.GetContentDigest())
	e, again, err := x.event(eventKey{it.tenant, it.id})
	switch {
	case err != nil:
		return err
	case again && d != e.digest && d != (digest{}) && e.digest != (digest{}):
		it.reject = &rejection{codeContentDiffers, "the event was recorded before with other content"}
		return r.placeQuarantine(x, p, it)
	case again:
		it.outcome, it.position, it.known = interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE, e.position, e.position <= p.base
		return nil
	default:
		return r.placeEvent(x, p, it, d)
	}
}

func (r *Recorder) placeEvent(x *index, p *plan, it *item, d digest) error {
	ev := it.ev
	mails := mailsOf(ev.GetPayload())
	conversation, err := x.resolve(ev, it.conversation, mails)
	if err != nil {
		return err
	}
	ev.Conversation = conversation
	stream := event.InteractionStream(it.tenant, ev.GetChannel(), conversation)
	rec, err := r.deps.Codec.Encode(ev)
	if err == nil && len(rec.Data)+len(rec.Metadata) > eventstore.MaxRecordBytes {
		err = fmt.Errorf("%d bytes, at most %d: %w", len(rec.Data)+len(rec.Metadata), eventstore.MaxRecordBytes, eventstore.ErrTooLarge)
	}
	if err != nil {
		it.reject = &rejection{codeInconsistent, err.Error()}
		return r.placeQuarantine(x, p, it)
	}
	if err := x.addMails(it.tenant, mails, conversation); err != nil {
		return err
	}
	if err := r.placeDecisions(x, p, it); err != nil {
		return err
	}
	it.outcome, it.stream, it.position, it.known = interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED, stream, p.next(), false
	x.events[eventKey{it.tenant, it.id}] = entry{it.position, d}
	var b bonds
	if p.parts != nil {
		if b, err = p.parts.ofInteraction(x, ev, mails); err != nil {
			return err
		}
	}
	return p.add(x, stream, b, rec)
}

// placeDecisions puts what the event shows about who is who before it.
func (r *Recorder) placeDecisions(x *index, p *plan, it *item) error {
	decisions, err := x.graph.Decide(it.ev, uint64(p.next()), func(purpose string) string {
		return event.DerivedID(it.id, purpose).String()
	})
	if err != nil {
		return err
	}
	return r.addDecisions(x, p, it.ev, decisions)
}

// addDecisions plans identity events that a cause has.
func (r *Recorder) addDecisions(x *index, p *plan, cause *eventv1.Event, decisions []identity.Decision) error {
	if len(decisions) == 0 {
		return nil
	}
	records := make([]eventstore.NewRecord, len(decisions))
	events := make([]*eventv1.Event, len(decisions))
	for i := range decisions {
		var err error
		events[i] = identityEvent(cause, &decisions[i])
		if records[i], err = r.deps.Codec.Encode(events[i]); err != nil {
			return &itemError{rejection{codeInconsistent, err.Error()}}
		}
	}
	var b bonds
	if p.parts != nil {
		// Half of what a cause comes to would be taken for the whole of it.
		if size := sizeOf(records); size > maxPartBytes {
			return &itemError{rejection{codeStoreRefused, fmt.Sprintf(
				"what it shows about who is who takes %d bytes; the event store takes at most %d at once", size, maxPartBytes)}}
		}
		b = p.parts.ofDecisions(cause.GetTenant(), events)
	}
	p.decisions += len(decisions)
	return p.add(x, event.IdentityStream(cause.GetTenant()), b, records...)
}

// sourceRecorder is where identity events come from that interactions cause.
const sourceRecorder = "recorder"

// identityEvent is a decision as the event that an interaction or a command causes.
func identityEvent(cause *eventv1.Event, d *identity.Decision) *eventv1.Event {
	correlation := cause.GetCorrelationId()
	if correlation == "" {
		correlation = cause.GetId()
	}
	source, actor := sourceRecorder, &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_SYSTEM, Id: sourceRecorder}
	if cause.GetChannel() == channelIdentity {
		source, actor = cause.GetSource(), cause.GetActor()
	}
	return &eventv1.Event{
		Id:            d.ID,
		Tenant:        cause.GetTenant(),
		Type:          d.Type,
		SchemaVersion: 1,
		ProfileId:     d.ProfileID,
		Source:        source,
		OccurredTime:  cause.GetOccurredTime(),
		TimeQuality:   cause.GetTimeQuality(),
		ReceivedTime:  cause.GetReceivedTime(),
		Channel:       channelIdentity,
		Actor:         actor,
		CorrelationId: correlation,
		CausationId:   cause.GetId(),
		Traceparent:   cause.GetTraceparent(),
		Backfill:      cause.GetBackfill(),
		Identifiers:   slices.Clone(d.Identifiers),
		Payload:       d.Payload,
	}
}
