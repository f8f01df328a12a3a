package recorder

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/event/cloudevents"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// item is one thing to record: an event, or a body for quarantine, and what
// became of it.
type item struct {
	// tenant whose it is, by the subject that it came on.
	tenant string
	// raw is the event as it came, for quarantine.
	raw      []byte
	media    string
	received time.Time

	// ev is the event, checked and stamped, and id its id.
	ev *eventv1.Event
	id uuid.UUID
	// conversation as its source gave it.
	conversation string
	// command is set where it is one, and what became of it.
	command *interactionv1.IdentityCommand
	result  *interactionv1.IdentityResult
	// body is set where a gateway already put it into quarantine; it counts
	// for no result.
	body *interactionv1.QuarantinedBody
	// reject says why an event goes to quarantine.
	reject *rejection

	outcome  interactionv1.RecordOutcome
	stream   string
	position eventstore.Position
	known    bool // position is of the log, not expected
}

// rejection is why something cannot be recorded. Code is for programs and
// bounded in number, reason for people.
type rejection struct{ code, reason string }

// The codes of what goes to quarantine here.
const (
	codeUndecodable    = "undecodable"
	codeNotCloudEvent  = "not_cloudevent"
	codeTenantMismatch = "tenant_mismatch"
	codeReserved       = "reserved"
	codeInvalidEvent   = "invalid_event"
	codeInvalidBody    = "invalid_quarantine"
	codeNewerSchema    = "newer_schema"
	codeInconsistent   = "inconsistent"
	codeContentDiffers = "content_differs"
	codeStoreRefused   = "store_refused"
	codePanic          = "defect"
)

const (
	mediaEvent      = "application/protobuf; messageType=parley.event.v1.Event"
	mediaBatch      = "application/protobuf; messageType=parley.interaction.v1.IngressBatch"
	mediaQuarantine = "application/protobuf; messageType=parley.interaction.v1.QuarantinedBody"
	mediaUnknown    = "application/octet-stream"
)

// checker does what needs no log: a pure function of the message.
type checker struct {
	validator *event.Validator
	resolver  *identity.Resolver
	metrics   *metrics
	log       *slog.Logger
}

// items takes a message apart. Whatever it holds, nothing gets lost: what
// cannot be read becomes an item for quarantine.
func (c *checker) items(dst []item, m *bus.Message) (items []item) {
	tenant := m.Tenant
	whole := dst[:len(dst):len(dst)] // without what a panic may have left behind it
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("a message cannot be taken apart", "tenant", tenant, "panic", fmt.Sprint(p))
			items = whole
			items = append(items, c.unreadable(m, TenantUnknown, mediaUnknown, codePanic, "a defect of Parley: taking it apart panics"))
		}
	}()
	if !event.ValidTenant(tenant) {
		return append(dst, c.unreadable(m, TenantUnknown, mediaUnknown, codeUndecodable, "the subject "+clip(m.Subject)+" names no tenant and channel"))
	}
	if reason, reserved := event.ReservedTenant(tenant); reserved {
		return append(dst, c.unreadable(m, TenantUnknown, mediaUnknown, codeReserved, "the tenant's name "+reason))
	}
	if first(m.Header[bus.HeaderType]) == bus.TypeIngressBatch {
		return c.batch(dst, m, tenant, m.Data)
	}
	ce, err := cloudevents.FromNATS(m.Header, m.Data)
	if err != nil {
		return append(dst, c.unreadable(m, tenant, mediaUnknown, codeNotCloudEvent, err.Error()))
	}
	if ce.Type == bus.TypeIngressBatch {
		return c.batch(dst, m, tenant, ce.Data)
	}
	ev, err := cloudevents.ToEvent(ce, tenant, "", m.Published)
	if err != nil {
		return append(dst, c.unreadable(m, tenant, ce.DataContentType, codeUndecodable, err.Error()))
	}
	raw, err := proto.Marshal(ev)
	if err != nil {
		return append(dst, c.unreadable(m, tenant, ce.DataContentType, codeUndecodable, err.Error()))
	}
	it := item{tenant: tenant, raw: raw, media: mediaEvent, received: m.Published, ev: ev}
	c.check(&it)
	return append(dst, it)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (c *checker) unreadable(m *bus.Message, tenant, media, code, reason string) item {
	return item{tenant: tenant, raw: m.Data, media: media, received: m.Published, reject: &rejection{code, reason}}
}

