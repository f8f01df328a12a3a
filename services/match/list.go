package match

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	linkage "github.com/parleyhq/parley/pkg/identity/match"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

const (
	candidatesPurpose = "match.candidates"
	defaultPage       = 50
	largestPage       = 500
	// defaultProbability is the least that pairs have unless asked otherwise.
	defaultProbability = 0.5
)

// ListMergeCandidates lists pairs who may be one person: those of one customer,
// as he is now, or the tenant's as of the last search. A customer of whom
// nothing can be compared has none; that there is a customer with the id at
// all, whoever serves the CustomerService knows.
//
// A page token says behind which pair the next page begins, by weight and ids,
// so that paging goes on rightly where pairs come or go meanwhile.
func (s *Server) ListMergeCandidates(ctx context.Context, req *customerv1.ListMergeCandidatesRequest) (*customerv1.ListMergeCandidatesResponse, error) {
	who, err := calling(ctx, tenant.Read)
	if err != nil {
		return nil, err
	}
	if req.GetCustomerId() != "" {
		if err := checkID("customer_id", req.GetCustomerId()); err != nil {
			return nil, err
		}
	}
	r, err := s.begin(ctx, who.Tenant, req.GetConsistencyToken())
	if err != nil {
		return nil, err
	}
	// Who else there is may be what the token is of.
	if err := r.AboutAll(ctx); err != nil {
		return nil, err
	}
	if req.GetCustomerId() != "" {
		if err := r.About(ctx, req.GetCustomerId()); err != nil {
			return nil, err
		}
	}
	model, err := r.usable(ctx)
	if err != nil {
		return nil, err
	}
	fingerprint, err := token.FingerprintOf(who.Tenant, req, "page_token", "page_size", "consistency_token")
	if err != nil {
		return nil, failed(err)
	}
	l := &listing{
		server: s, read: r, model: model.model, size: defaultPage, least: leastProbability(req.GetMinProbability()),
		told: newToldApart(r),
	}
	if n := int(req.GetPageSize()); n > 0 {
		l.size = min(n, largestPage)
	}
	if req.GetPageToken() != "" {
		cursor, err := token.ParsePage(candidatesPurpose, fingerprint, req.GetPageToken())
		if err != nil {
			return nil, invalidPageToken(err)
		}
		behind, err := parsePlace(cursor)
		if err != nil {
			return nil, invalidPageToken(err)
		}
		l.behind = &behind
	}
	answer := &customerv1.ListMergeCandidatesResponse{ModelEventId: model.eventID}
	if req.GetCustomerId() != "" {
		err = l.ofCustomer(ctx, req.GetCustomerId())
	} else {
		var list *pairList
		if list, err = s.listOf(ctx, who, model); err == nil {
			answer.SearchedTime = timestamppb.New(list.searched)
			err = l.ofTenant(ctx, list)
		}
	}
	if err != nil {
		return nil, failed(err)
	}
	answer.Candidates = l.page
	if l.next != nil {
		if answer.NextPageToken, err = token.Page(candidatesPurpose, fingerprint, l.next.append(nil)); err != nil {
			return nil, failed(err)
		}
	}
	return answer, nil
}

// leastProbability is what a request means by its own.
func leastProbability(p float64) float64 {
	if !(p > 0) {
		return defaultProbability
	}
	return p
}

// listing reads one page.
type listing struct {
	server *Server
	read   *read
	model  *linkage.Model
	size   int
	least  float64
	told   toldApart

	// behind is the pair behind which to go on; nil at the beginning.
	behind *place
	page   []*customerv1.MergeCandidate
	// next is the last pair of the page, where there may be more.
	next *place
}

// candidate is a pair as it is sent: the older of the two first.
func candidate(a, b *customerv1.MatchRecord, ra, rb *linkage.Record, score *linkage.Score) *customerv1.MergeCandidate {
	if sinceA, sinceB := sinceOf(a), sinceOf(b); sinceB < sinceA || sinceB == sinceA && b.GetCustomerId() < a.GetCustomerId() {
		a, b, ra, rb = b, a, rb, ra
	}
	c := &customerv1.MergeCandidate{
		CustomerId: a.GetCustomerId(), OtherCustomerId: b.GetCustomerId(), Probability: score.Probability, Weight: score.Weight,
	}
	for _, r := range score.Reasons {
		c.Reasons = append(c.Reasons, &customerv1.MatchReason{
			Field: r.Field.String(), Level: r.Level.String(), Weight: r.Weight,
			Value: shownValue(ra, r.Field), OtherValue: shownValue(rb, r.Field),
		})
	}
	return c
}
