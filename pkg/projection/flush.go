package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// flush puts everything that changed into batch. After an error the folder
// must be reset.
func (f *folder[D]) flush(ctx context.Context, batch *view.Batch, number uint64) error {
	for worker := range f.rows {
		w := &f.rows[worker]
		for i := range w.ops {
			op := &w.ops[i]
			batch.AppendRow(f.def.Rows[op.collection].Collection.Name, op.key, op.row)
		}
		clear(w.ops)
		w.ops = w.ops[:0]
	}
	f.rowBytes.Store(0)
	out := make([]finished, len(f.dirty))
	errs := make([]error, f.workers)
	f.parallel(len(f.dirty), func(worker, i int) {
		if errs[worker] == nil {
			errs[worker] = f.finish(ctx, &f.excerpters[worker], f.dirty[i], &out[i])
		}
	})
	if err := firstError(errs); err != nil {
		return err
	}
	for i, x := range f.dirty {
		if len(x.members) == 0 && x.batch == 0 && !x.prior.Exists() {
			f.cache.remove(x) // came and went since the last flush
			continue
		}
		f.write(batch, x, &out[i])
		x.batch, x.changed, x.dirty = number, false, false
	}
	clear(f.dirty)
	f.dirty = f.dirty[:0]
	return f.parked.flush(batch)
}

// finished is what is to be stored of a customer.
type finished struct {
	row view.Row
	// place of the profiles' documents, and their bytes in all.
	place byte
	bytes int
}

// finish computes what is to be stored of a customer.
func (f *folder[D]) finish(ctx context.Context, e *excerpter, x *customer, out *finished) error {
	if len(x.members) == 0 {
		return nil
	}
	err := f.finishMembers(ctx, e, x, out)
	var p *panicError
	if errors.As(err, &p) {
		return f.unstorable(x, err)
	}
	return err
}

func (f *folder[D]) finishMembers(ctx context.Context, e *excerpter, x *customer, out *finished) (err error) {
	defer recovered(&err)
	doc, err := f.combined(ctx, x, out)
	if err != nil {
		return err
	}
	c := Customer{Tenant: x.key.Tenant, ID: x.key.ID, Profiles: make([]string, len(x.members))}
	for i, m := range x.members {
		c.Profiles[i] = m.key.ID
	}
	if f.def.Finish != nil {
		f.def.Finish(doc, c)
	}
	if out.row.Data, err = view.MarshalDocument(doc); err != nil {
		return f.unstorable(x, err)
	}
	if out.row.Terms, err = f.documents.Terms(doc); err != nil {
		return f.unstorable(x, err)
	}
	// Most of the profiles' documents stands in the customer's.
	size := 12 + 40*len(x.members) + out.bytes/4
	out.row.Meta = e.appendMembers(make([]byte, 0, size), out.place, x.members, x.key.ID, out.row.Data)
	return nil
}

// unstorable blames the last event that was folded: Combine and Finish know none.
func (f *folder[D]) unstorable(x *customer, err error) error {
	return &FoldError{Projection: f.def.Name, Position: eventstore.Position(x.last), Err: fmt.Errorf("customer %s: %w", x.key.ID, err)}
}

// combined is the customer's document, unfinished: that of his only profile
// that has one, else the combination of all.
func (f *folder[D]) combined(ctx context.Context, x *customer, out *finished) (D, error) {
	var none D
	out.place = placeCustomer
	switch x.holders() {
	case 0:
		return f.def.New(), nil
	case 1:
		i := slices.IndexFunc(x.members, func(m *member) bool { return m.has })
		return f.document(ctx, x.members[i])
	}
	sum := f.def.New()
	out.place = placeMeta
	for _, m := range x.members {
		if !m.has {
			continue
		}
		doc, err := f.document(ctx, m)
		if err != nil {
			return none, err
		}
		if m.changed || !m.apart {
			if err := f.marshalProfile(m, doc); err != nil {
				return none, f.unstorable(x, err)
			}
		}
		out.bytes += m.size
		f.def.Combine(sum, doc)
	}
	if out.bytes > maxMetaDocuments {
		out.place = placeProfiles
	}
	for _, m := range x.members {
		// In size it may have been known without being at hand.
		if doc, ok := m.doc.(D); ok && m.data == nil && (out.place == placeMeta || !m.stored) {
			if err := f.marshalProfile(m, doc); err != nil {
				return none, f.unstorable(x, err)
			}
		}
	}
	return sum, nil
}

// marshalProfile makes the bytes that are stored of a profile's document. They
// must not depend on whose the profile once was.
func (f *folder[D]) marshalProfile(m *member, doc D) (err error) {
	if f.def.Finish != nil {
		f.def.Finish(doc, Customer{Tenant: m.key.Tenant, ID: m.key.ID, Profiles: []string{m.key.ID}})
	}
	if m.data, err = view.MarshalDocument(doc); err != nil {
		return err
	}
	m.apart, m.size = true, len(m.data)
	return nil
}

// write puts a customer's rows into the batch.
func (f *folder[D]) write(batch *view.Batch, x *customer, out *finished) {
	if len(x.members) == 0 {
		if x.prior.Exists() {
			batch.Delete(f.documents.Name, x.key, x.prior)
			x.prior = view.Absent()
		}
		return
	}
	batch.PutRow(f.documents.Name, x.key, out.row, x.prior)
	x.prior = view.Was(out.row.Terms)
	for _, m := range x.members {
		f.writeProfile(batch, m, out)
		f.writeAlias(batch, m)
		m.changed = false
	}
	f.cache.resize(x, x.memory())
}

// writeProfile stores a profile's document by itself, or takes it away from there.
func (f *folder[D]) writeProfile(batch *view.Batch, m *member, out *finished) {
	prior := view.Absent()
	if m.stored {
		prior = view.Was(view.Terms{})
	}
	switch {
	case m.has && out.place == placeProfiles:
		if m.changed || !m.stored {
			// The bytes are kept: until the commit is done they are nowhere else.
			batch.PutRow(profilesCollection, m.key, view.Row{Data: m.data}, prior)
			m.stored = true
		}
	case m.stored:
		batch.Delete(profilesCollection, m.key, prior)
		m.stored = false
	}
	if m.has && out.place == placeCustomer {
		m.data, m.apart, m.size = out.row.Data, false, len(out.row.Data)
	}
	m.doc = nil
}

// writeAlias makes the profile's id lead to its customer.
func (f *folder[D]) writeAlias(batch *view.Batch, m *member) {
	want := m.owner.key.ID
	if want == m.key.ID {
		want = ""
	}
	if want == m.alias {
		return
	}
	prior := view.Absent()
	if m.alias != "" {
		prior = view.Was(view.Terms{})
	}
	if want == "" {
		batch.Delete(aliasesCollection, m.key, prior)
	} else {
		if f.aliased != nil && m.alias == "" {
			f.aliased.add(m.key)
		}
		batch.PutRow(aliasesCollection, m.key, view.Row{Data: []byte(want)}, prior)
	}
	m.alias = want
}
