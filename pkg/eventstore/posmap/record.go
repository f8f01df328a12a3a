package posmap

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/google/uuid"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// StreamOf is the stream that holds the map of the log with this id.
func StreamOf(log uuid.UUID) string { return streamPrefix + log.String() }

const (
	streamPrefix = "parley-origin-of-"

	typeOpened    = "origin-opened"
	typePositions = "origin-positions"
	typeCompleted = "origin-completed"

	format = 1
)

// state is how far a map has come: what each of its records begins with.
type state struct {
	Format  int                 `json:"format"`
	Source  uuid.UUID           `json:"source"`
	Old     eventstore.Position `json:"old"`
	New     eventstore.Position `json:"new"`
	Records uint64              `json:"records"`
}

// content is a record of a map.
type content struct {
	state
	Runs []byte `json:"runs,omitempty"`
}

// decode reads a record of a map. What it finds wrong wraps
// eventstore.ErrCorrupt or eventstore.ErrNewerFormat.
func decode(rec *eventstore.Record) (content, error) {
	fail := func(err error) (content, error) {
		return content{}, fmt.Errorf("map of positions: %s at revision %d: %w", rec.Stream, rec.Revision, err)
	}
	var c content
	if err := json.Unmarshal(rec.Data, &c); err != nil {
		return fail(fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err))
	}
	switch {
	case c.Format > format:
		return fail(fmt.Errorf("%w: its format is %d, this one knows up to %d", eventstore.ErrNewerFormat, c.Format, format))
	case c.Format < 1 || c.Source == uuid.Nil || (c.Old == 0) != (c.New == 0) || (c.Old == 0) != (c.Records == 0):
		return fail(eventstore.ErrCorrupt)
	case rec.Type != typeOpened && rec.Type != typePositions && rec.Type != typeCompleted:
		return fail(fmt.Errorf("%w: its type is %q", eventstore.ErrCorrupt, rec.Type))
	}
	return c, nil
}

// pair is a record's position in the source and in the target.
type pair struct{ old, new eventstore.Position }

// run is count records at equal distances: the first one at first, the others
// step apart.
type run struct {
	first pair
	step  pair
	count uint64
}

func (r run) at(i uint64) pair {
	return pair{old: r.first.old + eventstore.Position(i)*r.step.old, new: r.first.new + eventstore.Position(i)*r.step.new}
}

func (r run) last() pair { return r.at(r.count - 1) }

// add makes the run longer by a record, where that is at the same distance.
func (r *run) add(p pair) bool {
	last := r.last()
	if p.old-last.old != r.step.old || p.new-last.new != r.step.new {
		return false
	}
	r.count++
	return true
}

func appendRun(b []byte, r run) []byte {
	b = binary.AppendUvarint(b, uint64(r.step.old))
	b = binary.AppendUvarint(b, uint64(r.step.new))
	return binary.AppendUvarint(b, r.count)
}

// chunk is the pairs of one record of a map, behind those of the one before.
type chunk struct {
	after pair
	runs  []run
	last  pair
}

var errRuns = errors.New("its runs are not those of positions")

// decodeChunk reads runs that begin behind a pair.
func decodeChunk(after pair, b []byte) (*chunk, error) {
	c := &chunk{after: after, last: after}
	for len(b) > 0 {
		var v [3]uint64
		for i := range v {
			value, n := binary.Uvarint(b)
			if n <= 0 || value == 0 {
				return nil, errRuns
			}
			v[i], b = value, b[n:]
		}
		oldRoom, newRoom := math.MaxUint64-uint64(c.last.old), math.MaxUint64-uint64(c.last.new)
		if v[0] > oldRoom/v[2] || v[1] > newRoom/v[2] {
			return nil, errRuns
		}
		step := pair{old: eventstore.Position(v[0]), new: eventstore.Position(v[1])}
		r := run{first: pair{old: c.last.old + step.old, new: c.last.new + step.new}, step: step, count: v[2]}
		c.runs = append(c.runs, r)
		c.last = r.last()
	}
	return c, nil
}

// forwards is the last pair whose position in the source is at or below old.
func (c *chunk) forwards(old eventstore.Position) pair {
	i := sort.Search(len(c.runs), func(i int) bool { return c.runs[i].first.old > old })
	if i == 0 {
		return c.after
	}
	r := c.runs[i-1]
	return r.at(min(uint64((old-r.first.old)/r.step.old), r.count-1))
}

// backwards is the last pair whose position in the target is at or below new.
func (c *chunk) backwards(position eventstore.Position) pair {
	i := sort.Search(len(c.runs), func(i int) bool { return c.runs[i].first.new > position })
	if i == 0 {
		return c.after
	}
	r := c.runs[i-1]
	return r.at(min(uint64((position-r.first.new)/r.step.new), r.count-1))
}
