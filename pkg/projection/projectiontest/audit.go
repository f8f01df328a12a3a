package projectiontest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
)

// NewAudit appends what operators do to the log's operations stream.
func NewAudit(log eventstore.Store) projection.Auditor { return audit{log: log} }

type audit struct{ log eventstore.Store }

func (a audit) Audit(ctx context.Context, actor *eventv1.Actor, payload *eventv1.Payload) (eventstore.Position, string, error) {
	typ, version, ok := event.TypeOf(payload)
	if !ok {
		return 0, "", errors.New("payload of no type")
	}
	ev := &eventv1.Event{
		Id: uuid.NewString(), Tenant: event.OperationsTenant, Type: typ, SchemaVersion: version, Source: "test", Channel: "operations",
		OccurredTime: timestamppb.New(time.Now()), ReceivedTime: timestamppb.New(time.Now()), Actor: actor, Payload: payload,
	}
	rec, err := event.NewCodec().Encode(ev)
	if err != nil {
		return 0, "", fmt.Errorf("audit: %w", err)
	}
	for {
		head, err := a.log.StreamHead(ctx, event.OperationsStream())
		if err != nil {
			return 0, "", fmt.Errorf("audit: %w", err)
		}
		done, err := a.log.Append(ctx, event.OperationsStream(), head, rec)
		var conflict *eventstore.RevisionConflictError
		if errors.As(err, &conflict) {
			continue
		}
		if err != nil {
			return 0, "", fmt.Errorf("audit: %w", err)
		}
		return done.Position, ev.GetId(), nil
	}
}
