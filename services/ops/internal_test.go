package ops

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/token"
	"github.com/parleyhq/parley/pkg/view"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// Whatever is read of a page token is what was put into it.
func FuzzParsePage(f *testing.F) {
	var request token.Fingerprint
	given, err := token.Page(deadLettersPurpose, request, placeOf(view.Namespace{Version: 2, Generation: 1}, []byte("c")))
	require.NoError(f, err)
	f.Add(given)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		ns, cursor, err := parsePage("customer", request, s)
		if err != nil {
			require.Equal(t, errorv1.Reason_REASON_INVALID_TOKEN, rpcerr.ReasonOf(err))
			return
		}
		require.Equal(t, "customer", ns.Projection)
		again, err := token.Page(deadLettersPurpose, request, placeOf(ns, cursor))
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}

// The same of what stands in one, past the checksum.
func FuzzPlace(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02\x00\x00\x00\x01c"))
	f.Add([]byte{})
	var request token.Fingerprint
	f.Fuzz(func(t *testing.T, place []byte) {
		s, err := token.Page(deadLettersPurpose, request, place)
		if err != nil {
			return
		}
		ns, cursor, err := parsePage("customer", request, s)
		if err != nil {
			require.Equal(t, errorv1.Reason_REASON_INVALID_TOKEN, rpcerr.ReasonOf(err))
			return
		}
		require.NotZero(t, ns.Version)
		require.NotZero(t, ns.Generation)
		require.Equal(t, string(place), string(placeOf(ns, cursor)))
	})
}

// No path shows what is personal, however it is written: with all that is
// personal taken out of a message, there is still something where it leads.
func FuzzIsFact(f *testing.F) {
	for _, path := range []string{
		"interaction_count", "channels[1].inbound_count", "recent_interactions[0].summary", "recentInteractions[0].eventId", "working", "orders.totals[0]", "[", ".",
	} {
		f.Add(path)
	}
	whole := &customerv1.Customer{}
	fill(whole.ProtoReflect(), 3)
	facts := event.WithoutPersonal(whole)
	require.False(f, proto.Equal(whole, facts))
	f.Fuzz(func(t *testing.T, path string) {
		if !isFact(whole.ProtoReflect().Descriptor(), path) {
			return
		}
		require.True(t, at(t, whole.ProtoReflect(), path).Equal(at(t, facts.ProtoReflect(), path)), "what is there has something personal in it")
	})
}

// What was told is sent once, and stays what the last answer has.
func TestProgressIsSentOnce(t *testing.T) {
	t.Parallel()
	var latest latestProgress
	require.Nil(t, latest.unsent())
	for _, step := range []string{"folding", "comparing"} {
		latest.tell(&opsv1.Progress{Step: step})
		require.Equal(t, step, latest.unsent().GetStep())
		require.Nil(t, latest.unsent())
		require.Equal(t, step, latest.last().GetStep())
	}
}

// fill sets all fields of a message, lists to one item each.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.Message() != nil && depth == 0:
		case field.IsList() && field.Message() != nil:
			fill(m.Mutable(field).List().AppendMutable().Message(), depth-1)
		case field.Message() != nil:
			fill(m.Mutable(field).Message(), depth-1)
		case field.IsList():
			m.Mutable(field).List().Append(something(field))
		default:
			m.Set(field, something(field))
		}
	}
}

func something(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1)
	default:
		return field.Default()
	}
}

// at is what a path leads to, whichever index it names.
func at(t *testing.T, m protoreflect.Message, path string) protoreflect.Value {
	t.Helper()
	parts := strings.Split(path, ".")
	for i, part := range parts {
		name, _, indexed := strings.Cut(part, "[")
		field := m.Descriptor().Fields().ByTextName(name)
		if field == nil {
			field = m.Descriptor().Fields().ByJSONName(name)
		}
		require.NotNil(t, field, path)
		value := m.Get(field)
		if i < len(parts)-1 {
			if field.IsList() {
				value = value.List().Get(0)
			}
			m = value.Message()
			continue
		}
		if indexed {
			value = value.List().Get(0)
		}
		return value
	}
	return protoreflect.Value{}
}
