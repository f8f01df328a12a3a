package esdbserver

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

const (
	// cachedStates bounds the cache; states in use are not counted out.
	cachedStates = 8192
	// tailRecords is how far back an append with any looks for its own events;
	// mostTail is how many are kept before the older ones are let go.
	tailRecords = 128
	mostTail    = tailRecords + tailRecords/4
)

// streamState is what is known of one stream, by its name in the store.
type streamState struct {
	stream string

	// gate is held for reading by appends and for writing by a tombstone, so
	// that nothing comes behind one.
	gate sync.RWMutex

	mu sync.Mutex
	// tombstone: unknown until looked for.
	tombstoneKnown, tombstoned bool
	metaKnown                  bool
	meta                       streamMeta
	// tail are the last records up to revision seen, oldest first. seen is
	// NoStream for none.
	tail     []tailRecord
	seen     eventstore.Revision
	inFlight map[uuid.UUID]chan struct{} // by an append's first event id

	// Of the cache.
	refs int
	spot *list.Element
}

type tailRecord struct {
	id       uuid.UUID
	revision eventstore.Revision
}

// states is a bounded cache of stream states. A state that somebody holds stays
// in it, so that there is never a second one of the same stream.
type states struct {
	mu    sync.Mutex
	all   map[string]*streamState
	idle  list.List // of *streamState with no refs, the longest idle first
	bound int
}

func newStates(bound int) *states {
	return &states{all: map[string]*streamState{}, bound: bound}
}

// hold gets a stream's state, to be given back by release.
func (c *states) hold(stream string) *streamState {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.all[stream]
	if st == nil {
		st = &streamState{stream: stream, seen: eventstore.NoStream}
		c.all[stream] = st
	}
	if st.spot != nil {
		c.idle.Remove(st.spot)
		st.spot = nil
	}
	st.refs++
	return st
}

func (c *states) release(st *streamState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.refs--; st.refs > 0 {
		return
	}
	st.spot = c.idle.PushBack(st)
	for c.idle.Len() > c.bound {
		oldest, ok := c.idle.Remove(c.idle.Front()).(*streamState)
		if !ok {
			return
		}
		delete(c.all, oldest.stream)
	}
}

// forgetMeta has a stream's metadata read again, since it was written.
func (c *states) forgetMeta(stream string) {
	c.mu.Lock()
	st := c.all[stream]
	c.mu.Unlock()
	if st == nil {
		return
	}
	// Should it have been thrown out of the cache in between, nobody has it.
	st.mu.Lock()
	st.metaKnown = false
	st.mu.Unlock()
}

// last reads a stream's last record; nil where it has none.
func (s *Server) last(ctx context.Context, stream string) (*eventstore.Record, error) {
	opts := eventstore.ReadStreamOptions{From: eventstore.End, Direction: eventstore.Backwards, Limit: 1}
	for r, err := range s.store.ReadStream(ctx, stream, opts) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the end of stream %s: %w", stream, err)
		}
		return r, nil
	}
	return nil, nil
}

// checkTombstone fails where the stream is deleted for good.
func (s *Server) checkTombstone(ctx context.Context, st *streamState) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return s.checkTombstoneLocked(ctx, st)
}

func (s *Server) checkTombstoneLocked(ctx context.Context, st *streamState) error {
	if !st.tombstoneKnown {
		r, err := s.last(ctx, st.stream)
		if err != nil {
			return err
		}
		st.tombstoned = r != nil && r.Type == storedStreamDeleted
		st.tombstoneKnown = true
	}
	if st.tombstoned {
		return streamDeleted(outside(st.stream))
	}
	return nil
}

// begun says that the stream has just begun: without a tombstone, so that the
// next append need not look for one.
func (st *streamState) begun() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tombstoned, st.tombstoneKnown = false, true
}

// metaOf is a stream's metadata as it stands.
func (s *Server) metaOf(ctx context.Context, st *streamState) (streamMeta, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return s.metaLocked(ctx, st)
}

func (s *Server) metaLocked(ctx context.Context, st *streamState) (streamMeta, error) {
	if st.metaKnown {
		return st.meta, nil
	}
	m := noMeta()
	if _, isMeta := subject(outside(st.stream)); isMeta {
		// Of metadata the last word counts alone.
		m.maxCount = 1
	} else if name := metaStream(st.stream); len(name) <= eventstore.MaxStreamNameBytes {
		r, err := s.last(ctx, name)
		if err != nil {
			return streamMeta{}, err
		}
		if r != nil {
			if m, err = parseMeta(r); err != nil {
				return streamMeta{}, err
			}
		}
	}
	st.meta, st.metaKnown = m, true
	return m, nil
}

// catchUpTail reads what was appended since the tail was looked at, by
// whomever, and answers with the stream's head.
func (s *Server) catchUpTail(ctx context.Context, st *streamState) (eventstore.Revision, error) {
	head, err := s.store.StreamHead(ctx, st.stream)
	if err != nil {
		return 0, err
	}
	if head <= st.seen {
		return st.seen, nil
	}
	from := max(st.seen+1, head-tailRecords+1)
	opts := eventstore.ReadStreamOptions{From: from, Limit: int(head - from + 1)}
	for r, err := range s.store.ReadStream(ctx, st.stream, opts) {
		if err != nil {
			return 0, fmt.Errorf("read the tail of stream %s: %w", st.stream, err)
		}
		st.remember(r.ID, r.Revision)
		st.tombstoned, st.tombstoneKnown = r.Type == storedStreamDeleted, true
	}
	return st.seen, nil
}

// remember adds the next record of the tail.
func (st *streamState) remember(id uuid.UUID, revision eventstore.Revision) {
	if len(st.tail) == mostTail {
		st.tail = slices.Delete(st.tail, 0, mostTail-tailRecords)
	}
	st.tail = append(st.tail, tailRecord{id: id, revision: revision})
	st.seen = revision
}

// landed says that the append that begins with an event is no longer under way.
func (st *streamState) landed(first uuid.UUID) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if wait := st.inFlight[first]; wait != nil {
		delete(st.inFlight, first)
		close(wait)
	}
}

// find finds an event in the tail.
func (st *streamState) find(id uuid.UUID) (eventstore.Revision, bool) {
	for i := len(st.tail) - 1; i >= max(0, len(st.tail)-tailRecords); i-- {
		if st.tail[i].id == id {
			return st.tail[i].revision, true
		}
	}
	return 0, false
}
