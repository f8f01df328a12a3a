package customer

import (
	"context"

	"github.com/parleyhq/parley/pkg/rawproto"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// customerField is the number of `customer` in GetCustomerResponse, and of
// `customers` in the answers that are lists.
const customerField = 1

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
	tenantName, err := s.begin(ctx, req.GetConsistencyToken())
	if err != nil {
		return nil, err
	}
	found, err := s.reader.Get(ctx, tenantName, req.GetCustomerId())
	if err != nil {
		return nil, failed(err)
	}
	data, err := keep.encoded(found.Data)
	if err != nil {
		return nil, failed(err)
	}
	return new(rawproto.Message).Nested(customerField, data), nil
}
