package serve_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// collector keeps the trace of every span by the span's name.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu     sync.Mutex
	traces map[string]map[string]bool
}

func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				if c.traces[span.GetName()] == nil {
					c.traces[span.GetName()] = map[string]bool{}
				}
				c.traces[span.GetName()][string(span.GetTraceId())] = true
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// TestTracesCrossNATS finds a gRPC call and what the recorder did for it in one trace.
func TestTracesCrossNATS(t *testing.T) {
	t.Parallel()
	c := &collector{traces: map[string]map[string]bool{}}
	backend := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(backend, c)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- backend.Serve(lis) }()
	t.Cleanup(func() {
		backend.Stop()
		require.NoError(t, <-served)
	})

	s := settings(t)
	s.Process.OTLPEndpoint = "http://" + lis.Addr().String()
	s.Process.TraceShare = 1
	r, stop := run(t, s)
	conn := dial(t, r.Addresses.GRPC)
	require.Eventually(t, func() bool {
		_, err := interactionv1.NewInteractionServiceClient(conn).Record(t.Context(), pageView("traced"))
		return err == nil
	}, startDeadline, 10*time.Millisecond)
	require.NoError(t, stop(), "stopping sends what there is")

	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.traces["parley.interaction.v1.InteractionService/Record"]
	require.NotEmpty(t, call)
	shared := 0
	for id := range c.traces["recorder.batch"] {
		if call[id] {
			shared++
		}
	}
	require.NotZero(t, shared, "%d spans of the recorder, none of the call's trace", len(c.traces["recorder.batch"]))
}
