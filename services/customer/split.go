package customer

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// SplitCustomer makes some of a customer's profiles a customer of their own.
func (s *Server) SplitCustomer(ctx context.Context, req *customerv1.SplitCustomerRequest) (*customerv1.SplitCustomerResponse, error) {
	if err := checkID("customer_id", req.GetCustomerId()); err != nil {
		return nil, err
	}
	if (len(req.GetProfileIds()) == 0) == (req.GetUndoMergeEventId() == "") {
		return nil, rpcerr.InvalidField("profile_ids", "name either the profiles that leave, or with undo_merge_event_id the merge that was wrong")
	}
	who, err := deciding(ctx, tenant.Record)
	if err != nil {
		return nil, err
	}
	leaving := req.GetProfileIds()
	if req.GetUndoMergeEventId() != "" {
		if leaving, err = s.mergedBy(ctx, who.Tenant, req.GetCustomerId(), req.GetUndoMergeEventId()); err != nil {
			return nil, err
		}
	}
	result, consistencyToken, err := s.decide(ctx, who, decided{req.GetRequestId(), req.GetActor(), req.GetReason()}, &interactionv1.IdentityCommand{
		Kind: &interactionv1.IdentityCommand_Split{Split: &interactionv1.IdentityCommand_SplitCustomer{
			CustomerId: req.GetCustomerId(), ProfileIds: leaving,
		}},
	})
	if err != nil {
		return nil, err
	}
	return &customerv1.SplitCustomerResponse{
		CustomerId: result.GetCustomerId(), NewCustomerId: result.GetOtherCustomerId(),
		EventId: result.GetEventId(), ConsistencyToken: consistencyToken,
	}, nil
}

// mergedBy are the profiles that a merge brought to the customer and that are
// still his, and what joined them since. The read model is brought up to the
// log first: what it does not know yet may be the merge. For the same reason
// nothing is undone while one of the customer's events waits to be folded: who
// leaves, by what is known without it, is perhaps not who should, and a split
// outlasts the mend. What others' events wait for is of no concern here.
func (s *Server) mergedBy(ctx context.Context, tenantName, id, eventID string) ([]string, error) {
	begun, err := s.reads.BeginAtHead(ctx, tenantName)
	if err != nil {
		return nil, err
	}
	r := &read{Read: begun, server: s}
	if err := r.About(ctx, id); err != nil {
		return nil, err
	}
	graph, _, err := r.explain(ctx, id)
	if err != nil {
		return nil, failed(err)
	}
	at := slices.IndexFunc(graph.GetDecisions(), func(d *customerv1.IdentityDecision) bool {
		return d.GetEventId() == eventID && d.GetAction() == customerv1.IdentityAction_IDENTITY_ACTION_MERGED
	})
	if at < 0 {
		return nil, rpcerr.New(codes.NotFound, errorv1.Reason_REASON_EVENT_NOT_FOUND,
			"no merge of this customer has this event id; ExplainIdentity lists them")
	}
	return undo(graph, at), nil
}

// undo says which profiles leave where a merge is undone: those it brought, and
// of those that were merged in later the ones that are linked with them and not
// with the rest.
func undo(graph *customerv1.ExplainIdentityResponse, at int) []string {
	merge := graph.GetDecisions()[at]
	leaves := map[string]bool{}
	for _, p := range merge.GetProfileIds() {
		leaves[p] = true
	}
	later := map[string]bool{}
	for _, d := range graph.GetDecisions()[at+1:] {
		if d.GetAction() == customerv1.IdentityAction_IDENTITY_ACTION_MERGED {
			for _, p := range d.GetProfileIds() {
				if !leaves[p] && p != merge.GetCustomerId() {
					later[p] = true
				}
			}
		}
	}
	stays := map[string]bool{}
	for _, p := range graph.GetProfiles() {
		if !leaves[p.GetProfileId()] && !later[p.GetProfileId()] {
			stays[p.GetProfileId()] = true
		}
	}
	// The links are in the order of evidence: who came later goes where the
	// earliest of them leads.
	for changed := true; changed; {
		changed = false
		for _, l := range graph.GetLinks() {
			if !l.GetInForce() {
				continue
			}
			for _, end := range [...][2]string{{l.GetProfileId(), l.GetOtherProfileId()}, {l.GetOtherProfileId(), l.GetProfileId()}} {
				if later[end[0]] && (leaves[end[1]] || stays[end[1]]) {
					side := stays
					if leaves[end[1]] {
						side = leaves
					}
					side[end[0]] = true
					delete(later, end[0])
					changed = true
				}
			}
		}
	}
	var out []string
	for _, p := range graph.GetProfiles() {
		if leaves[p.GetProfileId()] {
			out = append(out, p.GetProfileId())
		}
	}
	return out
}
