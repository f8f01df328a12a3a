package event_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	eur := &typev1.Money{CurrencyCode: "EUR", Units: 39, Nanos: 900_000_000}
	for want, p := range map[string]*eventv1.Payload{
		"viewed /pricing":              {Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/pricing", Title: "Pricing"}}},
		"viewed a page":                {Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{}}},
		"Checkout Started":             {Kind: &eventv1.Payload_Tracked{Tracked: &eventv1.Tracked{Name: "Checkout\n\tStarted\x1b"}}},
		"ordered 4711 for 39.90 EUR":   {Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{OrderId: "4711", Total: eur}}},
		"ordered":                      {Kind: &eventv1.Payload_OrderCompleted{OrderCompleted: &eventv1.OrderCompleted{}}},
		"refunded 4711 with 39.90 EUR": {Kind: &eventv1.Payload_OrderRefunded{OrderRefunded: &eventv1.OrderRefunded{OrderId: "4711", Amount: eur}}},
		"call abandoned after 1m5s": {Kind: &eventv1.Payload_CallEnded{CallEnded: &eventv1.CallEnded{
			Outcome: eventv1.CallOutcome_CALL_OUTCOME_ABANDONED, Duration: durationpb.New(65 * time.Second),
		}}},
		"wrote “hello there”": {Kind: &eventv1.Payload_ChatMessagePosted{ChatMessagePosted: &eventv1.ChatMessagePosted{Text: " hello\nthere "}}},
		"told firstName, email": {Kind: &eventv1.Payload_TraitsUpdated{TraitsUpdated: &eventv1.TraitsUpdated{
			Traits: []*eventv1.Trait{{Name: "firstName"}, {Name: "email"}},
		}}},
		"visit by paid_search of spring": {Kind: &eventv1.Payload_TouchpointRecorded{TouchpointRecorded: &eventv1.TouchpointRecorded{
			Kind: eventv1.TouchpointKind_TOUCHPOINT_KIND_VISIT, MarketingChannel: "paid_search", Campaign: "spring",
		}}},
		"customer b merged into a":       {Kind: &eventv1.Payload_CustomersMerged{CustomersMerged: &eventv1.CustomersMerged{CustomerId: "a", AbsorbedCustomerId: "b"}}},
		"answered survey q with 9 of 10": {Kind: &eventv1.Payload_SurveyAnswered{SurveyAnswered: &eventv1.SurveyAnswered{SurveyId: "q", Score: 9, ScaleMax: 10}}},
		"asked to switch over customer v3/g2 “it is right”": {Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
			Projection: "customer", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_SWITCH_OVER, Version: 3, Generation: 2, Reason: "it is right",
		}}},
		"asked to retry dead letters of match": {Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
			Projection: "match", Operation: eventv1.ProjectionOperation_PROJECTION_OPERATION_RETRY, Positions: []uint64{7},
		}}},
		"skipped dead letter 4711 of customer “no such order”": {Kind: &eventv1.Payload_DeadLetterSkipped{DeadLetterSkipped: &eventv1.DeadLetterSkipped{
			Projection: "customer", Position: 4711, Reason: "no such\norder",
		}}},
	} {
		require.Equal(t, want, event.Summary(&eventv1.Event{Payload: p}))
	}
	require.Equal(t, "hologram shown", event.Summary(&eventv1.Event{Type: "parley.hologram.shown", Payload: &eventv1.Payload{}}))
	require.Empty(t, event.Summary(&eventv1.Event{}))
}

func TestEveryOperationHasAWordOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]int32{}
	for n, name := range eventv1.ProjectionOperation_name {
		said := event.Summary(&eventv1.Event{Payload: &eventv1.Payload{Kind: &eventv1.Payload_ProjectionOperated{
			ProjectionOperated: &eventv1.ProjectionOperated{Operation: eventv1.ProjectionOperation(n), Projection: "customer"},
		}}})
		require.NotContains(t, seen, said, name)
		seen[said] = n
	}
}

func TestEveryTypeHasASummaryOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, typ := range event.Types() {
		p, _ := event.NewPayload(typ)
		bare := event.Summary(&eventv1.Event{Payload: p})
		require.NotEmpty(t, bare, typ)
		require.NotContains(t, seen, bare, "%s and %s", typ, seen[bare])
		seen[bare] = typ
		full := event.Summary(fullEvent(typ))
		require.NotContains(t, full, "  ")
		require.Less(t, utf8.RuneCountInString(full), 300)
	}
	long := trackEvent()
	long.GetPayload().GetTracked().Name = strings.Repeat("ä", 500)
	require.Equal(t, strings.Repeat("ä", 100)+"…", event.Summary(long))
}
