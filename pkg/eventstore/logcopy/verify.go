package logcopy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logid"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

// Verified is what a comparison came to.
type Verified struct {
	// Records of the source that were compared, all up to Head.
	Records uint64
	Head    eventstore.Position
	// Source and Target are digests over stream, revision, event id, type, content
	// type, data and metadata of these records, in their order. They are equal
	// where Difference is nil.
	Source, Target [sha256.Size]byte
	// Difference is the first record that differs; nil where none does.
	Difference *Difference
	// More says that the target goes on behind what was compared.
	More bool
}

// Difference is a record of the source and what stands in its place in the target.
type Difference struct {
	// Field that differs: stream, revision, event id, type, content type, data or
	// metadata; missing where the target ends before.
	Field string
	// Want is the source's record, Got the target's; Got is nil where it is missing.
	Want, Got *eventstore.Record
}

// String says what differs and where, in one line.
func (d *Difference) String() string {
	want := fmt.Sprintf("revision %d of stream %s (position %d of the source)", d.Want.Revision, short(d.Want.Stream), d.Want.Position)
	if d.Got == nil {
		return want + " is missing in the target"
	}
	return fmt.Sprintf("%s differs from revision %d of stream %s (position %d of the target): another %s",
		want, d.Got.Revision, short(d.Got.Stream), d.Got.Position, d.Field)
}

// Verify compares a log with its copy, up to the head that the source has now.
// What stands in the target behind that is its own affair, and so are its map
// and its id.
func Verify(ctx context.Context, from, to eventstore.Store, progress func(Progress)) (Verified, error) {
	fail := func(err error) (Verified, error) {
		return Verified{}, fmt.Errorf("compare log %s with log %s: %w", from.LogID(), to.LogID(), err)
	}
	if from.LogID() == to.LogID() {
		return fail(ErrSameLog)
	}
	head, err := from.Head(ctx)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	read := func(store eventstore.Store, without ...string) *entries {
		c := make(chan chunk, 1)
		readers.Go(func() { readAll(ctx, store, without, c) })
		return &entries{chunks: c}
	}
	v := &comparison{Verified: Verified{Head: head}, progress: progress}
	if err := v.run(ctx, read(from, logid.Stream), read(to, logid.Stream, posmap.StreamOf(to.LogID()))); err != nil {
		return fail(err)
	}
	return v.Verified, nil
}

type comparison struct {
	Verified
	progress func(Progress)
}

func (v *comparison) run(ctx context.Context, source, target *entries) error {
	// Digests as of the last records that were compared.
	v.Source, v.Target = sha256.Sum256(nil), sha256.Sum256(nil)
	for {
		want, err := source.next(ctx)
		if err != nil {
			return err
		}
		got, err := target.next(ctx)
		if err != nil {
			return err
		}
		if want == nil || want.Position > v.Head {
			v.More = got != nil
			return nil
		}
		v.Records++
		v.Source = want.digest
		field := "missing"
		if got != nil {
			v.Target = got.digest
		}
		if got == nil || !same(want.Record, got.Record, &field) || want.digest != got.digest {
			v.Difference = &Difference{Field: field, Want: want.Record}
			if got != nil {
				v.Difference.Got = got.Record
			}
			return nil
		}
		const often = 4096
		if v.progress != nil && (v.Records%often == 0 || want.Position == v.Head) {
			v.progress(Progress{Position: want.Position, Head: v.Head, Records: v.Records})
		}
	}
}

// entry is a record with the digest of everything up to it.
type entry struct {
	*eventstore.Record
	digest [sha256.Size]byte
}

// chunk is some of a log's entries, or why there are no more.
type chunk struct {
	entries []entry
	err     error
}

var errEnd = errors.New("end of the log")

// readAll reads a log to its end, without some streams.
func readAll(ctx context.Context, store eventstore.Store, without []string, to chan<- chunk) {
	const most, mostBytes = 512, 2 << 20
	send := func(c chunk) bool {
		select {
		case to <- c:
			return true
		case <-ctx.Done():
			return false
		}
	}
	end := chunk{err: errEnd}
	d := newDigester()
	var c chunk
	size := 0
	for rec, err := range store.ReadAll(ctx, eventstore.ReadAllOptions{}) {
		if err != nil {
			end.err = err
			break
		}
		if slices.Contains(without, rec.Stream) {
			continue
		}
		c.entries = append(c.entries, entry{Record: rec, digest: d.add(rec)})
		size += len(rec.Data) + len(rec.Metadata)
		if len(c.entries) < most && size < mostBytes {
			continue
		}
		if !send(c) {
			return
		}
		c, size = chunk{}, 0
	}
	_ = send(c) && send(end) // else nobody listens any more
}

// entries hands out one by one what a reader sends; nil at the end.
type entries struct {
	chunks <-chan chunk
	now    []entry
	err    error
}

func (e *entries) next(ctx context.Context) (*entry, error) {
	for len(e.now) == 0 {
		if errors.Is(e.err, errEnd) {
			return nil, nil
		}
		if e.err != nil {
			return nil, e.err
		}
		select {
		case c := <-e.chunks:
			e.now, e.err = c.entries, c.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	first := &e.now[0]
	e.now = e.now[1:]
	return first, nil
}

// digester makes a digest that depends on every field and on the order: a chain
// of SHA-256, each link over the one before and a record, whose fields of
// varying length have their length before them.
type digester struct {
	hash hash.Hash
	last [sha256.Size]byte
	b    []byte
}

func newDigester() *digester { return &digester{hash: sha256.New(), last: sha256.Sum256(nil)} }

func (d *digester) add(r *eventstore.Record) [sha256.Size]byte {
	d.b = append(d.b[:0], d.last[:]...)
	d.b = append(d.b, r.ID[:]...)
	d.b = append(d.b, byte(r.ContentType))
	d.b = binary.BigEndian.AppendUint64(d.b, uint64(r.Revision))
	for _, size := range []int{len(r.Stream), len(r.Type), len(r.Data), len(r.Metadata)} {
		d.b = binary.BigEndian.AppendUint64(d.b, uint64(size))
	}
	d.b = append(append(d.b, r.Stream...), r.Type...)
	d.hash.Reset()
	d.hash.Write(d.b)
	d.hash.Write(r.Data)
	d.hash.Write(r.Metadata)
	d.hash.Sum(d.last[:0])
	return d.last
}
