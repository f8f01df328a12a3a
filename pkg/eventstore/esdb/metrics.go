package esdb

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics answer whether the cluster is there, and what becomes of appends.
type metrics struct {
	registerer prometheus.Registerer
	up         prometheus.Gauge
	losses     prometheus.Counter
	appends    *prometheus.CounterVec
	inFlight   prometheus.Gauge
	subscribed prometheus.Gauge
	behind     prometheus.Counter
	all        []prometheus.Collector
}

// What becomes of an append.
const (
	outcomeDone     = "done"
	outcomeRepeated = "repeated"
	outcomeConflict = "conflict"
	outcomeFailed   = "failed"
)

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: registerer,
		up:         prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_esdb_connected", Help: "1 while there is a connection to the event store's leader."}),
		losses:     prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_esdb_connections_lost_total", Help: "Connections to the event store that were given up."}),
		appends:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_esdb_appends_total", Help: "Appends, by what became of them."}, []string{"outcome"}),
		inFlight:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_esdb_appends_in_flight", Help: "Appends that are on their way."}),
		subscribed: prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_esdb_subscriptions", Help: "Open subscriptions."}),
		behind:     prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_esdb_catch_ups_total", Help: "Times that a subscription had to read from the cluster, being behind what is in memory."}),
	}
	m.all = []prometheus.Collector{m.up, m.losses, m.appends, m.inFlight, m.subscribed, m.behind}
	for _, outcome := range []string{outcomeDone, outcomeRepeated, outcomeConflict, outcomeFailed} {
		m.appends.WithLabelValues(outcome)
	}
	if registerer == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := registerer.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) connected() { m.up.Set(1) }

func (m *metrics) lost() {
	m.up.Set(0)
	m.losses.Inc()
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}
