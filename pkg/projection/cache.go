package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/view"
)

// member is a profile of a customer.
type member struct {
	key   view.Key
	owner *customer
	storedMember

	// doc is the profile's document between its first use and the next flush.
	doc proto.Message
	// size of the document when it was last seen marshalled.
	size int
	// changed since it was stored last. The embedded data are then nil.
	changed bool
	// apart says that data and size are of the document finished for the
	// profile alone, not for a customer whose only document it is.
	apart bool
	// stored says that the profile's document lies in the profiles' collection.
	stored bool
	// alias is the customer that the stored alias leads to; empty for none.
	alias string
	// queue holds the indexes of the chunk's events that are to be folded.
	queue []int32
}

// customer is a customer that the folder knows at the moment. What it says is
// newer than what is stored, or the same.
type customer struct {
	key     view.Key
	members []*member
	// prior is what is stored under the customer's key.
	prior view.Prior
	// size estimates the memory of the decoded documents.
	size int
	// changed since it was stored last.
	changed bool
	// last is the position of the last event that changed it.
	last uint64
	// batch is the last flush that wrote it.
	batch uint64
	// queued marks it during a chunk, dirty until the next flush.
	queued, dirty bool

	newer, older *customer
}

// cache holds customers, the most recently used first. Only the folding
// goroutine changes it.
type cache struct {
	profiles  map[view.Key]*member
	customers map[view.Key]*customer
	// ring's older is the most recently used, its newer the least.
	ring customer
	size int
}

func newCache() *cache {
	c := &cache{profiles: map[view.Key]*member{}, customers: map[view.Key]*customer{}}
	c.ring.newer, c.ring.older = &c.ring, &c.ring
	return c
}

// add takes a customer in with all of his profiles.
func (c *cache) add(x *customer) {
	c.customers[x.key] = x
	for _, m := range x.members {
		c.profiles[m.key] = m
	}
	c.link(x)
	c.size += x.size
}

func (c *cache) link(x *customer) {
	x.newer, x.older = &c.ring, c.ring.older
	x.newer.older, x.older.newer = x, x
}

func (c *cache) use(x *customer) {
	if c.ring.older == x {
		return
	}
	x.newer.older, x.older.newer = x.older, x.newer
	c.link(x)
}

func (c *cache) resize(x *customer, size int) {
	c.size += size - x.size
	x.size = size
}

func (c *cache) remove(x *customer) {
	x.newer.older, x.older.newer = x.older, x.newer
	// Whoever still knows x must not hold on to all that were removed after it.
	x.newer, x.older = nil, nil
	c.size -= x.size
	delete(c.customers, x.key)
	for _, m := range x.members {
		delete(c.profiles, m.key)
	}
}

// evict lets go of the least recently used until at most limit bytes are
// left, except those that changed or are not yet committed: what is stored of
// them is old.
func (c *cache) evict(limit int, committed uint64) {
	for x := c.ring.newer; x != &c.ring && c.size > limit; {
		next := x.newer
		if !x.changed && x.batch <= committed {
			c.remove(x)
		}
		x = next
	}
}

// entrySize is about what a cached profile takes besides its document.
const entrySize = 500

// decodedSize estimates the memory of a decoded document.
func decodedSize(marshalled int) int { return 5 * marshalled }

// newCustomer makes a customer of a profile that was never seen.
func newCustomer(key view.Key, first uint64) *customer {
	x := &customer{key: key, prior: view.Absent(), changed: true, last: first, size: 2 * entrySize}
	m := &member{key: key, owner: x}
	m.profile, m.first = key.ID, first
	x.members = []*member{m}
	return x
}

// loadCustomer reads the customer that a profile belongs to; nil where it was
// never seen. It looks first for the alias if there is likely to be one.
func loadCustomer(ctx context.Context, r view.Reader, documents string, key view.Key, aliased bool) (*customer, error) {
	row, err := view.Row{}, view.ErrNotFound
	if !aliased {
		row, err = r.Load(ctx, documents, key)
	}
	if errors.Is(err, view.ErrNotFound) {
		var owner []byte
		owner, err = r.Get(ctx, aliasesCollection, key)
		switch {
		case err == nil:
			key.ID = string(owner)
			row, err = r.Load(ctx, documents, key)
		case errors.Is(err, view.ErrNotFound) && aliased:
			row, err = r.Load(ctx, documents, key)
		}
		if errors.Is(err, view.ErrNotFound) && len(owner) == 0 {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load customer: %w", err)
	}
	members, place, err := parseMembers(row.Meta, key.ID, row.Data)
	if err != nil {
		return nil, err
	}
	x := &customer{key: key, prior: view.Was(row.Terms)}
	for i := range members {
		m := &member{key: view.Key{Tenant: key.Tenant, ID: members[i].profile}, owner: x, storedMember: members[i]}
		if m.key.ID != key.ID {
			m.alias = key.ID
		}
		x.members = append(x.members, m)
	}
	for _, m := range x.members {
		switch {
		case m.has && place == placeCustomer:
			m.data = row.Data
		case m.has && place == placeMeta:
			m.apart = true
		case m.has:
			m.stored = true
		}
	}
	x.size = x.memory()
	return x, nil
}

// memory estimates what the customer takes.
func (x *customer) memory() int {
	n := entrySize + x.prior.Terms().Size()
	for _, m := range x.members {
		if m.doc != nil {
			n += decodedSize(m.size)
		}
		n += entrySize + len(m.data)
	}
	return n
}

// holders counts the profiles that have a document.
func (x *customer) holders() int {
	n := 0
	for _, m := range x.members {
		if m.has {
			n++
		}
	}
	return n
}

// move takes profiles from their customers to another.
func (x *customer) move(members []*member) {
	for _, m := range members {
		from := m.owner
		from.members = slices.DeleteFunc(from.members, func(o *member) bool { return o == m })
		m.owner = x
		x.members = append(x.members, m)
	}
	slices.SortFunc(x.members, func(a, b *member) int {
		switch {
		case a.first != b.first:
			if a.first < b.first {
				return -1
			}
			return 1
		case a.key.ID == x.key.ID:
			return -1
		case b.key.ID == x.key.ID:
			return 1
		default:
			return strings.Compare(a.key.ID, b.key.ID)
		}
	})
}
