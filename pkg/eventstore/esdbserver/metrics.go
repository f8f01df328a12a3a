package esdbserver

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics answer who listens, how much goes out and what becomes of appends.
type metrics struct {
	subscriptions prometheus.Gauge
	events        prometheus.Counter
	appends       *prometheus.CounterVec

	appendOK, appendConflict, appendRefused, appendFailed prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	const namespace, subsystem = "parley", "esdbserver"
	m := &metrics{
		subscriptions: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "subscriptions",
			Help: "Subscriptions over EventStoreDB's protocol that are open.",
		}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "events_sent_total",
			Help: "Events sent to readers and subscribers over EventStoreDB's protocol.",
		}),
		appends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "appends_total",
			Help: "Appends over EventStoreDB's protocol, by outcome: ok, conflict, refused, failed.",
		}, []string{"outcome"}),
	}
	m.appendOK = m.appends.WithLabelValues("ok")
	m.appendConflict = m.appends.WithLabelValues("conflict")
	m.appendRefused = m.appends.WithLabelValues("refused")
	m.appendFailed = m.appends.WithLabelValues("failed")
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.subscriptions, m.events, m.appends} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of EventStoreDB's protocol: %w", err)
		}
	}
	return m, nil
}

// appended counts an append that came as far as the store.
func (m *metrics) appended(err error) {
	var refused *replyError
	switch {
	case err == nil:
		m.appendOK.Inc()
	case errors.As(err, &refused) && refused.reason == reasonWrongVersion:
		m.appendConflict.Inc()
	case errors.As(err, &refused):
		m.appendRefused.Inc()
	default:
		m.appendFailed.Inc()
	}
}
