package identity

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// State is what a Graph stands on: records by tenant and key. What is not
// there is false without an error. Slices that it hands out are not changed.
type State interface {
	Profile(tenant, id string) (Profile, bool, error)
	Customer(tenant, id string) (Customer, bool, error)
}

// Writer takes what a Graph has changed.
type Writer interface {
	PutProfile(tenant, id string, p Profile) error
	PutCustomer(tenant, id string, c Customer) error
	DeleteCustomer(tenant, id string) error
}

// Profile is what the graph keeps of a profile that the log has named.
type Profile struct {
	// First orders profiles by when the log first named them: twice the
	// position, plus one for the second profile of a link.
	First uint64
	// Customer it belongs to; empty for the one of its own name.
	Customer string
	// Kind of its identifier; empty while no event has said it.
	Kind string
	// Shared says why the identifier links nobody, if it does not.
	Shared Sharing
	// Group is the decision of a person that holds it together with others;
	// zero for none.
	Group Mark
	// Apart are the decisions that hold it apart from others, in the order of their ids.
	Apart []Mark
	// Links are what evidence says of it and others, in the order of their ids.
	Links []Link
}

// Sharing is why an identifier counts as shared.
type Sharing uint8

const (
	// SharedCounted says that it was seen with more people than its kind allows.
	SharedCounted Sharing = 1 << iota
	// SharedBlocked says that the rules block it.
	SharedBlocked
)

// Mark is a side of a person's decision. Profiles of the same side are one
// customer, those of different sides are not.
type Mark struct {
	Decision uuid.UUID
	Side     uint8 // 0, or 1 for those that left
}

// Link is the earliest evidence that two profiles are one person.
type Link struct {
	// Other profile.
	Other string
	// Order in which it is judged.
	Order Order
	// Rule that made the evidence of it.
	Rule eventv1.LinkRule
	// Unique: the other is an identifier that names exactly one person.
	Unique bool
}

// Order is where evidence stands among all: by when it occurred, by its event's
// id, and by the place of the pair within the event. The order of arrival
// does not matter.
type Order struct {
	Seconds int64 // since 1970
	Nanos   int32
	Event   uuid.UUID
	Index   uint32
}

// orderOf the pair at index of an event.
func orderOf(at time.Time, event string, index uint32) Order {
	return Order{Seconds: at.Unix(), Nanos: int32(at.Nanosecond()), Event: eventID(event), Index: index}
}

// eventID is an event's id; other text than a UUID stands as one made of it.
func eventID(s string) uuid.UUID {
	id, err := uuid.Parse(s)
	if err != nil {
		return uuid.NewSHA1(uuid.Nil, []byte(s))
	}
	return id
}

func (o Order) compare(other Order) int {
	return cmp.Or(
		cmp.Compare(o.Seconds, other.Seconds),
		cmp.Compare(o.Nanos, other.Nanos),
		bytes.Compare(o.Event[:], other.Event[:]),
		cmp.Compare(o.Index, other.Index),
	)
}

func (o Order) time() time.Time { return time.Unix(o.Seconds, int64(o.Nanos)).UTC() }

// Customer is a component of more than one profile, or one that was.
type Customer struct {
	// First is the least First of its profiles.
	First uint64
	// Members are its profiles in the order in which they joined.
	Members []string
	// Kinds counts its members by kind, in the order of the names; those whose
	// kind is unknown are not in it.
	Kinds []KindCount
	// Apart are its members' marks, each once.
	Apart []Mark
	// Last bounds the order of the evidence about its members from above.
	Last Order
	// Refused says that some evidence may lead from its members to others: that
	// it was refused, or that a split left it behind.
	Refused bool
}

// Pair is two profiles; the lesser id comes first.
type Pair struct{ A, B string }

// PairOf orders two profile ids.
func PairOf(a, b string) Pair {
	if b < a {
		a, b = b, a
	}
	return Pair{a, b}
}

// KindCount is how many of a kind.
type KindCount struct {
	Kind  string
	Count int
}

// clone of the customer that shares nothing with it.
func (c Customer) clone() Customer {
	c.Members = slices.Clone(c.Members)
	c.Kinds = slices.Clone(c.Kinds)
	c.Apart = slices.Clone(c.Apart)
	return c
}

// clone of the profile that shares nothing with it.
func (p Profile) clone() Profile {
	p.Apart = slices.Clone(p.Apart)
	p.Links = slices.Clone(p.Links)
	return p
}

// link is what is known of the profile and another one.
func (p *Profile) link(other string) (Link, bool) {
	i, there := p.searchLink(other)
	if !there {
		return Link{}, false
	}
	return p.Links[i], true
}

func (p *Profile) searchLink(other string) (int, bool) {
	return slices.BinarySearchFunc(p.Links, other, func(l Link, other string) int { return strings.Compare(l.Other, other) })
}

// uniques counts the different unique identifiers that it was seen with.
func (p *Profile) uniques() int {
	n := 0
	for i := range p.Links {
		if p.Links[i].Unique {
			n++
		}
	}
	return n
}

// last is the order of the youngest evidence about the profile.
func (p *Profile) last() Order {
	var last Order
	for i := range p.Links {
		if p.Links[i].Order.compare(last) > 0 {
			last = p.Links[i].Order
		}
	}
	return last
}

// add counts one more of a kind.
func (c *Customer) add(kind string) {
	c.Kinds = addKind(c.Kinds, kind, 1)
}

func addKind(kinds []KindCount, kind string, n int) []KindCount {
	if kind == "" {
		return kinds
	}
	i, there := slices.BinarySearchFunc(kinds, kind, func(k KindCount, kind string) int { return strings.Compare(k.Kind, kind) })
	if there {
		kinds[i].Count += n
		return kinds
	}
	return slices.Insert(kinds, i, KindCount{kind, n})
}

func count(kinds []KindCount, kind string) int {
	for _, k := range kinds {
		if k.Kind == kind {
			return k.Count
		}
	}
	return 0
}

// addMark adds a mark to a list in the order of decisions, once.
func addMark(marks []Mark, m Mark) []Mark {
	i, there := slices.BinarySearchFunc(marks, m, Mark.compare)
	if there {
		return marks
	}
	return slices.Insert(marks, i, m)
}

func (m Mark) compare(other Mark) int {
	return cmp.Or(bytes.Compare(m.Decision[:], other.Decision[:]), cmp.Compare(m.Side, other.Side))
}

func (m Mark) isZero() bool { return m.Decision == uuid.Nil }

// toldApart says that a decision has one on one side and one on the other.
func toldApart(a, b []Mark) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	for _, m := range a {
		if _, yes := slices.BinarySearchFunc(b, Mark{m.Decision, 1 - m.Side}, Mark.compare); yes {
			return true
		}
	}
	return false
}
