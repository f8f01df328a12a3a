package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
)

// Get returns one event by its id.
func (s *Server) Get(ctx context.Context, req *feedv1.GetRequest) (*feedv1.GetResponse, error) {
	who, ok := tenant.From(ctx)
	if !ok {
		return nil, errNoTenant()
	}
	id, err := uuid.Parse(req.GetEventId())
	if err != nil {
		return nil, rpcerr.InvalidField("event_id", "must be a UUID")
	}
	// The index folds nothing, so nothing can be set aside: what it has come to it has.
	if _, err := s.waiter.Wait(ctx, req.GetConsistencyToken()); err != nil {
		return nil, err
	}
	found, err := s.find(ctx, who, id)
	if err != nil {
		return nil, rpcerr.FromError(err)
	}
	return &feedv1.GetResponse{Event: found}, nil
}

// find looks an event up: where it stands, and there.
func (s *Server) find(ctx context.Context, who tenant.Identity, id uuid.UUID) (*eventv1.RecordedEvent, error) {
	position, err := s.deps.Index.Find(ctx, who.Tenant, id)
	if errors.Is(err, ErrUnknownEvent) {
		return nil, rpcerr.New(codes.NotFound, errorv1.Reason_REASON_EVENT_NOT_FOUND, "no event has this id")
	}
	if err != nil {
		return nil, err
	}
	for rec, err := range s.deps.Log.ReadAll(ctx, eventstore.ReadAllOptions{From: position - 1, Limit: 1}) {
		if err != nil {
			return nil, fmt.Errorf("event %s at position %d: %w", id, position, err)
		}
		if rec.Position != position || rec.ID != id || event.TenantOf(rec.Stream) != who.Tenant || !event.IsEvent(rec) {
			break
		}
		out := &eventv1.RecordedEvent{}
		if err := s.deps.Codec.DecodeInto(rec, out); err != nil {
			return nil, fmt.Errorf("event %s at position %d: %w", id, position, err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("event %s: the log has another record at position %d: %w", id, position, eventstore.ErrCorrupt)
}
