package match

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

const (
	// maxPairs is how many pairs of a tenant are kept, the best ones; with
	// their ids they take about 30 MiB.
	maxPairs = 200_000
	// maxLooked is how many pairs one call looks at; a page may then be short
	// and still have a next one.
	maxLooked = 2_000
	// retrySearch is how long to wait for a search that runs.
	retrySearch = 2 * time.Second
)

// pair is two customers as a search found them.
type pair struct {
	place
	probability float64
}

// pairList is what a search found. It stays as it is.
type pairList struct {
	// model is the event that brought the model.
	model    string
	searched time.Time
	// pairs are the best ones, in order.
	pairs []pair

	ids  sync.Once
	byID map[[2]string]bool
}

// has says whether two customers are a pair of the list.
func (l *pairList) has(a, b string) bool {
	l.ids.Do(func() {
		l.byID = make(map[[2]string]bool, len(l.pairs))
		for i := range l.pairs {
			l.byID[[2]string{l.pairs[i].a, l.pairs[i].b}] = true
		}
	})
	return l.byID[[2]string{min(a, b), max(a, b)}]
}

// listOf is the tenant's list by this model. Where there is none it has it
// searched for and says when to come again.
func (s *Server) listOf(ctx context.Context, who tenant.Identity, model *fitted) (*pairList, error) {
	s.mu.Lock()
	list := s.lists[who.Tenant]
	s.mu.Unlock()
	if list != nil && list.model == model.eventID {
		return list, nil
	}
	if err := s.searchUnasked(ctx, who); err != nil {
		return nil, err
	}
	return nil, rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BEHIND,
		"the tenant's pairs are being searched for", rpcerr.WithRetryAfter(retrySearch))
}

// ofTenant reads a page of the tenant's list. Who the two are, what they are
// compared by and how probable it is are of now; which pairs there are and
// their order from page to page are of the search.
func (l *listing) ofTenant(ctx context.Context, list *pairList) error {
	at := 0
	if l.behind != nil {
		var found bool
		if at, found = slices.BinarySearchFunc(list.pairs, *l.behind, func(p pair, behind place) int { return p.compare(behind) }); found {
			at++
		}
	}
	seen := map[[2]string]bool{}
	for looked := 0; at < len(list.pairs) && list.pairs[at].probability >= l.least; at++ {
		if len(l.page) == l.size || looked == maxLooked {
			l.next = &list.pairs[at-1].place
			break
		}
		looked++
		c, err := l.current(ctx, list, &list.pairs[at], seen)
		if err != nil {
			return err
		}
		if c != nil {
			l.page = append(l.page, c)
		}
	}
	slices.SortStableFunc(l.page, func(x, y *customerv1.MergeCandidate) int { return cmp.Compare(y.GetWeight(), x.GetWeight()) })
	return nil
}

// current is a pair of the list as it is now; nil where it is none any more:
// one customer, told apart, no longer probable enough, or listed elsewhere.
func (l *listing) current(ctx context.Context, list *pairList, p *pair, seen map[[2]string]bool) (*customerv1.MergeCandidate, error) {
	a, idA, err := l.read.Reader.Document(ctx, l.read.Tenant, p.a)
	if err == nil {
		var b *customerv1.MatchRecord
		var idB string
		if b, idB, err = l.read.Reader.Document(ctx, l.read.Tenant, p.b); err == nil {
			return l.judge(ctx, list, p, a, idA, b, idB, seen)
		}
	}
	if errors.Is(err, view.ErrNotFound) {
		return nil, nil
	}
	return nil, err
}

func (l *listing) judge(ctx context.Context, list *pairList, p *pair, a *customerv1.MatchRecord, idA string, b *customerv1.MatchRecord, idB string, seen map[[2]string]bool) (*customerv1.MergeCandidate, error) {
	ids := [2]string{min(idA, idB), max(idA, idB)}
	absorbed := idA != p.a || idB != p.b
	if idA == idB || seen[ids] || absorbed && list.has(idA, idB) {
		return nil, nil
	}
	seen[ids] = true
	if told, err := l.told.pair(ctx, idA, idB); told || err != nil {
		return nil, err
	}
	ra, rb := recordOf(a), recordOf(b)
	score := l.model.Score(&ra, &rb)
	if score.Probability < l.least {
		return nil, nil
	}
	return candidate(a, b, &ra, &rb, &score), nil
}
