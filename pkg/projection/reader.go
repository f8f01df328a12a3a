package projection

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/wire"
)

// Reader reads what a generation has computed. It works while the projection
// is stopped or halted as well. All methods may be called concurrently. An id
// is that of a customer or of any profile ever seen; one that never was is
// view.ErrNotFound.
//
// Cursors carry the generation that they belong to: a page that was begun in
// one is read on from there, also after another one has come to serve, as long
// as it is kept; afterwards such a cursor is view.ErrInvalidCursor.
type Reader[D proto.Message] struct {
	engine *Engine[D]
	def    *Customers[D]
	runner *runner
	gen    view.Generation
	// since is where the generation was when the reader was made.
	since eventstore.Position
	// clean says that no event waits to be folded.
	clean atomic.Bool
}

// Position up to which what is read contains everything, at least.
func (r *Reader[D]) Position() eventstore.Position { return r.runner.position() }

// Folded fails with *DeadLetterError where an event up to position waits to be folded
// because it, or one before it, of the customer that an id leads to could not be. An
// empty id is for the tenant's events that are nobody's, such as rules. Ask it
// before reading, having waited for the position.
func (r *Reader[D]) Folded(ctx context.Context, tenant, id string, position eventstore.Position) error {
	if clean, err := r.nothingParked(ctx); err != nil || clean {
		return err
	}
	c := Customer{Tenant: tenant, ID: id, Profiles: []string{id}}
	if id != "" {
		found, err := r.Customer(ctx, tenant, id)
		if err != nil && !errors.Is(err, view.ErrNotFound) {
			return err
		}
		if err == nil {
			c = found
		}
	}
	q := view.Query{Index: letterByProfile, To: positionValue(uint64(position) + 1), Limit: 1}
	for _, profile := range c.Profiles {
		q.Prefixes = append(q.Prefixes, view.Tuple{view.String(tenant), view.String(profile)})
	}
	page, err := r.gen.Query(ctx, deadLettersCollection, q)
	if err != nil {
		return fmt.Errorf("look for dead letters of %s: %w", id, err)
	}
	if len(page.Entries) == 0 {
		return nil
	}
	letter, err := parseLetter(page.Entries[0].Data)
	if err != nil {
		return err
	}
	return &DeadLetterError{Projection: r.def.Name, Position: eventstore.Position(letter.GetPosition())}
}

// FoldedAt fails with *DeadLetterError where the event at position waits to be folded:
// for reads of several customers, by whoever wrote it.
func (r *Reader[D]) FoldedAt(ctx context.Context, position eventstore.Position) error {
	if clean, err := r.nothingParked(ctx); err != nil || clean {
		return err
	}
	letter, err := getLetter(ctx, r.gen, uint64(position))
	if err != nil || letter == nil || isSettled(letter) {
		return err
	}
	return &DeadLetterError{Projection: r.def.Name, Position: position}
}

// nothingParked says that no event waits to be folded. It looks at most once:
// what a request has waited for was folded or set aside before it looks.
func (r *Reader[D]) nothingParked(ctx context.Context) (bool, error) {
	if r.clean.Load() {
		return true, nil
	}
	clean, known := r.runner.nothingParked()
	if !known {
		// Nothing waits but behind what has failed.
		page, err := r.gen.Query(ctx, deadLettersCollection, view.Query{
			Index: letterByState, Prefixes: []view.Tuple{{view.Int64(int64(opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED))}, {view.Int64(int64(opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING))}}, Limit: 1,
		})
		if err != nil {
			return false, fmt.Errorf("look for dead letters: %w", err)
		}
		clean = len(page.Entries) == 0
	}
	r.clean.Store(clean)
	return clean, nil
}

// nothingParked says that no event waits, where this process folds and so knows.
func (r *runner) nothingParked() (clean, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.letters.failed == 0 && r.letters.waiting == 0, r.running && r.begun
}

// Found is a customer's document as it is stored.
type Found struct {
	// CustomerID is who the id asked for belongs to now.
	CustomerID string
	// Data is the document, marshalled; nil where there is none.
	Data []byte
}

// Get returns the customer's document as it is stored.
func (r *Reader[D]) Get(ctx context.Context, tenant, id string) (Found, error) {
	data, err := r.gen.Get(ctx, r.def.Documents.Name, view.Key{Tenant: tenant, ID: id})
	if err == nil {
		return Found{CustomerID: id, Data: data}, nil
	}
	if !errors.Is(err, view.ErrNotFound) {
		return Found{}, fmt.Errorf("get customer %s: %w", id, err)
	}
	all, err := r.GetMany(ctx, tenant, []string{id})
	if err != nil {
		return Found{}, err
	}
	if all[0].Data == nil {
		return Found{}, fmt.Errorf("get customer %s: %w", id, view.ErrNotFound)
	}
	return all[0], nil
}

