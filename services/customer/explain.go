package customer

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Bounds of ExplainIdentityResponse.
const (
	maxExplainedLinks     = 5_000
	maxExplainedDecisions = 1_000
	// maxFacts is how many facts one call looks at, the newest first.
	maxFacts = 20_000
)

// ExplainIdentity says why profiles are one customer.
func (s *Server) ExplainIdentity(ctx context.Context, req *customerv1.ExplainIdentityRequest) (*customerv1.ExplainIdentityResponse, error) {
	if err := checkID("customer_id", req.GetCustomerId()); err != nil {
		return nil, err
	}
	r, err := s.about(ctx, req.GetConsistencyToken(), req.GetCustomerId())
	if err != nil {
		return nil, err
	}
	answer, doc, err := r.explain(ctx, req.GetCustomerId())
	if err != nil {
		return nil, failed(err)
	}
	if answer.Claims, err = r.claims(ctx, doc); err != nil {
		return nil, failed(err)
	}
	return answer, nil
}

// explain is all but the claims, with the customer's document.
func (r *read) explain(ctx context.Context, id string) (*customerv1.ExplainIdentityResponse, *customerv1.Customer, error) {
	who, err := r.Reader.Customer(ctx, r.Tenant, id)
	if err != nil {
		return nil, nil, err
	}
	found, err := r.Reader.Get(ctx, r.Tenant, who.ID)
	if err != nil {
		return nil, nil, err
	}
	doc, err := decodeVisible(found.Data)
	if err != nil {
		return nil, nil, err
	}
	all, truncated, err := r.factsOf(ctx, who.Profiles)
	if err != nil {
		return nil, nil, err
	}
	answer := &customerv1.ExplainIdentityResponse{CustomerId: who.ID, Truncated: truncated}
	own := profileSet(who.Profiles)
	shared := map[string]bool{}
	latest := map[[2]string]*customerv1.ExplainedLink{} // of each pair the last word
	for _, f := range all {
		switch k := f.GetKind().(type) {
		case *customerv1.IdentityFact_Link:
			pair := [2]string{k.Link.GetProfileId(), k.Link.GetOtherProfileId()}
			if pair[1] < pair[0] {
				pair[0], pair[1] = pair[1], pair[0]
			}
			latest[pair] = k.Link
		case *customerv1.IdentityFact_Decision:
			answer.Decisions = append(answer.Decisions, k.Decision)
			switch k.Decision.GetAction() {
			case customerv1.IdentityAction_IDENTITY_ACTION_SHARED:
				shared[k.Decision.GetProfileIds()[0]] = true
			case customerv1.IdentityAction_IDENTITY_ACTION_UNSHARED:
				delete(shared, k.Decision.GetProfileIds()[0])
			default:
			}
		}
	}
	answer.Profiles = explainProfiles(who.Profiles, doc, shared)
	if n := len(answer.GetDecisions()); n > maxExplainedDecisions {
		answer.Decisions, answer.Truncated = answer.GetDecisions()[n-maxExplainedDecisions:], true
	}
	for _, link := range latest {
		answer.Links = append(answer.Links, link)
	}
	slices.SortFunc(answer.GetLinks(), func(a, b *customerv1.ExplainedLink) int {
		return cmp.Or(
			instantOf(a.GetEvidenceTime()).compare(instantOf(b.GetEvidenceTime())),
			strings.Compare(a.GetEvidenceEventId(), b.GetEvidenceEventId()),
			strings.Compare(a.GetEventId(), b.GetEventId()))
	})
	if len(answer.GetLinks()) > maxExplainedLinks {
		answer.Links, answer.Truncated = answer.GetLinks()[:maxExplainedLinks], true
	}
	return answer, doc, r.nameOthers(ctx, own, answer.GetLinks())
}

// factsOf are the identity facts of some profiles, each once, as they stand in the log.
func (r *read) factsOf(ctx context.Context, profiles []string) (all []*customerv1.IdentityFact, truncated bool, err error) {
	seen := map[string]bool{}
	q := view.Query{Tenant: r.Tenant, Index: byPosition, Reverse: true, Limit: view.MaxLimit}
	for _, p := range profiles {
		q.Prefixes = append(q.Prefixes, view.Tuple{view.String(p)})
	}
	for {
		page, err := r.Reader.Rows(ctx, facts, q)
		if err != nil {
			return nil, false, err
		}
		for _, entry := range page.Entries {
			f := &customerv1.IdentityFact{}
			if err := wire.Unmarshal(entry.Data, f); err != nil {
				return nil, false, errors.Join(view.ErrCorrupt, err)
			}
			if id := factEventID(f); !seen[id] {
				seen[id] = true
				all = append(all, f)
			}
		}
		if page.Next == nil {
			break
		}
		if len(all) >= maxFacts {
			truncated = true
			break
		}
		q.Cursor = page.Next
	}
	slices.SortFunc(all, func(a, b *customerv1.IdentityFact) int { return cmp.Compare(a.GetPosition(), b.GetPosition()) })
	return all, truncated, nil
}

