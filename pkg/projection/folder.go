package projection

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/wire"
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
	// rest is called between two customers by the only worker; nil for none.
	rest func()

	cache *cache
	// seen, if not nil, knows all profiles there are; aliased those that
	// belong to a customer of another name.
	seen, aliased *seen
	// touched during the chunk; dirty since the last flush.
	touched, dirty, regrouped []*customer
	missing                   map[view.Key]struct{}
	// parked are the events that were set aside, held those of the portion at
	// hand that are not folded now.
	parked *parked
	held   []bool
	keys   []view.Key
	// rows made since the last flush, by worker.
	rows     []rowWriter
	rowBytes atomic.Int64
	// excerpters, by worker.
	excerpters []excerpter
}

func newFolder[D proto.Message](def *Customers[D], gen view.Generation, workers int, now func() time.Time) *folder[D] {
	f := &folder[D]{def: def, gen: gen, workers: workers, documents: def.Documents, excerpters: make([]excerpter, workers)}
	f.documents.New = def.newMessage
	f.reset(false, newParked(now))
	return f
}

// reset forgets everything that is not stored; empty says that nothing is.
func (f *folder[D]) reset(empty bool, p *parked) {
	f.cache, f.seen, f.aliased, f.parked = newCache(), nil, nil, p
	if empty {
		f.seen, f.aliased = newSeen(), newSeen()
	}
	f.touched, f.dirty = nil, nil
	f.resetRows()
}

func (f *folder[D]) resetRows() {
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

// gently has one worker work, which calls rest between two customers; nil for
// all of them, and no rest.
func (f *folder[D]) gently(rest func()) { f.rest = rest }

// evict bounds the memory of documents.
func (f *folder[D]) evict(limit int, committed uint64) { f.cache.evict(limit, committed) }

// abandon forgets what was folded since the last flush, which must be
// committed. All else stays in the cache.
func (f *folder[D]) abandon() {
	for _, x := range slices.Concat(f.dirty, f.touched) {
		if f.cache.customers[x.key] == x {
			f.cache.remove(x)
		}
		for _, m := range x.members {
			m.queue = nil
		}
	}
	clear(f.dirty)
	clear(f.touched)
	f.touched, f.dirty = f.touched[:0], f.dirty[:0]
	f.resetRows()
	f.parked.abandon()
}

// fold takes decoded events, in order of position. Those whose customer waits
// are set aside, or told to d where they come from there. After an error, a
// *FoldError where an event is the cause, the folder must be reset; or, if
// nothing else was folded since the last flush, abandon will do.
func (f *folder[D]) fold(ctx context.Context, events []*eventv1.RecordedEvent, d *portion) error {
	if err := f.load(ctx, events, d != nil); err != nil {
		return err
	}
	f.assign(events, d)
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
	clear(f.touched)
	f.touched = f.touched[:0]
	if len(f.def.Rows) > 0 {
		f.parallel(len(events), func(worker, i int) {
			if errs[worker] == nil && !f.held[i] {
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

// load brings all customers into the cache that the events are about, unless
// these are skipped; drained ones never are.
func (f *folder[D]) load(ctx context.Context, events []*eventv1.RecordedEvent, drained bool) error {
	clear(f.missing)
	for _, rec := range events {
		if _, skip := f.parked.skips[rec.GetPosition()]; skip && !drained {
			continue
		}
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
			aliased := f.aliased != nil && f.aliased.has(keys[i])
			loaded[i], errs[worker] = loadCustomer(ctx, f.gen, f.documents.Name, keys[i], aliased)
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

// assign regroups profiles and gives the events to their customers, except
// those that have to wait.
func (f *folder[D]) assign(events []*eventv1.RecordedEvent, d *portion) {
	f.touched = f.touched[:0]
	f.held = append(f.held[:0], make([]bool, len(events))...)
	for i, rec := range events {
		if f.hold(i, rec, d) {
			f.held[i] = true
			continue
		}
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

// hold says that an event is not folded now: it is to be passed over for ever, or a customer
// whom it concerns waits.
func (f *folder[D]) hold(i int, rec *eventv1.RecordedEvent, d *portion) bool {
	if d != nil && d.stays[i] {
		d.hold(i, nil)
		return true
	}
	if stored, skip := f.parked.skips[rec.GetPosition()]; skip && d == nil {
		if !stored {
			f.parked.change(nil, f.parked.letterOf(rec, opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED, nil))
		}
		return true
	}
	waiting := f.parked.profiles
	if d != nil {
		waiting = d.waiting
	}
	if len(waiting) == 0 {
		return false
	}
	keys := f.concerned(rec.GetEvent())
	if !f.waits(keys, waiting) {
		return false
	}
	if d != nil {
		d.hold(i, keys)
	} else {
		f.parked.change(nil, f.parked.letterOf(rec, opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING, keys))
	}
	return true
}

// concerned are the profiles by which the customers are known whom an event
// concerns: its own, and those that name the customers. The slice is used again.
func (f *folder[D]) concerned(ev *eventv1.Event) []view.Key {
	f.keys = f.keys[:0]
	add := func(key view.Key) {
		if !slices.Contains(f.keys, key) {
			f.keys = append(f.keys, key)
		}
	}
	owner := func(id string) {
		key := view.Key{Tenant: ev.GetTenant(), ID: id}
		if m := f.cache.profiles[key]; m != nil {
			key = m.owner.key
		}
		add(key)
	}
	if id := ev.GetProfileId(); id != "" {
		add(view.Key{Tenant: ev.GetTenant(), ID: id})
		owner(id)
	}
	named(ev, owner)
	return f.keys
}

// waits says that one of the customers with these profiles waits.
func (f *folder[D]) waits(keys []view.Key, waiting map[view.Key]int) bool {
	for _, key := range keys {
		if waiting[key] > 0 {
			return true
		}
		if m := f.cache.profiles[key]; m != nil {
			for _, other := range m.owner.members {
				if waiting[other.key] > 0 {
					return true
				}
			}
		}
	}
	return false
}

// park sets one event aside that could not be folded. What was folded before
// it must be committed, and it abandoned.
func (f *folder[D]) park(ctx context.Context, rec *eventv1.RecordedEvent, attempts int, cause error) error {
	// A profile id that is none was perhaps the cause.
	if err := f.load(ctx, []*eventv1.RecordedEvent{rec}, false); err != nil && !isFoldError(err) {
		return err
	}
	letter := f.parked.letterOf(rec, opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED, f.concerned(rec.GetEvent()))
	f.parked.change(nil, f.parked.failedLetter(letter, attempts, cause))
	return nil
}

func isFoldError(err error) bool {
	var fe *FoldError
	return errors.As(err, &fe)
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
	if err := wire.Unmarshal(m.data, doc); err != nil {
		return doc, fmt.Errorf("document of profile %s: %w: %w", m.key.ID, view.ErrCorrupt, err)
	}
	m.doc, m.size = doc, len(m.data)
	return doc, nil
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
	if f.workers == 1 || f.rest != nil || n < few {
		for i := range n {
			do(0, i)
			if f.rest != nil {
				f.rest()
			}
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
