package identity

import (
	"maps"
	"slices"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// RulesFromProto are the rules as an event or a request has them. Whether they
// are sound Validate and NewResolver say.
func RulesFromProto(p *eventv1.IdentityRules) Rules {
	r := Rules{
		DefaultRegion:       p.GetDefaultRegion(),
		Kinds:               make(map[string]Kind, len(p.GetKinds())),
		OtherKinds:          kindFromProto(p.GetOtherKinds()),
		SharedLocalParts:    slices.Clone(p.GetSharedLocalParts()),
		MaxCustomerProfiles: int(p.GetMaxCustomerProfiles()),
		LinkProbability:     p.GetLinkProbability(),
	}
	for _, k := range p.GetKinds() {
		r.Kinds[k.GetKind()] = kindFromProto(k)
	}
	for _, b := range p.GetBlocked() {
		if r.SharedValues == nil {
			r.SharedValues = map[string][]string{}
		}
		r.SharedValues[b.GetKind()] = append(r.SharedValues[b.GetKind()], b.GetValue())
	}
	return r
}

func kindFromProto(k *eventv1.KindRule) Kind {
	return Kind{Strength: k.GetStrength(), Rank: int(k.GetRank()), Limit: int(k.GetLimit()), SharedAbove: int(k.GetSharedAbove())}
}

// Proto is the rules as an event has them, in one order.
func (r *Rules) Proto() *eventv1.IdentityRules {
	p := &eventv1.IdentityRules{
		DefaultRegion:       r.DefaultRegion,
		OtherKinds:          r.OtherKinds.proto(""),
		SharedLocalParts:    slices.Clone(r.SharedLocalParts),
		MaxCustomerProfiles: int32(r.MaxCustomerProfiles),
		LinkProbability:     r.LinkProbability,
	}
	for _, name := range slices.Sorted(maps.Keys(r.Kinds)) {
		p.Kinds = append(p.Kinds, r.Kinds[name].proto(name))
	}
	for _, kind := range slices.Sorted(maps.Keys(r.SharedValues)) {
		for _, value := range r.SharedValues[kind] {
			p.Blocked = append(p.Blocked, &eventv1.BlockedIdentifier{Kind: kind, Value: value})
		}
	}
	return p
}

func (k Kind) proto(name string) *eventv1.KindRule {
	return &eventv1.KindRule{Kind: name, Strength: k.Strength, Rank: int32(k.Rank), Limit: int32(k.Limit), SharedAbove: int32(k.SharedAbove)}
}
