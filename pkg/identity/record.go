package identity

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// The stored forms of the records. They are canonical, so that equal graphs
// have equal bytes.

// errRecord is wrapped where stored bytes are no record.
var errRecord = errors.New("identity record is malformed")

// What a profile has besides its first three fields.
const (
	hasShared = 1 << iota
	hasGroup
	hasApart
	hasLinks
)

// AppendBinary appends the record's stored form.
func (p Profile) AppendBinary(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, p.First)
	b = appendString(b, p.Customer)
	b = appendString(b, p.Kind)
	var has byte
	if p.Shared != 0 {
		has |= hasShared
	}
	if !p.Group.isZero() {
		has |= hasGroup
	}
	if len(p.Apart) > 0 {
		has |= hasApart
	}
	if len(p.Links) > 0 {
		has |= hasLinks
	}
	b = append(b, has)
	if has&hasShared != 0 {
		b = append(b, byte(p.Shared))
	}
	if has&hasGroup != 0 {
		b = appendMark(b, p.Group)
	}
	if has&hasApart != 0 {
		b = appendMarks(b, p.Apart)
	}
	if has&hasLinks != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.Links)))
		for i := range p.Links {
			b = p.Links[i].append(b)
		}
	}
	return b, nil
}

// UnmarshalBinary reads what AppendBinary wrote.
func (p *Profile) UnmarshalBinary(data []byte) error {
	d := decoder{data: data}
	*p = Profile{First: d.uvarint(), Customer: d.string(), Kind: d.string()}
	has := d.byte()
	d.bad = d.bad || has&^(hasShared|hasGroup|hasApart|hasLinks) != 0
	if has&hasShared != 0 {
		p.Shared = Sharing(d.byte())
		d.bad = d.bad || p.Shared == 0
	}
	if has&hasGroup != 0 {
		p.Group = d.mark()
		d.bad = d.bad || p.Group.isZero()
	}
	if has&hasApart != 0 {
		p.Apart = d.marks()
		d.bad = d.bad || len(p.Apart) == 0
	}
	if has&hasLinks != 0 {
		// A link takes more than a byte: a length beyond the data is no record,
		// and must not become an allocation.
		n := d.count()
		p.Links = make([]Link, 0, min(n, uint64(len(d.data)/minLinkBytes)))
		for ; n > 0 && !d.bad; n-- {
			p.Links = append(p.Links, d.link())
		}
		d.bad = d.bad || len(p.Links) == 0
	}
	return d.done("profile")
}

// minLinkBytes is what a link takes at least.
const minLinkBytes = 20

const linkUnique = 1 << 7

func (l *Link) append(b []byte) []byte {
	b = appendString(b, l.Other)
	b = l.Order.append(b)
	flags := byte(l.Rule) &^ linkUnique
	if l.Unique {
		flags |= linkUnique
	}
	return append(b, flags)
}

func (d *decoder) link() Link {
	l := Link{Other: d.string(), Order: d.order()}
	flags := d.byte()
	l.Rule = eventv1.LinkRule(flags &^ linkUnique)
	l.Unique = flags&linkUnique != 0
	return l
}

func (o Order) append(b []byte) []byte {
	b = binary.AppendVarint(b, o.Seconds)
	b = binary.AppendUvarint(b, uint64(uint32(o.Nanos)))
	b = append(b, o.Event[:]...)
	return binary.AppendUvarint(b, uint64(o.Index))
}

func (d *decoder) order() Order {
	return Order{
		Seconds: d.varint(), Nanos: int32(uint32(d.uvarint() & (1<<32 - 1))),
		Event: d.uuid(), Index: uint32(d.uvarint() & (1<<32 - 1)),
	}
}

func appendMark(b []byte, m Mark) []byte { return append(append(b, m.Decision[:]...), m.Side) }

func appendMarks(b []byte, marks []Mark) []byte {
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = appendMark(b, m)
	}
	return b
}

func (d *decoder) mark() Mark { return Mark{Decision: d.uuid(), Side: d.byte()} }

func (d *decoder) marks() []Mark {
	var marks []Mark
	for n := d.count(); n > 0 && !d.bad; n-- {
		marks = append(marks, d.mark())
	}
	return marks
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
	b = appendMarks(b, c.Apart)
	b = c.Last.append(b)
	if c.Refused {
		return append(b, 1), nil
	}
	return append(b, 0), nil
}

// UnmarshalBinary reads what AppendBinary wrote.
func (c *Customer) UnmarshalBinary(data []byte) error {
	d := decoder{data: data}
	*c = Customer{First: d.uvarint()}
	// A member takes at least a byte, as does a kind.
	for n := d.count(); n > 0 && !d.bad; n-- {
		c.Members = append(c.Members, d.string())
	}
	for n := d.count(); n > 0 && !d.bad; n-- {
		c.Kinds = append(c.Kinds, KindCount{d.string(), int(d.uvarint() & (1<<31 - 1))})
	}
	c.Apart = d.marks()
	c.Last = d.order()
	switch d.byte() {
	case 0:
	case 1:
		c.Refused = true
	default:
		d.bad = true
	}
	return d.done("customer")
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

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.data)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) byte() byte {
	if d.bad || len(d.data) == 0 {
		d.bad = true
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

func (d *decoder) uuid() uuid.UUID {
	var id uuid.UUID
	if d.bad || len(d.data) < len(id) {
		d.bad = true
		return id
	}
	d.data = d.data[copy(id[:], d.data):]
	return id
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
