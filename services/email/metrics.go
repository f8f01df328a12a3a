package email

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// metrics answer whether mail comes in, whose it is believed to be, and what
// goes wrong.
type metrics struct {
	mails       *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	events      *prometheus.CounterVec
	verdicts    *prometheus.CounterVec
	defects     *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	connections prometheus.Gauge
	refused     *prometheus.CounterVec
	requests    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		mails: counter("parley_email_mails_total",
			"Mails by the way they came and what became of them: taken, later, no_recipient, loop, too_large.", "via", "outcome"),
		bytes: counter("parley_email_bytes_total", "Bytes of the mails that were taken, by the way they came.", "via"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "parley_email_take_seconds",
			Help:    "Time from a whole mail to its being safe, or refused, by the way it came.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60},
		}, []string{"via"}),
		events:      counter("parley_email_events_total", "Events made of mails, by type.", "type"),
		verdicts:    counter("parley_email_verdicts_total", "Verdicts on the senders of mails: pass, fail, none.", "verdict"),
		defects:     counter("parley_email_defects_total", "Mails with a defect, by its code.", "code"),
		quarantined: counter("parley_email_quarantined_total", "Bodies sent to quarantine, by code.", "code"),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_email_smtp_connections", Help: "SMTP connections that are open.",
		}),
		refused: counter("parley_email_smtp_refused_total",
			"What SMTP refused, by reason: connections, recipient, size, tls, busy, commands, aborted.", "reason"),
		requests: counter("parley_email_webhook_requests_total", "Requests of mail vendors, by vendor and HTTP status.", "vendor", "code"),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.mails, m.bytes, m.seconds, m.events, m.verdicts, m.defects, m.quarantined, m.connections, m.refused, m.requests,
	} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) taken(via Via, outcome string, size int, took time.Duration) {
	m.mails.WithLabelValues(string(via), outcome).Inc()
	m.seconds.WithLabelValues(string(via)).Observe(took.Seconds())
	if outcome == "taken" {
		m.bytes.WithLabelValues(string(via)).Add(float64(size))
	}
}

func (m *metrics) read(l *letter) {
	verdict := strings.ToLower(strings.TrimPrefix(l.verdict.Verdict.String(), "AUTHENTICATION_VERDICT_"))
	m.verdicts.WithLabelValues(verdict).Inc()
	for _, code := range l.defects {
		m.defects.WithLabelValues(code).Inc()
	}
}

func (m *metrics) published(batch *interactionv1.IngressBatch) {
	for _, ev := range batch.GetEvents() {
		m.events.WithLabelValues(ev.GetType()).Inc()
	}
	for _, body := range batch.GetQuarantined() {
		m.quarantined.WithLabelValues(body.GetCode()).Inc()
	}
}
