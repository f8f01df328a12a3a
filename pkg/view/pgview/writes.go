package pgview

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// writes is what a batch changes, table by table.
type writes struct {
	collections []*collectionWrites
}

// collectionWrites is what changes of one collection. Everything is in the
// order of its table's key, which costs the server half as much as any other.
type collectionWrites struct {
	c *collection
	// changes are the documents, resolved as soon as all priors are known.
	changes []change
	// replaced are deleted and put again: only their index entries go.
	replaced []change
	// entries and texts by the index's number.
	entries []entryWrites
	texts   []textWrites
}

// change is a document put or deleted.
type change struct {
	op *view.Op
	// tuple is a clustered document's place.
	tuple []byte
	prior view.Prior
}

// entry of an ordered index.
type entry struct {
	key   view.Key
	tuple []byte
	at    []byte // of a clustered collection: the document's tuple
}

type entryWrites struct{ add, remove []entry }

// textWrite is a document's text; put and removed by its absence.
type textWrite struct {
	key    view.Key
	text   string
	number int32
	// known says that number is the stored one's.
	stored bool
}

type textWrites struct {
	put    []textWrite
	remove []view.Key
}

// gather takes a batch apart. It fails with view.ErrInvalid.
func gather(l *layout, b *view.Batch) (*writes, error) {
	w := &writes{}
	byCollection := make([]*collectionWrites, len(l.collections))
	ops := b.Ops()
	for i := range ops {
		op := &ops[i]
		c := l.byName[op.Collection]
		if c == nil {
			return nil, fmt.Errorf("document %s: unknown collection %q: %w", op.Key.ID, op.Collection, view.ErrInvalid)
		}
		cw := byCollection[c.number]
		if cw == nil {
			cw = &collectionWrites{c: c, entries: make([]entryWrites, len(c.Indexes)), texts: make([]textWrites, len(c.Indexes))}
			byCollection[c.number] = cw
			w.collections = append(w.collections, cw)
		}
		if err := cw.take(op); err != nil {
			return nil, fmt.Errorf("document %s of %s: %w", op.Key.ID, op.Collection, err)
		}
	}
	for _, cw := range w.collections {
		cw.order()
		if cw.unresolved() {
			continue
		}
		if err := cw.resolve(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (cw *collectionWrites) take(op *view.Op) error {
	if err := op.Key.Validate(); err != nil {
		return err
	}
	ch := change{op: op, prior: op.Prior}
	if cw.c.Clustered {
		var err error
		if ch.tuple, err = op.Row.Terms.Clustered(); err != nil {
			return err
		}
	}
	if !cw.c.hasTerms() && !ch.prior.Known() {
		ch.prior = view.Was(view.Terms{}) // there is nothing to know
	}
	cw.changes = append(cw.changes, ch)
	return nil
}

// order sorts the changes. Of a clustered collection's document that is there
// several times the last counts.
func (cw *collectionWrites) order() {
	// Places are moved instead of all that belongs to them.
	places := make([]int32, len(cw.changes))
	for i := range places {
		places[i] = int32(i)
	}
	slices.SortFunc(places, func(a, b int32) int {
		if c := comparePlaces(&cw.changes[a], &cw.changes[b]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	ordered := make([]change, 0, len(places))
	for i, at := range places {
		switch last := i+1 == len(places) || comparePlaces(&cw.changes[at], &cw.changes[places[i+1]]) != 0; {
		case last:
			ordered = append(ordered, cw.changes[at])
		case cw.changes[at].op.Delete:
			cw.replaced = append(cw.replaced, cw.changes[at])
		}
	}
	cw.changes = ordered
}

func comparePlaces(a, b *change) int {
	if c := strings.Compare(a.op.Key.Tenant, b.op.Key.Tenant); c != 0 {
		return c
	}
	if c := bytes.Compare(a.tuple, b.tuple); c != 0 {
		return c
	}
	return strings.Compare(a.op.Key.ID, b.op.Key.ID)
}

func (w *writes) unresolved() bool {
	return slices.ContainsFunc(w.collections, (*collectionWrites).unresolved)
}

// unresolved says that priors have to be looked up.
func (cw *collectionWrites) unresolved() bool {
	return slices.ContainsFunc(cw.changes, func(ch change) bool { return !ch.prior.Known() })
}

// queuePriors looks up what nobody knows.
func (w *writes) queuePriors(batch *pgx.Batch) {
	for _, cw := range w.collections {
		var tenants, ids []string
		var unknown []*change
		for i := range cw.changes {
			if ch := &cw.changes[i]; !ch.prior.Known() {
				unknown, tenants, ids = append(unknown, ch), append(tenants, ch.op.Key.Tenant), append(ids, ch.op.Key.ID)
			}
		}
		if len(unknown) == 0 {
			continue
		}
		batch.Queue(cw.c.sql.prior, tenants, ids).Query(func(rows pgx.Rows) error {
			for _, ch := range unknown {
				ch.prior = view.Absent()
			}
			return each(rows, nil, func(rows pgx.Rows) error {
				var i int64
				if err := rows.Scan(&i, nil); err != nil {
					return err
				}
				t, err := terms(rows, 1)
				unknown[i-1].prior = view.Was(t)
				return err
			})
		})
	}
}

// resolve finds out what changes in the indexes of collections whose priors
// were looked up.
func (w *writes) resolve() error {
	for _, cw := range w.collections {
		if err := cw.resolve(); err != nil {
			return err
		}
	}
	return nil
}

func (cw *collectionWrites) resolve() error {
	if len(cw.c.Indexes) == 0 {
		return nil
	}
	for i := range cw.entries {
		cw.entries[i], cw.texts[i] = entryWrites{}, textWrites{}
	}
	for _, changes := range [][]change{cw.replaced, cw.changes} {
		for i := range changes {
			if err := cw.diff(&changes[i]); err != nil {
				return fmt.Errorf("document %s of %s: %w", changes[i].op.Key.ID, cw.c.Name, err)
			}
		}
	}
	for i := range cw.entries {
		for _, entries := range [][]entry{cw.entries[i].add, cw.entries[i].remove} {
			slices.SortFunc(entries, func(a, b entry) int {
				if c := strings.Compare(a.key.Tenant, b.key.Tenant); c != 0 {
					return c
				}
				if c := bytes.Compare(a.tuple, b.tuple); c != 0 {
					return c
				}
				return strings.Compare(a.key.ID, b.key.ID)
			})
		}
	}
	return nil
}

func (cw *collectionWrites) diff(ch *change) error {
	key := ch.op.Key
	add := func(index int, tuple []byte) error {
		cw.entries[index].add = append(cw.entries[index].add, entry{key, tuple, ch.tuple})
		return nil
	}
	remove := func(index int, tuple []byte) error {
		cw.entries[index].remove = append(cw.entries[index].remove, entry{key, tuple, ch.tuple})
		return nil
	}
	terms, prior := &ch.op.Row.Terms, ch.prior.Terms()
	if cw.c.Clustered {
		change := add
		if ch.op.Delete {
			change = remove
		}
		return terms.Ordered(func(index int, tuple []byte) error {
			if index == 0 {
				return nil // the document itself
			}
			return change(index, tuple)
		})
	}
	if ch.op.Delete {
		terms = &view.Terms{}
	}
	if err := terms.DiffOrdered(prior, remove, add); err != nil {
		return err
	}
	n := 0 // of the text index
	for i, x := range cw.c.texts {
		if x == nil {
			continue
		}
		switch {
		case terms.SameText(prior, n):
		case terms.HasText(n):
			cw.texts[i].put = append(cw.texts[i].put, textWrite{key: key, text: terms.Text(n), stored: prior.HasText(n)})
		default:
			cw.texts[i].remove = append(cw.texts[i].remove, key)
		}
		n++
	}
	return nil
}

// deleted are the keys of documents to delete, put the changes that are put.
func (cw *collectionWrites) split() (deleted, put []change) {
	for i := range cw.changes {
		switch ch := &cw.changes[i]; {
		case !ch.op.Delete:
			put = append(put, *ch)
		case ch.prior.Exists() || cw.c.Clustered:
			deleted = append(deleted, *ch)
		}
	}
	return deleted, put
}
