package pgview

import (
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/parleyhq/parley/pkg/view"
)

// maxNumber is the largest number of a text, with room to count blocks.
const maxNumber = math.MaxInt32 - 2*blockSize

// eachText calls do for each text index that has texts to put.
func (w *writes) eachText(do func(cw *collectionWrites, index int, texts *textWrites) error) error {
	for _, cw := range w.collections {
		for i := range cw.texts {
			if len(cw.texts[i].put) > 0 {
				if err := do(cw, i, &cw.texts[i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// allocated says that all numbers are known that texts are put with.
func (t *transaction) allocated() bool {
	all := true
	_ = t.w.eachText(func(cw *collectionWrites, index int, texts *textWrites) error {
		for _, x := range texts.put {
			_, known := t.g.shared.writer.numbers[numberKey{cw.c.number, index, x.key.Tenant}]
			all = all && known && !x.stored
		}
		return nil
	})
	return all
}

// queueNumbers looks up the numbers of texts that are stored, and the next
// ones of tenants.
func (t *transaction) queueNumbers(batch *pgx.Batch) {
	_ = t.w.eachText(func(cw *collectionWrites, index int, texts *textWrites) error {
		x := cw.c.texts[index]
		var tenants, ids, unknown []string
		var stored []*textWrite
		seen := map[string]bool{}
		for i := range texts.put {
			put := &texts.put[i]
			if put.stored {
				put.stored = false
				stored, tenants, ids = append(stored, put), append(tenants, put.key.Tenant), append(ids, put.key.ID)
			}
			_, known := t.g.shared.writer.numbers[numberKey{cw.c.number, index, put.key.Tenant}]
			if !known && !seen[put.key.Tenant] {
				seen[put.key.Tenant] = true
				unknown = append(unknown, put.key.Tenant)
			}
		}
		if len(stored) > 0 {
			batch.Queue(x.numbers, tenants, ids).Query(func(rows pgx.Rows) error {
				return each(rows, nil, func(rows pgx.Rows) error {
					var i int64
					var number int32
					err := rows.Scan(&i, &number)
					if err == nil {
						stored[i-1].number, stored[i-1].stored = number, true
					}
					return err
				})
			})
		}
		if len(unknown) > 0 {
			batch.Queue(x.next, unknown).Query(func(rows pgx.Rows) error {
				return each(rows, nil, func(rows pgx.Rows) error {
					var tenant string
					var next int32
					err := rows.Scan(&tenant, &next)
					t.numbers[numberKey{cw.c.number, index, tenant}] = next
					return err
				})
			})
		}
		return nil
	})
}

// allocate gives numbers to texts that have none.
func (t *transaction) allocate() error {
	return t.w.eachText(func(cw *collectionWrites, index int, texts *textWrites) error {
		for i := range texts.put {
			put := &texts.put[i]
			if put.stored {
				continue
			}
			k := numberKey{cw.c.number, index, put.key.Tenant}
			next, known := t.numbers[k]
			if !known {
				next = t.g.shared.writer.numbers[k]
			}
			if next > maxNumber {
				return fmt.Errorf("numbers of texts are used up, rebuild the projection: %w", view.ErrFull)
			}
			put.number = next
			t.numbers[k] = next + 1
		}
		return nil
	})
}

// grams appends the text's.
func (x *textWrite) grams(dst []int32) []int32 {
	return textGrams(dst, salt(x.key.Tenant, x.number>>blockBits), x.text)
}

// Texts go into a list first, which the server sorts into the index when it is
// full, and which every search goes through: much of it makes filling cheap,
// little of it makes searches fast.
const fewPending = "64kB"

// settle has the list that was filled in bulk sorted in.
func (t *transaction) settle(batch *pgx.Batch) {
	if !t.g.shared.writer.filling {
		return
	}
	for _, c := range t.g.layout.collections {
		for _, x := range c.texts {
			if x != nil {
				batch.Queue(`SELECT gin_clean_pending_list($1::text::regclass)`, quote(t.g.layout.schema)+"."+x.gin)
			}
		}
	}
	t.settled = true
}
