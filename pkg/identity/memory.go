package identity

// Memory is a State and Writer that keeps everything in maps, for tests and
// for small graphs. Not for concurrent use.
type Memory struct {
	profiles  map[key]Profile
	customers map[key]Customer
}

// NewMemory makes an empty one.
func NewMemory() *Memory {
	return &Memory{profiles: map[key]Profile{}, customers: map[key]Customer{}}
}

// Profile implements State.
func (m *Memory) Profile(tenant, id string) (Profile, bool, error) {
	p, ok := m.profiles[key{tenant, id}]
	return p, ok, nil
}

// Customer implements State.
func (m *Memory) Customer(tenant, id string) (Customer, bool, error) {
	c, ok := m.customers[key{tenant, id}]
	return c, ok, nil
}

// PutProfile implements Writer.
func (m *Memory) PutProfile(tenant, id string, p Profile) error {
	m.profiles[key{tenant, id}] = p
	return nil
}

// PutCustomer implements Writer.
func (m *Memory) PutCustomer(tenant, id string, c Customer) error {
	m.customers[key{tenant, id}] = c
	return nil
}

// DeleteCustomer implements Writer.
func (m *Memory) DeleteCustomer(tenant, id string) error {
	delete(m.customers, key{tenant, id})
	return nil
}
