package recorder

import (
	"fmt"

	"github.com/parleyhq/parley/pkg/identity"
)

var (
	_ identity.State  = (*index)(nil)
	_ identity.Writer = graphWriter{}
)

func (x *index) setName(space byte, tenant, name string) {
	x.key = append(x.key[:0], space)
	x.key = append(append(x.key, tenant...), 0)
	x.key = append(x.key, name...)
}

// Profile implements identity.State.
func (x *index) Profile(tenant, id string) (identity.Profile, bool, error) {
	k := nameKey{tenant, id}
	if p, ok := x.recentProfiles.Get(k); ok {
		return p, true, nil
	}
	x.setName('p', tenant, id)
	var p identity.Profile
	found, err := x.get(p.UnmarshalBinary)
	if found && err == nil {
		x.recentProfiles.Put(k, p)
	}
	return p, found, err
}

// Customer implements identity.State.
func (x *index) Customer(tenant, id string) (identity.Customer, bool, error) {
	k := nameKey{tenant, id}
	if c, ok := x.recentCustomers.Get(k); ok {
		return c.Customer, c.found, nil
	}
	x.setName('k', tenant, id)
	var c identity.Customer
	found, err := x.get(c.UnmarshalBinary)
	if err == nil {
		x.recentCustomers.Put(k, customerRecord{c, found})
	}
	return c, found, err
}

// graphWriter stages what the graph has changed.
type graphWriter struct{ x *index }

// set writes what fill appends under the key that was set.
func (w graphWriter) set(fill func([]byte) ([]byte, error)) error {
	value, err := fill(w.x.value[:0])
	if err != nil {
		return fmt.Errorf("encode for the index: %w", err)
	}
	w.x.value = value
	w.x.table.set(w.x.key, value)
	return nil
}

// PutProfile implements identity.Writer.
func (w graphWriter) PutProfile(tenant, id string, p identity.Profile) error {
	w.x.setName('p', tenant, id)
	w.x.recentProfiles.Put(nameKey{tenant, id}, p)
	return w.set(p.AppendBinary)
}

// PutCustomer implements identity.Writer.
func (w graphWriter) PutCustomer(tenant, id string, c identity.Customer) error {
	w.x.setName('k', tenant, id)
	w.x.recentCustomers.Put(nameKey{tenant, id}, customerRecord{c, true})
	return w.set(c.AppendBinary)
}

// DeleteCustomer implements identity.Writer.
func (w graphWriter) DeleteCustomer(tenant, id string) error {
	w.x.setName('k', tenant, id)
	w.x.recentCustomers.Put(nameKey{tenant, id}, customerRecord{})
	w.x.table.delete(w.x.key)
	return nil
}
