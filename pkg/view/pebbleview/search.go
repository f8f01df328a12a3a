package pebbleview

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleyhq/parley/pkg/view"
)

// Bounds on the work of one call, some ten milliseconds each.
const (
	maxCandidates = 10_000
	maxPostings   = 20_000
	// maxGrams of a query are intersected; more narrow down no further.
	maxGrams = 10
)

// Search is view.Reader's.
func (r *reader) Search(ctx context.Context, collection string, s view.Search) (view.Page, error) {
	if err := r.enter(ctx); err != nil {
		return view.Page{}, fmt.Errorf("search %s by %s: %w", collection, s.Index, err)
	}
	defer r.store.guard.Leave()
	page, err := r.search(collection, &s)
	if err != nil {
		return view.Page{}, fmt.Errorf("search %s by %s: %w", collection, s.Index, err)
	}
	return page, nil
}

func (r *reader) search(name string, s *view.Search) (page view.Page, err error) {
	c, err := r.collection(name)
	if err != nil {
		return view.Page{}, err
	}
	index, err := c.index(s.Index, view.Text)
	if err != nil {
		return view.Page{}, err
	}
	if err := s.Validate(); err != nil {
		return view.Page{}, err
	}
	words := view.SearchWords(s.Text)
	if len(words) == 0 {
		return view.Page{}, fmt.Errorf("fewer than %d characters: %w", view.MinSearchRunes, view.ErrInvalid)
	}
	fingerprint := r.searchFingerprint(s)
	place, err := parseCursor(s.Cursor, fingerprint)
	if err != nil {
		return view.Page{}, err
	}
	var from uint32
	if place != nil {
		if len(place) != 4 {
			return view.Page{}, view.ErrInvalidCursor
		}
		from = binary.BigEndian.Uint32(place)
	}
	source, release := r.pinned()
	defer func() { err = errors.Join(err, release()) }()
	x := searcher{
		source: source, words: words, limit: s.Limit, generation: r.shared.number,
		at: numberKey{collection: c.id, index: uint8(index), tenant: s.Tenant},
	}
	next, more, err := x.run(from)
	if err != nil {
		return view.Page{}, err
	}
	for _, id := range x.found {
		key := view.Key{Tenant: s.Tenant, ID: id}
		row, err := getRow(source, appendDocumentKey(nil, r.shared.number, c.id, key))
		if err != nil {
			return view.Page{}, fmt.Errorf("document %s of a text: %w: %w", id, view.ErrCorrupt, err)
		}
		page.Entries = append(page.Entries, view.Entry{Key: key, Data: row.Data, Meta: row.Meta})
	}
	if more {
		page.Next = formatCursor(fingerprint, binary.BigEndian.AppendUint32(nil, next))
	}
	return page, nil
}

// searcher runs one search on one state.
type searcher struct {
	source     pebble.Reader
	generation uint32
	at         numberKey
	words      []string
	limit      int

	texts      *pebble.Iterator
	textBase   []byte
	found      []string
	candidates int
	postings   int
}

// run looks at documents from a number on, in order of number. It returns the
// number to go on from, and whether there may be more.
func (x *searcher) run(from uint32) (next uint32, more bool, err error) {
	x.textBase = appendTextArea(nil, x.generation, x.at.collection, x.at.index, textTexts, x.at.tenant)
	x.texts, err = x.source.NewIter(&pebble.IterOptions{LowerBound: x.textBase, UpperBound: successor(x.textBase)})
	if err != nil {
		return 0, false, fmt.Errorf("iterate texts: %w", err)
	}
	defer func() { err = errors.Join(err, x.texts.Close()) }()
	var grams gramSet
	grams.reset()
	for _, word := range x.words {
		grams.addWord(word)
	}
	if len(grams.list) == 0 {
		return x.scan(from)
	}
	lists, err := x.open(spread(grams.list, maxGrams))
	defer func() {
		for i := range lists {
			err = errors.Join(err, lists[i].it.Close())
		}
	}()
	if err != nil {
		return 0, false, err
	}
	return x.intersect(lists, from)
}

// spread chooses at most n of the grams, from all over the query.
func spread(grams []uint16, n int) []uint16 {
	if len(grams) <= n {
		return grams
	}
	chosen := make([]uint16, 0, n)
	for i := range n {
		chosen = append(chosen, grams[i*(len(grams)-1)/(n-1)])
	}
	return chosen
}

// scan goes through the texts one by one: for words of single characters.
func (x *searcher) scan(from uint32) (uint32, bool, error) {
	for ok := x.texts.SeekGE(binary.BigEndian.AppendUint32(slices.Clone(x.textBase), from)); ok; ok = x.texts.Next() {
		number, err := x.number()
		if err != nil {
			return 0, false, err
		}
		if x.spent() {
			return number, true, nil
		}
		if err := x.verify(); err != nil {
			return 0, false, err
		}
	}
	return 0, false, x.texts.Error()
}

