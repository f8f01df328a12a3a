package pebbleview

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/view"
)

// commitScratch is memory that commits of a generation use again.
type commitScratch struct {
	batch      *pebble.Batch
	key, value []byte
	is, was    gramSet
	// changes of postings by text index, tenant and block.
	blocks map[blockKey]*blockChanges
	// numbers allocated by this commit.
	numbers map[numberKey]uint32
	counts  [gramSpan + 1]uint32
	placed  []uint32
}

type blockKey struct {
	numberKey
	block uint32
}

// blockChanges are changes to the postings of one block: of each the gram, the
// number within the block, and in the lowest bit whether it is taken out.
type blockChanges struct {
	list []uint32
}

// Fence is view.Generation's.
func (g *generation) Fence(ctx context.Context) (uint64, error) {
	if err := g.enter(ctx); err != nil {
		return 0, fmt.Errorf("fence %s: %w", g.shared.ns, err)
	}
	defer g.store.guard.Leave()
	sh := g.shared
	sh.commit.Lock()
	defer sh.commit.Unlock()
	sh.token++
	batch := g.store.db.NewBatch()
	err := batch.Set(namespaceKey(sh.ns), formatGeneration(sh), nil)
	if err = errors.Join(err, g.store.apply(ctx, batch), batch.Close()); err == nil {
		err = g.store.flush(ctx)
	}
	if err != nil {
		// The token stays taken: nobody else may get it should it be stored after all.
		return 0, fmt.Errorf("fence %s: %w", sh.ns, err)
	}
	return sh.token, nil
}

// Commit is view.Generation's.
func (g *generation) Commit(ctx context.Context, b *view.Batch) error {
	if err := g.enter(ctx); err != nil {
		return fmt.Errorf("commit to %s: %w", g.shared.ns, err)
	}
	defer g.store.guard.Leave()
	g.shared.commit.Lock()
	defer g.shared.commit.Unlock()
	if err := g.commit(ctx, b); err != nil {
		return fmt.Errorf("commit to %s: %w", g.shared.ns, err)
	}
	return nil
}

func (g *generation) commit(ctx context.Context, b *view.Batch) error {
	sh := g.shared
	if err := g.store.health.check(); err != nil {
		return err
	}
	switch c := &b.Checkpoint; {
	case c.Namespace != sh.ns:
		return fmt.Errorf("checkpoint of %s: %w", c.Namespace, view.ErrInvalid)
	case c.Token < sh.token:
		return fmt.Errorf("token %d, newest is %d: %w", c.Token, sh.token, view.ErrFenced)
	case c.Token > sh.token:
		return fmt.Errorf("token %d was never given out: %w", c.Token, view.ErrInvalid)
	}
	w := rowWriter{g: g, s: &sh.scratch, batch: sh.scratch.begin(g.store.db, b.Bytes()+b.Bytes()/4+256)}
	ops := b.Ops()
	for i := range ops {
		if err := w.write(&ops[i]); err != nil {
			return fmt.Errorf("document %s of %s: %w", ops[i].Key.ID, ops[i].Collection, err)
		}
	}
	if err := w.finish(&b.Checkpoint); err != nil {
		return err
	}
	if err := g.store.apply(ctx, w.batch); err != nil {
		return err
	}
	for k, next := range w.s.numbers {
		sh.numbers[k] = next
	}
	g.store.wake.Alarm(sh.ns.Projection)
	// The commit is done: what fails here shows with the next one.
	if err := g.store.flushOld(); err != nil {
		g.store.stumbled(err)
	}
	return nil
}

// keptBatch is up to which size the memory of a commit is kept for the next.
const keptBatch = 8 << 20

// begin forgets the commit before and returns an empty batch.
func (s *commitScratch) begin(db *pebble.DB, size int) *pebble.Batch {
	if s.batch == nil {
		s.blocks, s.numbers = map[blockKey]*blockChanges{}, map[numberKey]uint32{}
		s.batch = db.NewBatchWithSize(size, pebble.WithMaxRetainedSizeBytes(keptBatch))
	}
	clear(s.blocks)
	clear(s.numbers)
	s.batch.Reset()
	return s.batch
}

// rowWriter puts a commit's rows into a Pebble batch.
type rowWriter struct {
	g     *generation
	s     *commitScratch
	batch *pebble.Batch
}

