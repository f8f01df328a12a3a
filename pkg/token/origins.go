package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

// ErrOtherLog is for a token of a log that has nothing to do with the one at hand.
var ErrOtherLog = errors.New("token belongs to another log")

// Origins knows which logs a log was copied from. A *posmap.Map does. It may be
// called concurrently.
type Origins interface {
	// Resolve is where a position of one of those logs is now. It fails with
	// *posmap.UnknownLogError for any other log.
	Resolve(ctx context.Context, log uuid.UUID, position eventstore.Position) (eventstore.Position, error)
}

// In is the token's position in a log, which may be one that was filled from the
// token's: origins knows, and may be nil where it was filled from none. It fails
// with ErrOtherLog, and as origins does.
func (t Token) In(ctx context.Context, log uuid.UUID, origins Origins) (eventstore.Position, error) {
	if t.LogID == log {
		return t.Position, nil
	}
	if origins == nil {
		return 0, fmt.Errorf("%s token of log %s: %w", t.Kind, t.LogID, ErrOtherLog)
	}
	position, err := origins.Resolve(ctx, t.LogID, t.Position)
	if _, unknown := errors.AsType[*posmap.UnknownLogError](err); unknown {
		return 0, fmt.Errorf("%s token of log %s: %w: %w", t.Kind, t.LogID, ErrOtherLog, err)
	}
	if err != nil {
		return 0, fmt.Errorf("%s token of log %s: %w", t.Kind, t.LogID, err)
	}
	return position, nil
}
