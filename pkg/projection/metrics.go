package projection

import (
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
	parked        prometheus.Counter
	commitSeconds prometheus.Histogram
	all           []prometheus.Collector
}

func newMetrics(r *runner, status func(*runner) Status, registerer prometheus.Registerer) (*metrics, error) {
	ns := r.ns
	labels := prometheus.Labels{
		"projection": ns.Projection, "version": strconv.FormatUint(uint64(ns.Version), 10),
		"generation": strconv.FormatUint(uint64(ns.Generation), 10),
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return value(status(r)) })
	}
	m := &metrics{
		registerer: registerer,
		events:     counter("parley_projection_events_total", "Events folded and committed."),
		retries:    counter("parley_projection_retries_total", "Times that a failure made the projection start again at its checkpoint."),
		foldErrors: counter("parley_projection_fold_errors_total", "Times that an event could not be folded."),
		parked:     counter("parley_projection_dead_letters_total", "Events that became dead letters."),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_projection_commit_seconds", Help: "Duration of commits.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
	}
	m.all = []prometheus.Collector{
		m.events, m.retries, m.foldErrors, m.parked, m.commitSeconds,
		gauge("parley_projection_position", "Position up to which the views contain everything.",
			func(s Status) float64 { return float64(s.Position) }),
		gauge("parley_projection_lag_events", "Positions between the views and the log's head.",
			func(s Status) float64 { return float64(s.Head - s.Position) }),
		gauge("parley_projection_lag_seconds", "Age of the oldest event that the views do not contain; 0 when caught up.",
			func(s Status) float64 { return s.Behind.Seconds() }),
		gauge("parley_projection_state", "0 stopped, 1 catching up, 2 live, 3 retrying, 4 halted, 5 paused, 6 frozen.",
			func(s Status) float64 { return float64(s.State) }),
		gauge("parley_projection_serving", "1 for the generation that answers reads, else 0.",
			func(s Status) float64 {
				if s.Serving {
					return 1
				}
				return 0
			}),
		gauge("parley_projection_dead_letters", "Events that could not be folded.",
			func(s Status) float64 { return float64(s.DeadLetters) }),
		gauge("parley_projection_waiting_events", "Events that wait behind dead letters.",
			func(s Status) float64 { return float64(s.Waiting) }),
		gauge("parley_projection_oldest_dead_letter_seconds", "How long ago the oldest dead letter was recorded in the log; 0 without any.",
			func(s Status) float64 {
				if s.OldestDeadLetter.IsZero() {
					return 0
				}
				return r.deps.Now().Sub(s.OldestDeadLetter).Seconds()
			}),
		gauge("parley_projection_time_left_seconds", "Time until the generation has caught up, at the present rate; 0 when it has.",
			func(s Status) float64 { return s.TimeLeft().Seconds() }),
		gauge("parley_projection_fraction", "Part of the log that the views contain, 0 to 1.",
			func(s Status) float64 { return s.Fraction() }),
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
