package event_test

import (
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	optionsv1 "github.com/parleyhq/parley/proto/gen/parley/options/v1"
)

func members() protoreflect.FieldDescriptors {
	return (&eventv1.Payload{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
}

func TestEveryPayloadSaysItsType(t *testing.T) {
	t.Parallel()
	descriptor := (&eventv1.Payload{}).ProtoReflect().Descriptor()
	require.Equal(t, 1, descriptor.Oneofs().Len())
	require.Equal(t, descriptor.Fields().Len(), members().Len(), "everything in Payload is a kind")
	seen := map[string]protoreflect.FullName{}
	for i := range members().Len() {
		fd := members().Get(i)
		name := fd.Message().FullName()
		said, ok := proto.GetExtension(fd.Message().Options(), optionsv1.E_Event).(*optionsv1.EventType)
		require.True(t, ok && said != nil, "%s has no option parley.options.v1.event", name)
		require.Regexp(t, `^parley\.[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`, said.GetType(), name)
		require.NotEqual(t, event.TypeIngressBatch, said.GetType())
		require.NotEqual(t, event.TypeQuarantine, said.GetType())
		require.GreaterOrEqual(t, said.GetSchemaVersion(), uint32(1), name)
		require.NotContains(t, seen, said.GetType(), "%s and %s share a type", name, seen[said.GetType()])
		seen[said.GetType()] = name
		require.Contains(t, event.Types(), said.GetType())
		require.Equal(t, said.GetSchemaVersion(), event.Version(said.GetType()))

		p, ok := event.NewPayload(said.GetType())
		require.True(t, ok)
		typ, version, ok := event.TypeOf(p)
		require.True(t, ok)
		require.Equal(t, said.GetType(), typ)
		require.Equal(t, said.GetSchemaVersion(), version)
	}
	require.Len(t, event.Types(), len(seen))
	require.True(t, slices.IsSorted(event.Types()))
}

// Personal fields are marked where the mark has an effect, and everything from
// outside is bounded.
func TestEveryFieldKeepsTheRules(t *testing.T) {
	t.Parallel()
	visited := map[protoreflect.FullName]bool{}
	var visit func(md protoreflect.MessageDescriptor)
	visit = func(md protoreflect.MessageDescriptor) {
		if visited[md.FullName()] || !strings.HasPrefix(string(md.FullName()), "parley.") {
			return
		}
		visited[md.FullName()] = true
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			rules, err := protovalidate.ResolveFieldRules(fd)
			require.NoError(t, err)
			value := rules
			if fd.IsList() {
				require.NotNil(t, rules.GetRepeated().MaxItems, "%s has no max_items", fd.FullName())
				value = rules.GetRepeated().GetItems()
			}
			switch fd.Kind() {
			case protoreflect.StringKind:
				text := value.GetString()
				bounded := text.MaxLen != nil || text.GetUuid() || strings.HasSuffix(text.GetPattern(), "$")
				require.True(t, bounded, "%s has no bound", fd.FullName())
			case protoreflect.BytesKind:
				// What the recorder writes itself is bound by the store.
				if fd.FullName() != "parley.event.v1.Event.sealed" {
					require.NotNil(t, value.GetBytes().MaxLen, "%s has no bound", fd.FullName())
				}
			case protoreflect.EnumKind:
				require.True(t, value.GetEnum().GetDefinedOnly(), "%s is not defined_only", fd.FullName())
				require.True(t, strings.HasSuffix(string(fd.Enum().Values().ByNumber(0).Name()), "_UNSPECIFIED"))
			case protoreflect.MessageKind:
				visit(fd.Message())
			default:
			}
		}
	}
	visit((&eventv1.Event{}).ProtoReflect().Descriptor())
	require.Contains(t, visited, protoreflect.FullName("parley.event.v1.Trait"))
}

func TestTextThatIsJSONSaysSo(t *testing.T) {
	t.Parallel()
	for i := range members().Len() {
		fields := members().Get(i).Message().Fields()
		for j := range fields.Len() {
			fd := fields.Get(j)
			if name := string(fd.Name()); strings.Contains(name, "json") {
				require.True(t, strings.HasSuffix(name, "_json"), fd.FullName())
				require.True(t, personalOption(fd), "%s may hold anything and is not personal", fd.FullName())
			}
		}
	}
}

func TestTypesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, p := range []*eventv1.Payload{nil, {}} {
		_, _, ok := event.TypeOf(p)
		require.False(t, ok)
		require.False(t, event.Stamp(&eventv1.Event{Payload: p}))
	}
	_, ok := event.NewPayload("parley.no.such")
	require.False(t, ok)
	require.Zero(t, event.Version("parley.no.such"))
}

// The numbers that the wire is walked by are those of the contract.
func TestFieldNumbers(t *testing.T) {
	t.Parallel()
	for message, fields := range map[proto.Message]map[protoreflect.Name]protoreflect.FieldNumber{
		&eventv1.Event{}: {
			"id": 1, "tenant": 2, "type": 3, "schema_version": 4, "profile_id": 5, "source": 6, "source_id": 7,
			"source_sequence": 8, "content_digest": 9, "occurred_time": 10, "time_quality": 11, "received_time": 12,
			"channel": 13, "direction": 14, "conversation": 15, "actor": 16, "correlation_id": 17, "causation_id": 18,
			"traceparent": 19, "backfill": 20, "payload_key": 21, "sealed": 22, "identifiers": 23, "payload": 24,
			"nul_replaced": 25, "context_json": 26, "profile_kind": 27,
		},
		&eventv1.Identifier{}: {"kind": 1, "value": 2, "role": 3, "strength": 4, "profile_id": 5, "assurance": 6},
		&eventv1.Actor{}:      {"kind": 1, "id": 2},
	} {
		md := message.ProtoReflect().Descriptor()
		require.Equal(t, len(fields), md.Fields().Len(), "%s has a field that decoding does not know by hand", md.FullName())
		for name, number := range fields {
			fd := md.Fields().ByName(name)
			require.NotNil(t, fd, "%s.%s", md.FullName(), name)
			require.Equal(t, number, fd.Number(), fd.FullName())
		}
	}
}
