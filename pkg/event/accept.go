package event

import (
	"hash/maphash"
	"math"
	"regexp"
	"sync"
	"sync/atomic"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// acceptor says of nearly every message without a fault that it has none, in
// a fraction of the time that protovalidate needs, mostly since it looks at
// one member of a oneof instead of all. It understands the rules that Parley's
// contracts use and never says of a message that it is at fault: whatever it
// does not accept goes to protovalidate, which alone decides. It must only
// never accept what protovalidate refuses; a test compares the two.
type acceptor struct {
	plans sync.Map // protoreflect.MessageDescriptor → *plan
}

// plan is what is looked at in a message.
type plan struct {
	fields []fieldPlan
	oneofs []oneofPlan
	// opaque: there are rules that are not understood. Accepts nothing.
	opaque bool
	// compiled: the rules were read to the end.
	compiled bool
}

type fieldPlan struct {
	desc     protoreflect.FieldDescriptor
	required bool
	list     bool
	presence bool
	minItems uint64
	maxItems uint64
	value    valuePlan
}

type oneofPlan struct {
	desc     protoreflect.OneofDescriptor
	required bool
	members  map[protoreflect.FieldNumber]*fieldPlan
}

// valuePlan is what a single value must be.
type valuePlan struct {
	kind valueKind
	// Of text in bytes: a text of so many bytes has no more characters.
	minLen, maxLen uint64
	uuid           bool
	pattern        *knownMatches
	// Of signed integers, and of unsigned ones.
	minInt, maxInt   int64
	minUint, maxUint uint64
	// Of floating-point numbers, both inclusive: no number is outside of them, nor NaN within.
	minDouble, maxDouble float64
	// Of enums: a bit for each number from 0 to 63 that is defined.
	defined uint64
	message *plan
}

type valueKind uint8

const (
	kindAny valueKind = iota
	kindText
	kindBytes
	kindSigned
	kindUnsigned
	kindDouble
	kindEnum
	kindMessage
)

// accepts says that a message surely has no fault; false says nothing.
func (a *acceptor) accepts(m proto.Message) bool {
	r := m.ProtoReflect()
	return a.planFor(r.Descriptor()).accepts(r)
}

func (a *acceptor) planFor(md protoreflect.MessageDescriptor) *plan {
	if p, ok := a.plans.Load(md); ok {
		if p, ok := p.(*plan); ok {
			return p
		}
	}
	p := compile(md, map[protoreflect.FullName]*plan{})
	a.plans.Store(md, p)
	return p
}

func (p *plan) accepts(m protoreflect.Message) bool {
	if p.opaque || !m.IsValid() {
		return false
	}
	for i := range p.fields {
		if !p.fields[i].accepts(m) {
			return false
		}
	}
	for i := range p.oneofs {
		o := &p.oneofs[i]
		set := m.WhichOneof(o.desc)
		if set == nil {
			if o.required {
				return false
			}
			continue
		}
		if f := o.members[set.Number()]; f != nil && !f.accepts(m) {
			return false
		}
	}
	return true
}

func (f *fieldPlan) accepts(m protoreflect.Message) bool {
	if f.list {
		list := m.Get(f.desc).List()
		n := list.Len()
		if uint64(n) < f.minItems || uint64(n) > f.maxItems || (f.required && n == 0) {
			return false
		}
		if f.value.kind == kindAny {
			return true
		}
		for i := range n {
			if !f.value.accepts(list.Get(i)) {
				return false
			}
		}
		return true
	}
	if f.presence && !m.Has(f.desc) {
		return !f.required
	}
	return f.value.accepts(m.Get(f.desc))
}

func (v *valuePlan) accepts(value protoreflect.Value) bool {
	switch v.kind {
	case kindAny:
		return true
	case kindText:
		return v.acceptsText(value.String())
	case kindBytes:
		n := uint64(len(value.Bytes()))
		return n >= v.minLen && n <= v.maxLen
	case kindSigned:
		n := value.Int()
		return n >= v.minInt && n <= v.maxInt
	case kindUnsigned:
		n := value.Uint()
		return n >= v.minUint && n <= v.maxUint
	case kindDouble:
		n := value.Float()
		return n >= v.minDouble && n <= v.maxDouble
	case kindEnum:
		n := value.Enum()
		return n >= 0 && n < 64 && v.defined&(1<<n) != 0
	case kindMessage:
		return v.message.accepts(value.Message())
	default:
		return false
	}
}

func (v *valuePlan) acceptsText(s string) bool {
	n := uint64(len(s))
	if n > v.maxLen {
		return false
	}
	// A character has at most four bytes.
	if v.minLen > 0 && n < v.minLen*4 && (v.minLen > 1 || n == 0) {
		return false
	}
	return (!v.uuid || isUUID(s)) && (v.pattern == nil || v.pattern.match(s))
}

// isUUID takes the form of RFC 9562 only.
func isUUID(s string) bool {
	if len(s) != canonicalUUID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F'):
			return false
		}
	}
	return true
}

