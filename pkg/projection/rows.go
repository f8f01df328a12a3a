package projection

import (
	"fmt"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/view"
)

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

// rowOp is a row of the collection of a definition's number.
type rowOp struct {
	collection int
	key        view.Key
	row        view.Row
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
