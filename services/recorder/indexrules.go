package recorder

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// tenantRules are a tenant's own identity rules and the event that brought
// them. They stand in the index as an Event with that id and payload.
type tenantRules struct {
	eventID string
	proto   *eventv1.IdentityRules
	rules   identity.Rules
}

// rulesOf gives the rules of a tenant as they are behind what is not committed yet.
func (x *index) rulesOf(tenant string) *identity.Rules {
	if t, ok := x.rules[tenant]; ok {
		return &t.rules
	}
	return x.resolver.Rules(tenant)
}

// changeRules takes rules that the log brings. Those that cannot be used are
// refused by every recorder alike; the older ones stay.
func (x *index) changeRules(tenant, eventID string, p *eventv1.IdentityRules) error {
	rules := identity.RulesFromProto(p)
	if _, err := x.resolver.Blocked(tenant, rules); err != nil {
		return fmt.Errorf("identity rules of event %s: %w", eventID, err)
	}
	x.rules[tenant] = &tenantRules{eventID, p, rules}
	return nil
}

// rulesEvent is the event that brought a tenant's rules; empty for the defaults.
func (x *index) rulesEvent(tenant string) (string, error) {
	if t, ok := x.rules[tenant]; ok {
		return t.eventID, nil
	}
	x.key = append(append(x.key[:0], spaceRules), tenant...)
	var ev eventv1.Event
	_, err := x.get(func(value []byte) error { return proto.Unmarshal(value, &ev) })
	return ev.GetId(), err
}

const spaceRules = 'r'

func (x *index) stageRules() error {
	for tenant, t := range x.rules {
		value, err := proto.Marshal(&eventv1.Event{Id: t.eventID, Payload: &eventv1.Payload{
			Kind: &eventv1.Payload_IdentityRulesChanged{IdentityRulesChanged: &eventv1.IdentityRulesChanged{Rules: t.proto}},
		}})
		if err != nil {
			return fmt.Errorf("encode identity rules: %w", err)
		}
		x.key = append(append(x.key[:0], spaceRules), tenant...)
		x.table.set(x.key, value)
	}
	return nil
}

// useRules makes the committed rules those by which everything is stamped.
func (x *index) useRules() error {
	for tenant, t := range x.rules {
		if err := x.resolver.SetRules(tenant, t.rules); err != nil {
			return fmt.Errorf("use identity rules: %w", err)
		}
		x.rulesVersion++
	}
	clear(x.rules)
	return nil
}

// loadRules brings all tenants' rules from the index to the resolver.
func (x *index) loadRules(db *pebble.DB) (err error) {
	x.resolver.ForgetRules()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceRules}, UpperBound: []byte{spaceRules + 1}})
	if err != nil {
		return fmt.Errorf("read identity rules: %w", err)
	}
	defer func() {
		if closeErr := it.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("read identity rules: %w", closeErr)
		}
	}()
	for valid := it.First(); valid; valid = it.Next() {
		var ev eventv1.Event
		if err := proto.Unmarshal(it.Value(), &ev); err != nil {
			return fmt.Errorf("%w: identity rules: %w", errOtherLog, err)
		}
		rules := identity.RulesFromProto(ev.GetPayload().GetIdentityRulesChanged().GetRules())
		if err := x.resolver.SetRules(string(it.Key()[1:]), rules); err != nil {
			return fmt.Errorf("%w: identity rules: %w", errOtherLog, err)
		}
	}
	return nil
}
