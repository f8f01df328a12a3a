package event

import (
	"hash/maphash"
	"math"
	"regexp"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Each function here takes out of a rule what it understands and says whether
// that was all.

func compileText(r *validate.StringRules, v *valuePlan) bool {
	v.kind, v.minLen, v.maxLen = kindText, r.GetMinLen(), math.MaxUint64
	if r.MaxLen != nil {
		v.maxLen = r.GetMaxLen()
	}
	r.MinLen, r.MaxLen = nil, nil
	if r.Pattern != nil {
		re, err := regexp.Compile(r.GetPattern())
		if err != nil {
			return false
		}
		v.pattern = &knownMatches{re: re, seed: maphash.MakeSeed()}
		r.Pattern = nil
	}
	if known, ok := r.GetWellKnown().(*validate.StringRules_Uuid); ok {
		v.uuid = known.Uuid
		r.WellKnown = nil
	}
	return isEmpty(r)
}

func compileEnum(ed protoreflect.EnumDescriptor, r *validate.EnumRules, v *valuePlan) bool {
	if !r.GetDefinedOnly() {
		return false
	}
	r.DefinedOnly = nil
	v.kind = kindEnum
	for i := range ed.Values().Len() {
		if n := ed.Values().Get(i).Number(); n >= 0 && n < 64 {
			v.defined |= 1 << n
		}
	}
	for _, n := range r.GetNotIn() {
		if n >= 0 && n < 64 {
			v.defined &^= 1 << n
		}
	}
	r.NotIn = nil
	return isEmpty(r)
}

// gtLt32 is the range that the bounds leave; empty for one that is not understood.
func gtLt32(r *validate.Int32Rules) (low, high int64) {
	low, high = math.MinInt32, math.MaxInt32
	switch bound := r.GetGreaterThan().(type) {
	case *validate.Int32Rules_Gte:
		low = int64(bound.Gte)
	case *validate.Int32Rules_Gt:
		low = int64(bound.Gt) + 1
	}
	switch bound := r.GetLessThan().(type) {
	case *validate.Int32Rules_Lte:
		high = int64(bound.Lte)
	case *validate.Int32Rules_Lt:
		high = int64(bound.Lt) - 1
	}
	return low, high
}

// gtLt64 is gtLt32 for the wider type; exclusive bounds are not understood.
func gtLt64(r *validate.Int64Rules) (low, high int64) {
	low, high = math.MinInt64, math.MaxInt64
	switch bound := r.GetGreaterThan().(type) {
	case nil:
	case *validate.Int64Rules_Gte:
		low = bound.Gte
	default:
		return 1, 0
	}
	switch bound := r.GetLessThan().(type) {
	case nil:
	case *validate.Int64Rules_Lte:
		high = bound.Lte
	default:
		return 1, 0
	}
	return low, high
}

// gtLtUnsigned is gtLt64 for what has no sign; a lower bound may be exclusive.
func gtLtUnsigned(r *validate.UInt64Rules) (low, high uint64) {
	low, high = 0, math.MaxUint64
	switch bound := r.GetGreaterThan().(type) {
	case nil:
	case *validate.UInt64Rules_Gte:
		low = bound.Gte
	case *validate.UInt64Rules_Gt:
		if bound.Gt == math.MaxUint64 {
			return 1, 0
		}
		low = bound.Gt + 1
	default:
		return 1, 0
	}
	switch bound := r.GetLessThan().(type) {
	case nil:
	case *validate.UInt64Rules_Lte:
		high = bound.Lte
	default:
		return 1, 0
	}
	return low, high
}

// gtLtDouble is gtLt64 for floating-point numbers; a lower bound may be exclusive.
func gtLtDouble(r *validate.DoubleRules) (low, high float64) {
	low, high = math.Inf(-1), math.Inf(1)
	switch bound := r.GetGreaterThan().(type) {
	case nil:
	case *validate.DoubleRules_Gte:
		low = bound.Gte
	case *validate.DoubleRules_Gt:
		low = math.Nextafter(bound.Gt, math.Inf(1))
	default:
		return 1, 0
	}
	switch bound := r.GetLessThan().(type) {
	case nil:
	case *validate.DoubleRules_Lte:
		high = bound.Lte
	default:
		return 1, 0
	}
	return low, high
}

// isEmpty: nothing is left, not even a field that this binary does not know.
func isEmpty(m proto.Message) bool {
	return !m.ProtoReflect().IsValid() || proto.Size(m) == 0
}