// Field numbers of IngressBatch.
const (
	fieldEvents      protowire.Number = 1
	fieldQuarantined protowire.Number = 2
	fieldCommand     protowire.Number = 3
)

// batch takes an IngressBatch apart by field, so that one event that cannot be
// read does not take the others with it.
func (c *checker) batch(dst []item, m *bus.Message, tenant string, data []byte) []item {
	begin := len(dst)
	for len(data) > 0 {
		number, wire, n := protowire.ConsumeTag(data)
		var value []byte
		if n >= 0 {
			data = data[n:]
			if wire == protowire.BytesType {
				value, n = protowire.ConsumeBytes(data)
			} else {
				n = protowire.ConsumeFieldValue(number, wire, data)
			}
		}
		if n < 0 {
			// Nothing behind this place can be found; what came before is intact.
			return append(dst, c.unreadable(m, tenant, mediaBatch, codeUndecodable,
				fmt.Sprintf("the batch breaks off behind %d items", len(dst)-begin)))
		}
		data = data[n:]
		if wire != protowire.BytesType {
			continue
		}
		switch number {
		case fieldEvents:
			it := item{tenant: tenant, raw: value, media: mediaEvent, received: m.Published, ev: &eventv1.Event{}}
			if err := proto.Unmarshal(value, it.ev); err != nil {
				it.reject = &rejection{codeUndecodable, "no Event: " + err.Error()}
			} else {
				c.check(&it)
			}
			dst = append(dst, it)
		case fieldQuarantined:
			dst = append(dst, c.quarantined(m, tenant, value))
		case fieldCommand:
			dst = append(dst, c.command(m, tenant, value))
		default:
		}
	}
	return dst
}

func (c *checker) quarantined(m *bus.Message, tenant string, value []byte) item {
	it := item{tenant: tenant, raw: value, media: mediaQuarantine, received: m.Published, body: &interactionv1.QuarantinedBody{}}
	if err := proto.Unmarshal(value, it.body); err != nil {
		it.reject = &rejection{codeUndecodable, "no QuarantinedBody: " + err.Error()}
		return it
	}
	if it.body.GetTenant() == "" {
		it.body.Tenant = tenant
	}
	if it.body.GetTenant() != tenant {
		it.reject = &rejection{codeTenantMismatch, "the body is of another tenant than the subject"}
		return it
	}
	if v := c.validator.Check(it.body); len(v) > 0 {
		it.reject = &rejection{codeInvalidBody, describe(v)}
		return it
	}
	it.id = uuid.MustParse(it.body.GetId()) // the validator has seen that it is one
	return it
}

// check does to an event all that needs no log. A panic is the event's fault
// as far as the others are concerned.
func (c *checker) check(it *item) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("an event cannot be checked", "tenant", it.tenant, "panic", fmt.Sprint(p))
			it.reject = &rejection{codePanic, "a defect of Parley: checking it panics"}
		}
	}()
	it.reject = c.checkEvent(it)
}

