package projection

import (
	"slices"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// named calls yield for each profile id whose customer an event can change.
// An empty one names nobody.
func named(ev *eventv1.Event, yield func(id string)) {
	all := yield
	yield = func(id string) {
		if id != "" {
			all(id)
		}
	}
	switch p := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_CustomersMerged:
		yield(p.CustomersMerged.GetCustomerId())
		yield(p.CustomersMerged.GetAbsorbedCustomerId())
		for _, id := range p.CustomersMerged.GetAbsorbedProfileIds() {
			yield(id)
		}
	case *eventv1.Payload_CustomersSplit:
		yield(p.CustomersSplit.GetCustomerId())
		yield(p.CustomersSplit.GetNewCustomerId())
		for _, id := range p.CustomersSplit.GetMovedProfileIds() {
			yield(id)
		}
	}
}

// regroup does what an event says about who belongs together. All profiles
// that it names are in the cache. The customers that it changed are added to changed.
func (c *cache) regroup(ev *eventv1.Event, position uint64, changed []*customer) []*customer {
	switch p := ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_CustomersMerged:
		return c.merge(ev.GetTenant(), p.CustomersMerged, position, changed)
	case *eventv1.Payload_CustomersSplit:
		return c.split(ev.GetTenant(), p.CustomersSplit, position, changed)
	}
	return changed
}

// merge makes all profiles of the absorbed customer the survivor's; and, were
// a profile listed that belongs to a third one, all of that one's, so that no
// customer is ever left without the profile that he is named by.
func (c *cache) merge(tenant string, ev *eventv1.CustomersMerged, position uint64, changed []*customer) []*customer {
	survivor := c.owner(tenant, ev.GetCustomerId())
	if survivor == nil {
		return changed
	}
	for _, id := range append([]string{ev.GetAbsorbedCustomerId()}, ev.GetAbsorbedProfileIds()...) {
		absorbed := c.owner(tenant, id)
		if absorbed == nil || absorbed == survivor {
			continue
		}
		survivor.move(slices.Clone(absorbed.members))
		absorbed.touch(position)
		survivor.touch(position)
		changed = append(changed, absorbed, survivor)
	}
	return changed
}

// split makes the profiles listed a customer of their own. The profile that
// the old customer is named by stays with him, and what is not his stays where it is.
func (c *cache) split(tenant string, ev *eventv1.CustomersSplit, position uint64, changed []*customer) []*customer {
	old := c.owner(tenant, ev.GetCustomerId())
	if old == nil || ev.GetNewCustomerId() == old.key.ID || c.owner(tenant, ev.GetNewCustomerId()) != old {
		return changed
	}
	var leaving []*member
	for _, m := range old.members {
		if m.key.ID != old.key.ID && (m.key.ID == ev.GetNewCustomerId() || slices.Contains(ev.GetMovedProfileIds(), m.key.ID)) {
			leaving = append(leaving, m)
		}
	}
	key := view.Key{Tenant: tenant, ID: ev.GetNewCustomerId()}
	fresh := c.customers[key]
	if fresh == nil {
		// Stored nowhere: a profile that belongs to another customer has no document of its own.
		fresh = &customer{key: key, prior: view.Absent()}
		c.add(fresh)
	}
	fresh.move(leaving)
	old.touch(position)
	fresh.touch(position)
	return append(changed, old, fresh)
}

func (c *cache) owner(tenant, id string) *customer {
	if m := c.profiles[view.Key{Tenant: tenant, ID: id}]; m != nil {
		return m.owner
	}
	return nil
}

func (x *customer) touch(position uint64) {
	x.changed = true
	x.last = max(x.last, position)
}
