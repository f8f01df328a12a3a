package logcopy_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/embedded"
)

func open(t *testing.T) eventstore.Store {
	t.Helper()
	store, err := embedded.Open("log", embedded.Options{FS: vfs.NewMem(), MinFreeBytes: -1, BallastBytes: 1 << 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// sparse is a store as a cluster is: one stream at a time, and positions with
// gaps, by a rule of its own.
type sparse struct{ eventstore.Store }

func openSparse(t *testing.T) eventstore.Store {
	t.Helper()
	return sparse{open(t)}
}

// Positions are about stride apart.
const stride = 97

func spread(p eventstore.Position) eventstore.Position {
	if p == 0 {
		return 0
	}
	return p*stride + p*p%31
}

// dense is the last position whose spread is at or below one.
func dense(p eventstore.Position) eventstore.Position {
	d := p / stride
	for d > 0 && spread(d) > p {
		d--
	}
	return d
}

func (s sparse) Capabilities() eventstore.Capabilities {
	no := eventstore.Capability{Reason: "so that it is tried"}
	return eventstore.Capabilities{BatchAppend: no, DensePositions: no}
}

func (s sparse) AppendBatch(context.Context, []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	return nil, eventstore.ErrUnsupported
}

func (s sparse) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	appended, err := s.Store.Append(ctx, stream, expected, records...)
	appended.Position = spread(appended.Position)
	return appended, err
}

func (s sparse) Head(ctx context.Context) (eventstore.Position, error) {
	head, err := s.Store.Head(ctx)
	return spread(head), err
}

func spreadRecord(r *eventstore.Record) *eventstore.Record {
	other := *r
	other.Position = spread(r.Position)
	return &other
}

func (s sparse) ReadStream(ctx context.Context, stream string, opts eventstore.ReadStreamOptions) iter.Seq2[*eventstore.Record, error] {
	return spreadAll(s.Store.ReadStream(ctx, stream, opts))
}

func (s sparse) ReadAll(ctx context.Context, opts eventstore.ReadAllOptions) iter.Seq2[*eventstore.Record, error] {
	opts.From = dense(opts.From) // only forwards here
	return spreadAll(s.Store.ReadAll(ctx, opts))
}

func spreadAll(records iter.Seq2[*eventstore.Record, error]) iter.Seq2[*eventstore.Record, error] {
	return func(yield func(*eventstore.Record, error) bool) {
		for rec, err := range records {
			if err == nil {
				rec = spreadRecord(rec)
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

func (s sparse) Subscribe(ctx context.Context, opts eventstore.SubscribeOptions) (eventstore.Subscription, error) {
	opts.After = dense(opts.After)
	sub, err := s.Store.Subscribe(ctx, opts)
	if err != nil {
		return nil, err
	}
	return sparseSubscription{sub}, nil
}

type sparseSubscription struct{ eventstore.Subscription }

func (s sparseSubscription) Next(ctx context.Context) (eventstore.Batch, error) {
	batch, err := s.Subscription.Next(ctx)
	records := make([]*eventstore.Record, len(batch.Records))
	for i, r := range batch.Records {
		records[i] = spreadRecord(r)
	}
	batch.Records, batch.Position = records, spread(batch.Position)
	return batch, err
}

var errKilled = errors.New("killed")

// faulty is a store whose appends fail after a while: before or after they
// took place.
type faulty struct {
	eventstore.Store

	mu sync.Mutex
	// left is how many appends succeed before the failure; negative for all.
	left int
	// applied says that the failing append takes place.
	applied bool
	// final says that nothing works after it, as if the process were gone.
	final bool
	err   error
}

func (f *faulty) due() (fails, applied bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.left < 0:
		return false, true
	case f.left > 0:
		f.left--
		return false, true
	case f.final:
		applied, f.applied = f.applied, false
		return true, applied
	default:
		f.left = -1
		return true, f.applied
	}
}

func (f *faulty) Append(ctx context.Context, stream string, expected eventstore.Revision, records ...eventstore.NewRecord) (eventstore.Appended, error) {
	fails, applied := f.due()
	var appended eventstore.Appended
	var err error
	if applied {
		appended, err = f.Store.Append(ctx, stream, expected, records...)
	}
	if fails {
		return eventstore.Appended{}, errors.Join(f.err, err)
	}
	return appended, err
}

func (f *faulty) AppendBatch(ctx context.Context, appends []eventstore.StreamAppend) ([]eventstore.Appended, error) {
	fails, applied := f.due()
	var appended []eventstore.Appended
	var err error
	if applied {
		appended, err = f.Store.AppendBatch(ctx, appends)
	}
	if fails {
		return nil, errors.Join(f.err, err)
	}
	return appended, err
}

// writer writes random records to a store.
type writer struct {
	rnd   *rand.Rand
	store eventstore.Store
	last  map[string]eventstore.NewRecord
}

func newWriter(rnd *rand.Rand, store eventstore.Store) *writer {
	return &writer{rnd: rnd, store: store, last: map[string]eventstore.NewRecord{}}
}

// bytes are random; one time in five hundred many.
func (w *writer) bytes(most int) []byte {
	n := w.rnd.IntN(most)
	if w.rnd.IntN(500) == 0 {
		n = 700_000
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(w.rnd.Uint32())
	}
	return b
}

func (w *writer) record() eventstore.NewRecord {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(w.rnd.Uint32())
	}
	r := eventstore.NewRecord{ID: id, Type: fmt.Sprintf("parley.thing.happened%d", w.rnd.IntN(5)), Data: w.bytes(400)}
	if w.rnd.IntN(3) == 0 {
		r.ContentType, r.Data = eventstore.ContentJSON, fmt.Appendf(nil, `{"n":%d}`, w.rnd.IntN(1000))
	}
	if w.rnd.IntN(2) == 0 {
		r.Metadata = fmt.Appendf(nil, `{"$correlationId":"%d"}`, w.rnd.Uint64())
	}
	return r
}

// write appends about so many records. Now and then an id comes again in its
// stream, as it may for who expects no revision.
func (w *writer) write(t *testing.T, count int) {
	t.Helper()
	for count > 0 {
		stream := fmt.Sprintf("acme.web-%d", w.rnd.IntN(40))
		if w.rnd.IntN(4) == 0 {
			stream = "acme.web-busy"
		}
		records := make([]eventstore.NewRecord, 1+w.rnd.IntN(3))
		for i := range records {
			records[i] = w.record()
		}
		if again, ok := w.last[stream]; ok && w.rnd.IntN(20) == 0 {
			records[0].ID = again.ID
		}
		w.last[stream] = records[0]
		_, err := w.store.Append(t.Context(), stream, eventstore.Any, records...)
		require.NoError(t, err)
		count -= len(records)
	}
}
