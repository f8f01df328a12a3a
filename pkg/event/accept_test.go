package event

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// Every contract that is checked for each event is understood, down to the
// last message: nothing is quietly slow.
func TestAcceptorUnderstandsEveryEvent(t *testing.T) {
	t.Parallel()
	seen := map[protoreflect.FullName]*plan{}
	for _, m := range []proto.Message{&eventv1.Event{}, &interactionv1.Interaction{}, &interactionv1.IngressBatch{}} {
		compile(m.ProtoReflect().Descriptor(), seen)
	}
	require.Contains(t, seen, protoreflect.FullName("parley.type.v1.Money"))
	for name, p := range seen {
		require.False(t, p.opaque, "%s has rules that are not understood", name)
	}
}

// The bounds of what operators do: on each side of each, both agree.
func TestAcceptorOfOperations(t *testing.T) {
	t.Parallel()
	operated := func(change func(*eventv1.ProjectionOperated)) proto.Message {
		p := &eventv1.ProjectionOperated{Projection: "customer", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_REBUILD}
		change(p)
		return p
	}
	skipped := func(change func(*eventv1.DeadLetterSkipped)) proto.Message {
		p := &eventv1.DeadLetterSkipped{Projection: "customer", Position: 1, Reason: "poison"}
		change(p)
		return p
	}
	for name, tc := range map[string]struct {
		m    proto.Message
		good bool
	}{
		"operated":              {operated(func(*eventv1.ProjectionOperated) {}), true},
		"on no projection":      {operated(func(p *eventv1.ProjectionOperated) { p.Projection = "" }), false},
		"nothing done":          {operated(func(p *eventv1.ProjectionOperated) { p.Operation = 0 }), false},
		"the last operation":    {operated(func(p *eventv1.ProjectionOperated) { p.Operation = 8 }), true},
		"not an operation":      {operated(func(p *eventv1.ProjectionOperated) { p.Operation = 9 }), false},
		"a negative operation":  {operated(func(p *eventv1.ProjectionOperated) { p.Operation = -1 }), false},
		"the longest reason":    {operated(func(p *eventv1.ProjectionOperated) { p.Reason = strings.Repeat("r", 512) }), true},
		"a longer reason":       {operated(func(p *eventv1.ProjectionOperated) { p.Reason = strings.Repeat("r", 513) }), false},
		"1000 positions":        {operated(func(p *eventv1.ProjectionOperated) { p.Positions = make([]uint64, 1000) }), true},
		"1001 positions":        {operated(func(p *eventv1.ProjectionOperated) { p.Positions = make([]uint64, 1001) }), false},
		"skipped":               {skipped(func(*eventv1.DeadLetterSkipped) {}), true},
		"nothing skipped":       {skipped(func(p *eventv1.DeadLetterSkipped) { p.Position = 0 }), false},
		"the last position":     {skipped(func(p *eventv1.DeadLetterSkipped) { p.Position = math.MaxUint64 }), true},
		"skipped for no reason": {skipped(func(p *eventv1.DeadLetterSkipped) { p.Reason = "" }), false},
	} {
		err := protovalidate.Validate(tc.m)
		require.Equal(t, tc.good, err == nil, "%s: %v", name, err)
		require.Equal(t, tc.good, (&acceptor{}).accepts(tc.m), name)
	}
}

func TestRangesOfUnsigned(t *testing.T) {
	t.Parallel()
	const most = math.MaxUint64
	for name, tc := range map[string]struct {
		rules     *validate.UInt64Rules
		low, high uint64
	}{
		"none":           {&validate.UInt64Rules{}, 0, most},
		"gt":             {&validate.UInt64Rules{GreaterThan: &validate.UInt64Rules_Gt{Gt: 4}}, 5, most},
		"gt the last":    {&validate.UInt64Rules{GreaterThan: &validate.UInt64Rules_Gt{Gt: most}}, 1, 0},
		"gte and lte":    {&validate.UInt64Rules{GreaterThan: &validate.UInt64Rules_Gte{Gte: 4}, LessThan: &validate.UInt64Rules_Lte{Lte: 9}}, 4, 9},
		"not understood": {&validate.UInt64Rules{LessThan: &validate.UInt64Rules_Lt{Lt: 9}}, 1, 0},
	} {
		low, high := gtLtUnsigned(tc.rules)
		require.Equal(t, []uint64{tc.low, tc.high}, []uint64{low, high}, name)
	}
}

// What the acceptor accepts, protovalidate does.
func TestAcceptorNeverAcceptsAFault(t *testing.T) {
	t.Parallel()
	rules, err := protovalidate.New(protovalidate.WithMessages(&eventv1.Event{}))
	require.NoError(t, err)
	quick := &acceptor{}
	accepted, refused := 0, 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		typ := contract.types[r.IntN(len(contract.types))]
		payload, _ := NewPayload(typ)
		ev := &eventv1.Event{}
		faults := 0
		// Most messages have no fault, so that both answers occur often.
		if r.IntN(3) == 0 {
			faults = 1 + r.IntN(2)
		}
		g := &generator{rand: r, faults: faults}
		g.fill(ev.ProtoReflect())
		m := payload.ProtoReflect()
		g.fill(m.Mutable(m.WhichOneof(m.Descriptor().Oneofs().Get(0))).Message())
		ev.Payload = payload
		if r.IntN(50) == 0 {
			ev.Payload = []*eventv1.Payload{nil, {}}[r.IntN(2)]
		}
		err := rules.Validate(ev)
		switch {
		case quick.accepts(ev):
			require.NoError(t, err, "seed %d, %s", seed, typ)
			accepted++
		case err != nil:
			refused++
		}
	}
	require.Greater(t, accepted, 500)
	require.Greater(t, refused, 250)
}

