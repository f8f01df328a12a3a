package esdbserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// appendCommand is one append to one stream.
type appendCommand struct {
	name     string // outside
	stream   string // in the store
	expected expectation
	records  []eventstore.NewRecord
}

// appended is where a stream stands after an append. position is 0 where
// nothing was to be appended.
type appended struct {
	revision eventstore.Revision
	position eventstore.Position
}

// operationAppend names the operation in messages.
const operationAppend = "append"

// append decides an append by EventStoreDB's rules, and does it.
func (s *Server) append(ctx context.Context, cmd *appendCommand) (appended, error) {
	st := s.states.hold(cmd.stream)
	defer s.states.release(st)
	st.gate.RLock()
	defer st.gate.RUnlock()
	done, err := s.appendHeld(ctx, st, cmd)
	s.metrics.appended(err)
	if err != nil {
		return appended{}, err
	}
	if about, isMeta := subject(cmd.name); isMeta {
		s.states.forgetMeta(inside(about))
	}
	return done, nil
}

func (s *Server) appendHeld(ctx context.Context, st *streamState, cmd *appendCommand) (appended, error) {
	if len(cmd.records) == 0 {
		return s.appendNothing(ctx, st, cmd)
	}
	switch cmd.expected.kind {
	case expectNone:
		return s.appendNew(ctx, st, cmd)
	case expectExact:
		if err := s.checkTombstone(ctx, st); err != nil {
			return appended{}, err
		}
		return s.appendAt(ctx, st, cmd, cmd.expected.revision)
	default:
		return s.appendAny(ctx, st, cmd)
	}
}

// appendNothing only compares the stream with what is expected.
func (s *Server) appendNothing(ctx context.Context, st *streamState, cmd *appendCommand) (appended, error) {
	head, deleted, err := s.standing(ctx, st)
	if err != nil {
		return appended{}, err
	}
	if !cmd.expected.holds(head, deleted) {
		return appended{}, wrongVersion(operationAppend, cmd.name, cmd.expected, head)
	}
	return appended{revision: head}, nil
}

// standing is a stream's last revision, and whether it is deleted. It fails
// where it is so for good.
func (s *Server) standing(ctx context.Context, st *streamState) (head eventstore.Revision, deleted bool, err error) {
	if err := s.checkTombstone(ctx, st); err != nil {
		return 0, false, err
	}
	if head, err = s.store.StreamHead(ctx, st.stream); err != nil {
		return 0, false, err
	}
	meta, err := s.metaOf(ctx, st)
	return head, meta.deleted(head), err
}

// appendAt appends with an exact revision; the store keeps it idempotent.
func (s *Server) appendAt(
	ctx context.Context, st *streamState, cmd *appendCommand, expected eventstore.Revision,
) (appended, error) {
	done, err := s.store.Append(ctx, cmd.stream, expected, cmd.records...)
	var conflict *eventstore.RevisionConflictError
	if errors.As(err, &conflict) {
		if err := s.checkTombstone(ctx, st); err != nil {
			return appended{}, err
		}
		return appended{}, wrongVersion(operationAppend, cmd.name, cmd.expected, conflict.Actual)
	}
	if err != nil {
		return appended{}, fmt.Errorf("append to %s: %w", cmd.name, err)
	}
	if done.Repeated {
		// It was before a tombstone, and is told of it now.
		if err := s.checkTombstone(ctx, st); err != nil {
			return appended{}, err
		}
	} else if expected == eventstore.NoStream {
		st.begun()
	}
	return appended{revision: done.Revision, position: done.Position}, nil
}

// appendNew appends to a stream that is not there, or is deleted.
func (s *Server) appendNew(ctx context.Context, st *streamState, cmd *appendCommand) (appended, error) {
	done, err := s.appendAt(ctx, st, cmd, eventstore.NoStream)
	var refused *replyError
	if !errors.As(err, &refused) || refused.reason != reasonWrongVersion {
		return done, err
	}
	meta, metaErr := s.metaOf(ctx, st)
	if metaErr != nil {
		return appended{}, metaErr
	}
	if !meta.marked || meta.before == 0 {
		return appended{}, err
	}
	// It goes on behind what was deleted; should it have gone on already, the
	// store knows whether with these events.
	return s.appendAt(ctx, st, cmd, meta.before-1)
}

