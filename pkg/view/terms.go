package view

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
)

// Terms are a document's entries in all indexes of its collection, in a form
// that can be stored beside it and compared cheaply. The zero Terms are none.
type Terms struct {
	// ordered holds the tuples of all ordered indexes: of each the index's
	// number, a byte, the length of the encoded tuple, uvarint, and the tuple;
	// sorted, each once.
	ordered []byte
	// texts holds one for each text index.
	texts []termText
}

// termText is a normalised text. Of a stored one only the hash is known.
type termText struct {
	hash uint64
	text string
}

// Terms computes a document's index entries. It fails with ErrInvalid where an Extract
// gives something else than it declared.
func (c *Collection) Terms(doc proto.Message) (Terms, error) {
	var t Terms
	if len(c.Indexes) == 0 {
		return t, nil
	}
	scratch := termScratches.get()
	defer termScratches.put(scratch)
	for i := range c.Indexes {
		index := &c.Indexes[i]
		tuples := index.Extract(doc)
		if index.Kind == Text {
			t.texts = append(t.texts, joinTexts(tuples))
			continue
		}
		if c.Clustered && i == 0 && len(tuples) != 1 {
			return Terms{}, fmt.Errorf("index %s gives %d tuples, clustered collections need one: %w", index.Name, len(tuples), ErrInvalid)
		}
		for _, tuple := range tuples {
			if len(tuple) != len(index.Columns) || !tuple.matches(index.Columns) {
				return Terms{}, fmt.Errorf("index %s gives a tuple of other columns than declared: %w", index.Name, ErrInvalid)
			}
			scratch.add(byte(i), tuple)
		}
	}
	t.ordered = scratch.entries()
	return t, nil
}

// termScratch is memory in which a document's entries are put together.
type termScratch struct {
	buf   []byte
	spans []span
}

type span struct{ from, to int }

func (s *termScratch) add(index byte, tuple Tuple) {
	from := len(s.buf)
	s.buf = AppendTuple(append(s.buf, index), tuple)
	s.spans = append(s.spans, span{from, len(s.buf)})
}

func (s *termScratch) entry(at span) []byte { return s.buf[at.from:at.to] }

// entries gives what was added in the form of Terms.ordered.
func (s *termScratch) entries() []byte {
	if len(s.spans) == 0 {
		return nil
	}
	if len(s.spans) > 1 {
		slices.SortFunc(s.spans, func(a, b span) int { return bytes.Compare(s.entry(a), s.entry(b)) })
		s.spans = slices.CompactFunc(s.spans, func(a, b span) bool { return bytes.Equal(s.entry(a), s.entry(b)) })
	}
	ordered := make([]byte, 0, len(s.buf)+binary.MaxVarintLen16*len(s.spans))
	for _, at := range s.spans {
		e := s.entry(at)
		ordered = binary.AppendUvarint(append(ordered, e[0]), uint64(len(e)-1))
		ordered = append(ordered, e[1:]...)
	}
	return ordered
}

type termScratchPool struct{ pool sync.Pool }

var termScratches termScratchPool

func (p *termScratchPool) get() *termScratch {
	if s, ok := p.pool.Get().(*termScratch); ok {
		s.buf, s.spans = s.buf[:0], s.spans[:0]
		return s
	}
	return &termScratch{}
}

func (p *termScratchPool) put(s *termScratch) { p.pool.Put(s) }

func joinTexts(tuples []Tuple) termText {
	if len(tuples) == 0 {
		return termText{}
	}
	parts := make([]string, 0, len(tuples))
	for _, tuple := range tuples {
		for _, v := range tuple {
			if text := NormalizeText(v.s); text != "" {
				parts = append(parts, text)
			}
		}
	}
	// The order in which texts are extracted says nothing.
	slices.Sort(parts)
	text := cutText(strings.Join(slices.Compact(parts), "\n"), MaxTextBytes)
	return termText{hash: hashText(text), text: text}
}

// hashText is 0 for no text.
func hashText(text string) uint64 {
	if text == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum64() | 1
}

// Size is about how many bytes the terms take in memory.
func (t *Terms) Size() int {
	n := len(t.ordered)
	for i := range t.texts {
		n += 24 + len(t.texts[i].text)
	}
	return n
}

