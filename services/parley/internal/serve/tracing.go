package serve

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// openTracing sends spans to the collector that is configured; none without
// one. A collector that is away costs spans and nothing else.
func (p *process) openTracing(ctx context.Context) error {
	endpoint := p.settings.Process.OTLPEndpoint
	if endpoint == "" {
		return nil
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	if err != nil {
		return fmt.Errorf("--otlp-endpoint %s: %w", endpoint, err)
	}
	p.tracer = trace.NewTracerProvider(
		trace.WithBatcher(exporter),
		trace.WithResource(resource.NewSchemaless(attribute.String("service.name", "parley"))),
		// Whoever calls decides for his own traces.
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(p.settings.Process.TraceShare))),
	)
	// What crosses NATS and gRPC finds these by the process' globals.
	otel.SetTracerProvider(p.tracer)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	p.stack.Push("tracing", func(ctx context.Context) error {
		if err := p.tracer.Shutdown(ctx); err != nil {
			p.log.Warn("the last spans were not sent", "error", err)
		}
		return nil
	})
	return nil
}

// checkTracing says what is wrong with the settings of tracing.
func (p Process) checkTracing() error {
	if e := p.OTLPEndpoint; e != "" && !strings.HasPrefix(e, "http://") && !strings.HasPrefix(e, "https://") {
		return fmt.Errorf("--otlp-endpoint %s: want a URL, for example http://127.0.0.1:4317", e)
	}
	if s := p.TraceShare; !(s >= 0 && s <= 1) {
		return fmt.Errorf("--trace-share %g: want 0 for none to 1 for all", s)
	}
	return nil
}