// appendAny appends wherever the stream is, unless these events stand there
// already.
func (s *Server) appendAny(ctx context.Context, st *streamState, cmd *appendCommand) (appended, error) {
	for {
		place, repeated, wait, err := s.beginAny(ctx, st, cmd)
		if err != nil || repeated {
			return place, err
		}
		if wait == nil {
			break
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return appended{}, fmt.Errorf("append to %s: wait for the same append: %w", cmd.name, ctx.Err())
		}
	}
	defer st.landed(cmd.records[0].ID)
	done, err := s.store.Append(ctx, cmd.stream, eventstore.Any, cmd.records...)
	if err != nil {
		return appended{}, fmt.Errorf("append to %s: %w", cmd.name, err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if n := eventstore.Revision(len(cmd.records)); done.Revision-n == st.seen {
		// Nobody else appended in between: the tail needs no reading.
		for i := range cmd.records {
			st.remember(cmd.records[i].ID, st.seen+1)
		}
	}
	return appended{revision: done.Revision, position: done.Position}, nil
}

// beginAny decides whether an append may go ahead, and notes that it is under
// way. Where the same one is so already, it answers with what to wait for.
func (s *Server) beginAny(
	ctx context.Context, st *streamState, cmd *appendCommand,
) (place appended, repeated bool, wait <-chan struct{}, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	head, err := s.catchUpTail(ctx, st)
	if err != nil {
		return appended{}, false, nil, err
	}
	if err := s.checkTombstoneLocked(ctx, st); err != nil {
		return appended{}, false, nil, err
	}
	if cmd.expected.kind == expectExists {
		meta, err := s.metaLocked(ctx, st)
		if err != nil {
			return appended{}, false, nil, err
		}
		if !cmd.expected.holds(head, meta.deleted(head)) {
			return appended{}, false, nil, wrongVersion(operationAppend, cmd.name, cmd.expected, head)
		}
	}
	n := len(cmd.records)
	if last, ok := st.find(cmd.records[n-1].ID); ok {
		place, same, err := s.standsAt(ctx, cmd, last-eventstore.Revision(n)+1)
		if err != nil || same {
			return place, same, nil, err
		}
		return appended{}, false, nil, wrongVersion(operationAppend, cmd.name, cmd.expected, head)
	}
	first := cmd.records[0].ID
	if _, ok := st.find(first); ok {
		return appended{}, false, nil, wrongVersion(operationAppend, cmd.name, cmd.expected, head)
	}
	if wait := st.inFlight[first]; wait != nil {
		return appended{}, false, wait, nil
	}
	if st.inFlight == nil {
		st.inFlight = map[uuid.UUID]chan struct{}{}
	}
	st.inFlight[first] = make(chan struct{})
	return appended{}, false, nil, nil
}

// standsAt says whether the events of an append stand from a revision on, and
// where the last one is.
func (s *Server) standsAt(ctx context.Context, cmd *appendCommand, from eventstore.Revision) (appended, bool, error) {
	if from < 0 {
		return appended{}, false, nil
	}
	var place appended
	i := 0
	opts := eventstore.ReadStreamOptions{From: from, Limit: len(cmd.records)}
	for r, err := range s.store.ReadStream(ctx, cmd.stream, opts) {
		if err != nil {
			return appended{}, false, fmt.Errorf("append to %s: %w", cmd.name, err)
		}
		if r.ID != cmd.records[i].ID {
			return appended{}, false, nil
		}
		place = appended{revision: r.Revision, position: r.Position}
		i++
	}
	return place, i == len(cmd.records), nil
}
