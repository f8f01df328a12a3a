package match

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics answer: do jobs end well, what do they find, what was linked?
type metrics struct {
	jobs    *prometheus.CounterVec // by outcome
	running prometheus.Gauge
	pairs   prometheus.Counter
	links   *prometheus.CounterVec // by outcome
	skipped prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const namespace, subsystem = "parley", "match"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &metrics{
		jobs: prometheus.NewCounterVec(counter("jobs_total", "Jobs that fitted or searched, by how they ended."), []string{"outcome"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "jobs_running", Help: "Jobs that run now.",
		}),
		pairs:   prometheus.NewCounter(counter("pairs_total", "Pairs that searches found and kept.")),
		links:   prometheus.NewCounterVec(counter("links_total", "Links that a model wanted, by what became of them."), []string{"outcome"}),
		skipped: prometheus.NewCounter(counter("keys_skipped_total", "Blocking keys passed over, having too many customers.")),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.jobs, m.running, m.pairs, m.links, m.skipped} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("match server: register metrics: %w", err)
		}
	}
	return m, nil
}