func (w *rowWriter) write(op *view.Op) error {
	c, err := w.g.collection(op.Collection)
	if err != nil {
		return err
	}
	if err := op.Key.Validate(); err != nil {
		return err
	}
	if c.Clustered {
		return w.writeClustered(c, op)
	}
	number := w.g.shared.number
	w.s.key = appendDocumentKey(w.s.key[:0], number, c.id, op.Key)
	prior := op.Prior
	if !prior.Known() {
		if prior, err = w.look(); err != nil {
			return err
		}
	}
	var terms *view.Terms
	if op.Delete {
		if !prior.Exists() {
			return nil
		}
		terms = &view.Terms{}
		err = w.batch.Delete(w.s.key, nil)
	} else {
		terms = &op.Row.Terms
		err = w.setRow(&op.Row)
	}
	if err != nil {
		return err
	}
	remove := func(index int, tuple []byte) error {
		w.s.key = appendTupleKey(w.s.key[:0], number, c.id, 1+uint8(index), op.Key, tuple)
		return w.batch.Delete(w.s.key, nil)
	}
	add := func(index int, tuple []byte) error {
		w.s.key = appendTupleKey(w.s.key[:0], number, c.id, 1+uint8(index), op.Key, tuple)
		return w.batch.Set(w.s.key, nil, nil)
	}
	if err := terms.DiffOrdered(prior.Terms(), remove, add); err != nil {
		return err
	}
	return w.writeTexts(c, op.Key, terms, prior.Terms())
}

// look reads what is stored under the key at hand.
func (w *rowWriter) look() (view.Prior, error) {
	row, err := getRow(w.g.store.db, w.s.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return view.Absent(), nil
	}
	if err != nil {
		return view.Prior{}, err
	}
	return view.Was(row.Terms), nil
}

// setRow puts the row under the key at hand.
func (w *rowWriter) setRow(row *view.Row) error {
	w.s.value = appendRow(w.s.value[:0], &view.Row{Meta: row.Meta, Terms: row.Terms})
	op := w.batch.SetDeferred(len(w.s.key), len(w.s.value)+len(row.Data))
	copy(op.Key, w.s.key)
	copy(op.Value[copy(op.Value, w.s.value):], row.Data)
	return op.Finish()
}

func (w *rowWriter) writeClustered(c *collection, op *view.Op) error {
	tuple, err := op.Row.Terms.Clustered()
	if err != nil {
		return err
	}
	number := w.g.shared.number
	w.s.key = appendTupleKey(w.s.key[:0], number, c.id, areaDocuments, op.Key, tuple)
	if op.Delete {
		err = w.batch.Delete(w.s.key, nil)
	} else {
		err = w.setRow(&view.Row{Meta: op.Row.Meta, Data: op.Row.Data})
	}
	if err != nil || len(c.Indexes) == 1 {
		return err
	}
	var at []byte
	return op.Row.Terms.Ordered(func(index int, entry []byte) error {
		if index == 0 {
			return nil
		}
		w.s.key = appendTupleKey(w.s.key[:0], number, c.id, 1+uint8(index), op.Key, entry)
		if op.Delete {
			return w.batch.Delete(w.s.key, nil)
		}
		// The entry leads to the document by its tuple.
		at = append(at[:0], tuple...)
		return w.batch.Set(w.s.key, at, nil)
	})
}

// writeTexts brings the text indexes in step.
func (w *rowWriter) writeTexts(c *collection, key view.Key, terms, prior *view.Terms) error {
	for n, index := range c.texts {
		if terms.SameText(prior, n) {
			continue
		}
		if err := w.writeText(c, index, n, key, terms, prior); err != nil {
			return fmt.Errorf("text index %s: %w", c.Indexes[index].Name, err)
		}
	}
	return nil
}

func (w *rowWriter) writeText(c *collection, index uint8, n int, key view.Key, terms, prior *view.Terms) error {
	at := numberKey{collection: c.id, index: index, tenant: key.Tenant}
	numberOf := append(appendTextArea(nil, w.g.shared.number, c.id, index, textNumbers, key.Tenant), key.ID...)
	w.s.is.reset()
	w.s.was.reset()
	var number uint32
	var err error
	if prior.HasText(n) {
		var text string
		if number, text, err = w.stored(at, numberOf); err != nil {
			return err
		}
		w.s.was.addText(text)
	} else {
		if number, err = w.allocate(at); err != nil {
			return err
		}
		if err := w.batch.Set(numberOf, binary.BigEndian.AppendUint32(nil, number), nil); err != nil {
			return err
		}
	}
	textKey := binary.BigEndian.AppendUint32(appendTextArea(nil, w.g.shared.number, c.id, index, textTexts, key.Tenant), number)
	if terms.HasText(n) {
		w.s.is.addText(terms.Text(n))
		value := binary.AppendUvarint(nil, uint64(len(key.ID)))
		err = w.batch.Set(textKey, append(append(value, key.ID...), terms.Text(n)...), nil)
	} else {
		err = errors.Join(w.batch.Delete(textKey, nil), w.batch.Delete(numberOf, nil))
	}
	if err != nil {
		return err
	}
	w.change(at, number)
	return nil
}

