package projection

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// folder folds events about customers. Documents that were touched are kept
// decoded until flush, so that a hot one is encoded once for many events; from
// then on as bytes, which cost the garbage collector nothing.
//
// A chunk is folded in three steps: customers that are not in the cache are
// loaded, in parallel; one goroutine regroups profiles and gives every event to
// its customer; and each customer's events are folded by one goroutine of
// several. What happens to a profile's document does not depend on whose it is, so
// regrouping first is right.
type folder[D proto.Message] struct {
	def       *Customers[D]
	gen       view.Generation
	documents view.Collection
	workers   int

	cache *cache
	// seen, if not nil, knows all profiles there are.
	seen *seen
	// touched during the chunk; dirty since the last flush.
	touched, dirty, regrouped []*customer
	missing                   map[view.Key]struct{}
	// rows made since the last flush, by worker.
	rows     []rowWriter
	rowBytes atomic.Int64
}

type rowOp struct {
	collection int
	key        view.Key
	row        view.Row
}

func newFolder[D proto.Message](def *Customers[D], gen view.Generation, workers int) *folder[D] {
	f := &folder[D]{def: def, gen: gen, workers: workers, documents: def.Documents}
	f.documents.New = def.newMessage
	f.reset(false)
	return f
}

// reset forgets everything that is not stored; empty says that nothing is.
func (f *folder[D]) reset(empty bool) {
	f.cache, f.seen = newCache(), nil
	if empty {
		f.seen = newSeen()
	}
	f.touched, f.dirty = nil, nil
	f.missing = map[view.Key]struct{}{}
	f.rows = make([]rowWriter, f.workers)
	for i := range f.rows {
		w := &f.rows[i]
		w.bytes = &f.rowBytes
		w.emit = w.put
	}
	f.rowBytes.Store(0)
}

// pendingBytes is about how much a flush would write besides documents, and
// pendingDocuments how many of these.
func (f *folder[D]) pendingBytes() int     { return int(f.rowBytes.Load()) }
func (f *folder[D]) pendingDocuments() int { return len(f.dirty) }

// evict bounds the memory of documents.
func (f *folder[D]) evict(limit int, committed uint64) { f.cache.evict(limit, committed) }

// fold takes decoded events, in order of position. After an error, a
// *FoldError where an event is the cause, the folder must be reset.
func (f *folder[D]) fold(ctx context.Context, events []*eventv1.RecordedEvent) error {
	if err := f.load(ctx, events); err != nil {
		return err
	}
	f.assign(events)
	errs := make([]error, f.workers)
	f.parallel(len(f.touched), func(worker, i int) {
		f.touched[i].queued = false
		if errs[worker] == nil {
			errs[worker] = f.foldCustomer(ctx, f.touched[i], events)
		}
	})
	// The first poison counts, whichever goroutine met it.
	if err := firstError(errs); err != nil {
		return err
	}
	for _, x := range f.touched {
		f.cache.resize(x, x.memory())
	}
	if len(f.def.Rows) > 0 {
		f.parallel(len(events), func(worker, i int) {
			if errs[worker] == nil {
				errs[worker] = f.foldRows(worker, events[i])
			}
		})
	}
	return firstError(errs)
}

// firstError is the one of the least position, if an event is the cause.
func firstError(errs []error) error {
	var first error
	var at *FoldError
	for _, err := range errs {
		var fe *FoldError
		switch {
		case err == nil:
		case !errors.As(err, &fe):
			return err
		case at == nil || fe.Position < at.Position:
			first, at = err, fe
		}
	}
	return first
}

// load brings all customers into the cache that the events are about.
func (f *folder[D]) load(ctx context.Context, events []*eventv1.RecordedEvent) error {
	clear(f.missing)
	for _, rec := range events {
		ev := rec.GetEvent()
		if id := ev.GetProfileId(); id != "" {
			if err := f.need(view.Key{Tenant: ev.GetTenant(), ID: id}, rec); err != nil {
				return err
			}
		}
		var err error
		named(ev, func(id string) {
			err = errors.Join(err, f.need(view.Key{Tenant: ev.GetTenant(), ID: id}, rec))
		})
		if err != nil {
			return err
		}
	}
	if len(f.missing) == 0 {
		return nil
	}
	keys := make([]view.Key, 0, len(f.missing))
	for key := range f.missing {
		keys = append(keys, key)
	}
	loaded := make([]*customer, len(keys))
	errs := make([]error, f.workers)
	f.parallel(len(keys), func(worker, i int) {
		if errs[worker] == nil {
			loaded[i], errs[worker] = loadCustomer(ctx, f.gen, f.documents.Name, keys[i])
		}
	})
	if err := firstError(errs); err != nil {
		return err
	}
	for _, x := range loaded {
		// Two profiles of one customer load him twice.
		if x != nil && f.cache.customers[x.key] == nil {
			f.cache.add(x)
		}
	}
	return nil
}

