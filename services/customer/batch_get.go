package customer

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/rawproto"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
)

// BatchGetCustomers returns many customers of one state, in the order of the
// request, each once; ids that nobody has are named.
func (s *Server) BatchGetCustomers(ctx context.Context, req *customerv1.BatchGetCustomersRequest) (*customerv1.BatchGetCustomersResponse, error) {
	raw, err := s.batchGetCustomers(ctx, req)
	if err != nil {
		return nil, err
	}
	return decodedAnswer(raw, &customerv1.BatchGetCustomersResponse{})
}

func (s *Server) batchGetCustomers(ctx context.Context, req *customerv1.BatchGetCustomersRequest) (*rawproto.Message, error) {
	keep, err := parseMask(req.GetReadMask())
	if err != nil {
		return nil, err
	}
	for i, id := range req.GetCustomerIds() {
		if err := checkID(fmt.Sprintf("customer_ids[%d]", i), id); err != nil {
			return nil, err
		}
	}
	r, err := s.about(ctx, req.GetConsistencyToken(), req.GetCustomerIds()...)
	if err != nil {
		return nil, err
	}
	found, err := r.Reader.GetMany(ctx, r.Tenant, req.GetCustomerIds())
	if err != nil {
		return nil, failed(err)
	}
	answer := &rawproto.Message{}
	missing := &customerv1.BatchGetCustomersResponse{}
	said := make(map[string]bool, len(found))
	for i := range found {
		id := found[i].CustomerID
		if found[i].Data == nil {
			id = req.GetCustomerIds()[i]
		}
		if said[id] {
			continue
		}
		said[id] = true
		if found[i].Data == nil {
			missing.MissingIds = append(missing.MissingIds, id)
			continue
		}
		data, err := keep.encoded(found[i].Data)
		if err != nil {
			return nil, failed(err)
		}
		answer.Nested(customerField, data)
	}
	if err := answer.Append(missing); err != nil {
		return nil, failed(err)
	}
	return answer, nil
}

// decodedAnswer is an encoded answer for a caller in process.
func decodedAnswer[M proto.Message](raw *rawproto.Message, answer M) (M, error) {
	if err := raw.Decode(answer); err != nil {
		return answer, failed(err)
	}
	return answer, nil
}