// Ordered calls yield for each entry in an ordered index: the index's number
// in the collection and the encoded tuple, in order.
func (t *Terms) Ordered(yield func(index int, tuple []byte) error) error {
	for b := t.ordered; len(b) > 0; {
		e, rest, err := cutOrdered(b)
		if err != nil {
			return err
		}
		if err := yield(int(e[0]), e[1:]); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// Clustered is the encoded tuple of the first index.
func (t *Terms) Clustered() ([]byte, error) {
	if len(t.ordered) == 0 {
		return nil, fmt.Errorf("no tuple: %w", ErrInvalid)
	}
	index, length, start, err := orderedHeader(t.ordered)
	if err != nil {
		return nil, err
	}
	if index != 0 {
		return nil, fmt.Errorf("no tuple of the first index: %w", ErrInvalid)
	}
	return t.ordered[start : start+length], nil
}

func orderedHeader(b []byte) (index byte, length, start int, err error) {
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)-1-w) {
		return 0, 0, 0, fmt.Errorf("index entry: %w", ErrCorrupt)
	}
	return b[0], int(n), 1 + w, nil
}

// cutOrdered takes one entry off: its index's number followed by the tuple.
func cutOrdered(b []byte) (entry, rest []byte, err error) {
	index, length, start, err := orderedHeader(b)
	if err != nil {
		return nil, nil, err
	}
	entry = make([]byte, 0, 1+length)
	entry = append(entry, index)
	return append(entry, b[start:start+length]...), b[start+length:], nil
}

// DiffOrdered calls remove for each entry of old that t has not, and add for
// each of t's that old has not.
func (t *Terms) DiffOrdered(old *Terms, remove, add func(index int, tuple []byte) error) error {
	if bytes.Equal(t.ordered, old.ordered) {
		return nil
	}
	var was, is []byte
	var err error
	before, after := old.ordered, t.ordered
	next := func(entry *[]byte, rest *[]byte) error {
		*entry = nil
		if len(*rest) > 0 {
			*entry, *rest, err = cutOrdered(*rest)
		}
		return err
	}
	if err := next(&was, &before); err != nil {
		return err
	}
	if err := next(&is, &after); err != nil {
		return err
	}
	for was != nil || is != nil {
		var order int
		switch {
		case was == nil:
			order = 1
		case is == nil:
			order = -1
		default:
			order = bytes.Compare(was, is)
		}
		if order < 0 {
			if err := remove(int(was[0]), was[1:]); err != nil {
				return err
			}
		}
		if order > 0 {
			if err := add(int(is[0]), is[1:]); err != nil {
				return err
			}
		}
		if order <= 0 {
			if err := next(&was, &before); err != nil {
				return err
			}
		}
		if order >= 0 {
			if err := next(&is, &after); err != nil {
				return err
			}
		}
	}
	return nil
}

// Texts is the number of text indexes.
func (t *Terms) Texts() int { return len(t.texts) }

// Text is the normalised text for the i-th text index. It is known only of
// terms that were computed, not of those read back.
func (t *Terms) Text(i int) string { return t.texts[i].text }

// HasText says whether there is any for the i-th text index.
func (t *Terms) HasText(i int) bool { return i < len(t.texts) && t.texts[i].hash != 0 }

// SameText says whether the i-th text is as it was in old.
func (t *Terms) SameText(old *Terms, i int) bool {
	var a, b uint64
	if i < len(t.texts) {
		a = t.texts[i].hash
	}
	if i < len(old.texts) {
		b = old.texts[i].hash
	}
	return a == b
}

// AppendBinary appends what has to be stored.
func (t *Terms) AppendBinary(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.ordered)))
	dst = append(dst, t.ordered...)
	dst = append(dst, byte(len(t.texts)))
	for i := range t.texts {
		dst = binary.LittleEndian.AppendUint64(dst, t.texts[i].hash)
	}
	return dst
}

// CutTerms takes terms off the front of b. They share b's memory.
func CutTerms(b []byte) (t Terms, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return Terms{}, nil, fmt.Errorf("index entries: %w", ErrCorrupt)
	}
	b = b[w:]
	if n > 0 {
		t.ordered = b[:n:n]
	}
	b = b[n:]
	if len(b) < 1 || len(b) < 1+8*int(b[0]) {
		return Terms{}, nil, fmt.Errorf("text hashes: %w", ErrCorrupt)
	}
	count := int(b[0])
	b = b[1:]
	if count > 0 {
		t.texts = make([]termText, count)
		for i := range t.texts {
			t.texts[i].hash = binary.LittleEndian.Uint64(b[8*i:])
		}
	}
	return t, b[8*count:], nil
}

// SkipTerms is what is behind the terms at the front of b.
func SkipTerms(b []byte) (rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n >= uint64(len(b)-w) {
		return nil, fmt.Errorf("index entries: %w", ErrCorrupt)
	}
	b = b[uint64(w)+n:]
	hashes := 1 + 8*int(b[0])
	if len(b) < hashes {
		return nil, fmt.Errorf("text hashes: %w", ErrCorrupt)
	}
	return b[hashes:], nil
}
