package pebbleview

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/view"
)

// generation is a handle of a generation.
type generation struct {
	reader
	store  *Store
	closed atomic.Bool
}

var _ view.Generation = (*generation)(nil)

// collection is a collection with what the layout makes of it.
type collection struct {
	view.Collection
	id uint8
	// texts are the numbers of the text indexes.
	texts []uint8
}

// reader reads from the database or from a snapshot of it.
type reader struct {
	shared *shared
	store  *Store
	// from is what to read; nil for the database as it is.
	from        *pebble.Snapshot
	gone        *atomic.Bool
	collections map[string]*collection
	declared    []view.Collection
}

func newGeneration(s *Store, sh *shared, declared []view.Collection) *generation {
	g := &generation{store: s}
	g.reader = reader{shared: sh, store: s, gone: &g.closed, declared: declared, collections: map[string]*collection{}}
	for i := range declared {
		c := &collection{Collection: declared[i], id: uint8(i)}
		for j := range c.Indexes {
			if c.Indexes[j].Kind == view.Text {
				c.texts = append(c.texts, uint8(j))
			}
		}
		g.collections[c.Name] = c
	}
	return g
}

// Namespace is view.Generation's.
func (g *generation) Namespace() view.Namespace { return g.shared.ns }

// Close is view.Generation's.
func (g *generation) Close() error {
	if !g.closed.Swap(true) {
		g.store.release(g.shared)
	}
	return nil
}

// Snapshot is view.Generation's.
func (g *generation) Snapshot(ctx context.Context) (view.Snapshot, error) {
	if err := g.enter(ctx); err != nil {
		return nil, fmt.Errorf("snapshot of %s: %w", g.shared.ns, err)
	}
	// Left by the snapshot's Close.
	s := &snapshot{reader: g.reader}
	s.from, s.gone = g.store.db.NewSnapshot(), &s.closed
	return s, nil
}

// Digest is view.Generation's.
func (g *generation) Digest(ctx context.Context) (view.Digest, error) {
	s, err := g.Snapshot(ctx)
	if err != nil {
		return view.Digest{}, err
	}
	d, err := view.ComputeDigest(ctx, s, g.declared)
	return d, errors.Join(err, s.Close())
}

type snapshot struct {
	reader
	closed atomic.Bool
}

// Close is view.Snapshot's.
func (s *snapshot) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	defer s.store.guard.Leave()
	if err := s.from.Close(); err != nil {
		return fmt.Errorf("close snapshot of %s: %w", s.shared.ns, err)
	}
	return nil
}

// enter begins a call; store.guard.Leave ends it.
func (r *reader) enter(ctx context.Context) error {
	if r.gone.Load() {
		return view.ErrClosed
	}
	return r.store.guard.Enter(ctx)
}

func (r *reader) source() pebble.Reader {
	if r.from != nil {
		return r.from
	}
	return r.store.db
}

// pinned is one state for several reads; release lets go of it.
func (r *reader) pinned() (source pebble.Reader, release func() error) {
	if r.from != nil {
		return r.from, func() error { return nil }
	}
	s := r.store.db.NewSnapshot()
	return s, s.Close
}

func (r *reader) collection(name string) (*collection, error) {
	c := r.collections[name]
	if c == nil {
		return nil, fmt.Errorf("unknown collection %q: %w", name, view.ErrInvalid)
	}
	return c, nil
}

func (c *collection) index(name string, kind view.IndexKind) (int, error) {
	for i := range c.Indexes {
		if c.Indexes[i].Name == name {
			if c.Indexes[i].Kind != kind {
				return 0, fmt.Errorf("index %q of %s is of another kind: %w", name, c.Name, view.ErrInvalid)
			}
			return i, nil
		}
	}
	return 0, fmt.Errorf("unknown index %q of %s: %w", name, c.Name, view.ErrInvalid)
}

// Checkpoint is view.Reader's.
func (r *reader) Checkpoint(ctx context.Context) (view.Checkpoint, error) {
	if err := r.enter(ctx); err != nil {
		return view.Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", r.shared.ns, err)
	}
	defer r.store.guard.Leave()
	value, closer, err := r.source().Get(checkpointKey(r.shared.number))
	if errors.Is(err, pebble.ErrNotFound) {
		return view.Checkpoint{}, nil
	}
	if err != nil {
		return view.Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", r.shared.ns, err)
	}
	c, err := parseCheckpoint(value, r.shared.ns)
	if err = errors.Join(err, closer.Close()); err != nil {
		return view.Checkpoint{}, fmt.Errorf("checkpoint of %s: %w", r.shared.ns, err)
	}
	return c, nil
}

// keyed begins a call for documents by key.
func (r *reader) keyed(ctx context.Context, name string) (*collection, error) {
	c, err := r.collection(name)
	if err != nil {
		return nil, err
	}
	if c.Clustered {
		return nil, fmt.Errorf("collection is clustered, documents are not found by key: %w", view.ErrInvalid)
	}
	return c, r.enter(ctx)
}

// Get is view.Reader's.
func (r *reader) Get(ctx context.Context, collection string, key view.Key) ([]byte, error) {
	c, err := r.keyed(ctx, collection)
	if err != nil {
		return nil, fmt.Errorf("get %s of %s: %w", key.ID, collection, err)
	}
	defer r.store.guard.Leave()
	var buf [128]byte
	data, err := getData(r.source(), appendDocumentKey(buf[:0], r.shared.number, c.id, key))
	if err != nil {
		return nil, fmt.Errorf("get %s of %s: %w", key.ID, collection, notFound(err))
	}
	return data, nil
}

// getData reads a document's bytes alone.
func getData(source pebble.Reader, key []byte) ([]byte, error) {
	value, closer, err := source.Get(key)
	if err != nil {
		return nil, err
	}
	data, err := rowData(value)
	if err == nil {
		data = append(make([]byte, 0, len(data)), data...)
	}
	return data, errors.Join(err, closer.Close())
}

func notFound(err error) error {
	if errors.Is(err, pebble.ErrNotFound) {
		return view.ErrNotFound
	}
	return err
}

// GetMany is view.Reader's.
func (r *reader) GetMany(ctx context.Context, collection string, keys []view.Key) ([][]byte, error) {
	c, err := r.keyed(ctx, collection)
	if err != nil {
		return nil, fmt.Errorf("get %d of %s: %w", len(keys), collection, err)
	}
	defer r.store.guard.Leave()
	source, release := r.pinned()
	all := make([][]byte, len(keys))
	var buf []byte
	for i, key := range keys {
		buf = appendDocumentKey(buf[:0], r.shared.number, c.id, key)
		if all[i], err = getData(source, buf); err != nil && !errors.Is(err, pebble.ErrNotFound) {
			return nil, fmt.Errorf("get %s of %s: %w", key.ID, collection, errors.Join(err, release()))
		}
	}
	if err := release(); err != nil {
		return nil, fmt.Errorf("get %d of %s: %w", len(keys), collection, err)
	}
	return all, nil
}

// Load is view.Reader's.
func (r *reader) Load(ctx context.Context, collection string, key view.Key) (view.Row, error) {
	c, err := r.keyed(ctx, collection)
	if err != nil {
		return view.Row{}, fmt.Errorf("load %s of %s: %w", key.ID, collection, err)
	}
	defer r.store.guard.Leave()
	var buf [128]byte
	row, err := getRow(r.source(), appendDocumentKey(buf[:0], r.shared.number, c.id, key))
	if err != nil {
		return view.Row{}, fmt.Errorf("load %s of %s: %w", key.ID, collection, notFound(err))
	}
	return row, nil
}