// change notes which postings gain and lose the number.
func (w *rowWriter) change(at numberKey, number uint32) {
	k := blockKey{at, number >> blockBits}
	changes := w.s.blocks[k]
	if changes == nil {
		changes = &blockChanges{}
		w.s.blocks[k] = changes
	}
	low := number & blockMask << 1
	for _, gram := range w.s.is.list {
		if !w.s.was.has(gram) {
			changes.list = append(changes.list, uint32(gram)<<(blockBits+1)|low)
		}
	}
	for _, gram := range w.s.was.list {
		if !w.s.is.has(gram) {
			changes.list = append(changes.list, uint32(gram)<<(blockBits+1)|low|1)
		}
	}
}

// stored reads a document's number and text.
func (w *rowWriter) stored(at numberKey, numberOf []byte) (uint32, string, error) {
	value, closer, err := w.g.store.db.Get(numberOf)
	if err != nil {
		return 0, "", fmt.Errorf("read number: %w", err)
	}
	if len(value) != 4 {
		return 0, "", errors.Join(fmt.Errorf("number: %w", view.ErrCorrupt), closer.Close())
	}
	number := binary.BigEndian.Uint32(value)
	if err := closer.Close(); err != nil {
		return 0, "", fmt.Errorf("read number: %w", err)
	}
	key := appendTextArea(nil, w.g.shared.number, at.collection, at.index, textTexts, at.tenant)
	if value, closer, err = w.g.store.db.Get(binary.BigEndian.AppendUint32(key, number)); err != nil {
		return 0, "", fmt.Errorf("read text: %w", err)
	}
	_, text, err := parseText(value)
	s := string(text)
	return number, s, errors.Join(err, closer.Close())
}

// parseText takes a stored text apart into the document's id and the text.
func parseText(b []byte) (id, text []byte, err error) {
	n, width := binary.Uvarint(b)
	if width <= 0 || n > uint64(len(b)-width) {
		return nil, nil, fmt.Errorf("text: %w", view.ErrCorrupt)
	}
	b = b[width:]
	return b[:n], b[n:], nil
}

// allocate gives out the next number.
func (w *rowWriter) allocate(at numberKey) (uint32, error) {
	next, known := w.s.numbers[at]
	if !known {
		if next, known = w.g.shared.numbers[at]; !known {
			var err error
			if next, err = w.readNext(at); err != nil {
				return 0, err
			}
		}
	}
	if next == 1<<32-1 {
		return 0, fmt.Errorf("numbers are used up, rebuild the projection: %w", view.ErrFull)
	}
	w.s.numbers[at] = next + 1
	return next, nil
}

func (w *rowWriter) nextKey(at numberKey) []byte {
	return appendTextArea(nil, w.g.shared.number, at.collection, at.index, textNext, at.tenant)
}

func (w *rowWriter) readNext(at numberKey) (uint32, error) {
	value, closer, err := w.g.store.db.Get(w.nextKey(at))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read next number: %w", err)
	}
	if len(value) != 4 {
		return 0, errors.Join(fmt.Errorf("next number: %w", view.ErrCorrupt), closer.Close())
	}
	return binary.BigEndian.Uint32(value), closer.Close()
}

// finish writes what was gathered, and the checkpoint.
func (w *rowWriter) finish(c *view.Checkpoint) error {
	for at, next := range w.s.numbers {
		if err := w.batch.Set(w.nextKey(at), binary.BigEndian.AppendUint32(nil, next), nil); err != nil {
			return err
		}
	}
	for k, changes := range w.s.blocks {
		if err := w.writePostings(k, changes.list); err != nil {
			return err
		}
	}
	w.s.value = appendCheckpoint(w.s.value[:0], c)
	return w.batch.Set(checkpointKey(w.g.shared.number), w.s.value, nil)
}

// writePostings sorts a block's changes by gram and merges each gram's into its posting.
func (w *rowWriter) writePostings(k blockKey, list []uint32) error {
	counts := &w.s.counts
	clear(counts[:])
	for _, v := range list {
		counts[v>>(blockBits+1)+1]++
	}
	for i := 1; i < len(counts); i++ {
		counts[i] += counts[i-1]
	}
	w.s.placed = slices.Grow(w.s.placed[:0], len(list))[:len(list)]
	for _, v := range list {
		gram := v >> (blockBits + 1)
		w.s.placed[counts[gram]] = v
		counts[gram]++
	}
	var p posting
	for rest := w.s.placed; len(rest) > 0; {
		gram := rest[0] >> (blockBits + 1)
		p = posting{}
		for len(rest) > 0 && rest[0]>>(blockBits+1) == gram {
			n := uint16(rest[0] >> 1 & blockMask)
			if rest[0]&1 == 0 {
				p.in.add(n)
			} else {
				p.out.add(n)
			}
			rest = rest[1:]
		}
		w.s.key = appendPostingKey(w.s.key[:0], w.g.shared.number, k.numberKey, uint16(gram), k.block)
		w.s.value = p.append(w.s.value[:0])
		if err := w.batch.Merge(w.s.key, w.s.value, nil); err != nil {
			return err
		}
	}
	return nil
}
