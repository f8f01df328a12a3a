package event_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/parleyhq/parley/pkg/event"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

// Of every type what is left is what a record has as facts, and of those
// nothing that is marked further down.
func TestWithoutPersonalKeepsTheFacts(t *testing.T) {
	t.Parallel()
	codec := event.NewCodec()
	for _, typ := range event.Types() {
		whole := fullEvent(typ)
		before := proto.CloneOf(whole)
		require.Contains(t, prototext.Format(whole), personalMark, typ)

		got := event.WithoutPersonal(whole)
		require.Empty(t, cmp.Diff(before, whole, protocmp.Transform()), "%s: the original was changed", typ)
		require.NotContains(t, prototext.Format(got), personalMark, typ)

		record, err := codec.Encode(whole)
		require.NoError(t, err, typ)
		facts := &eventv1.Event{}
		require.NoError(t, proto.Unmarshal(record.Data, facts), typ)
		require.NotEmpty(t, facts.GetSealed(), typ)
		require.Empty(t, cmp.Diff(event.WithoutPersonal(facts), got, protocmp.Transform()), typ)
		require.Contains(t, prototext.Format(got), factMark, typ)
	}
}

func TestWithoutPersonalAtAnyDepth(t *testing.T) {
	t.Parallel()
	doc := &customerv1.Customer{
		CustomerId: "c1", DisplayName: "Ada", InteractionCount: 2,
		Identifiers: []*customerv1.CustomerIdentifier{{Kind: "email", Value: "ada@example.com"}},
		Channels:    []*customerv1.ChannelActivity{{Channel: "web", InboundCount: 2}},
		Orders:      &customerv1.OrderSummary{Count: 1, Totals: []*typev1.Money{{CurrencyCode: "EUR", Units: 39}}},
		RecentInteractions: []*customerv1.InteractionSummary{
			{EventId: "e1", Type: "parley.page.viewed", Summary: "viewed /ada"}, {EventId: "e2", ReplyAddress: "ada@example.com"},
		},
		Links: []*customerv1.CustomerLink{{ProfileId: "p1", Reason: "both are ada@example.com"}},
	}
	want := proto.CloneOf(doc)
	want.DisplayName, want.Identifiers = "", nil
	want.RecentInteractions[0].Summary, want.RecentInteractions[1].ReplyAddress, want.Links[0].Reason = "", "", ""
	// A field of a newer version may be personal.
	unknown := protowire.AppendString(protowire.AppendTag(nil, 9999, protowire.BytesType), "Lovelace")
	doc.ProtoReflect().SetUnknown(unknown)
	doc.GetOrders().ProtoReflect().SetUnknown(unknown)

	require.True(t, proto.Equal(want, event.WithoutPersonal(doc)))
}

func TestWithoutPersonalTakesWhatIsSealed(t *testing.T) {
	t.Parallel()
	rec := &eventv1.RecordedEvent{Position: 7, Event: &eventv1.Event{Id: "x", Sealed: []byte("ada"), PayloadKey: "k1"}}
	got := event.WithoutPersonal(rec)
	require.True(t, proto.Equal(&eventv1.RecordedEvent{Position: 7, Event: &eventv1.Event{Id: "x", PayloadKey: "k1"}}, got))
	require.NotEmpty(t, rec.GetEvent().GetSealed())
	require.Nil(t, event.WithoutPersonal((*eventv1.RecordedEvent)(nil)))
}
