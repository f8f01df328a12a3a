package pgview

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// Bounds on the work of one call.
const (
	// maxCandidates are verified on their texts, and a block's more.
	maxCandidates = 10_000
	// maxBlocks are looked into.
	maxBlocks = 512
	// maxTogether are looked into by one statement.
	maxTogether = 64
	// firstTexts are looked at one by one before the index is asked: what is
	// common is found among them, and would be many candidates there.
	firstTexts = 512
)

// Search is view.Reader's. It goes through the tenant's texts in the order in
// which they were numbered.
func (r *reader) Search(ctx context.Context, collection string, s view.Search) (view.Page, error) {
	page, err := r.search(ctx, collection, &s)
	if err != nil {
		return view.Page{}, fmt.Errorf("search %s by %s: %w", collection, s.Index, classify(ctx, err))
	}
	return page, nil
}

func (r *reader) search(ctx context.Context, name string, s *view.Search) (page view.Page, err error) {
	if err := r.enter(ctx); err != nil {
		return view.Page{}, err
	}
	defer r.store.guard.Leave()
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
	from, err := searchPlace(s.Cursor, fingerprint)
	if err != nil {
		return view.Page{}, err
	}
	if (view.Key{Tenant: s.Tenant, ID: "x"}).Validate() != nil {
		return view.Page{}, nil // nobody is called so
	}
	one, release, err := r.pinned(ctx)
	if err != nil {
		return view.Page{}, err
	}
	defer release()
	x := searcher{r: one, index: c.texts[index], tenant: s.Tenant, words: words, limit: s.Limit}
	next, more, err := x.run(ctx, from)
	if err != nil {
		return view.Page{}, err
	}
	if page.Entries, err = one.found(ctx, c, s.Tenant, x.found); err != nil {
		return view.Page{}, err
	}
	if more {
		page.Next = formatCursor(fingerprint, binary.BigEndian.AppendUint32(nil, uint32(next)))
	}
	return page, nil
}

// searchFingerprint tells searches apart, and generations: numbers of documents are a generation's own.
func (r *reader) searchFingerprint(s *view.Search) uint64 {
	h := fnv.New64a()
	// Writes to a hash never fail.
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(r.shared.number)))
	for _, part := range []string{s.Tenant, s.Index, s.Text} {
		_, _ = h.Write(view.AppendString(nil, part))
	}
	return h.Sum64()
}

// searchPlace is the number to go on from.
func searchPlace(cursor []byte, fingerprint uint64) (int32, error) {
	place, err := cutCursor(cursor, fingerprint)
	if err != nil || place == nil {
		return 0, err
	}
	if len(place) != 4 || binary.BigEndian.Uint32(place) > math.MaxInt32 {
		return 0, view.ErrInvalidCursor
	}
	return int32(binary.BigEndian.Uint32(place)), nil
}

// searcher runs one search on one state.
type searcher struct {
	r      *reader
	index  *textIndex
	tenant string
	words  []string
	limit  int

	found      []string // ids
	candidates int
	blocks     int
}

// run looks at documents from a number on. It returns the number to go on
// from, and whether there may be more.
func (x *searcher) run(ctx context.Context, from int32) (next int32, more bool, err error) {
	last, err := x.last(ctx)
	if err != nil {
		return 0, false, err
	}
	indexed := len(wordGrams(0, x.words)) > 0
	for step := int32(firstTexts); from <= last; step = min(8*step, blockSize) {
		to := min(from+step, last+1)
		found, err := x.direct(ctx, from, to)
		if err != nil {
			return 0, false, err
		}
		if next, full := x.take(found); full {
			return next, true, nil
		}
		x.candidates += int(to - from)
		from = to
		if indexed {
			return x.byIndex(ctx, from, last)
		}
		if x.spent() && from <= last {
			return from, true, nil
		}
	}
	return 0, false, nil
}

// byIndex goes on block by block.
func (x *searcher) byIndex(ctx context.Context, from, last int32) (next int32, more bool, err error) {
	for at := from >> blockBits; from <= last; {
		if x.spent() {
			return from, true, nil
		}
		to := min(at+x.together(), last>>blockBits+1)
		blocks, err := x.look(ctx, at, to, from)
		if err != nil {
			return 0, false, err
		}
		for _, b := range blocks {
			x.candidates += b.candidates
			if next, full := x.take(b.found); full {
				return next, true, nil
			}
		}
		x.blocks += int(to - at)
		at, from = to, to<<blockBits
	}
	return 0, false, nil
}

// spent says that the page is full or the work enough.
func (x *searcher) spent() bool {
	return len(x.found) == x.limit || x.candidates >= maxCandidates || x.blocks >= maxBlocks
}

// match is a text that has all words.
type match struct {
	number int32
	id     string
}

// take adds what was found; where that is more than is asked for it gives the
// number to go on from.
func (x *searcher) take(found []match) (next int32, full bool) {
	for _, m := range found {
		if len(x.found) == x.limit {
			return m.number, true
		}
		x.found = append(x.found, m.id)
	}
	return 0, false
}

