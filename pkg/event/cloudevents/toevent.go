package cloudevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// DefaultChannel is the channel of an event that names none.
const DefaultChannel = "api"

var (
	// ErrUnknownType is for a type that begins like one of Parley's and is none.
	ErrUnknownType = errors.New("unknown event type")
	// ErrBadData is for data that is not what the type and the media type say.
	ErrBadData = errors.New("malformed event data")
)

const parleyPrefix = "parley."

// Extension attributes that are understood. Identifiers first.
const (
	extChannel      = "channel"
	extDirection    = "direction"
	extConversation = "conversation"
	extSequence     = "sequence"
	extCorrelation  = "correlationid"
	extCausation    = "causationid"
	extTraceparent  = "traceparent"
	extBackfill     = "backfill"
)

// identifierSources are the places that identifiers are taken from: the
// extension attribute, and for types that are not Parley's the key of the data.
var identifierSources = [...]struct{ kind, extension, key string }{
	{"user_id", "userid", "userId"},
	{"anonymous_id", "anonymousid", "anonymousId"},
	{"email", "email", "email"},
	{"phone", "phone", "phone"},
}

// ToEvent makes Parley's event of a CloudEvent that came in at now by a source
// of a tenant (`nats/crm`; where it is empty, the CloudEvent's own source
// stands for it).
//
// A type of the catalogue has as data, by its media type, the bytes of a
// parley.event.v1.Payload, or the JSON form of an Interaction, whose own fields
// go before the extension attributes. Any other type is tracked under its name,
// with the data as properties, and with the identifiers found in it.
//
// The event's id is deterministic over tenant, source and the CloudEvent's
// source and id, so that a redelivery is the same event. What the recorder
// decides is left empty. Errors are *MalformedError, or wrap ErrUnknownType or
// ErrBadData. Bounds are the validator's.
func ToEvent(e *CloudEvent, tenant, source string, now time.Time) (*eventv1.Event, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	sourceID := e.ID
	switch {
	case source == "":
		source = e.Source
	case source != e.Source:
		// A URI reference has no space, so that no two events share an id.
		sourceID = e.Source + " " + e.ID
	}
	ev := &eventv1.Event{
		Id:       event.DeterministicID(tenant, source, sourceID).String(),
		Tenant:   tenant,
		Source:   source,
		SourceId: sourceID,
		Channel:  DefaultChannel,
		ContentDigest: event.ContentDigest([]byte(e.Source), []byte(e.Type), []byte(e.Subject),
			[]byte(e.DataContentType), e.Data),
	}
	if err := applyExtensions(ev, e.Extensions); err != nil {
		return nil, err
	}
	said, err := applyData(ev, e)
	if err != nil {
		return nil, fmt.Errorf("event %s of %s: %w", clip(e.ID), clip(e.Source), err)
	}
	if !event.Stamp(ev) {
		return nil, fmt.Errorf("event %s of %s: type %s: %w", clip(e.ID), clip(e.Source), clip(e.Type), ErrUnknownType)
	}
	if said.IsZero() {
		event.SetReceived(ev, now)
	} else {
		event.SetOccurred(ev, said, now, false)
	}
	return ev, nil
}

// applyExtensions takes over what the extension attributes say.
func applyExtensions(ev *eventv1.Event, extensions map[string]string) error {
	for _, s := range identifierSources {
		addIdentifier(ev, s.kind, extensions[s.extension])
	}
	if channel := extensions[extChannel]; channel != "" {
		ev.Channel = channel
	}
	switch direction := extensions[extDirection]; direction {
	case "":
	case "inbound":
		ev.Direction = eventv1.Direction_DIRECTION_INBOUND
	case "outbound":
		ev.Direction = eventv1.Direction_DIRECTION_OUTBOUND
	default:
		return malformed(extDirection, "is neither inbound nor outbound")
	}
	if backfill := extensions[extBackfill]; backfill != "" {
		if backfill != "true" && backfill != "false" {
			return malformed(extBackfill, "is neither true nor false")
		}
		ev.Backfill = backfill == "true"
	}
	// The sequence extension is a text that sorts; only a number says an order here.
	if n, err := strconv.ParseUint(extensions[extSequence], 10, 64); err == nil {
		ev.SourceSequence = n
	}
	ev.Conversation = extensions[extConversation]
	ev.CorrelationId = extensions[extCorrelation]
	ev.CausationId = extensions[extCausation]
	ev.Traceparent = extensions[extTraceparent]
	return nil
}

// applyData sets the payload, and answers when it happened.
func applyData(ev *eventv1.Event, e *CloudEvent) (said time.Time, err error) {
	if !strings.HasPrefix(e.Type, parleyPrefix) {
		return e.Time, applyForeign(ev, e)
	}
	if event.Version(e.Type) == 0 {
		return time.Time{}, fmt.Errorf("type %s: %w", clip(e.Type), ErrUnknownType)
	}
	said = e.Time
	switch media := mediaType(e.DataContentType); {
	case isProtobuf(media):
		p := &eventv1.Payload{}
		if err := proto.Unmarshal(e.Data, p); err != nil {
			return time.Time{}, fmt.Errorf("%w: not a payload in protobuf", ErrBadData)
		}
		ev.Payload = p
	case isJSON(media):
		in := &interactionv1.Interaction{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: false}).Unmarshal(e.Data, in); err != nil {
			return time.Time{}, fmt.Errorf("%w: not an interaction in JSON: %s", ErrBadData, clip(plain(err)))
		}
		applyInteraction(ev, in)
		if in.GetOccurredTime() != nil {
			said = in.GetOccurredTime().AsTime()
		}
	default:
		return time.Time{}, fmt.Errorf("%w: media type %q", ErrBadData, clip(media))
	}
	if typ, _, ok := event.TypeOf(ev.GetPayload()); !ok || typ != e.Type {
		return time.Time{}, fmt.Errorf("%w: the payload is not a %s", ErrBadData, clip(e.Type))
	}
	return said, nil
}

