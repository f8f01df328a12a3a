package customer

import (
	"context"

	"github.com/parleyhq/parley/pkg/tenant"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// KeepCustomersApart says that two customers are two people.
func (s *Server) KeepCustomersApart(ctx context.Context, req *customerv1.KeepCustomersApartRequest) (*customerv1.KeepCustomersApartResponse, error) {
	if err := checkID("customer_id", req.GetCustomerId()); err != nil {
		return nil, err
	}
	if err := checkID("other_customer_id", req.GetOtherCustomerId()); err != nil {
		return nil, err
	}
	who, err := deciding(ctx, tenant.Record)
	if err != nil {
		return nil, err
	}
	result, consistencyToken, err := s.decide(ctx, who, decided{req.GetRequestId(), req.GetActor(), req.GetReason()}, &interactionv1.IdentityCommand{
		Kind: &interactionv1.IdentityCommand_KeepApart_{KeepApart: &interactionv1.IdentityCommand_KeepApart{
			CustomerId: req.GetCustomerId(), OtherCustomerId: req.GetOtherCustomerId(),
		}},
	})
	if err != nil {
		return nil, err
	}
	return &customerv1.KeepCustomersApartResponse{EventId: result.GetEventId(), ConsistencyToken: consistencyToken}, nil
}
