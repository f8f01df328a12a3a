package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics say whether publishing and consuming fail and how far consuming is
// behind. They count also where nobody has asked for them.
type metrics struct {
	registerer prometheus.Registerer
	registered []prometheus.Collector

	published       prometheus.Counter
	publishedBytes  prometheus.Counter
	publishFailures *prometheus.CounterVec
	publishSeconds  prometheus.Histogram
	consumed        prometheus.Counter
	handlerFailures prometheus.Counter
	restarts        prometheus.Counter
	purges          prometheus.Counter
	sequence        prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, b *Bus) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "parley", Subsystem: "bus", Name: name, Help: help})
	}
	m := &metrics{
		registerer:     r,
		published:      counter("published_messages_total", "Messages that JetStream has acknowledged."),
		publishedBytes: counter("published_bytes_total", "Bytes of data in messages that JetStream has acknowledged."),
		publishFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "parley", Subsystem: "bus", Name: "publish_failures_total",
			Help: "Publish calls that failed, by reason: full, unavailable, too_large, cancelled, other.",
		}, []string{"reason"}),
		publishSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "parley", Subsystem: "bus", Name: "publish_duration_seconds",
			Help:    "Time until JetStream had acknowledged all of one call's messages.",
			Buckets: prometheus.ExponentialBuckets(0.000125, 2, 16),
		}),
		consumed:        counter("consumed_messages_total", "Messages whose handler has succeeded."),
		handlerFailures: counter("handler_failures_total", "Times that a batch's handler failed and the batch was kept for a retry."),
		restarts:        counter("consumer_restarts_total", "Times that the consumer was made anew at the acknowledged floor."),
		purges:          counter("purges_total", "Times that the stream was purged up to the acknowledged floor."),
		sequence: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "parley", Subsystem: "bus", Name: "acknowledged_sequence",
			Help: "Stream sequence up to which everything was handled.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.published, m.publishedBytes, m.publishFailures, m.publishSeconds,
		m.consumed, m.handlerFailures, m.restarts, m.purges, m.sequence, &backlogCollector{bus: b},
	} {
		if err := r.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("register the bus's metrics: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m == nil {
		return
	}
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}

func (m *metrics) publish(began time.Time, messages, bytes int, err error) {
	if err == nil {
		m.published.Add(float64(messages))
		m.publishedBytes.Add(float64(bytes))
		m.publishSeconds.Observe(time.Since(began).Seconds())
		return
	}
	reason := "other"
	switch {
	case errors.Is(err, ErrFull):
		reason = "full"
	case errors.Is(err, ErrTooLarge):
		reason = "too_large"
	case errors.Is(err, ErrUnavailable):
		reason = "unavailable"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		reason = "cancelled"
	}
	m.publishFailures.WithLabelValues(reason).Inc()
}

// backlogCollector asks NATS when it is scraped. While there is no answer it
// reports that it is down and no backlog, rather than an old one.
type backlogCollector struct{ bus *Bus }

var (
	descUp       = prometheus.NewDesc("parley_bus_up", "1 while the bus is healthy.", nil, nil)
	descMessages = prometheus.NewDesc("parley_bus_pending_messages", "Messages in the ingress stream that are not yet acknowledged.", nil, nil)
	descBytes    = prometheus.NewDesc("parley_bus_stream_bytes", "Bytes that the ingress stream holds.", nil, nil)
	descMaxBytes = prometheus.NewDesc("parley_bus_stream_max_bytes", "Bytes that the ingress stream may hold.", nil, nil)
)

// scrapeTimeout is far below Prometheus's own of 10 s.
const scrapeTimeout = time.Second

// Describe lists the metrics.
func (*backlogCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descUp
	ch <- descMessages
	ch <- descBytes
	ch <- descMaxBytes
}

// Collect asks for the backlog.
func (c *backlogCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	up := 0.0
	if c.bus.Healthy() == nil {
		if backlog, err := c.bus.Pending(ctx); err == nil {
			up = 1
			ch <- prometheus.MustNewConstMetric(descMessages, prometheus.GaugeValue, float64(backlog.Messages))
			ch <- prometheus.MustNewConstMetric(descBytes, prometheus.GaugeValue, float64(backlog.Bytes))
			ch <- prometheus.MustNewConstMetric(descMaxBytes, prometheus.GaugeValue, float64(backlog.MaxBytes))
		}
	}
	ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, up)
}
