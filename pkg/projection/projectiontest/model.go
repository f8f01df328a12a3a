package projectiontest

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/view"
)

// Model computes in the simplest way what a projection about customers must
// say: everything in memory, every document from its first event on.
type Model[D proto.Message] struct {
	def   projection.Customers[D]
	order []view.Key
	// first is the position at which a profile was first seen, now is that of
	// the event at hand.
	first map[view.Key]uint64
	now   uint64
	// owner is the customer of a profile.
	owner  map[view.Key]string
	events map[view.Key][]*eventv1.RecordedEvent
}

// NewModel makes a model that has seen nothing.
func NewModel[D proto.Message](def projection.Customers[D]) *Model[D] {
	return &Model[D]{def: def, first: map[view.Key]uint64{}, owner: map[view.Key]string{}, events: map[view.Key][]*eventv1.RecordedEvent{}}
}

// Apply takes an event.
func (m *Model[D]) Apply(rec *eventv1.RecordedEvent) {
	tenant := rec.GetEvent().GetTenant()
	m.now = rec.GetPosition()
	switch p := rec.GetEvent().GetPayload().GetKind().(type) {
	case *eventv1.Payload_CustomersMerged:
		survivor := m.see(tenant, p.CustomersMerged.GetCustomerId())
		for _, id := range append([]string{p.CustomersMerged.GetAbsorbedCustomerId()}, p.CustomersMerged.GetAbsorbedProfileIds()...) {
			absorbed := m.see(tenant, id)
			for _, key := range m.order {
				if key.Tenant == tenant && m.owner[key] == absorbed {
					m.owner[key] = survivor
				}
			}
		}
	case *eventv1.Payload_CustomersSplit:
		old, fresh := m.see(tenant, p.CustomersSplit.GetCustomerId()), p.CustomersSplit.GetNewCustomerId()
		belongs := m.see(tenant, fresh) == old
		for _, id := range append([]string{fresh}, p.CustomersSplit.GetMovedProfileIds()...) {
			if m.see(tenant, id) == old && id != old && belongs && fresh != old {
				m.owner[view.Key{Tenant: tenant, ID: id}] = fresh
			}
		}
	}
	if profile := rec.GetEvent().GetProfileId(); profile != "" {
		m.see(tenant, profile)
		key := view.Key{Tenant: tenant, ID: profile}
		m.events[key] = append(m.events[key], rec)
	}
}

// see returns the customer of a profile, which is itself if it is new.
func (m *Model[D]) see(tenant, profile string) string {
	key := view.Key{Tenant: tenant, ID: profile}
	if _, seen := m.owner[key]; !seen {
		m.owner[key], m.first[key] = profile, m.now
		m.order = append(m.order, key)
	}
	return m.owner[key]
}

// Profiles are all ever seen, with their customers.
func (m *Model[D]) Profiles() map[view.Key]string { return m.owner }

// Documents are the customers' documents.
func (m *Model[D]) Documents(t testing.TB) map[view.Key]D {
	t.Helper()
	docs := map[view.Key]D{}
	for _, key := range m.order {
		customer := view.Key{Tenant: key.Tenant, ID: m.owner[key]}
		if _, done := docs[customer]; done {
			continue
		}
		doc := m.def.New()
		c := projection.Customer{Tenant: customer.Tenant, ID: customer.ID}
		for _, member := range m.members(customer) {
			c.Profiles = append(c.Profiles, member.ID)
			part := m.def.New()
			for _, rec := range m.events[member] {
				require.NoError(t, m.def.Fold(part, proto.CloneOf(rec)))
			}
			m.def.Combine(doc, part)
		}
		if m.def.Finish != nil {
			m.def.Finish(doc, c)
		}
		docs[customer] = doc
	}
	return docs
}

// members are a customer's profiles, the oldest first; of those that one event
// brought, the one that he is named by, then by id.
func (m *Model[D]) members(customer view.Key) []view.Key {
	var members []view.Key
	for _, key := range m.order {
		if key.Tenant == customer.Tenant && m.owner[key] == customer.ID {
			members = append(members, key)
		}
	}
	slices.SortFunc(members, func(a, b view.Key) int {
		named := 0
		switch customer {
		case a:
			named = -1
		case b:
			named = 1
		}
		return cmp.Or(cmp.Compare(m.first[a], m.first[b]), named, cmp.Compare(a.ID, b.ID))
	})
	return members
}

// Check compares everything that a reader says with the model.
func (m *Model[D]) Check(t testing.TB, r *projection.Reader[D]) {
	t.Helper()
	want := m.Documents(t)
	for e, err := range r.Scan(t.Context(), "") {
		require.NoError(t, err)
		doc, known := want[e.Key]
		require.True(t, known, "customer %s of %s should not be there", e.Key.ID, e.Key.Tenant)
		got := m.def.New()
		require.NoError(t, proto.Unmarshal(e.Data, got))
		if !proto.Equal(doc, got) {
			t.Fatalf("customer %s of %s:\nwant %v\ngot  %v", e.Key.ID, e.Key.Tenant, doc, got)
		}
		delete(want, e.Key)
	}
	require.Empty(t, want, "customers missing")
	for key, owner := range m.owner {
		resolved, err := r.Resolve(t.Context(), key.Tenant, key.ID)
		require.NoError(t, err)
		require.Equal(t, owner, resolved, "customer of profile %s", key.ID)
		c, err := r.Customer(t.Context(), key.Tenant, key.ID)
		require.NoError(t, err)
		require.Equal(t, owner, c.ID)
		if !slices.Contains(c.Profiles, key.ID) {
			t.Fatalf("profile %s is not among those of customer %s: %v", key.ID, c.ID, c.Profiles)
		}
	}
}
