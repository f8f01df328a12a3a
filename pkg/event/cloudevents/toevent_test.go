package cloudevents_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/event/cloudevents"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func toEvent(t *testing.T, e *cloudevents.CloudEvent) *eventv1.Event {
	t.Helper()
	ev, err := cloudevents.ToEvent(e, "default", "nats/crm", now)
	require.NoError(t, err)
	validator, err := event.NewValidator()
	require.NoError(t, err)
	require.Empty(t, validator.Check(ev))
	return ev
}

func identifiers(ev *eventv1.Event) map[string]string {
	out := map[string]string{}
	for _, id := range ev.GetIdentifiers() {
		out[id.GetKind()] = id.GetValue()
	}
	return out
}

func TestForeignTypesAreTracked(t *testing.T) {
	t.Parallel()
	ev := toEvent(t, &cloudevents.CloudEvent{
		ID: "42", Source: "https://crm.example/contacts", Type: "com.example.contact.opened", Subject: "c-1",
		Time: now.Add(-time.Minute), DataContentType: "application/json; charset=utf-8",
		Extensions: map[string]string{
			"userid": "u-1", "email": "ada@example.com", "channel": "in_person", "direction": "inbound", "sequence": "7",
			"conversation": "visit-1", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "backfill": "true",
		},
		Data: []byte(`{ "userId": "u-1", "anonymousId": "anon", "phone": 4366412345, "email": null, "n": {"userId":"no"} }`),
	})
	require.Equal(t, "parley.tracked", ev.GetType())
	require.EqualValues(t, 1, ev.GetSchemaVersion())
	require.Equal(t, "com.example.contact.opened", ev.GetPayload().GetTracked().GetName())
	require.JSONEq(t, `{"userId":"u-1","anonymousId":"anon","phone":4366412345,"email":null,"n":{"userId":"no"}}`,
		ev.GetPayload().GetTracked().GetPropertiesJson())
	require.Equal(t, map[string]string{
		"user_id": "u-1", "email": "ada@example.com", "anonymous_id": "anon", "phone": "4366412345",
	}, identifiers(ev))
	require.Len(t, ev.GetIdentifiers(), 4, "none twice")
	require.Equal(t, "default", ev.GetTenant())
	require.Equal(t, "nats/crm", ev.GetSource())
	require.Equal(t, "https://crm.example/contacts 42", ev.GetSourceId())
	require.Equal(t, event.DeterministicID("default", "nats/crm", ev.GetSourceId()).String(), ev.GetId())
	require.Equal(t, now.Add(-time.Minute), event.Time(ev))
	require.Equal(t, now, ev.GetReceivedTime().AsTime())
	require.Equal(t, "in_person", ev.GetChannel())
	require.Equal(t, eventv1.Direction_DIRECTION_INBOUND, ev.GetDirection())
	require.EqualValues(t, 7, ev.GetSourceSequence())
	require.Equal(t, "visit-1", ev.GetConversation())
	require.NotEmpty(t, ev.GetTraceparent())
	require.True(t, ev.GetBackfill())
	require.Empty(t, ev.GetProfileId())
}

