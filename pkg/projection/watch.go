package projection

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/parleyhq/parley/pkg/view"
)

// hub tells watchers which documents changed. It never waits for one.
type hub struct {
	mu      sync.Mutex
	byKey   map[view.Key]map[*Watch]struct{}
	changes map[*Changes]struct{}
}

// Watch wakes whoever follows some customers. It only says that something changed since the last wake-up;
// what is then read is at least as new as that change.
type Watch struct {
	hub  *hub
	wake chan struct{}
	// keys, under hub.mu; nil once closed.
	keys []view.Key
}

// Changes gathers which customers changed, each once until it is taken.
type Changes struct {
	hub   *hub
	limit int
	wake  chan struct{}
	// Under hub.mu.
	keys map[view.Key]struct{}
	all  bool
}

// Watch follows the customers with these ids. One that another absorbs changes
// by it, for the last time: resolve anew and Set. Close it.
func (h *host) Watch(keys ...view.Key) *Watch {
	w := &Watch{hub: &h.hub, wake: make(chan struct{}, 1)}
	w.Set(keys...)
	return w
}

// C has something in it when one of the customers changed.
func (w *Watch) C() <-chan struct{} { return w.wake }

// Set follows other customers instead.
func (w *Watch) Set(keys ...view.Key) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.clear()
	w.keys = slices.Clone(keys)
	for _, key := range keys {
		if w.hub.byKey == nil {
			w.hub.byKey = map[view.Key]map[*Watch]struct{}{}
		}
		if w.hub.byKey[key] == nil {
			w.hub.byKey[key] = map[*Watch]struct{}{}
		}
		w.hub.byKey[key][w] = struct{}{}
	}
}

// Close ends the watch; nothing comes any more.
func (w *Watch) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.clear()
}

func (w *Watch) clear() {
	for _, key := range w.keys {
		delete(w.hub.byKey[key], w)
		if len(w.hub.byKey[key]) == 0 {
			delete(w.hub.byKey, key)
		}
	}
	w.keys = nil
}

// Changes follows all customers. Between two calls of Next at most limit
// changed ones are remembered; beyond, only that there were more. Close it.
func (h *host) Changes(limit int) *Changes {
	c := &Changes{hub: &h.hub, limit: limit, wake: make(chan struct{}, 1), keys: map[view.Key]struct{}{}}
	h.hub.mu.Lock()
	defer h.hub.mu.Unlock()
	if h.hub.changes == nil {
		h.hub.changes = map[*Changes]struct{}{}
	}
	h.hub.changes[c] = struct{}{}
	return c
}

// Next waits for changes and returns the ids of the customers that changed, absorbed ones among
// them, in no order; or all, when there were too many to remember. It fails
// with ctx only.
func (c *Changes) Next(ctx context.Context) (keys []view.Key, all bool, err error) {
	for {
		c.hub.mu.Lock()
		if c.all || len(c.keys) > 0 {
			keys, all = slices.Collect(maps.Keys(c.keys)), c.all
			clear(c.keys)
			c.all = false
			c.hub.mu.Unlock()
			return keys, all, nil
		}
		c.hub.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-c.wake:
		}
	}
}

// Close ends it.
func (c *Changes) Close() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	delete(c.hub.changes, c)
}

// committed tells of a batch's documents of a collection.
func (h *hub) committed(collection string, batch *view.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.byKey) == 0 && len(h.changes) == 0 {
		return
	}
	ops := batch.Ops()
	for i := range ops {
		if ops[i].Collection != collection {
			continue
		}
		for w := range h.byKey[ops[i].Key] {
			wakeUp(w.wake)
		}
		for c := range h.changes {
			switch {
			case c.all:
			case len(c.keys) >= c.limit:
				c.all = true
				clear(c.keys)
			default:
				c.keys[ops[i].Key] = struct{}{}
			}
			wakeUp(c.wake)
		}
	}
}

// all says that every document may have changed.
func (h *hub) all() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, watches := range h.byKey {
		for w := range watches {
			wakeUp(w.wake)
		}
	}
	for c := range h.changes {
		c.all = true
		clear(c.keys)
		wakeUp(c.wake)
	}
}

func wakeUp(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
