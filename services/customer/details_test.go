package customer

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/money"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// teller tells a story: each event a second behind the one before.
type teller struct {
	t   testing.TB
	doc *customerv1.Customer
	n   int
}

func tell(t testing.TB) *teller { return &teller{t: t, doc: &customerv1.Customer{}} }

// at folds an event of a second, whatever was told before.
func (s *teller) at(second int, channel string, direction eventv1.Direction, payload *eventv1.Payload, ids ...*eventv1.Identifier) *teller {
	s.t.Helper()
	s.n++
	ev := &eventv1.Event{
		Id: fmt.Sprintf("00000000-0000-4000-8000-%012d", s.n), Tenant: "acme", Source: "web/dev", ProfileId: "p1",
		Channel: channel, Direction: direction, Identifiers: ids, Payload: payload, SchemaVersion: 1,
	}
	event.Stamp(ev)
	when := start.Add(time.Duration(second) * time.Second)
	event.SetOccurred(ev, when, when, false)
	require.NoError(s.t, fold(s.doc, &eventv1.RecordedEvent{Event: ev, Position: uint64(s.n)}))
	return s
}

func (s *teller) says(payload *eventv1.Payload) *teller {
	s.t.Helper()
	return s.at(s.n, "web", eventv1.Direction_DIRECTION_INBOUND, payload)
}

// seen is what is served.
func (s *teller) seen() *customerv1.Customer {
	s.t.Helper()
	require.NoError(s.t, finish(s.doc, "p1", profiles[:1]))
	data, err := visible(mustMarshal(s.t, s.doc))
	require.NoError(s.t, err)
	doc := &customerv1.Customer{}
	require.NoError(s.t, proto.Unmarshal(data, doc))
	require.Empty(s.t, doc.ProtoReflect().GetUnknown())
	return doc
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	return data
}

func ordered(id string, total *typev1.Money) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{OrderId: id, Total: total}}}
}

func refunded(id string, amount *typev1.Money) *eventv1.Payload {
	return &eventv1.Payload{Kind: &eventv1.Payload_OrderRefunded{OrderRefunded: &eventv1.OrderRefunded{OrderId: id, Amount: amount}}}
}

func amount(t testing.TB, text string) *typev1.Money {
	t.Helper()
	number, currency, _ := strings.Cut(text, " ")
	m, err := money.Parse(currency, number)
	require.NoError(t, err)
	return m
}

// TestOrders tells orders (`4711 39.90 EUR`) and refunds (`-4711 5 EUR`, in
// full `-4711`), and what comes of them.
func TestOrders(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, story, totals, refunds string
		count, refundCount, without  int64
	}{
		{name: "one", story: "1 39.90 EUR", totals: "39.90 EUR", count: 1},
		{name: "several currencies", story: "1 10 USD, 2 0.05 EUR, 3 0.95 EUR, 4 7 JPY", totals: "1.00 EUR, 7 JPY, 10.00 USD", count: 4},
		{name: "a negative one", story: "1 10 EUR, 2 -10.50 EUR", totals: "-0.50 EUR", count: 2},
		{name: "without amount", story: "1, 2 1 EUR", totals: "1.00 EUR", count: 2, without: 1},
		{name: "refund in part", story: "1 10 EUR, -1 4 EUR", totals: "10.00 EUR", refunds: "4.00 EUR", count: 1, refundCount: 1},
		{name: "refund in full", story: "1 10 EUR, 2 3 EUR, -1", totals: "13.00 EUR", refunds: "10.00 EUR", count: 2, refundCount: 1},
		{name: "before the order", story: "-1, 1 10 EUR", totals: "10.00 EUR", refunds: "10.00 EUR", count: 1, refundCount: 1},
		{name: "in part, then the rest", story: "1 10 EUR, -1 4 EUR, -1", totals: "10.00 EUR", refunds: "10.00 EUR", count: 1, refundCount: 2},
		{name: "in full, told twice", story: "1 10 EUR, -1, -1", totals: "10.00 EUR", refunds: "10.00 EUR", count: 1, refundCount: 2},
		{name: "in part beyond the order", story: "1 10 EUR, -1 14 EUR, -1", totals: "10.00 EUR", refunds: "14.00 EUR", count: 1, refundCount: 2},
		{name: "of an order never told", story: "-9", refundCount: 1},
		{name: "ids that begin alike", story: "1 10 EUR, 1~2 20 EUR, 12 30 EUR, -1", totals: "60.00 EUR", refunds: "10.00 EUR", count: 3, refundCount: 1},
		{name: "of two currencies", story: "1 10 EUR, 1 5 USD, -1", totals: "10.00 EUR, 5.00 USD", refunds: "10.00 EUR, 5.00 USD", count: 2, refundCount: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := tell(t)
			for line := range strings.SplitSeq(tc.story, ", ") {
				id, text, hasAmount := strings.Cut(line, " ")
				var m *typev1.Money
				if hasAmount {
					m = amount(t, text)
				}
				if id, isRefund := strings.CutPrefix(id, "-"); isRefund {
					s.says(refunded(id, m))
				} else {
					s.says(ordered(id, m))
				}
			}
			o := s.seen().GetOrders()
			require.Equal(t, tc.totals, sumsText(o.GetTotals()))
			require.Equal(t, tc.refunds, sumsText(o.GetRefunds()))
			require.Equal(t, []int64{tc.count, tc.refundCount, tc.without}, []int64{o.GetCount(), o.GetRefundCount(), o.GetWithoutAmountCount()})
		})
	}
}

