package customer

import (
	"context"

	"github.com/parleyhq/parley/pkg/rawproto"
	"github.com/parleyhq/parley/pkg/wire"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// customerField is the number of `customer` in GetCustomerResponse, and of
// `customers` in the answers that are lists.
const customerField = 1

// claimsField is the number of `claims` in GetCustomerResponse.
const claimsField = 2

// GetCustomer returns one customer by any profile id that was ever given out.
func (s *Server) GetCustomer(ctx context.Context, req *customerv1.GetCustomerRequest) (*customerv1.GetCustomerResponse, error) {
	raw, err := s.getCustomer(ctx, req)
	if err != nil {
		return nil, err
	}
	return decodedAnswer(raw, &customerv1.GetCustomerResponse{})
}

func (s *Server) getCustomer(ctx context.Context, req *customerv1.GetCustomerRequest) (*rawproto.Message, error) {
	keep, err := parseMask(req.GetReadMask())
	if err != nil {
		return nil, err
	}
	if err := checkID("customer_id", req.GetCustomerId()); err != nil {
		return nil, err
	}
	r, err := s.about(ctx, req.GetConsistencyToken(), req.GetCustomerId())
	if err != nil {
		return nil, err
	}
	found, err := r.Reader.Get(ctx, r.Tenant, req.GetCustomerId())
	if err != nil {
		return nil, failed(err)
	}
	data, err := keep.encoded(found.Data)
	if err != nil {
		return nil, failed(err)
	}
	answer := new(rawproto.Message).Nested(customerField, data)
	if !req.GetIncludeClaims() {
		return answer, nil
	}
	doc, err := decodeVisible(found.Data)
	if err != nil {
		return nil, failed(err)
	}
	claims, err := r.claims(ctx, doc)
	if err != nil {
		return nil, failed(err)
	}
	for _, claim := range claims {
		encoded, err := wire.Append(nil, claim)
		if err != nil {
			return nil, failed(err)
		}
		answer = answer.Nested(claimsField, encoded)
	}
	return answer, nil
}
