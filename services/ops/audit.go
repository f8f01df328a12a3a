package ops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Audit appends what operators do to the operations stream. It is the
// projection.Auditor of all projections of a process. All methods may be called
// concurrently, also while other processes append.
type Audit struct {
	log   Log
	codec Encoder
	now   func() time.Time
}

// Log is the part of the event store that the audit needs.
type Log interface {
	Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error)
	StreamHead(ctx context.Context, stream string) (eventstore.Revision, error)
}

// Encoder makes records of events. *event.Codec is one.
type Encoder interface {
	Encode(ev *eventv1.Event) (eventstore.NewRecord, error)
}

const (
	// channelOperations is the channel of the operations stream's events.
	channelOperations = "operations"
	// sourceParley is where they come from.
	sourceParley = "parley"
)

// NewAudit makes an audit over a log. now is the clock; nil stands for time.Now.
func NewAudit(log Log, codec Encoder, now func() time.Time) *Audit {
	if now == nil {
		now = time.Now
	}
	return &Audit{log: log, codec: codec, now: now}
}

// Audit appends an event with the payload and returns where it stands and its
// id. Without an actor it is the platform's own doing. It is appended once, also
// where the store does not say whether an append has happened; after an error
// that says so (eventstore.ErrUnavailable, or of ctx) it may stand in the log.
func (a *Audit) Audit(ctx context.Context, actor *eventv1.Actor, payload *eventv1.Payload) (eventstore.Position, string, error) {
	record, err := a.record(actor, payload)
	if err != nil {
		return 0, "", fmt.Errorf("note an operation: %w", err)
	}
	at, err := a.append(ctx, record)
	if err != nil {
		return 0, "", fmt.Errorf("note an operation, event %s: %w", record.ID, err)
	}
	return at.Position, record.ID.String(), nil
}

func (a *Audit) record(actor *eventv1.Actor, payload *eventv1.Payload) (eventstore.NewRecord, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return eventstore.NewRecord{}, fmt.Errorf("make an event's id: %w", err)
	}
	if actor == nil {
		actor = &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_SYSTEM, Id: sourceParley}
	}
	ev := &eventv1.Event{
		Id: id.String(), Tenant: event.OperationsTenant, Source: sourceParley, Channel: channelOperations,
		Actor: actor, Payload: payload,
	}
	if !event.Stamp(ev) {
		return eventstore.NewRecord{}, errors.New("the payload has no type")
	}
	now := a.now()
	event.SetOccurred(ev, now, now, false)
	return a.codec.Encode(ev)
}

const (
	// maxConflicts is how often others may append first: each time one of them
	// has got on, so that more means that something is amiss.
	maxConflicts = 100
	// maxUnsure is how often the store may leave it open whether it has appended.
	maxUnsure  = 5
	unsureWait = 50 * time.Millisecond
)

// append appends the record at the end of the stream. While the store leaves it
// open whether an append has happened, the same is asked of it again, at the
// same revision: where it had happened, the store recognises it by the id. Once
// a revision is refused, it has not happened there, and another may be tried.
func (a *Audit) append(ctx context.Context, record eventstore.NewRecord) (eventstore.Appended, error) {
	stream := event.OperationsStream()
	expected, err := a.log.StreamHead(ctx, stream)
	if err != nil {
		return eventstore.Appended{}, fmt.Errorf("read the head of %s: %w", stream, err)
	}
	conflicts, unsure := 0, 0
	for {
		at, err := a.log.Append(ctx, stream, expected, record)
		if err == nil {
			return at, nil
		}
		conflict := &eventstore.RevisionConflictError{}
		switch {
		case errors.As(err, &conflict) && conflicts < maxConflicts:
			conflicts++
			expected = conflict.Actual
		case errors.Is(err, eventstore.ErrUnavailable) && unsure < maxUnsure:
			unsure++
			if err := pause(ctx, unsureWait<<unsure); err != nil {
				return eventstore.Appended{}, fmt.Errorf("append to %s: %w", stream, err)
			}
		default:
			return eventstore.Appended{}, fmt.Errorf("append to %s: %w", stream, err)
		}
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