// last is the tenant's last number; -1 for none.
func (x *searcher) last(ctx context.Context) (last int32, err error) {
	sql := "SELECT coalesce((SELECT max(number) FROM " + x.index.table.qualified + " WHERE tenant = $1::text), -1)"
	err = x.r.query(ctx, sql, []any{x.tenant}, func(rows pgx.Rows) error { return rows.Scan(&last) })
	return last, err
}

// has is the condition that a text has all words.
func (x *searcher) has(b *statement) {
	const few = 8
	if len(x.words) > few {
		b.text("(SELECT bool_and(strpos(t.text, w.word) > 0) FROM unnest(").param(x.words, "text[]").text(") AS w(word))")
		return
	}
	for i, word := range x.words {
		if i > 0 {
			b.text(" AND ")
		}
		b.text("strpos(t.text, ").param(word, "text").text(") > 0")
	}
}

// direct looks at texts one by one.
func (x *searcher) direct(ctx context.Context, from, to int32) (found []match, err error) {
	var b statement
	b.text("SELECT t.number, t.id FROM ", x.index.table.qualified, " t WHERE t.tenant = ").param(x.tenant, "text").
		text(" AND t.number >= ").param(from, "int").text(" AND t.number < ").param(to, "int").text(" AND ")
	x.has(&b)
	b.text(" ORDER BY t.number LIMIT ").param(int64(x.limit-len(x.found)+1), "bigint")
	err = x.r.query(ctx, b.sql(), b.values, func(rows pgx.Rows) error {
		var m match
		err := rows.Scan(&m.number, &m.id)
		found = append(found, m)
		return err
	})
	return found, err
}

// together is how many blocks to look into at once: one at first, and more
// where those before had few candidates.
func (x *searcher) together() int32 {
	if x.blocks == 0 {
		return 1
	}
	each := x.candidates/x.blocks + 1
	return int32(max(1, min((maxCandidates-x.candidates)/each, 8*x.blocks, maxTogether, maxBlocks-x.blocks)))
}

// block is what was found in one.
type block struct {
	candidates int
	found      []match
}

// look finds the texts in blocks that have all words, from a number on.
func (x *searcher) look(ctx context.Context, at, to, from int32) ([]block, error) {
	each := len(wordGrams(0, x.words))
	grams := make([]int32, 0, each*int(to-at))
	for n := at; n < to; n++ {
		grams = append(grams, wordGrams(salt(x.tenant, n), x.words)...)
	}
	var b statement
	first := "[1:" + strconv.Itoa(x.limit+1) + "]"
	b.text("SELECT c.candidates, c.numbers, c.ids FROM generate_series(").param(at, "int").text(", ").param(to-1, "int").
		text(") AS b(n) CROSS JOIN LATERAL (SELECT count(*) AS candidates, (array_agg(d.number ORDER BY d.number) FILTER (WHERE d.has))", first,
			" AS numbers, (array_agg(d.id ORDER BY d.number) FILTER (WHERE d.has))", first, " AS ids FROM (SELECT t.number, t.id, ")
	x.has(&b)
	// A hash may be another block's and tenant's gram as well. That is said in a
	// way that leaves the server no other index to use.
	b.text(" AS has FROM ", x.index.table.qualified, " t WHERE t.tenant || '' = ").param(x.tenant, "text").
		text(" AND t.number >> 12 = b.n AND t.number + 0 >= ").param(from, "int").
		text(" AND t.grams @> (").param(grams, "int[]").text(")[(b.n - ").param(at, "int").text(") * ", strconv.Itoa(each), " + 1:(b.n - ").
		param(at, "int").text(" + 1) * ", strconv.Itoa(each), "]) d) c WHERE c.candidates > 0 ORDER BY b.n")
	var blocks []block
	err := x.r.query(ctx, b.sql(), b.values, func(rows pgx.Rows) error {
		var numbers []int32
		var ids []string
		var candidates int64
		if err := rows.Scan(&candidates, &numbers, &ids); err != nil {
			return err
		}
		f := block{candidates: int(candidates), found: make([]match, len(numbers))}
		for i := range numbers {
			f.found[i] = match{numbers[i], ids[i]}
		}
		blocks = append(blocks, f)
		return nil
	})
	return blocks, err
}

// found fetches documents by id, in the order of ids.
func (r *reader) found(ctx context.Context, c *collection, tenant string, ids []string) ([]view.Entry, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	entries := make([]view.Entry, len(ids))
	sql := "SELECT u.i, d.document, d.meta FROM unnest($2::text[]) WITH ORDINALITY AS u(id, i) JOIN " + c.table.qualified + " d ON d.tenant = $1::text AND d.id = u.id"
	err := r.query(ctx, sql, []any{tenant, ids}, func(rows pgx.Rows) error {
		var i int64
		if err := rows.Scan(&i, nil, nil); err != nil {
			return err
		}
		e := view.Entry{Key: view.Key{Tenant: tenant, ID: ids[i-1]}}
		var err error
		if e.Data, err = c.document(rows, 1); err == nil {
			e.Meta, err = columnBytes(rows, 2)
		}
		entries[i-1] = e
		return err
	})
	for i := range entries {
		if err == nil && entries[i].Data == nil {
			err = fmt.Errorf("document %s of a text: %w", ids[i], view.ErrCorrupt)
		}
	}
	return entries, err
}
