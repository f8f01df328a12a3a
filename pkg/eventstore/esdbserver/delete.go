package esdbserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// deleteAttempts is how often a deletion is decided anew because somebody wrote
// in between.
const deleteAttempts = 16

// deleteCommand deletes a stream, so that it can go on, or for good.
type deleteCommand struct {
	operation string
	name      string // outside
	stream    string // in the store
	expected  expectation
}

// Delete is Streams.Delete: the stream reads as not found and can go on.
func (s *Server) Delete(ctx context.Context, req *streams.DeleteReq) (*streams.DeleteResp, error) {
	expected, err := deleteExpectation(req.GetOptions())
	position, err := s.remove(ctx, "delete", req.GetOptions().GetStreamIdentifier().GetStreamName(), expected, err, s.delete)
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{Position: &streams.DeleteResp_Position{
		CommitPosition: position, PreparePosition: position,
	}}}, nil
}

// Tombstone is Streams.Tombstone: the stream is deleted for good.
func (s *Server) Tombstone(ctx context.Context, req *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	expected, err := tombstoneExpectation(req.GetOptions())
	position, err := s.remove(ctx, "tombstone", req.GetOptions().GetStreamIdentifier().GetStreamName(), expected, err, s.tombstone)
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{Position: &streams.TombstoneResp_Position{
		CommitPosition: position, PreparePosition: position,
	}}}, nil
}

// remove checks a request whose expectation was read, maybe with an error, and
// carries it out.
func (s *Server) remove(
	ctx context.Context, operation string, raw []byte, expected expectation, malformed error, do func(context.Context, *deleteCommand) (eventstore.Position, error),
) (uint64, error) {
	if malformed != nil {
		return 0, malformed
	}
	cmd, err := s.deleteCommand(ctx, operation, raw, expected)
	if err != nil {
		return 0, err
	}
	position, err := do(ctx, cmd)
	return uint64(position), err
}

func (s *Server) deleteCommand(ctx context.Context, operation string, raw []byte, expected expectation) (*deleteCommand, error) {
	name, stream, err := streamName(raw)
	if err != nil {
		return nil, err
	}
	if _, isMeta := subject(name); isMeta {
		return nil, invalidArgument("%s %q: metadata is not deleted, append other metadata", operation, name)
	}
	if err := s.mayWrite(ctx, name); err != nil {
		return nil, err
	}
	return &deleteCommand{operation: operation, name: name, stream: stream, expected: expected}, nil
}

// delete appends metadata by which the stream begins behind its end.
func (s *Server) delete(ctx context.Context, cmd *deleteCommand) (eventstore.Position, error) {
	st := s.states.hold(cmd.stream)
	defer s.states.release(st)
	st.gate.RLock()
	defer st.gate.RUnlock()
	meta := metaStream(cmd.stream)
	if err := eventstore.ValidateStream(meta); err != nil {
		return 0, fmt.Errorf("delete %s: its name is too long for metadata: %w", cmd.name, err)
	}
	for range deleteAttempts {
		head, deleted, err := s.standing(ctx, st)
		if err != nil {
			return 0, err
		}
		if !cmd.expected.holds(head, deleted) {
			return 0, wrongVersion(cmd.operation, cmd.name, cmd.expected, head)
		}
		current, err := s.metaOf(ctx, st)
		if err != nil {
			return 0, err
		}
		data, err := current.truncated(head + 1)
		if err != nil {
			return 0, err
		}
		done, err := s.store.Append(ctx, meta, current.revision, eventstore.NewRecord{
			ID: uuid.New(), Type: storedMetadata, ContentType: eventstore.ContentJSON, Data: data, Metadata: []byte(deletionMark),
		})
		s.states.forgetMeta(cmd.stream)
		var conflict *eventstore.RevisionConflictError
		if errors.As(err, &conflict) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("delete %s: %w", cmd.name, err)
		}
		return done.Position, nil
	}
	return 0, fmt.Errorf("delete %s: its metadata keeps changing: %w", cmd.name, eventstore.ErrUnavailable)
}

// tombstone appends the stream's last record.
func (s *Server) tombstone(ctx context.Context, cmd *deleteCommand) (eventstore.Position, error) {
	st := s.states.hold(cmd.stream)
	defer s.states.release(st)
	st.gate.Lock()
	defer st.gate.Unlock()
	for range deleteAttempts {
		head, deleted, err := s.standing(ctx, st)
		if err != nil {
			return 0, err
		}
		if !cmd.expected.holds(head, deleted) {
			return 0, wrongVersion(cmd.operation, cmd.name, cmd.expected, head)
		}
		done, err := s.store.Append(ctx, cmd.stream, head, eventstore.NewRecord{
			ID: uuid.New(), Type: storedStreamDeleted, ContentType: eventstore.ContentJSON, Data: []byte("{}"),
		})
		st.mu.Lock()
		// Also where the outcome is not known, it is looked for again.
		st.tombstoned, st.tombstoneKnown = true, err == nil
		st.mu.Unlock()
		var conflict *eventstore.RevisionConflictError
		if errors.As(err, &conflict) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("tombstone %s: %w", cmd.name, err)
		}
		return done.Position, nil
	}
	return 0, fmt.Errorf("tombstone %s: others keep appending to it: %w", cmd.name, eventstore.ErrUnavailable)
}