func (c *checker) checkEvent(it *item) *rejection {
	ev := it.ev
	if ev.GetTenant() == "" {
		ev.Tenant = it.tenant
	}
	if ev.GetTenant() != it.tenant {
		return &rejection{codeTenantMismatch, "the event is of another tenant than the subject"}
	}
	id, err := uuid.Parse(ev.GetId())
	if err != nil || id == uuid.Nil {
		return &rejection{codeInvalidEvent, "id: is no UUID"}
	}
	it.id, ev.Id = id, id.String()
	if r := checkType(ev); r != nil {
		return r
	}
	if mayHaveNUL(it.raw) {
		event.SanitizeNUL(ev)
	}
	setTimes(ev, it.received)
	if n := len(ev.GetIdentifiers()); n <= maxIdentifiers {
		for _, d := range c.resolver.Stamp(ev) {
			c.metrics.dropped(d.Err)
			c.log.Debug("an identifier identifies nobody", "tenant", it.tenant, "event_id", ev.GetId(), "kind", d.Kind, "error", d.Err)
		}
	}
	if v := c.validator.Check(ev); len(v) > 0 {
		return &rejection{codeInvalidEvent, describe(v)}
	}
	it.conversation = ev.GetConversation()
	return nil
}

// mayHaveNUL spares most events the walk through all their text: U+0000 is a
// zero byte, or an escape in JSON text.
func mayHaveNUL(raw []byte) bool {
	return bytes.IndexByte(raw, 0) >= 0 || bytes.Contains(raw, escapedNUL)
}

var escapedNUL = []byte("u0000")

// maxIdentifiers is Event's bound; more are refused, not stamped.
const maxIdentifiers = 64

func checkType(ev *eventv1.Event) *rejection {
	typ, version, ok := event.TypeOf(ev.GetPayload())
	if !ok {
		return &rejection{codeInvalidEvent, "payload: there is none that this version knows"}
	}
	if ev.GetType() == "" {
		ev.Type = typ
	}
	if ev.GetType() != typ {
		return &rejection{codeInvalidEvent, "type: is not that of the payload, " + typ}
	}
	if ev.GetSchemaVersion() == 0 {
		ev.SchemaVersion = 1
	}
	if ev.GetSchemaVersion() > version {
		return &rejection{codeNewerSchema, fmt.Sprintf("schema version %d of %s is newer than this recorder knows, %d", ev.GetSchemaVersion(), typ, version)}
	}
	if reason, reserved := event.ReservedType(typ); reserved {
		return &rejection{codeReserved, "type: " + reason}
	}
	if reservedChannels[ev.GetChannel()] {
		return &rejection{codeReserved, "channel: " + ev.GetChannel() + " is not for interactions"}
	}
	return nil
}

// setTimes keeps what the gateway says of the times and marks what cannot be.
func setTimes(ev *eventv1.Event, published time.Time) {
	received := published
	if ev.GetReceivedTime().IsValid() {
		received = ev.GetReceivedTime().AsTime()
	}
	if ev.GetOccurredTime() == nil {
		event.SetReceived(ev, received)
		return
	}
	said := ev.GetOccurredTime().AsTime()
	switch ev.GetTimeQuality() {
	case eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE, eventv1.TimeQuality_TIME_QUALITY_RECEIVED:
		if ev.GetReceivedTime() == nil {
			ev.ReceivedTime = timestamppb.New(received)
		}
		if !ev.GetReceivedTime().IsValid() || !ev.GetOccurredTime().IsValid() {
			event.SetOccurred(ev, said, received, false)
		}
	case eventv1.TimeQuality_TIME_QUALITY_CORRECTED:
		event.SetOccurred(ev, said, received, true)
	case eventv1.TimeQuality_TIME_QUALITY_UNSPECIFIED, eventv1.TimeQuality_TIME_QUALITY_AS_SAID:
		event.SetOccurred(ev, said, received, false)
	default:
		// Not a quality; the validator says so.
	}
}

// describe names the first violations. They name fields and rules, not values.
func describe(violations []event.Violation) string {
	const most = 5
	var b strings.Builder
	for i, v := range violations {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(violations)-most)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(v.String())
	}
	return b.String()
}

// clip makes text from outside fit for a message.
func clip(s string) string {
	const most = 200
	return fmt.Sprintf("%.*q", most, s)
}
