package match

import (
	"context"
	"errors"
	"fmt"
	"slices"

	linkage "github.com/parleyhq/parley/pkg/identity/match"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// maxPerKey is how many customers may have a blocking key for it to be looked
// at here: with linkage.MaxKeys keys it bounds what one call reads. A key that
// more have tells little, and who is really the same has others in common; a
// search divides such blocks instead.
const maxPerKey = 250

// rival is a customer who may be the same one.
type rival struct {
	doc    *customerv1.MatchRecord
	record linkage.Record
	score  linkage.Score
	place  place
}

// ofCustomer finds the pairs of one customer by what is known of him now. Each
// key is read by itself; customers that change meanwhile are seen before or
// after it, and those merged meanwhile are left out.
func (l *listing) ofCustomer(ctx context.Context, id string) error {
	doc, own, err := l.read.Reader.Document(ctx, l.read.Tenant, id)
	if errors.Is(err, view.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	record := recordOf(doc)
	rivals, err := l.rivals(ctx, own, &record)
	if err != nil {
		return err
	}
	slices.SortFunc(rivals, func(x, y *rival) int { return x.place.compare(y.place) })
	if l.behind != nil {
		at, found := slices.BinarySearchFunc(rivals, *l.behind, func(r *rival, p place) int { return r.place.compare(p) })
		if found {
			at++
		}
		rivals = rivals[at:]
	}
	return l.take(ctx, doc, &record, rivals)
}

// rivals are those that share a key with the record and are probable enough.
func (l *listing) rivals(ctx context.Context, own string, record *linkage.Record) ([]*rival, error) {
	var found []*rival
	seen := map[string]bool{own: true}
	for _, key := range linkage.BlockingKeys(record) {
		if !l.model.Uses(key) {
			continue
		}
		page, err := l.read.Reader.Query(ctx, view.Query{
			Tenant: l.read.Tenant, Index: byKey, Prefixes: []view.Tuple{{keyValue(key)}}, Limit: maxPerKey + 1,
		})
		if err != nil {
			return nil, fmt.Errorf("read blocking key of %s: %w", key.Rule(), err)
		}
		if len(page.Entries) > maxPerKey {
			l.server.metrics.skipped.Inc()
			continue
		}
		for _, entry := range page.Entries {
			if seen[entry.Key.ID] {
				continue
			}
			seen[entry.Key.ID] = true
			r := &rival{doc: &customerv1.MatchRecord{}}
			if err := decodeRecord(entry.Data, r.doc); err != nil {
				return nil, err
			}
			r.record = recordOf(r.doc)
			if r.score = l.model.Score(record, &r.record); r.score.Probability < l.least {
				continue
			}
			r.place = placeOf(r.score.Weight, own, r.doc.GetCustomerId())
			found = append(found, r)
		}
	}
	return found, nil
}

// take fills the page with what was not told apart or merged meanwhile.
func (l *listing) take(ctx context.Context, doc *customerv1.MatchRecord, record *linkage.Record, rivals []*rival) error {
	for _, r := range rivals {
		if len(l.page) == l.size {
			return nil
		}
		told, err := l.told.pair(ctx, doc.GetCustomerId(), r.doc.GetCustomerId())
		if err != nil {
			return err
		}
		now, err := l.read.Reader.Resolve(ctx, l.read.Tenant, r.doc.GetCustomerId())
		if err != nil && !errors.Is(err, view.ErrNotFound) {
			return err
		}
		if told || now != r.doc.GetCustomerId() {
			continue
		}
		l.page = append(l.page, candidate(doc, r.doc, record, &r.record, &r.score))
		if at := r.place; len(l.page) == l.size && r != rivals[len(rivals)-1] {
			l.next = &at
		}
	}
	return nil
}

func decodeRecord(data []byte, doc *customerv1.MatchRecord) error {
	if err := wire.Unmarshal(data, doc); err != nil {
		return fmt.Errorf("match record: %w: %w", view.ErrCorrupt, err)
	}
	return nil
}
