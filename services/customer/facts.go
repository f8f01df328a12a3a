package customer

import (
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Identity facts are the identity events as they are explained, in rows by
// profile, so that a merge rewrites none of them. What joined two profiles
// stands with the one of them, since who asks has both; what keeps two apart,
// and what a person decided, stands with both.

// profileRules stands where a profile would, for the tenant's rules. No
// profile is called that.
const profileRules = "rules"

func factTuple(doc proto.Message) []view.Tuple {
	f, ok := doc.(*customerv1.IdentityFact)
	if !ok {
		return nil
	}
	return []view.Tuple{{
		view.String(f.GetProfileId()),
		view.Int64(int64(min(f.GetPosition(), math.MaxInt64))),
		view.String(factEventID(f)),
	}}
}

func factEventID(f *customerv1.IdentityFact) string {
	switch k := f.GetKind().(type) {
	case *customerv1.IdentityFact_Link:
		return k.Link.GetEventId()
	case *customerv1.IdentityFact_Decision:
		return k.Decision.GetEventId()
	case *customerv1.IdentityFact_Rules:
		return k.Rules.GetEventId()
	default:
		return ""
	}
}

// factRows puts an identity event beside the profiles that it is about. A merge
// or a split is about the customers by their names.
func factRows(rec *eventv1.RecordedEvent, put func(id string, row proto.Message) error) error {
	if isInteraction(rec.GetEvent()) {
		return nil
	}
	fact, profiles := factOf(rec)
	for i, profile := range profiles {
		if profile == "" || slices.Contains(profiles[:i], profile) {
			continue
		}
		fact.ProfileId = profile
		if err := put(rec.GetEvent().GetId()+"."+profile, fact); err != nil {
			return err
		}
	}
	return nil
}

func factOf(rec *eventv1.RecordedEvent) (fact *customerv1.IdentityFact, profiles []string) {
	ev := rec.GetEvent()
	fact = &customerv1.IdentityFact{Position: rec.GetPosition()}
	decision := &customerv1.IdentityDecision{EventId: ev.GetId(), Actor: ev.GetActor(), Time: orderingTime(ev).proto()}
	switch kind := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_LinkAsserted:
		p := kind.LinkAsserted
		link := &customerv1.ExplainedLink{
			EventId: ev.GetId(), ProfileId: p.GetProfileId(), OtherProfileId: p.GetOtherProfileId(), Rule: p.GetRule(),
			Reason: p.GetReason(), EvidenceEventId: p.GetEvidenceEventId(), EvidenceTime: copyTime(p.GetEvidenceTime()), Probability: p.GetProbability(),
		}
		if link.GetEvidenceTime() == nil {
			link.EvidenceTime = orderingTime(ev).proto()
		}
		fact.Kind = &customerv1.IdentityFact_Link{Link: link}
		return fact, []string{p.GetProfileId()}
	case *eventv1.Payload_LinkRefused:
		p := kind.LinkRefused
		link := &customerv1.ExplainedLink{
			EventId: ev.GetId(), ProfileId: p.GetProfileId(), OtherProfileId: p.GetOtherProfileId(), Rule: p.GetRule(), Refusal: p.GetRefusal(),
			Reason: p.GetReason(), EvidenceEventId: p.GetEvidenceEventId(), EvidenceTime: copyTime(p.GetEvidenceTime()),
		}
		if link.GetEvidenceTime() == nil {
			link.EvidenceTime = orderingTime(ev).proto()
		}
		fact.Kind = &customerv1.IdentityFact_Link{Link: link}
		return fact, []string{p.GetProfileId(), p.GetOtherProfileId()}
	case *eventv1.Payload_CustomersMerged:
		p := kind.CustomersMerged
		decision.Action, decision.Rule = customerv1.IdentityAction_IDENTITY_ACTION_MERGED, p.GetRule()
		if decision.GetRule() == eventv1.GroupingRule_GROUPING_RULE_UNSPECIFIED {
			decision.Rule = eventv1.GroupingRule_GROUPING_RULE_LINKED
		}
		decision.CustomerId, decision.OtherCustomerId = p.GetCustomerId(), p.GetAbsorbedCustomerId()
		decision.ProfileIds, decision.Reason = p.GetAbsorbedProfileIds(), p.GetReason()
		decision.EvidenceEventId = p.GetLinkEventId()
	case *eventv1.Payload_CustomersSplit:
		p := kind.CustomersSplit
		decision.Action, decision.Rule = customerv1.IdentityAction_IDENTITY_ACTION_SPLIT, p.GetRule()
		if decision.GetRule() == eventv1.GroupingRule_GROUPING_RULE_UNSPECIFIED {
			decision.Rule = eventv1.GroupingRule_GROUPING_RULE_DECIDED
		}
		decision.CustomerId, decision.OtherCustomerId = p.GetCustomerId(), p.GetNewCustomerId()
		decision.ProfileIds, decision.Reason, decision.EvidenceEventId = p.GetMovedProfileIds(), p.GetReason(), p.GetEvidenceEventId()
	case *eventv1.Payload_IdentifierShared:
		p := kind.IdentifierShared
		decision.Action, decision.Rule = customerv1.IdentityAction_IDENTITY_ACTION_UNSHARED, eventv1.GroupingRule_GROUPING_RULE_SHARED
		if p.GetShared() {
			decision.Action = customerv1.IdentityAction_IDENTITY_ACTION_SHARED
		}
		decision.ProfileIds, decision.Reason = []string{p.GetProfileId()}, p.GetReason()
		fact.Kind = &customerv1.IdentityFact_Decision{Decision: decision}
		return fact, decision.GetProfileIds()
	case *eventv1.Payload_IdentityRulesChanged:
		fact.Kind = &customerv1.IdentityFact_Rules{Rules: &customerv1.GetIdentityRulesResponse{
			Rules: kind.IdentityRulesChanged.GetRules(), EventId: ev.GetId(), Time: copyTime(ev.GetOccurredTime()), Actor: ev.GetActor(),
		}}
		return fact, []string{profileRules}
	default:
		return nil, nil
	}
	decision.Time = copyTime(ev.GetOccurredTime())
	if decision.GetTime() == nil {
		decision.Time = orderingTime(ev).proto()
	}
	fact.Kind = &customerv1.IdentityFact_Decision{Decision: decision}
	if decision.GetRule() == eventv1.GroupingRule_GROUPING_RULE_LINKED && decision.GetAction() == customerv1.IdentityAction_IDENTITY_ACTION_MERGED {
		return fact, []string{decision.GetCustomerId()}
	}
	return fact, []string{decision.GetCustomerId(), decision.GetOtherCustomerId()}
}