func sumsText(list []*typev1.Money) string {
	texts := make([]string, len(list))
	for i, m := range list {
		texts[i] = money.Format(m)
	}
	return strings.Join(texts, ", ")
}

func TestSumsBeyondWhatMoneyHolds(t *testing.T) {
	t.Parallel()
	most := &typev1.Money{CurrencyCode: "EUR", Units: money.MaxUnits}
	least := &typev1.Money{CurrencyCode: "USD", Units: -money.MaxUnits}
	s := tell(t)
	const enough = 12_000 // 1.2e19, above 2^63
	for range enough {
		s.says(ordered("", most)).says(ordered("", least))
	}
	totals := s.seen().GetOrders().GetTotals()
	require.EqualValues(t, math.MaxInt64, totals[0].GetUnits())
	require.Less(t, totals[1].GetUnits(), int64(math.MinInt64/2))
	// What stands above the limit is not lost.
	for range enough - 1 {
		s.says(ordered("", &typev1.Money{CurrencyCode: "EUR", Units: -money.MaxUnits})).
			says(ordered("", &typev1.Money{CurrencyCode: "USD", Units: money.MaxUnits}))
	}
	require.Empty(t, cmp.Diff([]*typev1.Money{most, least}, s.seen().GetOrders().GetTotals(), protocmp.Transform()))
}

func TestDisplayName(t *testing.T) {
	t.Parallel()
	id := &eventv1.Identifier{Kind: "email", Value: "ada@example.com", Strength: 3}
	for _, tc := range []struct {
		traits []string
		want   string
	}{
		{nil, "ada@example.com"},
		{[]string{"name", `"Ada Lovelace"`, "firstName", `"X"`}, "Ada Lovelace"},
		{[]string{"name", `null`, "firstName", `"Ada"`, "last_name", `"Love\u006cace"`}, "Ada Lovelace"},
		{[]string{"lastName", `"Lovelace"`}, "Lovelace"},
		{[]string{"name", `"  "`, "company", `{"name":"Acme","id":1}`}, "Acme"},
		{[]string{"name", `["odd"]`, "company", `true`}, "ada@example.com"},
		{[]string{"name", `4711`}, "4711"},
		{[]string{"name", `not json`}, "ada@example.com"},
	} {
		p := &eventv1.TraitsUpdated{}
		for i := 0; i+1 < len(tc.traits); i += 2 {
			p.Traits = append(p.Traits, &eventv1.Trait{Name: tc.traits[i], ValueJson: tc.traits[i+1]})
		}
		s := tell(t).at(0, "web", 1, &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: p}}, id)
		require.Equal(t, tc.want, s.seen().GetDisplayName(), "%v", tc.traits)
	}
}

func TestPreferredChannel(t *testing.T) {
	t.Parallel()
	const in, out = eventv1.Direction_DIRECTION_INBOUND, eventv1.Direction_DIRECTION_OUTBOUND
	view := &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{}}}
	require.Empty(t, tell(t).at(0, "email", out, view).seen().GetPreferredChannel())
	s := tell(t).at(0, "email", out, view).at(1, "email", out, view).at(2, "phone", in, view)
	require.Equal(t, "phone", s.seen().GetPreferredChannel())
	require.Equal(t, "chat", s.at(3, "chat", in, view).seen().GetPreferredChannel(), "the later one of equals")
	require.Equal(t, "phone", s.at(1, "phone", in, view).seen().GetPreferredChannel())
}

