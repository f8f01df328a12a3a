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

// block is what was found in one.
type block struct {
	number     int32
	candidates int
	numbers    []int32
	ids        []string
}

// run looks at documents from a number on. It returns the number to go on
// from, and whether there may be more.
func (x *searcher) run(ctx context.Context, from int32) (next int32, more bool, err error) {
	last, err := x.last(ctx)
	if err != nil || last < 0 {
		return 0, false, err
	}
	for at := from >> blockBits; at <= last; {
		to := min(at+x.together(), last+1)
		found, err := x.look(ctx, at, to, from)
		if err != nil {
			return 0, false, err
		}
		for _, b := range found {
			x.candidates += b.candidates
			for i, number := range b.numbers {
				if len(x.found) == x.limit {
					return number, true, nil
				}
				x.found = append(x.found, b.ids[i])
			}
		}
		x.blocks += int(to - at)
		if at = to; at <= last && (len(x.found) == x.limit || x.candidates >= maxCandidates || x.blocks >= maxBlocks) {
			return at << blockBits, true, nil
		}
	}
	return 0, false, nil
}

// last is the tenant's last block; -1 for none.
func (x *searcher) last(ctx context.Context) (last int32, err error) {
	sql := "SELECT coalesce((SELECT max(number) FROM " + x.index.table.qualified + " WHERE tenant = $1::text), -1)"
	err = x.r.query(ctx, sql, []any{x.tenant}, func(rows pgx.Rows) error { return rows.Scan(&last) })
	return last >> blockBits, err
}

// together is how many blocks to look into at once: one at first, and more
// where those before had few candidates.
func (x *searcher) together() int32 {
	if x.blocks == 0 {
		return 1
	}
	each := x.candidates/x.blocks + 1
	left := max(maxCandidates-x.candidates, 1)
	return int32(max(1, min(left/each, 8*x.blocks, maxTogether, maxBlocks-x.blocks)))
}

// look finds the documents in blocks that have all words.
func (x *searcher) look(ctx context.Context, at, to, from int32) ([]block, error) {
	var b statement
	perBlock := len(wordGrams(0, x.words))
	grams := make([]int32, 0, perBlock*int(to-at))
	for n := at; n < to; n++ {
		grams = append(grams, wordGrams(salt(x.tenant, n), x.words)...)
	}
	first := max(from, at<<blockBits)
	b.text("SELECT b.n, c.candidates, c.numbers, c.ids FROM generate_series(").param(at, "int").text(", ").param(to-1, "int").
		text(") AS b(n) CROSS JOIN LATERAL (SELECT count(*) AS candidates, (array_agg(d.number ORDER BY d.number) FILTER (WHERE d.has))[1:", strconv.Itoa(x.limit+1),
			"] AS numbers, (array_agg(d.id ORDER BY d.number) FILTER (WHERE d.has))[1:", strconv.Itoa(x.limit+1),
			"] AS ids FROM (SELECT t.number, t.id, (SELECT bool_and(strpos(t.text, w.word) > 0) FROM unnest(").param(x.words, "text[]").
		text(") AS w(word)) AS has FROM ", x.index.table.qualified, " t WHERE ")
	if perBlock > 0 {
		// A hash may be another block's and tenant's gram as well. This is said
		// in a way that leaves the server no other index to use.
		b.text("t.tenant || '' = ").param(x.tenant, "text").text(" AND t.number >> 12 = b.n AND t.number + 0 >= ").param(first, "int").
			text(" AND t.grams @> (").param(grams, "int[]").text(")[(b.n - ").param(at, "int").text(") * ", strconv.Itoa(perBlock), " + 1:(b.n - ").
			param(at, "int").text(" + 1) * ", strconv.Itoa(perBlock), "]")
	} else {
		b.text("t.tenant = ").param(x.tenant, "text").text(" AND t.number >= greatest(").param(first, "int").
			text(", b.n << 12) AND t.number < (b.n + 1) << 12")
	}
	b.text(") d) c WHERE c.candidates > 0 ORDER BY b.n")
	var found []block
	err := x.r.query(ctx, b.sql(), b.values, func(rows pgx.Rows) error {
		var f block
		var candidates int64
		if err := rows.Scan(&f.number, &candidates, &f.numbers, &f.ids); err != nil {
			return err
		}
		f.candidates = int(candidates)
		found = append(found, f)
		return nil
	})
	return found, err
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
