package posmap

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Log is the part of an event store that is needed here.
type Log interface {
	LogID() uuid.UUID
	StreamHead(ctx context.Context, stream string) (eventstore.Revision, error)
	ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error]
}

// Map resolves the positions of the logs that one log was filled from. It holds
// what the log had when it was loaded, which is all there will be: whoever
// copies finishes before the log is used. All methods may be called
// concurrently; they read from the log what they have not at hand, so that they
// fail as its reads do.
type Map struct {
	log uuid.UUID
	// origins leads from the log itself to the oldest one.
	origins []*origin
}

// Origin is a log that was copied into another one.
type Origin struct {
	Source, Target uuid.UUID
	// Old is the last position, in Source, that is mapped; New is where that
	// record stands in Target. Both are 0 where nothing was copied.
	Old, New eventstore.Position
	// Records is how many records are mapped.
	Records uint64
	// Complete says that everything that was copied is mapped, and the copy
	// came to the end that the source had.
	Complete bool
}

// UnknownLogError is about a position of a log that this one was not filled from.
type UnknownLogError struct{ LogID, Own uuid.UUID }

func (e *UnknownLogError) Error() string {
	return fmt.Sprintf("log %s is not one that log %s was copied from", e.LogID, e.Own)
}

// UnfinishedError is about a position behind what is mapped of a log of which
// more may have been copied.
type UnfinishedError struct {
	Origin   Origin
	Position eventstore.Position
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("position %d of log %s: its copy into log %s has come to %d and was not finished; `parley log copy` with the same --from and --to finishes it",
		e.Position, e.Origin.Source, e.Origin.Target, e.Origin.Old)
}

// NotCopiedError is what Strict answers for a position behind everything that was copied.
type NotCopiedError struct {
	Origin   Origin
	Position eventstore.Position
}

func (e *NotCopiedError) Error() string {
	return fmt.Sprintf("position %d of log %s is behind %d, the last one that was copied into log %s: what was recorded there since is not in this log",
		e.Position, e.Origin.Source, e.Origin.Old, e.Origin.Target)
}

// Load finds out which logs a log was filled from: two small reads for each.
// Positions are read when they are asked for.
func Load(ctx context.Context, log Log) (*Map, error) {
	m := &Map{log: log.LogID()}
	seen := map[uuid.UUID]bool{}
	for target := m.log; !seen[target]; {
		seen[target] = true
		o, found, err := loadOrigin(ctx, log, target)
		if err != nil {
			return nil, err
		}
		if !found {
			return m, nil
		}
		m.origins = append(m.origins, o)
		target = o.Source
	}
	return nil, fmt.Errorf("map of positions: log %s was copied from itself: %w", m.log, eventstore.ErrCorrupt)
}

// Origins are the logs that this one was filled from: the one it was copied
// from, the one that that one was copied from, and so on.
func (m *Map) Origins() []Origin {
	all := make([]Origin, len(m.origins))
	for i, o := range m.origins {
		all[i] = o.Origin
	}
	return all
}

// Resolve is where a position of a log is in this one; a position of this one
// is itself. Behind everything that was copied it is the last record copied.
// It fails with *UnknownLogError, with *UnfinishedError, and as reads do.
func (m *Map) Resolve(ctx context.Context, log uuid.UUID, position eventstore.Position) (eventstore.Position, error) {
	return m.resolve(ctx, log, position, false)
}

// Strict resolves as Resolve does, but fails with *NotCopiedError behind
// everything that was copied: for what contains the records up to a position,
// and is wrong where those are not in this log.
func (m *Map) Strict(ctx context.Context, log uuid.UUID, position eventstore.Position) (eventstore.Position, error) {
	return m.resolve(ctx, log, position, true)
}

func (m *Map) resolve(ctx context.Context, log uuid.UUID, position eventstore.Position, strict bool) (eventstore.Position, error) {
	level := 0 // how many times the log was moved since
	for at := m.log; at != log; level++ {
		if level == len(m.origins) {
			return 0, &UnknownLogError{LogID: log, Own: m.log}
		}
		at = m.origins[level].Source
	}
	for ; level > 0; level-- {
		o := m.origins[level-1]
		if strict && o.Complete && position > o.Old {
			return 0, &NotCopiedError{Origin: o.Origin, Position: position}
		}
		var err error
		if position, err = o.forwards(ctx, position); err != nil {
			return 0, err
		}
	}
	return position, nil
}

// Within is where a position is in this log that stands in the payload of the
// record at another one: a payload moves as it is, so its positions are those
// of the log that it was first written to. It fails as Resolve does.
func (m *Map) Within(ctx context.Context, record, position eventstore.Position) (eventstore.Position, error) {
	return m.within(ctx, 0, record, position)
}

func (m *Map) within(ctx context.Context, level int, record, position eventstore.Position) (eventstore.Position, error) {
	if level == len(m.origins) {
		return position, nil
	}
	o := m.origins[level]
	if record > o.New {
		if !o.Complete {
			return 0, &UnfinishedError{Origin: o.Origin, Position: position}
		}
		return position, nil // written after the move
	}
	before, err := o.backwards(ctx, record)
	if err != nil {
		return 0, err
	}
	if position, err = m.within(ctx, level+1, before, position); err != nil {
		return 0, err
	}
	return o.forwards(ctx, position)
}

