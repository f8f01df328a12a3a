package serve_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/services/parley/internal/process"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const startDeadline = 60 * time.Second

// settings are those of a test: free ports, a directory of its own, and the
// event store of this run of the tests.
func settings(t *testing.T) serve.Settings {
	t.Helper()
	s := embeddedSettings(t)
	s.Storage.EventStore = config.Location(process.EventStore(t))
	return s
}

// embeddedSettings are settings of a test of the data directory and its log.
func embeddedSettings(t *testing.T) serve.Settings {
	t.Helper()
	s := serve.DefaultSettings()
	s.Storage.DataDir = filepath.Join(t.TempDir(), "data")
	s.Listen = serve.Listen{GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", SMTP: "127.0.0.1:0", Admin: "127.0.0.1:0", NATS: "127.0.0.1:0"}
	return s
}

// run serves until stop is called, which gives what Run returned.
func run(t *testing.T, s serve.Settings, services ...string) (*serve.Running, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan *serve.Running, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Options{
			Settings: s, Services: services, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Now: time.Now,
			OnReady: func(_ context.Context, r *serve.Running) error { ready <- r; return nil },
		})
	}()
	stopped := false
	stop := func() error {
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if !stopped {
			require.NoError(t, stop())
		}
	})
	select {
	case r := <-ready:
		return r, stop
	case err := <-ended:
		stopped = true
		cancel()
		require.NoError(t, err)
		t.Fatal("ended before it served")
	case <-time.After(startDeadline):
		t.Fatal("did not serve in time")
	}
	return nil, nil
}

// fails runs settings that cannot start and returns why.
func fails(t *testing.T, s serve.Settings, services ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	err := serve.Run(ctx, serve.Options{
		Settings: s, Services: services, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Now: time.Now,
		OnReady: func(context.Context, *serve.Running) error { return errors.New("it served") },
	})
	require.Error(t, err)
	require.NotEqual(t, "it served", err.Error())
	return err
}
