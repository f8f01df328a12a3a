package recorder

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// table is a key-value store whose newest part lies in maps. Most of what the
// recorder looks up was written moments ago or never, and a map answers that in
// a tenth of the time that Pebble's memory tables take.
//
// Changes are staged, and committed together. Committed ones gather in a layer;
// a layer that is full is written to Pebble in one batch by a goroutine of its
// own, while the next gathers. So after a crash the table is as it was at the
// end of some commit. Not for concurrent use.
type table struct {
	db     *pebble.DB
	staged []change
	slab   []byte // where the values of staged changes are cut from
	young  layer
	// old is the layer before, nil where there was none. It is being written to
	// Pebble, or was: its outcome waits in written until young is full too.
	old     layer
	written chan error
	bytes   int // of young, about
	// full is where a layer is written, most where it waits for the one before.
	full, most int
}

// change is a key's new value; nil deletes it.
type change struct {
	key   string
	value []byte
}

type layer map[string][]byte

const (
	// layerBytes is the size of a layer. Two of them bound what a crash makes us
	// read again from the log: some tens of thousands of events.
	layerBytes = 8 << 20
	// entryBytes is about what an entry takes besides its key and value.
	entryBytes = 100
	slabBytes  = 64 << 10
)

func newTable(db *pebble.DB) *table {
	return &table{db: db, young: layer{}, written: make(chan error, 1), full: layerBytes, most: 4 * layerBytes}
}

// set stages a new value. It keeps neither key nor value.
func (t *table) set(key, value []byte) {
	if cap(t.slab)-len(t.slab) < len(value) || t.slab == nil {
		t.slab = make([]byte, 0, max(slabBytes, len(value)))
	}
	begin := len(t.slab)
	t.slab = append(t.slab, value...)
	t.staged = append(t.staged, change{string(key), t.slab[begin:len(t.slab):len(t.slab)]})
}

// delete stages that there is no value any more.
func (t *table) delete(key []byte) {
	t.staged = append(t.staged, change{string(key), nil})
}

// discard forgets what is staged.
func (t *table) discard() {
	clear(t.staged)
	t.staged = t.staged[:0]
}

// get lets read look at a committed value, which it must not keep.
func (t *table) get(key []byte, read func([]byte) error) (bool, error) {
	value, ok := t.young[string(key)]
	if !ok {
		value, ok = t.old[string(key)]
	}
	if ok {
		if value == nil {
			return false, nil
		}
		return true, read(value)
	}
	value, closer, err := t.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	return true, errors.Join(read(value), closer.Close())
}

// commit makes the staged changes visible, all or, after an error, none; then
// they stay staged. It waits, until ctx ends, only where writing has fallen
// far behind.
func (t *table) commit(ctx context.Context) error {
	if err := t.rotate(ctx); err != nil {
		return err
	}
	for _, c := range t.staged {
		t.young[c.key] = c.value
		t.bytes += entryBytes + len(c.key) + len(c.value)
	}
	t.discard()
	return nil
}

// rotate has a layer that is full written, and takes note of one that was.
func (t *table) rotate(ctx context.Context) error {
	if t.bytes < t.full {
		return nil
	}
	if t.old != nil {
		var err error
		select {
		case err = <-t.written:
		default:
			if t.bytes < t.most {
				return nil
			}
			select {
			case err = <-t.written:
			case <-ctx.Done():
				return fmt.Errorf("waiting for the layer before to be written: %w", ctx.Err())
			}
		}
		if err != nil {
			go t.write(t.old)
			return err
		}
	}
	t.old, t.young, t.bytes = t.young, layer{}, 0
	go t.write(t.old)
	return nil
}

// write writes a layer to Pebble, in the order of its keys and in one batch,
// and empties Pebble's memory.
func (t *table) write(l layer) {
	t.written <- func() (err error) {
		keys := make([]string, 0, len(l))
		for key := range l {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		b := t.db.NewBatch()
		defer func() { err = errors.Join(err, b.Close()) }()
		for _, key := range keys {
			if value := l[key]; value != nil {
				err = b.Set([]byte(key), value, nil)
			} else {
				err = b.Delete([]byte(key), nil)
			}
			if err != nil {
				return fmt.Errorf("write a layer: %w", err)
			}
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return fmt.Errorf("commit a layer: %w", err)
		}
		if err := t.db.Flush(); err != nil {
			return fmt.Errorf("flush a layer: %w", err)
		}
		return nil
	}()
}

// settle writes all that is committed to Pebble.
func (t *table) settle() error {
	for t.old != nil || len(t.young) > 0 {
		if t.old == nil {
			t.old, t.young, t.bytes = t.young, layer{}, 0
			go t.write(t.old)
		}
		if err := <-t.written; err != nil {
			// What was not written is read again from the log.
			t.old = nil
			return err
		}
		t.old = nil
	}
	return nil
}

// close keeps what is committed.
func (t *table) close() error {
	return errors.Join(t.settle(), t.db.Close())
}
