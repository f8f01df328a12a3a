package ops

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// GetDeadLetter returns a dead letter with its event and documents, none of
// them with what is personal.
func (s *Server) GetDeadLetter(ctx context.Context, req *opsv1.GetDeadLetterRequest) (*opsv1.GetDeadLetterResponse, error) {
	p, err := s.begin(ctx, req.GetGeneration().GetProjection())
	if err != nil {
		return nil, err
	}
	ns, err := p.namespace(ctx, "generation", req.GetGeneration())
	if err != nil {
		return nil, err
	}
	position := eventstore.Position(req.GetPosition())
	found, err := p.DeadLetter(ctx, ns, position)
	if err != nil {
		return nil, rpcerr.FromError(fmt.Errorf("dead letter of %s at position %d: %w", ns, position, err))
	}
	answer := &opsv1.GetDeadLetterResponse{DeadLetter: found.DeadLetter, Event: eventOf(&found)}
	for _, doc := range found.Documents {
		if doc == nil {
			continue
		}
		shown, err := p.show(doc)
		if err != nil {
			return nil, rpcerr.FromError(fmt.Errorf("show a document of %s: %w", ns, err))
		}
		answer.DocumentsJson = append(answer.DocumentsJson, shown)
	}
	return answer, nil
}

// eventOf is the event without what is personal. Of one that cannot be decoded
// it is what the record's routing fields say.
func eventOf(d *projection.DeadLetterDetail) *eventv1.RecordedEvent {
	if d.Event != nil {
		return event.WithoutPersonal(d.Event)
	}
	if d.Record == nil {
		return nil
	}
	return &eventv1.RecordedEvent{
		Event:  &eventv1.Event{Id: d.Record.ID.String(), Tenant: event.TenantOf(d.Record.Stream), Type: d.Record.Type},
		Stream: d.Record.Stream, Revision: uint64(max(d.Record.Revision, 0)), Position: uint64(d.Record.Position),
		RecordedTime: timestamppb.New(d.Record.Recorded),
	}
}
