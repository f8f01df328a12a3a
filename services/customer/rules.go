package customer

import (
	"context"
	"fmt"

	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// GetIdentityRules returns the tenant's rules of who is who.
func (s *Server) GetIdentityRules(ctx context.Context, req *customerv1.GetIdentityRulesRequest) (*customerv1.GetIdentityRulesResponse, error) {
	r, err := s.aboutAll(ctx, req.GetConsistencyToken())
	if err != nil {
		return nil, err
	}
	rules, err := r.newestRules(ctx)
	if err != nil {
		return nil, failed(err)
	}
	if rules == nil {
		rules = &customerv1.GetIdentityRulesResponse{Rules: s.deps.Resolver.Defaults().Proto()}
	}
	return rules, nil
}

// useRules brings the resolver to the tenant's rules as the read model has them.
func (r *read) useRules(ctx context.Context) error {
	rules, err := r.newestRules(ctx)
	if err != nil || rules == nil {
		return err
	}
	s := r.server
	s.rulesMu.Lock()
	defer s.rulesMu.Unlock()
	if s.rulesOf[r.Tenant] == rules.GetEventId() {
		return nil
	}
	if err := s.deps.Resolver.SetRules(r.Tenant, identity.RulesFromProto(rules.GetRules())); err != nil {
		return fmt.Errorf("use the identity rules of event %s: %w", rules.GetEventId(), err)
	}
	s.rulesOf[r.Tenant] = rules.GetEventId()
	return nil
}

// UpdateIdentityRules changes them for what is recorded from here on.
func (s *Server) UpdateIdentityRules(ctx context.Context, req *customerv1.UpdateIdentityRulesRequest) (*customerv1.UpdateIdentityRulesResponse, error) {
	who, err := deciding(ctx, tenant.Ops)
	if err != nil {
		return nil, err
	}
	if _, err := s.deps.Resolver.Blocked(who.Tenant, identity.RulesFromProto(req.GetRules())); err != nil {
		return nil, rpcerr.InvalidField("rules", err.Error())
	}
	result, consistencyToken, err := s.decide(ctx, who, decided{actor: req.GetActor(), reason: req.GetReason()}, &interactionv1.IdentityCommand{
		Kind: &interactionv1.IdentityCommand_ChangeRules{ChangeRules: &interactionv1.IdentityCommand_ChangeIdentityRules{
			Rules: req.GetRules(), FollowsEventId: req.GetFollowsEventId(),
		}},
	})
	if err != nil {
		return nil, err
	}
	return &customerv1.UpdateIdentityRulesResponse{EventId: result.GetEventId(), ConsistencyToken: consistencyToken}, nil
}