// Document returns the customer's document and who he is.
func (r *Reader[D]) Document(ctx context.Context, tenant, id string) (D, string, error) {
	doc := r.def.New()
	found, err := r.Get(ctx, tenant, id)
	if err != nil {
		return doc, "", err
	}
	if err := wire.Unmarshal(found.Data, doc); err != nil {
		return doc, "", fmt.Errorf("get customer %s: %w: %w", id, view.ErrCorrupt, err)
	}
	return doc, found.CustomerID, nil
}

// GetMany returns many documents of one state, in the order of ids; without
// Data for those that there are not.
func (r *Reader[D]) GetMany(ctx context.Context, tenant string, ids []string) ([]Found, error) {
	all := make([]Found, len(ids))
	err := r.snapshot(ctx, func(s view.Snapshot) error {
		keys := make([]view.Key, len(ids))
		for i, id := range ids {
			keys[i] = view.Key{Tenant: tenant, ID: id}
		}
		direct, err := s.GetMany(ctx, r.def.Documents.Name, keys)
		if err != nil {
			return err
		}
		for i, data := range direct {
			if data != nil {
				all[i] = Found{CustomerID: ids[i], Data: data}
				continue
			}
			if all[i], err = r.byAlias(ctx, s, keys[i]); err != nil && !errors.Is(err, view.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("get %d customers: %w", len(ids), err)
	}
	return all, nil
}

func (r *Reader[D]) byAlias(ctx context.Context, s view.Reader, key view.Key) (Found, error) {
	customer, err := s.Get(ctx, aliasesCollection, key)
	if err != nil {
		return Found{}, err
	}
	key.ID = string(customer)
	data, err := s.Get(ctx, r.def.Documents.Name, key)
	if err != nil {
		return Found{}, err
	}
	return Found{CustomerID: key.ID, Data: data}, nil
}

// GetAndQuery returns the document that an id leads to, an empty Found where
// there is none, and a page of an ordered index over the customers' documents,
// both of one state.
func (r *Reader[D]) GetAndQuery(ctx context.Context, tenant, id string, q view.Query) (found Found, page view.Page, err error) {
	page, err = r.page(ctx, q.Cursor, func(r *Reader[D], cursor []byte) (page view.Page, err error) {
		err = r.snapshot(ctx, func(s view.Snapshot) (err error) {
			q.Cursor = cursor
			key := view.Key{Tenant: tenant, ID: id}
			data, err := s.Get(ctx, r.def.Documents.Name, key)
			switch {
			case err == nil:
				found = Found{CustomerID: id, Data: data}
			case errors.Is(err, view.ErrNotFound):
				if found, err = r.byAlias(ctx, s, key); err != nil && !errors.Is(err, view.ErrNotFound) {
					return err
				}
			default:
				return err
			}
			q.Tenant = tenant
			page, err = s.Query(ctx, r.def.Documents.Name, q)
			return err
		})
		return page, err
	})
	if err != nil {
		return Found{}, view.Page{}, fmt.Errorf("get customer %s and others: %w", id, err)
	}
	return found, page, nil
}

// Resolve returns the id of the customer that an id belongs to.
func (r *Reader[D]) Resolve(ctx context.Context, tenant, id string) (string, error) {
	found, err := r.Get(ctx, tenant, id)
	return found.CustomerID, err
}

// Customer says who an id belongs to, with all of the customer's profiles.
func (r *Reader[D]) Customer(ctx context.Context, tenant, id string) (Customer, error) {
	var c Customer
	err := r.snapshot(ctx, func(s view.Snapshot) (err error) {
		c, err = r.customer(ctx, s, tenant, id)
		return err
	})
	if err != nil {
		return Customer{}, fmt.Errorf("get profiles of %s: %w", id, err)
	}
	return c, nil
}

func (r *Reader[D]) customer(ctx context.Context, s view.Reader, tenant, id string) (Customer, error) {
	return customerOf(ctx, s, r.def.Documents.Name, view.Key{Tenant: tenant, ID: id})
}

// customerOf says who an id belongs to.
func customerOf(ctx context.Context, s view.Reader, documents string, key view.Key) (Customer, error) {
	row, err := s.Load(ctx, documents, key)
	if errors.Is(err, view.ErrNotFound) {
		var owner []byte
		if owner, err = s.Get(ctx, aliasesCollection, key); err == nil {
			key.ID = string(owner)
			row, err = s.Load(ctx, documents, key)
		}
	}
	if err != nil {
		return Customer{}, err
	}
	members, _, err := parseMembers(row.Meta, key.ID, row.Data)
	if err != nil {
		return Customer{}, err
	}
	c := Customer{Tenant: key.Tenant, ID: key.ID, Profiles: make([]string, len(members))}
	for i := range members {
		c.Profiles[i] = members[i].profile
	}
	return c, nil
}

// Query reads an ordered index over the customers' documents.
func (r *Reader[D]) Query(ctx context.Context, q view.Query) (view.Page, error) {
	return r.page(ctx, q.Cursor, func(r *Reader[D], cursor []byte) (view.Page, error) {
		q.Cursor = cursor
		return r.gen.Query(ctx, r.def.Documents.Name, q)
	})
}

// Search reads a text index over the customers' documents.
func (r *Reader[D]) Search(ctx context.Context, s view.Search) (view.Page, error) {
	return r.page(ctx, s.Cursor, func(r *Reader[D], cursor []byte) (view.Page, error) {
		s.Cursor = cursor
		return r.gen.Search(ctx, r.def.Documents.Name, s)
	})
}

// Scan goes over the customers' documents; an empty tenant means all.
func (r *Reader[D]) Scan(ctx context.Context, tenant string) iter.Seq2[view.Entry, error] {
	return r.gen.Scan(ctx, r.def.Documents.Name, tenant)
}

// Rows reads an ordered index over the rows of events.
func (r *Reader[D]) Rows(ctx context.Context, collection string, q view.Query) (view.Page, error) {
	return r.page(ctx, q.Cursor, func(r *Reader[D], cursor []byte) (view.Page, error) {
		q.Cursor = cursor
		return r.gen.Query(ctx, collection, q)
	})
}

// CustomerRows reads rows of one customer's events: query makes the query from
// who he is, in the same state, for example with a prefix for each profile.
// Its tenant is set to the customer's.
func (r *Reader[D]) CustomerRows(ctx context.Context, collection, tenant, id string, query func(Customer) view.Query) (Customer, view.Page, error) {
	c, page, err := r.customerRows(ctx, collection, tenant, id, query)
	if err != nil {
		return Customer{}, view.Page{}, fmt.Errorf("get %s of %s: %w", collection, id, err)
	}
	return c, page, nil
}

func (r *Reader[D]) customerRows(ctx context.Context, collection, tenant, id string, query func(Customer) view.Query) (c Customer, page view.Page, err error) {
	for {
		at := r
		err = r.snapshot(ctx, func(s view.Snapshot) (err error) {
			if c, err = r.customer(ctx, s, tenant, id); err != nil {
				return err
			}
			q := query(c)
			q.Tenant = tenant
			// The cursor comes with the query, which is made from who the customer is.
			if at, q.Cursor, err = r.locate(ctx, q.Cursor); err != nil || at != r {
				return err
			}
			page, err = s.Query(ctx, collection, q)
			return r.paged(&page, err)
		})
		if err != nil || at == r {
			return c, page, err
		}
		r = at
	}
}

// page reads a page of the generation that a cursor is of.
func (r *Reader[D]) page(ctx context.Context, cursor []byte, read func(r *Reader[D], cursor []byte) (view.Page, error)) (view.Page, error) {
	at, cursor, err := r.locate(ctx, cursor)
	if err != nil {
		return view.Page{}, err
	}
	page, err := read(at, cursor)
	return page, at.paged(&page, err)
}

// locate is the reader of the generation that a cursor is of, and the rest of
// the cursor. That one contains then what this one does.
func (r *Reader[D]) locate(ctx context.Context, cursor []byte) (*Reader[D], []byte, error) {
	if cursor == nil {
		return r, nil, nil
	}
	ns := view.Namespace{Projection: r.def.Name}
	for _, into := range []*uint32{&ns.Version, &ns.Generation} {
		n, w := binary.Uvarint(cursor)
		if w <= 0 || n > math.MaxUint32 {
			return nil, nil, fmt.Errorf("generation of a cursor: %w", view.ErrInvalidCursor)
		}
		*into = uint32(n)
		cursor = cursor[w:]
	}
	if ns == r.runner.ns {
		return r, cursor, nil
	}
	other := r.engine.runnerOf(ns)
	if other == nil {
		return nil, nil, fmt.Errorf("generation %s, which the pages before were of, is no longer there: %w", ns, view.ErrInvalidCursor)
	}
	if err := other.waitFor(ctx, r.since); err != nil {
		return nil, nil, err
	}
	return &Reader[D]{engine: r.engine, def: r.engine.defs[ns.Version], runner: other, gen: other.gen, since: r.since}, cursor, nil
}

// paged puts the generation before a page's cursor: version and number.
func (r *Reader[D]) paged(page *view.Page, err error) error {
	if err == nil && page.Next != nil {
		b := binary.AppendUvarint(nil, uint64(r.runner.ns.Version))
		b = binary.AppendUvarint(b, uint64(r.runner.ns.Generation))
		page.Next = append(b, page.Next...)
	}
	if (errors.Is(err, view.ErrClosed) || errors.Is(err, view.ErrDropped)) && r.engine.runnerOf(r.runner.ns) == nil && !r.engine.isClosed() {
		return fmt.Errorf("generation %s was dropped: %w: %w", r.runner.ns, view.ErrInvalidCursor, err)
	}
	return err
}

func (r *Reader[D]) snapshot(ctx context.Context, read func(view.Snapshot) error) error {
	s, err := r.gen.Snapshot(ctx)
	if err != nil {
		return err
	}
	return errors.Join(read(s), s.Close())
}
