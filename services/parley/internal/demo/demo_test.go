package demo_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
	"github.com/parleyhq/parley/services/parley/internal/demo"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTheDayTwice plays the day twice: the second time adds nothing.
func TestTheDayTwice(t *testing.T) {
	t.Parallel()
	s := serve.DefaultSettings()
	s.Storage.DataDir = filepath.Join(t.TempDir(), "data")
	s.Listen = serve.Listen{GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", SMTP: "127.0.0.1:0", Admin: "127.0.0.1:0", NATS: "127.0.0.1:0"}
	const deadline = 60 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	checked := errors.New("checked")
	err := serve.Run(ctx, serve.Options{
		Settings: s, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Now: time.Now,
		OnReady: func(ctx context.Context, r *serve.Running) error {
			var first []*eventv1.Event
			for range 2 {
				played, err := demo.Play(ctx, "http://"+r.Addresses.HTTP, serve.DevKey)
				require.NoError(t, err)
				require.Greater(t, played.Calls, played.Requests)
				require.NoError(t, r.Settled(ctx))
				events := all(ctx, t, r.Addresses.GRPC)
				if first == nil {
					first = events
					require.Greater(t, len(first), played.Calls)
				}
				require.Len(t, events, len(first))
			}
			for _, ev := range first {
				require.NotEqual(t, eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE, ev.GetTimeQuality(), ev.GetSourceId())
				require.Equal(t, "2026-03-12", ev.GetOccurredTime().AsTime().Format(time.DateOnly))
			}
			return checked
		},
	})
	require.ErrorIs(t, err, checked)
}

// all are the events of the log.
func all(ctx context.Context, t *testing.T, addr string) []*eventv1.Event {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := feedv1.NewEventServiceClient(conn).Subscribe(ctx, &feedv1.SubscribeRequest{From: &feedv1.SubscribeRequest_Start{Start: &feedv1.FromStart{}}})
	require.NoError(t, err)
	var events []*eventv1.Event
	for {
		item, err := stream.Recv()
		require.NoError(t, err)
		if ev := item.GetEvent(); ev != nil {
			events = append(events, ev.GetEvent())
		} else if item.GetHeartbeat().GetCaughtUp() {
			return events
		}
	}
}

func TestPlaySaysWhatWasRefused(t *testing.T) {
	t.Parallel()
	for _, answer := range []struct {
		code int
		body string
	}{{401, `{"success":false}`}, {200, `{"success":true,"accepted":0,"rejected":[{"index":0}]}`}, {200, "no JSON"}} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(answer.code)
			_, _ = w.Write([]byte(answer.body))
		}))
		_, err := demo.Play(t.Context(), s.URL, "dev")
		s.Close()
		require.ErrorContains(t, err, "play request 1 of the day: ")
		require.ErrorContains(t, err, answer.body)
	}
}

func TestGuide(t *testing.T) {
	t.Parallel()
	played := demo.Played{Requests: 3, Calls: 5}
	text := demo.Guide("bin/parley", "127.0.0.1:7300", played)
	require.Contains(t, text, "bin/parley customer get --email ada@example.com\n")
	require.Contains(t, demo.Guide("parley", "127.0.0.1:99", played), "customer find okafor --addr 127.0.0.1:99\n")
	require.Equal(t, 9, strings.Count(text, "  # "))
}