func TestATraitTakenAwayStaysAway(t *testing.T) {
	t.Parallel()
	plan := func(value string) *eventv1.Payload {
		return &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
			Traits: []*eventv1.Trait{{Name: "plan", ValueJson: value}},
		}}}
	}
	s := tell(t).at(5, "web", 1, plan("null"))
	require.Empty(t, s.seen().GetTraits())
	require.Empty(t, s.at(4, "web", 1, plan(`"late"`)).seen().GetTraits())
	require.Equal(t, `"pro"`, s.at(6, "web", 1, plan(`"pro"`)).seen().GetTraits()[0].GetValueJson())
}

// oneOfEverything tells what brings something into every part of a document.
func oneOfEverything(t testing.TB) *teller {
	t.Helper()
	const in, out, noted = eventv1.Direction_DIRECTION_INBOUND, eventv1.Direction_DIRECTION_OUTBOUND, eventv1.Direction_DIRECTION_UNSPECIFIED
	user := &eventv1.Identifier{Kind: "user_id", Value: "u1", Strength: 4, ProfileId: "p1"}
	mail := &eventv1.Identifier{Kind: "email", Value: "ada@example.com", Strength: 3, ProfileId: "p2"}
	agent := &eventv1.Identifier{Kind: "email", Value: "bob@company.example", Strength: 3, Role: eventv1.IdentifierRole_IDENTIFIER_ROLE_AGENT}
	return tell(t).
		at(1, "web", in, &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/pricing"}}}, user).
		at(2, "web", in, &eventv1.Payload{Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
			Provenance: eventv1.TraitProvenance_TRAIT_PROVENANCE_STATED,
			Traits:     []*eventv1.Trait{{Name: "name", ValueJson: `"Ada Lovelace"`}, {Name: "plan", ValueJson: `"pro"`}, {Name: "old", ValueJson: "null"}},
		}}}, user, mail).
		at(3, "web", in, ordered("4711", amount(t, "39.90 EUR")), user).
		at(4, "email", out, &eventv1.Payload{Kind: &eventv1.Payload_EmailSent{EmailSent: &eventv1.EmailSent{Subject: "Your order"}}}, mail, agent).
		at(5, "web", in, &eventv1.Payload{Kind: &eventv1.Payload_ConsentGranted{ConsentGranted: &eventv1.ConsentGranted{
			Purpose: "marketing", ConsentChannel: "email", ExpiresTime: timestamppb.New(start.AddDate(1, 0, 0)),
		}}}, user).
		at(6, "web", in, &eventv1.Payload{Kind: &eventv1.Payload_ConsentWithdrawn{ConsentWithdrawn: &eventv1.ConsentWithdrawn{Purpose: "analytics"}}}, user).
		at(7, "web", in, &eventv1.Payload{Kind: &eventv1.Payload_AffiliationAsserted{AffiliationAsserted: &eventv1.AffiliationAsserted{
			OrganisationId: "acme", Name: "Acme Ltd", Role: "buyer",
		}}}, user).
		at(8, "web", in, &eventv1.Payload{Kind: &eventv1.Payload_AffiliationAsserted{AffiliationAsserted: &eventv1.AffiliationAsserted{
			OrganisationId: "acme", Role: "owner",
		}}}, user).
		at(9, "web", noted, refunded("4711", nil), user).
		at(2, "identity", noted, &eventv1.Payload{Kind: &eventv1.Payload_LinkAsserted{LinkAsserted: &eventv1.LinkAsserted{
			ProfileId: "p1", OtherProfileId: "p2", Rule: eventv1.LinkRule_LINK_RULE_SAME_EVENT, Reason: "one event named both",
		}}}, user).
		at(3, "identity", noted, &eventv1.Payload{Kind: &eventv1.Payload_LinkRefused{LinkRefused: &eventv1.LinkRefused{
			ProfileId: "p1", OtherProfileId: "p9", Refusal: eventv1.LinkRefusal_LINK_REFUSAL_TWO_USER_IDS,
		}}})
}

// TestGoldenCustomer tells one of everything; what is served of it stands in a
// file for people to read.
func TestGoldenCustomer(t *testing.T) {
	t.Parallel()
	compact, err := protojson.Marshal(oneOfEverything(t).seen())
	require.NoError(t, err)
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, compact, "", "  "))
	pretty.WriteByte('\n')
	golden := filepath.Join("testdata", "customer.golden.json")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(golden, pretty.Bytes(), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	// protojson's spacing differs from build to build; indenting settles it.
	require.Equal(t, string(want), pretty.String())
}