// knownMatches is a pattern with some texts that were seen to match it: the
// fields that have patterns (tenant, channel, kind) have few values.
type knownMatches struct {
	re    *regexp.Regexp
	seed  maphash.Seed
	slots [64]atomic.Pointer[string]
}

func (k *knownMatches) match(s string) bool {
	slot := &k.slots[maphash.String(k.seed, s)%uint64(len(k.slots))]
	if known := slot.Load(); known != nil && *known == s {
		return true
	}
	if !k.re.MatchString(s) {
		return false
	}
	slot.Store(&s)
	return true
}

// compile reads a message's rules. seen has the plans of messages on the way,
// for those that contain themselves.
func compile(md protoreflect.MessageDescriptor, seen map[protoreflect.FullName]*plan) *plan {
	if p, ok := seen[md.FullName()]; ok {
		return p
	}
	p := &plan{}
	seen[md.FullName()] = p
	rules, err := protovalidate.ResolveMessageRules(md)
	if err != nil || !isEmpty(rules) {
		p.opaque = true
		return p
	}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		f, ok := compileField(fd, seen)
		if !ok {
			p.opaque = true
			return p
		}
		if f == nil || inOneof(fd) {
			continue
		}
		p.fields = append(p.fields, *f)
	}
	for i := range md.Oneofs().Len() {
		od := md.Oneofs().Get(i)
		if od.IsSynthetic() {
			continue
		}
		o, ok := compileOneof(od, seen)
		if !ok {
			p.opaque = true
			return p
		}
		p.oneofs = append(p.oneofs, o)
	}
	p.compiled = true
	return p
}

func inOneof(fd protoreflect.FieldDescriptor) bool {
	od := fd.ContainingOneof()
	return od != nil && !od.IsSynthetic()
}

func compileOneof(od protoreflect.OneofDescriptor, seen map[protoreflect.FullName]*plan) (oneofPlan, bool) {
	o := oneofPlan{desc: od, members: map[protoreflect.FieldNumber]*fieldPlan{}}
	rules, err := protovalidate.ResolveOneofRules(od)
	if err != nil {
		return o, false
	}
	if rules != nil {
		rest := proto.CloneOf(rules)
		o.required = rest.GetRequired()
		rest.Required = nil
		if !isEmpty(rest) {
			return o, false
		}
	}
	for i := range od.Fields().Len() {
		fd := od.Fields().Get(i)
		f, ok := compileField(fd, seen)
		if !ok {
			return o, false
		}
		if f != nil {
			o.members[fd.Number()] = f
		}
	}
	return o, true
}

