package esdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Identify notes in a log that is to be reached by EventStoreDB's protocol which
// id it has, so that what opens it by this driver knows it by the same one:
// tokens and checkpoints that were given out before go on to be of this log. A
// log that has a note already keeps it.
func Identify(ctx context.Context, log eventstore.Store) error {
	_, err := log.Append(ctx, logStream, eventstore.NoStream, logRecord(log.LogID()))
	var conflict *eventstore.RevisionConflictError
	if err != nil && !errors.As(err, &conflict) {
		return fmt.Errorf("note the log's id: %w", err)
	}
	return nil
}

// logRecord is the record of a log's id.
func logRecord(id uuid.UUID) eventstore.NewRecord {
	return eventstore.NewRecord{ID: id, Type: logType, ContentType: eventstore.ContentJSON, Data: []byte(`{"log_id":"` + id.String() + `"}`)}
}
