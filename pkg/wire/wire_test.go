package wire_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/wire"
)

var (
	event = &eventv1.Event{
		Id: "0197a3d2-7c1e-7d5a-9b53-0c8f2f6f7a01", Tenant: "default", Type: "parley.web.page_viewed", SchemaVersion: 1,
		OccurredTime: &timestamppb.Timestamp{Seconds: -1, Nanos: 5}, TimeQuality: eventv1.TimeQuality(99),
		Identifiers: []*eventv1.Identifier{{Kind: "email", Value: "zoë@example.org"}, {}, {Kind: "user_id", Value: strings.Repeat("長", 60)}},
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{
			PageViewed: &eventv1.PageViewed{Url: "https://example.org/?q=ü", Title: "Ünïcode"},
		}},
	}
	document = &customerv1.Customer{
		InteractionCount: 3,
		Identifiers:      []*customerv1.CustomerIdentifier{{Kind: "phone", Value: "+31201234567", EventCount: -1}},
		Traits:           []*customerv1.CustomerTrait{{Name: "name", ValueJson: `"Zoë"`}},
	}
)

func TestMarshalIsTheLibrarys(t *testing.T) {
	unknown := proto.CloneOf(document)
	unknown.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 200, protowire.BytesType), "kept"))
	for name, m := range map[string]proto.Message{
		"event": event, "document": document, "unknown fields": unknown, "empty": &eventv1.Event{},
		"without generated methods": timestamppb.New(event.GetOccurredTime().AsTime()),
	} {
		t.Run(name, func(t *testing.T) {
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			require.NoError(t, err)
			got, err := wire.Append([]byte("before"), m)
			require.NoError(t, err)
			require.Equal(t, "before"+string(want), string(got))
			require.Equal(t, len(want), wire.Size(m))

			again := m.ProtoReflect().New().Interface()
			require.NoError(t, wire.Unmarshal(want, again))
			require.True(t, proto.Equal(m, again))
		})
	}
}

func TestUnmarshalEmptiesTheMessage(t *testing.T) {
	m := proto.CloneOf(event)
	require.NoError(t, wire.Unmarshal(nil, m))
	require.True(t, proto.Equal(&eventv1.Event{}, m))
}

func TestUnmarshalKeepsNothingOfItsInput(t *testing.T) {
	data, err := wire.Marshal(event)
	require.NoError(t, err)
	m := &eventv1.Event{}
	require.NoError(t, wire.Unmarshal(data, m))
	clear(data)
	require.True(t, proto.Equal(event, m))
}

func TestUnmarshalRefusesWhatIsCut(t *testing.T) {
	data, err := wire.Marshal(event)
	require.NoError(t, err)
	require.Error(t, wire.Unmarshal(data[:len(data)-1], &eventv1.Event{}))
}

func TestTextCheck(t *testing.T) {
	check := wire.NewTextCheck(event.ProtoReflect().Descriptor())
	for name, c := range map[string]struct {
		change func(*eventv1.Event)
		valid  bool
	}{
		"as it is":          {func(*eventv1.Event) {}, true},
		"at the top":        {func(e *eventv1.Event) { e.Source = "\xff" }, false},
		"in a list":         {func(e *eventv1.Event) { e.Identifiers[0].Value = "zo\xeb" }, false},
		"two levels down":   {func(e *eventv1.Event) { e.GetPayload().GetPageViewed().Title = "\xc3" }, false},
		"bytes are no text": {func(e *eventv1.Event) { e.ContentDigest = []byte{0xff} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			ev := proto.CloneOf(event)
			c.change(ev)
			data, err := wire.Marshal(ev)
			require.NoError(t, err)
			require.Equal(t, c.valid, check.Valid(data))
			require.Equal(t, c.valid, proto.Unmarshal(data, &eventv1.Event{}) == nil, "the library's opinion")
		})
	}
}

// What the check and the generated code take together, the library takes too,
// and reads the same from it.
func FuzzUnmarshal(f *testing.F) {
	for _, m := range []proto.Message{event, document} {
		data, err := wire.Marshal(m)
		require.NoError(f, err)
		f.Add(data)
	}
	check := wire.NewTextCheck(event.ProtoReflect().Descriptor())
	f.Fuzz(func(t *testing.T, data []byte) {
		var fast, library eventv1.Event
		if !check.Valid(data) || wire.Unmarshal(data, &fast) != nil {
			return
		}
		require.NoError(t, proto.Unmarshal(data, &library))
		// What is unknown within a timestamp the generated code drops; nobody
		// will ever add a field to those.
		forgetUnknownOfTimes(library.ProtoReflect())
		forgetUnknownOfTimes(fast.ProtoReflect())
		require.True(t, proto.Equal(&library, &fast))
	})
}

func forgetUnknownOfTimes(m protoreflect.Message) {
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		m.SetUnknown(nil)
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := range v.List().Len() {
				forgetUnknownOfTimes(v.List().Get(i).Message())
			}
		default:
			forgetUnknownOfTimes(v.Message())
		}
		return true
	})
}
