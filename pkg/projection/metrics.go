package projection

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics answer whether the projection is failing and how far it is behind.
type metrics struct {
	registerer    prometheus.Registerer
	events        prometheus.Counter
	retries       prometheus.Counter
	foldErrors    prometheus.Counter
	commitSeconds prometheus.Histogram
	all           []prometheus.Collector
}

func newMetrics(r *runner, registerer prometheus.Registerer) (*metrics, error) {
	ns := r.gen.Namespace()
	labels := prometheus.Labels{
		"projection": ns.Projection, "version": strconv.FormatUint(uint64(ns.Version), 10),
		"generation": strconv.FormatUint(uint64(ns.Generation), 10),
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return value(r.Status()) })
	}
	m := &metrics{
		registerer: registerer,
		events:     counter("parley_projection_events_total", "Events folded and committed."),
		retries:    counter("parley_projection_retries_total", "Times that a failure made the projection start again at its checkpoint."),
		foldErrors: counter("parley_projection_fold_errors_total", "Times that an event could not be folded."),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_projection_commit_seconds", Help: "Duration of commits.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
	}
	m.all = []prometheus.Collector{
		m.events, m.retries, m.foldErrors, m.commitSeconds,
		gauge("parley_projection_position", "Position up to which the views contain everything.",
			func(s Status) float64 { return float64(s.Position) }),
		gauge("parley_projection_lag_events", "Positions between the views and the log's head.",
			func(s Status) float64 { return float64(s.Head - s.Position) }),
		gauge("parley_projection_lag_seconds", "Age of the newest event in the views while they are behind, else 0.",
			func(s Status) float64 { return s.Behind.Seconds() }),
		gauge("parley_projection_state", "0 stopped, 1 catching up, 2 live, 3 retrying, 4 halted.",
			func(s Status) float64 { return float64(s.State) }),
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

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

var errNoDependency = errors.New("a log, a codec and views are required")
