package recorder

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleyhq/parley/pkg/identity"
)

// metrics answer: is it recording, what does it refuse, how far is it behind?
type metrics struct {
	registerer prometheus.Registerer
	all        []prometheus.Collector

	events      *prometheus.CounterVec // by outcome
	quarantined *prometheus.CounterVec // by code
	identity    prometheus.Counter
	commands    prometheus.Counter
	identifiers *prometheus.CounterVec // by reason
	conflicts   prometheus.Counter
	failures    prometheus.Counter
	unreadable  prometheus.Counter
	batch       prometheus.Histogram
	append      prometheus.Histogram
	lag         prometheus.Gauge
	active      prometheus.Gauge
	position    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	const namespace, subsystem = "parley", "recorder"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		registerer:  r,
		events:      prometheus.NewCounterVec(counter("events_total", "Events taken from the ingress stream, by what became of them."), []string{"outcome"}),
		quarantined: prometheus.NewCounterVec(counter("quarantined_total", "What went to quarantine, by the check it failed."), []string{"code"}),
		identity:    prometheus.NewCounter(counter("identity_events_total", "Identity events appended.")),
		commands:    prometheus.NewCounter(counter("identity_commands_total", "Commands about who is who that were answered.")),
		identifiers: prometheus.NewCounterVec(counter("identifiers_dropped_total", "Identifiers that identify nobody, by reason."), []string{"reason"}),
		conflicts:   prometheus.NewCounter(counter("conflicts_total", "Appends refused because somebody else wrote.")),
		failures:    prometheus.NewCounter(counter("failures_total", "Batches that failed and were handed out again.")),
		unreadable:  prometheus.NewCounter(counter("unreadable_events_total", "Events of the log that the index steps over.")),
		batch:       histogram("commit_records", "Records in one commit.", prometheus.ExponentialBuckets(1, 4, 7)),
		append:      histogram("append_seconds", "Time that one commit takes in the event store.", prometheus.ExponentialBuckets(0.0005, 2, 14)),
		lag:         gauge("ingress_lag_seconds", "Age of the oldest message of the last batch when all of it was recorded."),
		active:      gauge("active", "1 while this recorder records, 0 while it stands by or does not run."),
		position:    gauge("index_position", "Position of the log up to which the index has come."),
	}
	m.all = []prometheus.Collector{
		m.events, m.quarantined, m.identity, m.commands, m.identifiers, m.conflicts, m.failures, m.unreadable, m.batch, m.append, m.lag, m.active, m.position,
	}
	return m
}

// register makes them visible while the recorder runs.
func (m *metrics) register() error {
	if m.registerer == nil {
		return nil
	}
	for i, c := range m.all {
		if err := m.registerer.Register(c); err != nil {
			for _, done := range m.all[:i] {
				m.registerer.Unregister(done)
			}
			return fmt.Errorf("register the recorder's metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) dropped(err error) {
	reason := "malformed"
	switch {
	case errors.Is(err, identity.ErrPlaceholder):
		reason = "placeholder"
	case errors.Is(err, identity.ErrWithheld):
		reason = "withheld"
	}
	m.identifiers.WithLabelValues(reason).Inc()
}