func (f *folder[D]) need(key view.Key, rec *eventv1.RecordedEvent) error {
	if _, there := f.cache.profiles[key]; there {
		return nil
	}
	if err := key.Validate(); err != nil {
		return f.poison(rec, fmt.Errorf("profile id: %w", err))
	}
	if f.seen.has(key) {
		f.missing[key] = struct{}{}
	}
	return nil
}

// assign regroups profiles and gives the events to their customers.
func (f *folder[D]) assign(events []*eventv1.RecordedEvent) {
	f.touched = f.touched[:0]
	for i, rec := range events {
		ev := rec.GetEvent()
		grouping := false
		named(ev, func(id string) {
			grouping = true
			f.member(view.Key{Tenant: ev.GetTenant(), ID: id}, rec.GetPosition())
		})
		if grouping {
			f.regrouped = f.cache.regroup(ev, rec.GetPosition(), f.regrouped[:0])
			for _, x := range f.regrouped {
				f.touch(x)
			}
		}
		if id := ev.GetProfileId(); id != "" {
			m := f.member(view.Key{Tenant: ev.GetTenant(), ID: id}, rec.GetPosition())
			m.queue = append(m.queue, int32(i))
			m.owner.touch(rec.GetPosition())
			f.touch(m.owner)
		}
	}
}

// member finds a profile, or makes it a customer of its own.
func (f *folder[D]) member(key view.Key, position uint64) *member {
	if m := f.cache.profiles[key]; m != nil {
		return m
	}
	if f.seen != nil {
		f.seen.add(key)
	}
	x := newCustomer(key, position)
	f.cache.add(x)
	f.touch(x)
	return x.members[0]
}

func (f *folder[D]) touch(x *customer) {
	f.cache.use(x)
	if !x.queued {
		x.queued = true
		f.touched = append(f.touched, x)
	}
	if !x.dirty && x.changed {
		x.dirty = true
		f.dirty = append(f.dirty, x)
	}
}

// foldCustomer folds the queued events of all of a customer's profiles.
func (f *folder[D]) foldCustomer(ctx context.Context, x *customer, events []*eventv1.RecordedEvent) error {
	for _, m := range x.members {
		if len(m.queue) == 0 {
			continue
		}
		doc, err := f.document(ctx, m)
		if err != nil {
			return err
		}
		for _, i := range m.queue {
			if err := f.foldEvent(doc, events[i]); err != nil {
				return f.poison(events[i], err)
			}
		}
		m.queue = m.queue[:0]
		m.has, m.changed, m.data = true, true, nil
	}
	return nil
}

func (f *folder[D]) foldEvent(doc D, rec *eventv1.RecordedEvent) (err error) {
	defer recovered(&err)
	return f.def.Fold(doc, rec)
}

// panicError is a panic of a projection's function.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// recovered, deferred, turns a panic into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = &panicError{value: r, stack: debug.Stack()}
	}
}

// document is a profile's document, decoded.
func (f *folder[D]) document(ctx context.Context, m *member) (D, error) {
	if doc, ok := m.doc.(D); ok {
		return doc, nil
	}
	doc := f.def.New()
	if m.data == nil && m.stored {
		data, err := f.gen.Get(ctx, profilesCollection, m.key)
		if err != nil {
			return doc, fmt.Errorf("load profile %s: %w", m.key.ID, err)
		}
		m.data, m.apart = data, true
	}
	if err := proto.Unmarshal(m.data, doc); err != nil {
		return doc, fmt.Errorf("document of profile %s: %w: %w", m.key.ID, view.ErrCorrupt, err)
	}
	m.doc, m.size = doc, len(m.data)
	return doc, nil
}

