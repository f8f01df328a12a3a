package takeovertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	"github.com/parleyhq/parley/services/recorder"
)

// childEnv makes the test binary a recorder: its settings as JSON.
const childEnv = "RECORDER_TAKEOVER_CHILD"

func TestMain(m *testing.M) {
	if settings := os.Getenv(childEnv); settings != "" {
		if err := child(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// settings of a child.
type settings struct {
	Name     string
	Store    string // address of the wire
	NATS     string // URL
	IndexDir string
	// Batches: the store commits many streams at once.
	Batches bool
}

var secret = []byte("0123456789abcdef")

// child records until it is told to stop, or the test is gone: then its
// standard input ends.
func child(encoded string) (err error) {
	var s settings
	if err := json.Unmarshal([]byte(encoded), &s); err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(4)
	}()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("child", s.Name)

	store, err := dial(s.Store, s.Name, s.Batches)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	b, err := bus.Open(ctx, bus.Config{URL: s.NATS, Replicas: 1}, bus.WithLogger(logger))
	if err != nil {
		return fmt.Errorf("reach NATS: %w", err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	registry := prometheus.NewRegistry()
	rec, err := newRecorder(recorder.Deps{
		Log: store, Bus: b, Lease: b.Lease("recorder"), IndexDir: s.IndexDir, Logger: logger, Metrics: registry,
		NewcomersInOrder: true, // so that it can be compared with an undisturbed one
	})
	if err != nil {
		return err
	}
	reporting, stopReporting := context.WithCancel(ctx)
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		report(reporting, store, registry)
	}()
	defer func() {
		stopReporting()
		<-reported
	}()
	return rec.Run(ctx)
}

func newRecorder(deps recorder.Deps) (*recorder.Recorder, error) {
	resolver, err := identity.NewResolver(identity.DefaultRules(), secret)
	if err != nil {
		return nil, fmt.Errorf("make a resolver: %w", err)
	}
	deps.Codec, deps.Resolver = event.NewCodec(), resolver
	rec, err := recorder.New(deps)
	if err != nil {
		return nil, fmt.Errorf("make a recorder: %w", err)
	}
	return rec, nil
}

// reportEvery is how often a child says how it is.
const reportEvery = 25 * time.Millisecond

// report says how the recorder is, as its metrics do, until ctx ends.
func report(ctx context.Context, store *remoteStore, metrics prometheus.Gatherer) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		values := gather(metrics)
		if _, running := values["parley_recorder_index_position"]; !running {
			continue
		}
		// What fails here fails the recorder too.
		_ = store.report(ctx, Status{
			Active:    values["parley_recorder_active"] == 1,
			Position:  eventstore.Position(values["parley_recorder_index_position"]),
			Conflicts: int(values["parley_recorder_conflicts_total"]),
			Failures:  int(values["parley_recorder_failures_total"]),
		})
	}
}

// gather gives the values of the metrics without labels.
func gather(metrics prometheus.Gatherer) map[string]float64 {
	values := map[string]float64{}
	families, _ := metrics.Gather() // what cannot be had is not there
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 {
				values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return values
}
