package customer

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// maxMatches is how many of the customers who share an identifier are told.
const maxMatches = 100

// LookupCustomer answers who has an identifier, the strongest match first.
func (s *Server) LookupCustomer(ctx context.Context, req *customerv1.LookupCustomerRequest) (*customerv1.LookupCustomerResponse, error) {
	keep, err := parseMask(req.GetReadMask())
	if err != nil {
		return nil, err
	}
	// Whose profile the identifier is follows from the rules, and who shares it
	// from an index: so far the call is about nobody in particular.
	r, err := s.aboutAll(ctx, req.GetConsistencyToken())
	if err != nil {
		return nil, err
	}
	if err := r.useRules(ctx); err != nil {
		return nil, failed(err)
	}
	id, err := s.deps.Resolver.Lookup(r.Tenant, req.GetKind(), req.GetValue())
	switch {
	case errors.Is(err, identity.ErrPlaceholder), errors.Is(err, identity.ErrWithheld):
		return &customerv1.LookupCustomerResponse{}, nil
	case errors.Is(err, identity.ErrMalformed):
		return nil, rpcerr.InvalidField("value", "is no value of kind "+req.GetKind())
	case err != nil:
		return nil, failed(err)
	}
	if err := r.About(ctx, id.ProfileID); err != nil {
		return nil, err
	}
	matches, err := r.whoHas(ctx, id)
	if err != nil {
		return nil, failed(err)
	}
	for _, match := range matches {
		keep.prune(match.GetCustomer().ProtoReflect())
	}
	return &customerv1.LookupCustomerResponse{Matches: matches}, nil
}

// whoHas is the customer whose profile the identifier is, and those who have it
// without its being theirs alone: it is known to be shared, or it is another
// customer's and linking was refused.
func (r *read) whoHas(ctx context.Context, id identity.Resolved) ([]*customerv1.CustomerMatch, error) {
	const shared = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_SHARED
	var matches []*customerv1.CustomerMatch
	found, page, err := r.Reader.GetAndQuery(ctx, r.Tenant, id.ProfileID, view.Query{
		Index: byForeign, Limit: maxMatches,
		Prefixes: []view.Tuple{{view.String(id.Kind), view.String(id.Value)}},
	})
	if err != nil {
		return nil, err
	}
	if found.Data != nil {
		doc, err := decodeVisible(found.Data)
		if err != nil {
			return nil, err
		}
		matches = append(matches, &customerv1.CustomerMatch{Customer: doc, Strength: strengthIn(doc, id)})
	}
	// An identifier that no customer's profile is names whoever alone has it.
	alone := len(matches) == 0 && len(page.Entries) == 1
	for _, entry := range page.Entries {
		if found.CustomerID == entry.Key.ID {
			continue
		}
		doc, err := decodeVisible(entry.Data)
		if err != nil {
			return nil, err
		}
		match := &customerv1.CustomerMatch{Customer: doc, Strength: shared}
		if alone {
			match.Strength = strengthIn(doc, id)
		}
		matches = append(matches, match)
	}
	slices.SortStableFunc(matches, func(a, b *customerv1.CustomerMatch) int {
		return cmp.Or(
			cmp.Compare(b.GetStrength(), a.GetStrength()),
			cmp.Compare(a.GetCustomer().GetCustomerId(), b.GetCustomer().GetCustomerId()),
		)
	})
	return matches, nil
}

// strengthIn is how surely the identifier names the customer, as it was
// recorded; else by the rules.
func strengthIn(doc *customerv1.Customer, id identity.Resolved) eventv1.IdentifierStrength {
	for _, known := range doc.GetIdentifiers() {
		if known.GetKind() == id.Kind && known.GetValue() == id.Value {
			return strengthOf(known.GetStrength(), id.Strength)
		}
	}
	return id.Strength
}