// compileField reads a field's rules; nil for one that has none. It is not ok
// where they are not all understood.
func compileField(fd protoreflect.FieldDescriptor, seen map[protoreflect.FullName]*plan) (*fieldPlan, bool) {
	rules, err := protovalidate.ResolveFieldRules(fd)
	if err != nil {
		return nil, false
	}
	f := &fieldPlan{desc: fd, list: fd.IsList(), presence: fd.HasPresence(), maxItems: ^uint64(0)}
	rest := &validate.FieldRules{}
	if rules != nil {
		rest = proto.CloneOf(rules)
	}
	f.required = rest.GetRequired()
	rest.Required = nil
	if fd.IsMap() || (f.required && !f.list && !f.presence) {
		return nil, false
	}
	items := rest
	if repeated := rest.GetRepeated(); repeated != nil {
		if repeated.MinItems != nil {
			f.minItems, repeated.MinItems = repeated.GetMinItems(), nil
		}
		if repeated.MaxItems != nil {
			f.maxItems, repeated.MaxItems = repeated.GetMaxItems(), nil
		}
		items = repeated.GetItems()
		repeated.Items = nil
		if !isEmpty(repeated) {
			return nil, false
		}
		rest.Type = nil
		if !isEmpty(rest) {
			return nil, false
		}
	}
	if items == nil {
		items = &validate.FieldRules{}
	}
	ok := compileValue(fd, items, &f.value, seen)
	if !ok {
		return nil, false
	}
	if f.value.kind == kindAny && !f.required && f.minItems == 0 && f.maxItems == ^uint64(0) {
		return nil, true
	}
	return f, true
}

// compileValue reads what one value must be. It takes from rules what it
// understands.
func compileValue(
	fd protoreflect.FieldDescriptor, rules *validate.FieldRules, v *valuePlan, seen map[protoreflect.FullName]*plan,
) bool {
	if fd.Message() != nil {
		sub := compile(fd.Message(), seen)
		if !sub.isEmpty() {
			v.kind, v.message = kindMessage, sub
		}
		return isEmpty(rules)
	}
	// Rules of a kind that is not looked at here are left to the library.
	understood := rules.GetType() == nil
	switch {
	case rules.GetString() != nil:
		understood = compileText(rules.GetString(), v)
	case rules.GetBytes() != nil:
		r := rules.GetBytes()
		v.kind, v.minLen, v.maxLen = kindBytes, r.GetMinLen(), ^uint64(0)
		if r.MaxLen != nil {
			v.maxLen = r.GetMaxLen()
		}
		r.MinLen, r.MaxLen = nil, nil
		understood = isEmpty(r)
	case rules.GetEnum() != nil:
		understood = compileEnum(fd.Enum(), rules.GetEnum(), v)
	case rules.GetInt32() != nil:
		r := rules.GetInt32()
		low, high := gtLt32(r)
		v.kind, v.minInt, v.maxInt = kindSigned, low, high
		r.GreaterThan, r.LessThan = nil, nil
		understood = isEmpty(r) && low <= high
	case rules.GetInt64() != nil:
		r := rules.GetInt64()
		low, high := gtLt64(r)
		v.kind, v.minInt, v.maxInt = kindSigned, low, high
		r.GreaterThan, r.LessThan = nil, nil
		understood = isEmpty(r) && low <= high
	case rules.GetUint32() != nil:
		r := rules.GetUint32()
		v.kind, v.maxUint = kindUnsigned, math.MaxUint32
		if most, ok := r.GetLessThan().(*validate.UInt32Rules_Lte); ok {
			v.maxUint = uint64(most.Lte)
			r.LessThan = nil
		}
		understood = isEmpty(r)
	case rules.GetUint64() != nil:
		r := rules.GetUint64()
		v.kind = kindUnsigned
		v.minUint, v.maxUint = gtLtUnsigned(r)
		r.GreaterThan, r.LessThan = nil, nil
		understood = isEmpty(r) && v.minUint <= v.maxUint
	case rules.GetDouble() != nil:
		r := rules.GetDouble()
		v.kind = kindDouble
		v.minDouble, v.maxDouble = gtLtDouble(r)
		r.GreaterThan, r.LessThan = nil, nil
		understood = isEmpty(r) && v.minDouble <= v.maxDouble
	}
	rules.Type = nil
	return understood && isEmpty(rules)
}

// isEmpty: nothing in the plan can refuse, as is certain once it is complete.
func (p *plan) isEmpty() bool { return p.compiled && len(p.fields) == 0 && len(p.oneofs) == 0 }
