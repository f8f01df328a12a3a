package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics answer whether clients get rid of their events, and how fast.
type metrics struct {
	requests                        *prometheus.CounterVec
	seconds                         *prometheus.HistogramVec
	accepted, rejected, quarantined prometheus.Counter
	lost                            prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_web_events_total",
		Help: "Events of the tracking API, by what became of them: accepted, rejected, quarantined.",
	}, []string{"outcome"})
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_web_requests_total",
			Help: "Requests to the web gateway, by call and HTTP status.",
		}, []string{"call", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "parley_web_request_seconds",
			Help:    "Time from a request's head to its answer, by call.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15},
		}, []string{"call"}),
		accepted:    events.WithLabelValues("accepted"),
		rejected:    events.WithLabelValues("rejected"),
		quarantined: events.WithLabelValues("quarantined"),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_web_link_events_lost_total",
			Help: "Opens and clicks of mails that were served but could not be recorded.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{events, m.requests, m.seconds, m.lost} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observed counts what a handler serves.
func (g *Gateway) observed(call string, h http.HandlerFunc) http.Handler {
	seconds := g.metrics.seconds.WithLabelValues(call)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		defer func() {
			seconds.Observe(time.Since(begin).Seconds())
			g.metrics.requests.WithLabelValues(call, strconv.Itoa(sw.status)).Inc()
		}()
		h(sw, r)
	})
}
