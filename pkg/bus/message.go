package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
)

// Message is one message of the ingress stream, as it came.
type Message struct {
	// Subject is the whole subject. Tenant and Channel are its parts; both are
	// empty where it is not `ingress.<tenant>.<channel>`: any producer that may
	// publish under `ingress.` can make up the rest.
	Subject string
	Tenant  string
	Channel string
	// Header has the CloudEvent's attributes, `ce-*`, and what else the
	// producer set. Keys are as they were sent.
	Header nats.Header
	// Data is the CloudEvent's data; it may be kept, not changed.
	Data []byte
	// Sequence is its place in the stream. Sequences grow and may have gaps.
	Sequence uint64
	// Published is when JetStream took it.
	Published time.Time
	// ReplyTo is where Bus.Reply sends the answer; empty where nobody waits.
	ReplyTo string
}

// CloudEvents' binary binding for NATS: attributes travel as headers with this
// prefix, and the data's media type as Content-Type.
const (
	HeaderSpecVersion = "ce-specversion"
	HeaderType        = "ce-type"
	HeaderSource      = "ce-source"
	HeaderID          = "ce-id"
	HeaderContentType = "content-type"
	// HeaderReply is where the producer waits for the recorder's answer.
	HeaderReply = "Parley-Reply"
)

const (
	// SpecVersion is the CloudEvents version of what we publish.
	SpecVersion = "1.0"
	// TypeIngressBatch is the CloudEvents type of an IngressBatch.
	TypeIngressBatch = "parley.ingress.batch"
	// ContentProtobuf is the media type of an IngressBatch.
	ContentProtobuf = "application/protobuf"
)

// Context is ctx with the producer's trace context, where the message has one.
func (m *Message) Context(ctx context.Context) context.Context {
	return otel.GetTextMapPropagator().Extract(ctx, carrier(m.Header))
}

// carrier lets OpenTelemetry write into headers. Keys stay as they are.
type carrier nats.Header

var _ propagation.TextMapCarrier = carrier(nil)

// Get is the first value of key.
func (c carrier) Get(key string) string {
	if v := c[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set replaces key.
func (c carrier) Set(key, value string) { c[key] = []string{value} }

// Keys are all keys.
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