// origin is one move, and what was read of its map.
type origin struct {
	Origin
	log    Log
	stream string
	head   eventstore.Revision

	mu sync.Mutex
	// ends has the state that a record of the map left behind; one for every
	// few thousand records of the log, so that it need not be bounded.
	ends map[eventstore.Revision]pair
	// chunks are those asked for last, in the order in which they came.
	chunks map[eventstore.Revision]*chunk
	order  []eventstore.Revision
}

// keptChunks bounds the chunks at hand: at most 300 KiB each, mostly far less.
const keptChunks = 16

func loadOrigin(ctx context.Context, log Log, target uuid.UUID) (*origin, bool, error) {
	o := &origin{
		log: log, stream: StreamOf(target),
		ends: map[eventstore.Revision]pair{}, chunks: map[eventstore.Revision]*chunk{},
	}
	var err error
	if o.head, err = log.StreamHead(ctx, o.stream); err != nil {
		return nil, false, fmt.Errorf("map of positions: %w", err)
	}
	if o.head == eventstore.NoStream {
		return nil, false, nil
	}
	rec, err := o.record(ctx, o.head)
	if err != nil {
		return nil, false, err
	}
	c, err := decode(rec)
	if err != nil {
		return nil, false, err
	}
	o.Origin = Origin{
		Source: c.Source, Target: target, Old: c.Old, New: c.New, Records: c.Records, Complete: rec.Type == typeCompleted,
	}
	o.ends[o.head] = pair{c.Old, c.New}
	return o, true, nil
}

func (o *origin) record(ctx context.Context, revision eventstore.Revision) (*eventstore.Record, error) {
	for rec, err := range o.log.ReadStream(ctx, o.stream, eventstore.ReadStreamOptions{From: revision, Limit: 1}) {
		if err != nil {
			return nil, fmt.Errorf("map of positions: %w", err)
		}
		return rec, nil
	}
	return nil, fmt.Errorf("map of positions: %s at revision %d: missing: %w", o.stream, revision, eventstore.ErrCorrupt)
}

// forwards resolves a position of the source.
func (o *origin) forwards(ctx context.Context, old eventstore.Position) (eventstore.Position, error) {
	switch {
	case old > o.Old && !o.Complete:
		return 0, &UnfinishedError{Origin: o.Origin, Position: old}
	case old >= o.Old:
		return o.New, nil
	}
	c, err := o.find(ctx, func(end pair) bool { return end.old >= old })
	if err != nil {
		return 0, err
	}
	return c.forwards(old).new, nil
}

// backwards is the position in the source of the last record copied at or below
// a position of the target.
func (o *origin) backwards(ctx context.Context, position eventstore.Position) (eventstore.Position, error) {
	if position >= o.New {
		return o.Old, nil
	}
	c, err := o.find(ctx, func(end pair) bool { return end.new >= position })
	if err != nil {
		return 0, err
	}
	return c.backwards(position).old, nil
}

// find is the first chunk that ends where reaches says so.
func (o *origin) find(ctx context.Context, reaches func(end pair) bool) (*chunk, error) {
	low, high := eventstore.Revision(0), o.head
	for low < high {
		middle := low + (high-low)/2
		end, err := o.end(ctx, middle)
		if err != nil {
			return nil, err
		}
		if reaches(end) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return o.chunk(ctx, low)
}

// end is how far the map had come with a record of it.
func (o *origin) end(ctx context.Context, revision eventstore.Revision) (pair, error) {
	if revision < 0 {
		return pair{}, nil
	}
	o.mu.Lock()
	end, known := o.ends[revision]
	o.mu.Unlock()
	if known {
		return end, nil
	}
	rec, err := o.record(ctx, revision)
	if err != nil {
		return pair{}, err
	}
	c, err := decode(rec)
	if err != nil {
		return pair{}, err
	}
	end = pair{c.Old, c.New}
	o.mu.Lock()
	o.ends[revision] = end
	o.mu.Unlock()
	return end, nil
}

// chunk reads the pairs of a record of the map.
func (o *origin) chunk(ctx context.Context, revision eventstore.Revision) (*chunk, error) {
	o.mu.Lock()
	known := o.chunks[revision]
	o.mu.Unlock()
	if known != nil {
		return known, nil
	}
	after, err := o.end(ctx, revision-1)
	if err != nil {
		return nil, err
	}
	rec, err := o.record(ctx, revision)
	if err != nil {
		return nil, err
	}
	content, err := decode(rec)
	if err != nil {
		return nil, err
	}
	c, err := decodeChunk(after, content.Runs)
	if err == nil && c.last != (pair{content.Old, content.New}) {
		err = errRuns
	}
	if err != nil {
		return nil, fmt.Errorf("map of positions: %s at revision %d: %w: %w", o.stream, revision, eventstore.ErrCorrupt, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.chunks[revision] == nil {
		if len(o.order) == keptChunks {
			delete(o.chunks, o.order[0])
			o.order = o.order[1:]
		}
		o.order = append(o.order, revision)
		o.chunks[revision] = c
	}
	return c, nil
}