func TestDataOfAnyKindBecomesProperties(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		contentType string
		data        []byte
		want        string
	}{
		"none":           {"", nil, ""},
		"array":          {"application/json", []byte(" [1, 2] "), `{"data":[1,2]}`},
		"string":         {"", []byte(`"x"`), `{"data":"x"}`},
		"text":           {"text/plain", []byte("a\n\"b\""), `{"data":"a\n\"b\""}`},
		"binary":         {"application/octet-stream", []byte{0, 255}, `{"data_base64":"AP8="}`},
		"text, no UTF-8": {"text/plain", []byte{0xff}, `{"data_base64":"/w=="}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := least()
			e.DataContentType, e.Data = c.contentType, c.data
			ev := toEvent(t, e)
			require.Equal(t, c.want, ev.GetPayload().GetTracked().GetPropertiesJson())
			require.Empty(t, ev.GetIdentifiers())
			require.Equal(t, cloudevents.DefaultChannel, ev.GetChannel())
			require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_RECEIVED, ev.GetTimeQuality())
		})
	}
}

func TestTypesOfTheCatalogue(t *testing.T) {
	t.Parallel()
	payload := &eventv1.Payload{Kind: &eventv1.Payload_OfferMade{OfferMade: &eventv1.OfferMade{OfferId: "o-1", Name: "Ten off"}}}
	data, err := proto.Marshal(payload)
	require.NoError(t, err)
	t.Run("protobuf", func(t *testing.T) {
		t.Parallel()
		for _, media := range []string{"application/protobuf", "application/x-protobuf", "application/vnd.google.protobuf"} {
			e := least()
			e.Type, e.DataContentType, e.Data = "parley.offer.made", media, data
			e.Extensions = map[string]string{"userid": "u-1", "channel": "web"}
			ev := toEvent(t, e)
			require.Empty(t, cmp.Diff(payload, ev.GetPayload(), protocmp.Transform()))
			require.Equal(t, "parley.offer.made", ev.GetType())
			require.Equal(t, map[string]string{"user_id": "u-1"}, identifiers(ev))
		}
	})
	t.Run("JSON", func(t *testing.T) {
		t.Parallel()
		e := least()
		e.Type, e.Extensions = "parley.offer.made", map[string]string{"userid": "u-1", "channel": "web"}
		e.Data = []byte(`{"channel":"email","direction":"DIRECTION_OUTBOUND","occurredTime":"2026-01-02T03:04:05Z","sourceSequence":"5",
			"conversation":"c","correlationId":"x","causationId":"y","backfill":true,"actor":{"kind":"ACTOR_KIND_AGENT","id":"a"},
			"identifiers":[{"kind":"email","value":"ada@example.com","strength":"IDENTIFIER_STRENGTH_UNIQUE","profileId":"forged"}],
			"payload":{"offerMade":{"offerId":"o-1","name":"Ten off"}}}`)
		ev := toEvent(t, e)
		require.Empty(t, cmp.Diff(payload, ev.GetPayload(), protocmp.Transform()))
		require.Equal(t, map[string]string{"user_id": "u-1", "email": "ada@example.com"}, identifiers(ev))
		for _, id := range ev.GetIdentifiers() {
			require.Empty(t, id.GetProfileId())
			require.Zero(t, id.GetStrength())
		}
		require.Equal(t, "email", ev.GetChannel())
		require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), event.Time(ev))
		require.Equal(t, eventv1.Direction_DIRECTION_OUTBOUND, ev.GetDirection())
		require.EqualValues(t, 5, ev.GetSourceSequence())
		require.Equal(t, "c", ev.GetConversation())
		require.Equal(t, "x", ev.GetCorrelationId())
		require.Equal(t, "y", ev.GetCausationId())
		require.Equal(t, "a", ev.GetActor().GetId())
		require.True(t, ev.GetBackfill())
	})
	for name, c := range map[string]struct {
		typ, media, data string
		want             error
	}{
		"unknown type":     {"parley.no.such", "application/protobuf", "", cloudevents.ErrUnknownType},
		"ingress batch":    {event.TypeIngressBatch, "application/protobuf", "", cloudevents.ErrUnknownType},
		"no payload":       {"parley.offer.made", "application/protobuf", "", cloudevents.ErrBadData},
		"another payload":  {"parley.page.viewed", "application/protobuf", string(data), cloudevents.ErrBadData},
		"garbage":          {"parley.offer.made", "application/protobuf", "\xff", cloudevents.ErrBadData},
		"no JSON":          {"parley.offer.made", "application/json", "{", cloudevents.ErrBadData},
		"unknown field":    {"parley.offer.made", "", `{"payload":{"offerMade":{}},"tenant":"other"}`, cloudevents.ErrBadData},
		"JSON of another":  {"parley.page.viewed", "", `{"payload":{"offerMade":{}}}`, cloudevents.ErrBadData},
		"no data":          {"parley.page.viewed", "", ``, cloudevents.ErrBadData},
		"text":             {"parley.page.viewed", "text/plain", `x`, cloudevents.ErrBadData},
		"tracked, Latin-1": {"com.example", "application/json", "{\"na\xefve\":1}", cloudevents.ErrBadData},
		"tracked, no JSON": {"com.example", "application/json", `{"a":`, cloudevents.ErrBadData},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := least()
			e.Type, e.DataContentType, e.Data = c.typ, c.media, []byte(c.data)
			_, err := cloudevents.ToEvent(e, "default", "nats/crm", now)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestIdentityOfEvents(t *testing.T) {
	t.Parallel()
	id := func(source, ceSource, ceID string) string {
		ev, err := cloudevents.ToEvent(&cloudevents.CloudEvent{ID: ceID, Source: ceSource, Type: "t"}, "default", source, now)
		require.NoError(t, err)
		return ev.GetId()
	}
	first := id("nats/crm", "/a", "1")
	require.Equal(t, first, id("nats/crm", "/a", "1"))
	require.NotEqual(t, id("nats/crm", "/a", "1"), id("nats/crm", "/b", "1"))
	require.NotEqual(t, id("nats/crm", "/a", "1"), id("nats/erp", "/a", "1"))
	require.NotEqual(t, id("nats/crm", "/a", "b c"), id("nats/crm", "/a", "c"))
	require.Equal(t, id("", "/a", "1"), id("/a", "/a", "1"), "a source that says its own name")

	// The digest tells contents apart, and not when they were sent.
	digest := func(change func(*cloudevents.CloudEvent)) string {
		e := full()
		change(e)
		ev, err := cloudevents.ToEvent(e, "default", "nats/crm", now)
		require.NoError(t, err)
		return string(ev.GetContentDigest())
	}
	same := digest(func(*cloudevents.CloudEvent) {})
	require.Equal(t, same, digest(func(e *cloudevents.CloudEvent) { e.Time = now }))
	require.NotEqual(t, same, digest(func(e *cloudevents.CloudEvent) { e.Data = []byte("{}") }))
	require.NotEqual(t, same, digest(func(e *cloudevents.CloudEvent) { e.Subject = "other" }))
}

func TestToEventRefusesMalformedAttributes(t *testing.T) {
	t.Parallel()
	for attribute, value := range map[string]string{"direction": "sideways", "backfill": "maybe"} {
		e := least()
		e.Extensions = map[string]string{attribute: value}
		_, err := cloudevents.ToEvent(e, "default", "", now)
		requireMalformed(t, err, attribute)
	}
	_, err := cloudevents.ToEvent(&cloudevents.CloudEvent{}, "default", "", now)
	requireMalformed(t, err, "id")
}

func FuzzToEvent(f *testing.F) {
	f.Add("com.example", "application/json", []byte(`{"userId":"u","phone":1}`))
	f.Add("parley.tracked", "", []byte(`{"payload":{"tracked":{"name":"x"}}}`))
	f.Add("parley.tracked", "application/protobuf", []byte{0x1a, 3, 0x0a, 1, 'x'})
	f.Fuzz(func(t *testing.T, typ, contentType string, data []byte) {
		ev, err := cloudevents.ToEvent(&cloudevents.CloudEvent{
			ID: "1", Source: "/s", Type: typ, DataContentType: contentType, Data: data,
		}, "default", "nats/crm", now)
		if err != nil {
			return
		}
		event.SanitizeNUL(ev)
		got, _, ok := event.TypeOf(ev.GetPayload())
		require.True(t, ok)
		require.Equal(t, ev.GetType(), got)
		_, err = event.NewCodec().Encode(ev)
		require.NoError(t, err)
	})
}