func (f *folder[D]) foldRows(worker int, rec *eventv1.RecordedEvent) error {
	for i := range f.def.Rows {
		if err := f.foldRow(worker, i, rec); err != nil {
			return f.poison(rec, fmt.Errorf("rows of %s: %w", f.def.Rows[i].Collection.Name, err))
		}
	}
	return nil
}

func (f *folder[D]) foldRow(worker, i int, rec *eventv1.RecordedEvent) (err error) {
	defer recovered(&err)
	w := &f.rows[worker]
	w.fold, w.number, w.tenant = &f.def.Rows[i], i, rec.GetEvent().GetTenant()
	return w.fold.Fold(rec, w.emit)
}

// rowWriter gathers the rows that one worker made since the last flush.
type rowWriter struct {
	ops []rowOp
	// bytes of all workers' rows.
	bytes *atomic.Int64
	// arena holds the rows' bytes, many in one allocation.
	arena []byte

	// Of the fold at hand.
	fold   *RowFold
	number int
	tenant string
	// emit is put, made once.
	emit func(id string, row proto.Message) error
}

// arenaBytes is the size of an allocation for rows.
const arenaBytes = 64 << 10

func (w *rowWriter) put(id string, row proto.Message) error {
	key := view.Key{Tenant: w.tenant, ID: id}
	if err := key.Validate(); err != nil {
		return err
	}
	if size := proto.Size(row); cap(w.arena)-len(w.arena) < size {
		w.arena = make([]byte, 0, max(arenaBytes, size))
	}
	from := len(w.arena)
	arena, err := view.AppendDocument(w.arena, row)
	if err != nil {
		return err
	}
	w.arena = arena
	terms, err := w.fold.Collection.Terms(row)
	if err != nil {
		return err
	}
	data := arena[from:len(arena):len(arena)]
	w.ops = append(w.ops, rowOp{collection: w.number, key: key, row: view.Row{Data: data, Terms: terms}})
	w.bytes.Add(int64(len(data) + terms.Size() + len(id)))
	return nil
}

func (f *folder[D]) poison(rec *eventv1.RecordedEvent, err error) error {
	ev := rec.GetEvent()
	return &FoldError{
		Projection: f.def.Name, Stream: rec.GetStream(), Position: eventstore.Position(rec.GetPosition()),
		EventID: ev.GetId(), Type: ev.GetType(), Err: err,
	}
}

// parallel calls do for 0 to n-1 from the workers' goroutines.
func (f *folder[D]) parallel(n int, do func(worker, i int)) {
	// Below this starting goroutines costs more than it saves.
	const few = 8
	if f.workers == 1 || n < few {
		for i := range n {
			do(0, i)
		}
		return
	}
	const stride = 16
	var next atomic.Int64
	var wg sync.WaitGroup
	for worker := range f.workers {
		wg.Go(func() {
			for {
				from := int(next.Add(stride)) - stride
				if from >= n {
					return
				}
				for i := from; i < min(from+stride, n); i++ {
					do(worker, i)
				}
			}
		})
	}
	wg.Wait()
}

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
			errs[worker] = f.finish(ctx, f.dirty[i], &out[i])
		}
	})
	if err := firstError(errs); err != nil {
		return err
	}
	for i, x := range f.dirty {
		f.write(batch, x, &out[i])
		x.batch, x.changed, x.dirty = number, false, false
	}
	clear(f.dirty)
	f.dirty = f.dirty[:0]
	return nil
}

// finished is what is to be stored of a customer.
type finished struct {
	row view.Row
	// place of the profiles' documents, and their bytes in all.
	place byte
	bytes int
}

// finish computes what is to be stored of a customer.
func (f *folder[D]) finish(ctx context.Context, x *customer, out *finished) error {
	if len(x.members) == 0 {
		return nil
	}
	err := f.finishMembers(ctx, x, out)
	var p *panicError
	if errors.As(err, &p) {
		return f.unstorable(x, err)
	}
	return err
}

func (f *folder[D]) finishMembers(ctx context.Context, x *customer, out *finished) (err error) {
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
	size := 2 + 40*len(x.members)
	if out.place == placeMeta {
		size += out.bytes
	}
	out.row.Meta = appendMembers(make([]byte, 0, size), out.place, x.members, x.key.ID)
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
		batch.PutRow(aliasesCollection, m.key, view.Row{Data: []byte(want)}, prior)
	}
	m.alias = want
}