// explainProfiles says what is known of each profile's identifier.
func explainProfiles(profiles []string, doc *customerv1.Customer, shared map[string]bool) []*customerv1.ExplainedProfile {
	known := map[string]*customerv1.CustomerIdentifier{}
	for _, id := range doc.GetIdentifiers() {
		known[id.GetProfileId()] = id
	}
	out := make([]*customerv1.ExplainedProfile, 0, len(profiles))
	for _, p := range profiles {
		id := known[p]
		out = append(out, &customerv1.ExplainedProfile{
			ProfileId: p, Kind: id.GetKind(), Value: id.GetValue(), Strength: id.GetStrength(),
			Shared:        shared[p] || id.GetStrength() == eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_SHARED,
			FirstSeenTime: id.GetFirstSeenTime(), LastSeenTime: id.GetLastSeenTime(), EventCount: id.GetEventCount(),
		})
	}
	return out
}

// nameOthers says which links hold, and whose the profiles are that are not his.
// Dead letters of those others do not matter: a name that is not the newest
// leads to the same customer.
func (r *read) nameOthers(ctx context.Context, own func(string) bool, links []*customerv1.ExplainedLink) error {
	var others []string
	at := map[string][]*customerv1.ExplainedLink{}
	for _, l := range links {
		a, b := own(l.GetProfileId()), own(l.GetOtherProfileId())
		if l.InForce = a && b; l.InForce {
			continue
		}
		other := l.GetOtherProfileId()
		if b {
			other = l.GetProfileId()
		}
		if at[other] == nil {
			others = append(others, other)
		}
		at[other] = append(at[other], l)
	}
	found, err := r.Reader.GetMany(ctx, r.Tenant, others)
	if err != nil {
		return err
	}
	for i, f := range found {
		name := f.CustomerID
		if name == "" {
			name = others[i] // a profile that no event is stamped with is a customer by itself
		}
		for _, l := range at[others[i]] {
			l.OtherCustomerId = name
		}
	}
	return nil
}

// claims are the unverified profiles of a customer's own identifiers.
func (r *read) claims(ctx context.Context, doc *customerv1.Customer) ([]*customerv1.CustomerClaim, error) {
	if err := r.useRules(ctx); err != nil {
		return nil, err
	}
	var ids []string
	own := profileSet(doc.GetProfileIds())
	for _, id := range doc.GetIdentifiers() {
		if id.GetAssurance() == eventv1.IdentifierAssurance_IDENTIFIER_ASSURANCE_FAILED || isForeign(own, id) {
			continue
		}
		claim, err := r.server.deps.Resolver.LookupClaim(r.Tenant, id.GetKind(), id.GetValue())
		if err != nil {
			continue // by the rules of today it identifies nobody
		}
		ids = append(ids, claim.ProfileID)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	// What was only claimed is told as well, and is somebody else's.
	if err := r.About(ctx, ids...); err != nil {
		return nil, err
	}
	found, err := r.Reader.GetMany(ctx, r.Tenant, ids)
	if err != nil {
		return nil, err
	}
	var out []*customerv1.CustomerClaim
	for _, f := range found {
		if f.Data == nil {
			continue
		}
		claim, err := decodeVisible(f.Data)
		if err != nil {
			return nil, err
		}
		c := &customerv1.CustomerClaim{CustomerId: f.CustomerID, InteractionCount: claim.GetInteractionCount(), LastSeenTime: claim.GetLastSeenTime()}
		if len(claim.GetIdentifiers()) > 0 {
			c.Kind, c.Value = claim.GetIdentifiers()[0].GetKind(), claim.GetIdentifiers()[0].GetValue()
		}
		out = append(out, c)
	}
	return out, nil
}

// newestRules are the tenant's rules; nil for the defaults.
func (r *read) newestRules(ctx context.Context) (*customerv1.GetIdentityRulesResponse, error) {
	page, err := r.Reader.Rows(ctx, facts, view.Query{
		Tenant: r.Tenant, Index: byPosition, Reverse: true, Limit: 1, Prefixes: []view.Tuple{{view.String(profileRules)}},
	})
	if err != nil || len(page.Entries) == 0 {
		return nil, err
	}
	f := &customerv1.IdentityFact{}
	if err := wire.Unmarshal(page.Entries[0].Data, f); err != nil {
		return nil, errors.Join(view.ErrCorrupt, err)
	}
	return f.GetRules(), nil
}