// applyInteraction takes over what an Interaction says. Its source_id does not
// count: the CloudEvent has an id of its own.
func applyInteraction(ev *eventv1.Event, in *interactionv1.Interaction) {
	if in.GetChannel() != "" {
		ev.Channel = in.GetChannel()
	}
	if in.GetDirection() != eventv1.Direction_DIRECTION_UNSPECIFIED {
		ev.Direction = in.GetDirection()
	}
	if in.GetConversation() != "" {
		ev.Conversation = in.GetConversation()
	}
	if in.GetSourceSequence() != 0 {
		ev.SourceSequence = in.GetSourceSequence()
	}
	if in.GetCorrelationId() != "" {
		ev.CorrelationId = in.GetCorrelationId()
	}
	if in.GetCausationId() != "" {
		ev.CausationId = in.GetCausationId()
	}
	if in.GetActor() != nil {
		ev.Actor = in.GetActor()
	}
	ev.Backfill = ev.GetBackfill() || in.GetBackfill()
	for _, id := range in.GetIdentifiers() {
		// Set by the recorder.
		id.Strength, id.ProfileId = eventv1.IdentifierStrength_IDENTIFIER_STRENGTH_UNSPECIFIED, ""
		if !hasIdentifier(ev, id.GetKind(), id.GetValue()) {
			ev.Identifiers = append(ev.Identifiers, id)
		}
	}
	ev.Payload = in.GetPayload()
}

// applyForeign tracks an event that is not of Parley's catalogue.
func applyForeign(ev *eventv1.Event, e *CloudEvent) error {
	properties, err := properties(e)
	if err != nil {
		return err
	}
	ev.Payload = &eventv1.Payload{Kind: &eventv1.Payload_Tracked{
		Tracked: &eventv1.Tracked{Name: e.Type, PropertiesJson: properties},
	}}
	if properties == "" {
		return nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(properties), &keys); err != nil {
		return fmt.Errorf("%w: %s", ErrBadData, clip(plain(err)))
	}
	for _, s := range identifierSources {
		addIdentifier(ev, s.kind, scalarText(keys[s.key]))
	}
	return nil
}

// properties is the data as a JSON object: itself where it is one, else under
// the member name that the JSON event format gives it.
func properties(e *CloudEvent) (string, error) {
	if len(e.Data) == 0 {
		return "", nil
	}
	var members map[string]any
	switch media := mediaType(e.DataContentType); {
	case isJSON(media):
		// Go's parser lets other encodings pass, RFC 8259 does not.
		if !json.Valid(e.Data) || !utf8.Valid(e.Data) {
			return "", fmt.Errorf("%w: it is said to be JSON and is not", ErrBadData)
		}
		trimmed := bytes.TrimSpace(e.Data)
		if trimmed[0] == '{' {
			var b bytes.Buffer
			if err := json.Compact(&b, trimmed); err != nil {
				return "", fmt.Errorf("%w: it is said to be JSON and is not", ErrBadData)
			}
			return b.String(), nil
		}
		members = map[string]any{memberData: json.RawMessage(trimmed)}
	case strings.HasPrefix(media, "text/") && utf8.Valid(e.Data):
		members = map[string]any{memberData: string(e.Data)}
	default:
		members = map[string]any{memberDataBase64: e.Data}
	}
	b, err := json.Marshal(members)
	if err != nil {
		return "", fmt.Errorf("%w: %s", ErrBadData, clip(err.Error()))
	}
	return string(b), nil
}

// scalarText is a string or a number as text; empty for anything else.
func scalarText(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case c == '-' || (c >= '0' && c <= '9'):
		return string(raw)
	default:
		return ""
	}
}

func addIdentifier(ev *eventv1.Event, kind, value string) {
	if value = strings.TrimSpace(value); value == "" || hasIdentifier(ev, kind, value) {
		return
	}
	ev.Identifiers = append(ev.Identifiers, &eventv1.Identifier{
		Kind: kind, Value: value, Role: eventv1.IdentifierRole_IDENTIFIER_ROLE_CUSTOMER,
	})
}

func hasIdentifier(ev *eventv1.Event, kind, value string) bool {
	return slices.ContainsFunc(ev.GetIdentifiers(), func(id *eventv1.Identifier) bool {
		return id.GetKind() == kind && id.GetValue() == value
	})
}

func isProtobuf(media string) bool {
	switch media {
	case ContentProtobuf, "application/x-protobuf", "application/vnd.google.protobuf", "application/vnd.google-protobuf":
		return true
	default:
		return false
	}
}

// plain makes a parser's error one line of plain spaces.
func plain(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