// generator fills messages at and around their bounds.
type generator struct {
	rand   *rand.Rand
	faults int
}

func (g *generator) fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if inOneof(fd) {
			continue
		}
		required := false
		if rules, err := protovalidate.ResolveFieldRules(fd); err == nil {
			required = rules.GetRequired()
		}
		if fd.HasPresence() && !required && g.rand.IntN(2) == 0 {
			continue
		}
		if fd.IsList() {
			g.fillList(fd, m.Mutable(fd).List())
			continue
		}
		if fd.Message() != nil {
			if strings.HasPrefix(string(fd.Message().FullName()), "parley.") {
				g.fill(m.Mutable(fd).Message())
			} else {
				m.Mutable(fd)
			}
			continue
		}
		m.Set(fd, g.value(fd))
	}
}

func (g *generator) fillList(fd protoreflect.FieldDescriptor, list protoreflect.List) {
	n := g.rand.IntN(3)
	rules, err := protovalidate.ResolveFieldRules(fd)
	if most := rules.GetRepeated().GetMaxItems(); err == nil && most < 300 && g.fault(200) {
		n = int(most) + g.rand.IntN(2)
	}
	for range n {
		if fd.Message() != nil {
			g.fill(list.AppendMutable().Message())
		} else {
			list.Append(g.value(fd))
		}
	}
}

// fault says, about once in n times and as long as there are any left, that
// here is the place for one.
func (g *generator) fault(n int) bool {
	if g.faults > 0 && g.rand.IntN(n) == 0 {
		g.faults--
		return true
	}
	return false
}

func (g *generator) value(fd protoreflect.FieldDescriptor) protoreflect.Value {
	wrong := g.fault(15)
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(g.text(fd, wrong))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(make([]byte, g.rand.IntN(30)+3*btoi(wrong)))
	case protoreflect.EnumKind:
		n := g.rand.IntN(fd.Enum().Values().Len())
		if wrong {
			n += 50 * (g.rand.IntN(3) - 1)
		}
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(g.rand.IntN(2) == 0)
	case protoreflect.Int32Kind:
		n := g.rand.Int32N(1000)
		if wrong {
			n = []int32{-1, 999_999_999, 1_000_000_000, -1_000_000_000}[g.rand.IntN(4)]
		}
		return protoreflect.ValueOfInt32(n)
	case protoreflect.Int64Kind:
		n := g.rand.Int64N(1000)
		if wrong {
			n = []int64{-1, 1e15, 1e15 + 1, -1e15 - 1}[g.rand.IntN(4)]
		}
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(g.rand.IntN(10) + 65530*btoi(wrong)))
	case protoreflect.Uint64Kind:
		if wrong {
			return protoreflect.ValueOfUint64(0)
		}
		return protoreflect.ValueOfUint64(g.rand.Uint64())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(g.rand.Float64())
	default:
		panic("no value for " + fd.FullName())
	}
}

func (g *generator) text(fd protoreflect.FieldDescriptor, wrong bool) string {
	rules, err := protovalidate.ResolveFieldRules(fd)
	if err != nil {
		panic(err)
	}
	text := rules.GetString()
	good := "web"
	switch {
	case text.GetUuid():
		good = "0190b3a0-7c3e-8000-8000-00000000000a"
	case text.GetPattern() == "^[A-Z]{3}$":
		good = "EUR"
	case text.GetMinLen() == 0 && g.rand.IntN(3) == 0:
		good = ""
	}
	if !wrong {
		return good
	}
	switch g.rand.IntN(6) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("a", int(text.GetMaxLen()))
	case 2:
		return strings.Repeat("a", int(text.GetMaxLen())+1)
	case 3:
		return strings.Repeat("ä", int(text.GetMaxLen()))
	case 4:
		return strings.ToUpper(good) + "-\n"
	default:
		return strings.Replace(good, "0", "g", 1)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestAcceptorLeavesOtherRulesToTheLibrary has rules of kinds that the acceptor does not know.
func TestAcceptorLeavesOtherRulesToTheLibrary(t *testing.T) {
	t.Parallel()
	v, err := NewValidator(&opsv1.VerifyProjectionRequest{})
	require.NoError(t, err)
	for sample, faults := range map[float64]int{-1: 1, 0: 1, 0.5: 0, 1: 0, 1.01: 1} {
		require.Len(t, v.Check(&opsv1.VerifyProjectionRequest{Projection: "customer", Sample: &sample}), faults, sample)
	}
}
