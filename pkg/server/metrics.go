package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
)

// metrics counts calls. Its children are looked up once for each method, so
// that a call costs a few atomic operations.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	panics   prometheus.Counter
	methods  sync.Map // full method → *methodMetrics
}

type methodMetrics struct {
	ok       prometheus.Counter
	seconds  prometheus.Observer
	inFlight prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_grpc_requests_total", Help: "Calls answered, by method and code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parley_grpc_request_seconds", Help: "Time to answer a call; for streams their whole life.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_grpc_requests_in_flight", Help: "Calls being answered.",
		}, []string{"method"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_grpc_panics_total", Help: "Handlers that panicked: each a defect.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.inFlight, m.panics} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register gRPC metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) of(method string) *methodMetrics {
	if mm, ok := m.methods.Load(method); ok {
		if mm, ok := mm.(*methodMetrics); ok {
			return mm
		}
	}
	mm := &methodMetrics{
		ok:       m.requests.WithLabelValues(method, codes.OK.String()),
		seconds:  m.seconds.WithLabelValues(method),
		inFlight: m.inFlight.WithLabelValues(method),
	}
	m.methods.Store(method, mm)
	return mm
}

// measure counts one call. Its end must be deferred, so that a panic counts
// too, as INTERNAL.
func (m *metrics) measure(method string) (end func(err *error, returned *bool)) {
	mm := m.of(method)
	mm.inFlight.Inc()
	began := time.Now()
	return func(err *error, returned *bool) {
		mm.inFlight.Dec()
		mm.seconds.Observe(time.Since(began).Seconds())
		switch {
		case !*returned:
			m.requests.WithLabelValues(method, codes.Internal.String()).Inc()
		case *err == nil:
			mm.ok.Inc()
		default:
			m.requests.WithLabelValues(method, rpcerr.CodeOf(*err).String()).Inc()
		}
	}
}

func (m *metrics) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	returned := false
	end := m.measure(info.FullMethod)
	defer end(&err, &returned)
	resp, err = handler(ctx, req)
	returned = true
	return resp, err
}

func (m *metrics) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	returned := false
	end := m.measure(info.FullMethod)
	defer end(&err, &returned)
	err = handler(srv, ss)
	returned = true
	return err
}
