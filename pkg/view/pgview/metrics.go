package pgview

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics answer whether the server is the bottleneck, and how commits get there.
type metrics struct {
	registerer prometheus.Registerer
	// commits and rows by way: round_trip, or copy for many rows.
	commits, rows *prometheus.CounterVec
	all           []prometheus.Collector
}

// The ways of a commit.
const (
	wayRoundTrip = "round_trip"
	wayCopy      = "copy"
)

func newMetrics(pool *pgxpool.Pool, registerer prometheus.Registerer) (*metrics, error) {
	gauge := func(state string, value func(*pgxpool.Stat) int32) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_postgres_connections", Help: "Connections to the views' server, by state.", ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(value(pool.Stat())) })
	}
	m := &metrics{
		registerer: registerer,
		commits:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_postgres_commits_total", Help: "Commits to views, by way."}, []string{"way"}),
		rows:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_postgres_documents_total", Help: "Documents put and deleted, by way."}, []string{"way"}),
	}
	m.all = []prometheus.Collector{
		m.commits, m.rows,
		gauge("used", (*pgxpool.Stat).AcquiredConns),
		gauge("idle", (*pgxpool.Stat).IdleConns),
		gauge("most", (*pgxpool.Stat).MaxConns),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "parley_postgres_connection_wait_seconds_total", Help: "Time that calls waited for a connection.",
		}, func() float64 { return pool.Stat().EmptyAcquireWaitTime().Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "parley_postgres_connections_made_total", Help: "Connections that were made; many say that they break.",
		}, func() float64 { return float64(pool.Stat().NewConnsCount()) }),
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

func (m *metrics) committed(way string, rows int) {
	m.commits.WithLabelValues(way).Inc()
	m.rows.WithLabelValues(way).Add(float64(rows))
}
