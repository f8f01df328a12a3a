package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// State is what a Graph stands on: records by tenant and key. What is not
// there is false without an error. Slices that it hands out are not changed.
type State interface {
	Profile(tenant, id string) (Profile, bool, error)
	Customer(tenant, id string) (Customer, bool, error)
	Edge(tenant string, pair Pair) (Edge, bool, error)
}

// Writer takes what a Graph has changed.
type Writer interface {
	PutProfile(tenant, id string, p Profile) error
	PutCustomer(tenant, id string, c Customer) error
	DeleteCustomer(tenant, id string) error
	PutEdge(tenant string, pair Pair, e Edge) error
}

// Profile is what the graph keeps of a profile that the log has named.
type Profile struct {
	// First orders profiles by when the log first named them: twice the
	// position, plus one for the second profile of a link.
	First uint64
	// Customer it belongs to; empty for the one of its own name.
	Customer string
	// Kind of its identifier, known from the first link event about it; empty before.
	Kind string
}

// Customer is a component of more than one profile, or one that was.
type Customer struct {
	// First is the least First of its profiles.
	First uint64
	// Members are its profiles in the order in which they joined.
	Members []string
	// Kinds counts its members by kind, in the order of the names; those whose
	// kind is unknown are not in it.
	Kinds []KindCount
}

// KindCount is how many of a kind.
type KindCount struct {
	Kind  string
	Count int
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

// Edge is what was last decided about a pair.
type Edge struct {
	// Refused is why it was not linked; UNSPECIFIED for linked.
	Refused eventv1.LinkRefusal
}

// Clone of the customer that shares nothing with it.
func (c Customer) clone() Customer {
	c.Members = slices.Clone(c.Members)
	c.Kinds = slices.Clone(c.Kinds)
	return c
}

// add counts one more of a kind.
func (c *Customer) add(kind string) {
	if kind == "" {
		return
	}
	i, there := slices.BinarySearchFunc(c.Kinds, kind, func(k KindCount, kind string) int { return strings.Compare(k.Kind, kind) })
	if there {
		c.Kinds[i].Count++
		return
	}
	c.Kinds = slices.Insert(c.Kinds, i, KindCount{kind, 1})
}

func (c *Customer) count(kind string) int {
	for _, k := range c.Kinds {
		if k.Kind == kind {
			return k.Count
		}
	}
	return 0
}

// errRecord is wrapped where stored bytes are no record.
var errRecord = errors.New("identity record is malformed")

// AppendBinary appends the record's stored form: canonical, so that equal
// graphs have equal bytes.
func (p Profile) AppendBinary(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, p.First)
	b = appendString(b, p.Customer)
	return appendString(b, p.Kind), nil
}

// UnmarshalBinary reads what AppendBinary wrote.
func (p *Profile) UnmarshalBinary(data []byte) error {
	d := decoder{data: data}
	*p = Profile{First: d.uvarint(), Customer: d.string(), Kind: d.string()}
	return d.done("profile")
}

// AppendBinary appends the record's stored form.
func (c Customer) AppendBinary(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, c.First)
	b = binary.AppendUvarint(b, uint64(len(c.Members)))
	for _, m := range c.Members {
		b = appendString(b, m)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Kinds)))
	for _, k := range c.Kinds {
		b = appendString(b, k.Kind)
		b = binary.AppendUvarint(b, uint64(max(k.Count, 0)))
	}
	return b, nil
}

// UnmarshalBinary reads what AppendBinary wrote.
func (c *Customer) UnmarshalBinary(data []byte) error {
	d := decoder{data: data}
	*c = Customer{First: d.uvarint()}
	// A member takes at least a byte: a length beyond the data is no record, and
	// must not become an allocation.
	for n := d.count(); n > 0 && !d.bad; n-- {
		c.Members = append(c.Members, d.string())
	}
	for n := d.count(); n > 0 && !d.bad; n-- {
		c.Kinds = append(c.Kinds, KindCount{d.string(), int(d.uvarint() & (1<<31 - 1))})
	}
	return d.done("customer")
}

// AppendBinary appends the record's stored form.
func (e Edge) AppendBinary(b []byte) ([]byte, error) {
	return binary.AppendUvarint(b, uint64(uint32(e.Refused))), nil
}

// UnmarshalBinary reads what AppendBinary wrote.
func (e *Edge) UnmarshalBinary(data []byte) error {
	d := decoder{data: data}
	e.Refused = eventv1.LinkRefusal(int32(uint32(d.uvarint() & (1<<32 - 1))))
	return d.done("edge")
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decoder reads records; once bad, everything it reads is zero.
type decoder struct {
	data []byte
	bad  bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) count() uint64 {
	n := d.uvarint()
	if n > uint64(len(d.data)) {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) string() string {
	n := d.count()
	if d.bad {
		return ""
	}
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}

func (d *decoder) done(what string) error {
	if d.bad || len(d.data) != 0 {
		return fmt.Errorf("%s: %w", what, errRecord)
	}
	return nil
}
