package identity

import (
	"fmt"
	"maps"
	"slices"
)

// Graph is the identity graph of all tenants: records in a State, and above
// them what was folded or decided since the last Flush, so that decisions see
// the ones before them. Not for concurrent use. After an error of the State
// the Graph must be discarded.
type Graph struct {
	rules RulesOf
	state State

	profiles  map[key]Profile
	customers map[key]customerChange
}

// RulesOf gives the rules of a tenant. They stay as they are.
type RulesOf func(tenant string) *Rules

type key struct{ tenant, id string }

// customerChange is a customer's new record, or that it has none any more.
type customerChange struct {
	Customer
	gone bool
}

// NewGraph makes a graph above a state.
func NewGraph(rules RulesOf, state State) *Graph {
	g := &Graph{rules: rules, state: state}
	g.Discard()
	return g
}

// Discard forgets everything since the last Flush.
func (g *Graph) Discard() {
	g.profiles = map[key]Profile{}
	g.customers = map[key]customerChange{}
}

// Changed says how many records Flush would write.
func (g *Graph) Changed() int { return len(g.profiles) + len(g.customers) }

// Flush writes what has changed, in no particular order. The State must have
// it before the Graph is used again.
func (g *Graph) Flush(w Writer) error {
	for k, p := range g.profiles {
		if err := w.PutProfile(k.tenant, k.id, p); err != nil {
			return fmt.Errorf("put profile: %w", err)
		}
	}
	for k, c := range g.customers {
		var err error
		if c.gone {
			err = w.DeleteCustomer(k.tenant, k.id)
		} else {
			err = w.PutCustomer(k.tenant, k.id, c.Customer)
		}
		if err != nil {
			return fmt.Errorf("put customer: %w", err)
		}
	}
	clear(g.profiles)
	clear(g.customers)
	return nil
}

// CustomerOf resolves a profile id, seen or not, to its customer's id.
func (g *Graph) CustomerOf(tenant, profileID string) (string, error) {
	p, _, err := g.profile(tenant, profileID)
	if err != nil {
		return "", err
	}
	return owner(profileID, p), nil
}

// Members are the profiles of a customer, in the order in which they joined; none where
// the id is no customer's any more.
func (g *Graph) Members(tenant, customerID string) ([]string, error) {
	c, err := g.component(tenant, customerID)
	return c.Members, err
}

func owner(id string, p Profile) string {
	if p.Customer == "" {
		return id
	}
	return p.Customer
}

func (g *Graph) profile(tenant, id string) (Profile, bool, error) {
	if p, ok := g.profiles[key{tenant, id}]; ok {
		return p, true, nil
	}
	p, ok, err := g.state.Profile(tenant, id)
	if err != nil {
		return Profile{}, false, fmt.Errorf("read profile: %w", err)
	}
	return p, ok, nil
}

func (g *Graph) putProfile(tenant, id string, p Profile) { g.profiles[key{tenant, id}] = p }

// record is a customer's own record; false where it has none.
func (g *Graph) record(tenant, id string) (Customer, bool, error) {
	if c, ok := g.customers[key{tenant, id}]; ok {
		return c.Customer, !c.gone, nil
	}
	c, ok, err := g.state.Customer(tenant, id)
	if err != nil {
		return Customer{}, false, fmt.Errorf("read customer: %w", err)
	}
	return c, ok, nil
}

// component is a customer as a whole, also one that has no record because it
// is a single profile. It has no members where the id is no customer's.
func (g *Graph) component(tenant, id string) (Customer, error) {
	c, ok, err := g.record(tenant, id)
	if err != nil || ok {
		return c, err
	}
	p, seen, err := g.profile(tenant, id)
	if err != nil || owner(id, p) != id {
		return Customer{}, err
	}
	c = Customer{First: p.First, Members: []string{id}, Apart: p.Apart, Last: p.last(), Refused: len(p.Links) > 0}
	if !seen {
		c.First = unseen
	}
	c.add(p.Kind)
	return c, nil
}

// unseen is younger than everything that was seen.
const unseen = ^uint64(0)

// see notes that the log names a profile.
func (g *Graph) see(tenant, id string, first uint64) error {
	if id == "" {
		return nil
	}
	_, seen, err := g.profile(tenant, id)
	if err != nil || seen {
		return err
	}
	g.putProfile(tenant, id, Profile{First: first})
	return nil
}

// learnKind notes what kind of identifier a profile is.
func (g *Graph) learnKind(tenant, id, kind string) error {
	p, seen, err := g.profile(tenant, id)
	if err != nil || !seen || p.Kind != "" {
		return err
	}
	p.Kind = kind
	g.putProfile(tenant, id, p)
	customer := owner(id, p)
	c, ok, err := g.record(tenant, customer)
	if err != nil || !ok {
		return err
	}
	c = c.clone()
	c.add(kind)
	g.customers[key{tenant, customer}] = customerChange{Customer: c}
	return nil
}

