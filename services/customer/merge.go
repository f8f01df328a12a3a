package customer

import (
	"context"

	"github.com/parleyhq/parley/pkg/tenant"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// MergeCustomers makes one customer of two.
func (s *Server) MergeCustomers(ctx context.Context, req *customerv1.MergeCustomersRequest) (*customerv1.MergeCustomersResponse, error) {
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
		Kind: &interactionv1.IdentityCommand_Merge{Merge: &interactionv1.IdentityCommand_MergeCustomers{
			CustomerId: req.GetCustomerId(), OtherCustomerId: req.GetOtherCustomerId(),
		}},
	})
	if err != nil {
		return nil, err
	}
	return &customerv1.MergeCustomersResponse{
		CustomerId: result.GetCustomerId(), AbsorbedCustomerId: result.GetOtherCustomerId(),
		EventId: result.GetEventId(), ConsistencyToken: consistencyToken,
	}, nil
}
