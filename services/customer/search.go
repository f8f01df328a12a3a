package customer

import (
	"context"

	"github.com/parleyhq/parley/pkg/rawproto"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

const (
	searchPurpose     = "customer.search"
	defaultSearchPage = 20
	// maxSearchSteps bounds the work of one call; a page may then be short and
	// still have a next one.
	maxSearchSteps = 50
)

// SearchCustomers finds customers by parts of names, addresses, numbers and
// order ids.
func (s *Server) SearchCustomers(ctx context.Context, req *customerv1.SearchCustomersRequest) (*customerv1.SearchCustomersResponse, error) {
	raw, err := s.searchCustomers(ctx, req)
	if err != nil {
		return nil, err
	}
	return decodedAnswer(raw, &customerv1.SearchCustomersResponse{})
}

func (s *Server) searchCustomers(ctx context.Context, req *customerv1.SearchCustomersRequest) (*rawproto.Message, error) {
	keep, err := parseMask(req.GetReadMask())
	if err != nil {
		return nil, err
	}
	query := searchQuery(req.GetQuery())
	if len(view.SearchWords(query)) == 0 {
		return nil, rpcerr.InvalidField("query", "must have at least 2 characters other than white space")
	}
	r, err := s.aboutAll(ctx, req.GetConsistencyToken())
	if err != nil {
		return nil, err
	}
	fingerprint, err := token.FingerprintOf(r.Tenant, req, "page_token", "page_size", "read_mask", "consistency_token")
	if err != nil {
		return nil, failed(err)
	}
	search := view.Search{Tenant: r.Tenant, Index: byText, Text: query}
	if req.GetPageToken() != "" {
		if search.Cursor, err = token.ParsePage(searchPurpose, fingerprint, req.GetPageToken()); err != nil {
			return nil, invalidPageToken(err)
		}
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultSearchPage
	}
	answer := &rawproto.Message{}
	for step := 0; size > 0 && step < maxSearchSteps; step++ {
		search.Limit = size
		page, err := r.Reader.Search(ctx, search)
		if err != nil {
			return nil, failed(err)
		}
		for _, entry := range page.Entries {
			data, err := keep.encoded(entry.Data)
			if err != nil {
				return nil, failed(err)
			}
			answer.Nested(customerField, data)
		}
		size -= len(page.Entries)
		if search.Cursor = page.Next; page.Next == nil {
			break
		}
	}
	return answer, nextSearchPage(answer, fingerprint, search.Cursor)
}

func nextSearchPage(answer *rawproto.Message, request token.Fingerprint, cursor []byte) error {
	if cursor == nil {
		return nil
	}
	next, err := token.Page(searchPurpose, request, cursor)
	if err != nil {
		return failed(err)
	}
	if err := answer.Append(&customerv1.SearchCustomersResponse{NextPageToken: next}); err != nil {
		return failed(err)
	}
	return nil
}
