package projectiontest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
)

// Epoch is when the first of the events of a text happens; each later one
// happens a minute after the one before.
var Epoch = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// Events makes events of tenant acme from text, one a line:
//
//	[@offset] profile type {payload}
//
// that is, optionally how long after Epoch it happened, as time.ParseDuration has
// it; the profile, or - for none; the type without `parley.`; and the payload
// as protobuf JSON, which may be left out. Empty lines and those beginning
// with # say nothing. For example:
//
//	p1 page.viewed {"path": "/pricing"}
//	@-24h p1 order.completed {"orderId": "4711"}
//	- customers.merged {"customerId": "p1", "absorbedCustomerId": "p2", "absorbedProfileIds": ["p2"]}
func Events(t testing.TB, text string) []*eventv1.Event {
	t.Helper()
	var events []*eventv1.Event
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		ev, err := parseEvent(line, len(events))
		require.NoError(t, err, line)
		events = append(events, ev)
	}
	return events
}

func parseEvent(line string, n int) (*eventv1.Event, error) {
	at := time.Duration(n) * time.Minute
	if offset, ok := strings.CutPrefix(line, "@"); ok {
		var err error
		offset, line, _ = strings.Cut(offset, " ")
		if at, err = time.ParseDuration(offset); err != nil {
			return nil, fmt.Errorf("offset: %w", err)
		}
	}
	profile, rest, _ := strings.Cut(line, " ")
	typ, body, _ := strings.Cut(rest, " ")
	if profile == "-" {
		profile = ""
	}
	payload, ok := event.NewPayload("parley." + typ)
	if !ok {
		return nil, fmt.Errorf("unknown type parley.%s", typ)
	}
	m := payload.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().Get(0))
	if body != "" {
		if err := protojson.Unmarshal([]byte(body), m.Mutable(kind).Message().Interface()); err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
	}
	return NewEvent("acme", profile, n, Epoch.Add(at), payload), nil
}

// NewEvent makes an event around a payload. Its id follows from tenant and n.
func NewEvent(tenant, profile string, n int, at time.Time, payload *eventv1.Payload) *eventv1.Event {
	typ, version, _ := event.TypeOf(payload)
	return &eventv1.Event{
		Id: event.DeterministicID(tenant, "test", fmt.Sprint(n)).String(), Tenant: tenant, Type: typ, SchemaVersion: version,
		ProfileId: profile, Source: "test", SourceId: fmt.Sprint(n), Channel: "web",
		OccurredTime: timestamppb.New(at), ReceivedTime: timestamppb.New(at),
		TimeQuality: eventv1.TimeQuality_TIME_QUALITY_AS_SAID, Direction: eventv1.Direction_DIRECTION_INBOUND,
		Payload: payload,
	}
}

// Recorded gives events places in a log, from position 1 on. The events are cloned.
func Recorded(events []*eventv1.Event) []*eventv1.RecordedEvent {
	recorded := make([]*eventv1.RecordedEvent, len(events))
	for i, ev := range events {
		recorded[i] = &eventv1.RecordedEvent{
			Event: proto.CloneOf(ev), Stream: StreamOf(ev), Position: uint64(i + 1),
			RecordedTime: timestamppb.New(ev.GetReceivedTime().AsTime()),
		}
	}
	return recorded
}

// StreamOf is where an event is appended.
func StreamOf(ev *eventv1.Event) string {
	switch ev.GetPayload().GetKind().(type) {
	case *eventv1.Payload_CustomersMerged, *eventv1.Payload_CustomersSplit, *eventv1.Payload_LinkAsserted, *eventv1.Payload_LinkRefused:
		return event.IdentityStream(ev.GetTenant())
	default:
		return event.InteractionStream(ev.GetTenant(), ev.GetChannel(), ev.GetProfileId())
	}
}

// Append appends events to a log and returns the position of the last one.
func Append(t testing.TB, log eventstore.Store, events ...*eventv1.Event) eventstore.Position {
	t.Helper()
	codec := event.NewCodec()
	var last eventstore.Position
	// Commits of many events are fewer.
	const most = 5000
	for len(events) > 0 {
		n := min(len(events), most)
		appends := make([]eventstore.StreamAppend, 0, n)
		for _, ev := range events[:n] {
			rec, err := codec.Encode(ev)
			require.NoError(t, err)
			appends = append(appends, eventstore.StreamAppend{
				Stream: StreamOf(ev), Expected: eventstore.Any, Records: []eventstore.NewRecord{rec},
			})
		}
		done, err := log.AppendBatch(t.Context(), appends)
		require.NoError(t, err)
		last = done[len(done)-1].Position
		events = events[n:]
	}
	return last
}
