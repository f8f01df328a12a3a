package web

import (
	"sync"
	"time"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// readers are used again for their scratch memory.
var readers = sync.Pool{New: func() any { return new(reader) }}

func newReader() *reader {
	rd, ok := readers.Get().(*reader)
	if !ok {
		rd = new(reader)
	}
	return rd
}

// done gives the reader back, without what it holds of the last body.
func (rd *reader) done() {
	clear(rd.members[:cap(rd.members)])
	const most = 64 << 10
	if cap(rd.scratch) <= most {
		readers.Put(rd)
	}
}

// ParseLine reads one line of history: any call of the tracking API, with its
// type, as JSON. The events are marked as backfill, and happened when the line
// says: no clock is corrected. A line without messageId has an id of its
// content, so that it is the same event however often it is imported.
//
// With violations there are no events. Nothing of line is kept.
func (mp *Mapper) ParseLine(line []byte, key Key, received time.Time) ([]*eventv1.Event, []Violation) {
	line = trimJSON(line)
	if err := checkJSON(line); err != nil {
		return nil, []Violation{{Rule: codeInvalidJSON, Message: err.Error()}}
	}
	rd := newReader()
	defer rd.done()
	var m message
	rd.read(&m, string(line), kindUnknown, &callContext{})
	return mp.events(nil, &m, &key, &arrival{received: received, imported: true})
}