// addLink notes evidence about two profiles, on both; the earliest stands.
func (g *Graph) addLink(tenant, a, b string, l Link, uniqueA, uniqueB bool) error {
	for _, end := range [...]struct {
		id, other string
		unique    bool // the other one is
	}{{a, b, uniqueB}, {b, a, uniqueA}} {
		p, seen, err := g.profile(tenant, end.id)
		if err != nil {
			return err
		}
		if !seen {
			continue
		}
		l := l
		l.Other, l.Unique = end.other, end.unique
		i, there := p.searchLink(end.other)
		switch {
		case there && p.Links[i].Order.compare(l.Order) <= 0:
			continue
		case there:
			p.Links = slices.Clone(p.Links)
			l.Unique = l.Unique || p.Links[i].Unique
			p.Links[i] = l
		case len(p.Links) >= maxLinks:
			continue
		default:
			p.Links = slices.Insert(slices.Clone(p.Links), i, l)
		}
		g.putProfile(tenant, end.id, p)
		if err := g.younger(tenant, owner(end.id, p), l.Order); err != nil {
			return err
		}
	}
	return nil
}

// maxLinks bounds what is kept of one profile. Evidence beyond it, that of a
// program which takes a new identifier each time, counts for nothing.
const maxLinks = 10_000

// younger notes evidence about a customer.
func (g *Graph) younger(tenant, id string, order Order) error {
	c, ok, err := g.record(tenant, id)
	if err != nil || !ok || c.Last.compare(order) >= 0 {
		return err
	}
	c.Last = order
	g.customers[key{tenant, id}] = customerChange{Customer: c}
	return nil
}

// leadsOut says that evidence leads from a profile to one that is neither a
// customer's nor about to become his.
func (g *Graph) leadsOut(tenant, id, customer string, joining []string) (bool, error) {
	p, _, err := g.profile(tenant, id)
	if err != nil {
		return false, err
	}
	for i := range p.Links {
		other := p.Links[i].Other
		if other == customer || slices.Contains(joining, other) {
			continue
		}
		c, err := g.CustomerOf(tenant, other)
		if err != nil || c != customer {
			return true, err
		}
	}
	return false, nil
}

// refusedOf notes that evidence leads from a profile's customer to another one.
func (g *Graph) refusedOf(tenant, profile string) error {
	id, err := g.CustomerOf(tenant, profile)
	if err != nil {
		return err
	}
	c, ok, err := g.record(tenant, id)
	if err != nil || !ok || c.Refused {
		return err // without a record every link is taken to lead to others
	}
	c.Refused = true
	g.customers[key{tenant, id}] = customerChange{Customer: c}
	return nil
}

// move takes profiles out of the customers they belong to and into one. It is
// both a merge and a split.
func (g *Graph) move(tenant string, ids []string, to string, first uint64) error {
	target, err := g.component(tenant, to)
	if err != nil {
		return err
	}
	target = target.clone()
	if _, ok, err := g.record(tenant, to); err != nil {
		return err
	} else if !ok {
		if target.Refused, err = g.leadsOut(tenant, to, to, ids); err != nil {
			return err
		}
	}
	// What leaves is collected by customer, so that each is written once.
	left := map[string]map[string]struct{}{}
	for _, id := range ids {
		p, seen, err := g.profile(tenant, id)
		if err != nil {
			return err
		}
		if !seen {
			p.First = first
		}
		from := owner(id, p)
		if from == to {
			continue
		}
		if left[from] == nil {
			left[from] = map[string]struct{}{}
			c, ok, err := g.record(tenant, from)
			if err != nil {
				return err
			}
			if !ok {
				c.Last = p.last()
				if c.Refused, err = g.leadsOut(tenant, id, to, ids); err != nil {
					return err
				}
			}
			if target.Last.compare(c.Last) < 0 {
				target.Last = c.Last
			}
			target.Refused = target.Refused || c.Refused
		}
		left[from][id] = struct{}{}
		p.Customer = to
		if id == to {
			p.Customer = ""
		}
		g.putProfile(tenant, id, p)
		target.Members = append(target.Members, id)
		target.First = min(target.First, p.First)
		if len(target.Members) == 1 {
			target.First = p.First
		}
		target.add(p.Kind)
		for _, m := range p.Apart {
			target.Apart = addMark(target.Apart, m)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(left)) {
		if err := g.leave(tenant, from, left[from]); err != nil {
			return err
		}
	}
	g.customers[key{tenant, to}] = customerChange{Customer: target}
	return nil
}

// leave takes profiles out of a customer's record. Their own records are
// already changed.
func (g *Graph) leave(tenant, from string, gone map[string]struct{}) error {
	c, ok, err := g.record(tenant, from)
	if err != nil || !ok {
		return err
	}
	rest := make([]string, 0, max(0, len(c.Members)-len(gone)))
	for _, m := range c.Members {
		if _, left := gone[m]; !left {
			rest = append(rest, m)
		}
	}
	return g.recount(tenant, from, rest, c)
}

// recount makes a customer's record anew from its members'; without any it has
// none. What it cannot tell from them it takes from the record before.
func (g *Graph) recount(tenant, id string, members []string, before Customer) error {
	c := Customer{First: unseen, Members: members, Last: before.Last, Refused: before.Refused}
	for _, m := range members {
		p, _, err := g.profile(tenant, m)
		if err != nil {
			return err
		}
		c.First = min(c.First, p.First)
		c.add(p.Kind)
		for _, mark := range p.Apart {
			c.Apart = addMark(c.Apart, mark)
		}
	}
	g.customers[key{tenant, id}] = customerChange{Customer: c, gone: len(members) == 0}
	return nil
}