// spent says that the page is full or the work enough.
func (x *searcher) spent() bool {
	return len(x.found) >= x.limit || x.candidates >= maxCandidates || x.postings >= maxPostings
}

// number is that of the text at hand.
func (x *searcher) number() (uint32, error) {
	k := x.texts.Key()
	if len(k) != len(x.textBase)+4 {
		return 0, fmt.Errorf("text key: %w", view.ErrCorrupt)
	}
	return binary.BigEndian.Uint32(k[len(x.textBase):]), nil
}

// verify takes the document of the text at hand if it has all words.
func (x *searcher) verify() error {
	x.candidates++
	id, text, err := parseText(x.texts.Value())
	if err != nil {
		return err
	}
	for _, word := range x.words {
		if !bytes.Contains(text, []byte(word)) {
			return nil
		}
	}
	x.found = append(x.found, string(id))
	return nil
}

// postingList is the postings of one gram, block after block.
type postingList struct {
	it    *pebble.Iterator
	base  []byte
	block uint32
	valid bool
}

func (x *searcher) open(grams []uint16) ([]*postingList, error) {
	lists := make([]*postingList, 0, len(grams))
	for _, gram := range grams {
		base := appendPostingKey(nil, x.generation, x.at, gram, 0)
		base = base[:len(base)-4]
		it, err := x.source.NewIter(&pebble.IterOptions{LowerBound: base, UpperBound: successor(base)})
		if err != nil {
			return lists, fmt.Errorf("iterate postings: %w", err)
		}
		lists = append(lists, &postingList{it: it, base: base})
	}
	return lists, nil
}

// seek goes to the first block not before the one given.
func (l *postingList) seek(block uint32) error {
	switch {
	case l.valid && l.block >= block:
		return nil
	case l.valid && l.block+1 == block:
		l.valid = l.it.Next()
	default:
		l.valid = l.it.SeekGE(binary.BigEndian.AppendUint32(slices.Clone(l.base), block))
	}
	if !l.valid {
		return l.it.Error()
	}
	k := l.it.Key()
	if len(k) != len(l.base)+4 {
		return fmt.Errorf("posting key: %w", view.ErrCorrupt)
	}
	l.block = binary.BigEndian.Uint32(k[len(l.base):])
	return nil
}

// intersect goes through the blocks that all lists have.
func (x *searcher) intersect(lists []*postingList, from uint32) (uint32, bool, error) {
	for block := from >> blockBits; ; {
		agreed := true
		for _, l := range lists {
			if err := l.seek(block); err != nil {
				return 0, false, fmt.Errorf("postings: %w", err)
			}
			x.postings++
			if !l.valid {
				return 0, false, nil
			}
			if l.block > block {
				block, agreed = l.block, false
				break
			}
		}
		if !agreed {
			if x.spent() {
				return block << blockBits, true, nil
			}
			continue
		}
		common, err := intersection(lists)
		if err != nil {
			return 0, false, err
		}
		if next, more, err := x.check(&common, block, from); more || err != nil {
			return next, more, err
		}
		if block++; block == 1<<(32-blockBits) {
			return 0, false, nil
		}
		if x.spent() {
			return block << blockBits, true, nil
		}
	}
}

// intersection of the postings at hand.
func intersection(lists []*postingList) (numberSet, error) {
	var p posting
	if err := p.parse(lists[0].it.Value()); err != nil {
		return numberSet{}, err
	}
	common := p.in
	for _, l := range lists[1:] {
		if err := p.parse(l.it.Value()); err != nil {
			return numberSet{}, err
		}
		if !common.intersect(&p.in) {
			break
		}
	}
	return common, nil
}

// check verifies the candidates of a block.
func (x *searcher) check(common *numberSet, block, from uint32) (next uint32, more bool, err error) {
	for i, w := range common {
		for ; w != 0; w &= w - 1 {
			number := block<<blockBits | uint32(i)<<6 | uint32(bits.TrailingZeros64(w))
			if number < from {
				continue
			}
			if x.spent() {
				return number, true, nil
			}
			if !x.texts.SeekGE(binary.BigEndian.AppendUint32(slices.Clone(x.textBase), number)) {
				if err := x.texts.Error(); err != nil {
					return 0, false, fmt.Errorf("texts: %w", err)
				}
				return 0, false, fmt.Errorf("no text for a posting: %w", view.ErrCorrupt)
			}
			got, err := x.number()
			if err != nil {
				return 0, false, err
			}
			if got != number {
				return 0, false, fmt.Errorf("no text for a posting: %w", view.ErrCorrupt)
			}
			if err := x.verify(); err != nil {
				return 0, false, err
			}
		}
	}
	return 0, false, nil
}
