package embedded

import (
	"strings"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// heads remembers the revisions that streams are at: a bounded cache of two
// generations, the older of which is forgotten when the younger is full. What
// was used since the last turn survives it.
type heads struct {
	young, old map[string]eventstore.Revision
	limit      int
}

// headsLimit is the number of streams in one generation. With names of 50
// bytes both together take about 10 MiB at most.
const headsLimit = 32 << 10

func newHeads(limit int) *heads {
	return &heads{young: map[string]eventstore.Revision{}, limit: limit}
}

func (h *heads) get(stream string) (eventstore.Revision, bool) {
	if revision, ok := h.young[stream]; ok {
		return revision, true
	}
	revision, ok := h.old[stream]
	if ok {
		h.set(stream, revision)
	}
	return revision, ok
}

func (h *heads) set(stream string, revision eventstore.Revision) {
	if _, ok := h.young[stream]; !ok {
		if len(h.young) >= h.limit {
			h.young, h.old = make(map[string]eventstore.Revision, h.limit/4), h.young
		}
		// The caller's may be a part of something large.
		stream = strings.Clone(stream)
	}
	h.young[stream] = revision
}
