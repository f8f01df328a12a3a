package serve_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/services/parley/internal/process"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func pageView(sourceID string) *interactionv1.RecordRequest {
	return &interactionv1.RecordRequest{Interaction: &interactionv1.Interaction{
		SourceId: sourceID, Channel: "web", Direction: eventv1.Direction_DIRECTION_INBOUND,
		Identifiers: []*eventv1.Identifier{{Kind: "user_id", Value: "u1"}},
		Payload:     &eventv1.Payload{Kind: &eventv1.Payload_PageViewed{PageViewed: &eventv1.PageViewed{Path: "/"}}},
	}}
}

// TestServes goes once through every port.
func TestServes(t *testing.T) {
	t.Parallel()
	s := settings(t)
	s.Process.ReadyFile = filepath.Join(t.TempDir(), "ready.json")
	require.NoError(t, os.WriteFile(s.Process.ReadyFile, []byte("of an earlier process"), 0o600))
	r, stop := run(t, s)

	text, err := os.ReadFile(s.Process.ReadyFile)
	require.NoError(t, err)
	var said serve.Addresses
	require.NoError(t, json.Unmarshal(text, &said))
	require.Equal(t, r.Addresses, said)
	for name, addr := range map[string]string{"grpc": said.GRPC, "http": said.HTTP, "smtp": said.SMTP, "admin": said.Admin, "nats": said.NATS} {
		require.NotEmpty(t, addr, name)
	}

	conn := dial(t, said.GRPC)
	for _, service := range []string{"", "parley.interaction.v1.InteractionService", "parley.customer.v1.CustomerService", "parley.feed.v1.EventService", "parley.email.v1.EmailService"} {
		h, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		require.NoError(t, err, service)
		require.Equal(t, healthv1.HealthCheckResponse_SERVING, h.GetStatus(), service)
	}
	recorded, err := interactionv1.NewInteractionServiceClient(conn).Record(t.Context(), pageView("a"))
	require.NoError(t, err)
	require.NotEmpty(t, recorded.GetConsistencyToken())

	resp := post(t, "http://"+said.HTTP+"/v1/track", `{"anonymousId":"b1","event":"Hello","messageId":"m1"}`)
	require.Equal(t, http.StatusOK, resp)
	settled(t, r)
	got, err := feedv1.NewEventServiceClient(conn).Get(t.Context(), &feedv1.GetRequest{EventId: recorded.GetResult().GetEventId(), ConsistencyToken: recorded.GetConsistencyToken()})
	require.NoError(t, err)
	require.Equal(t, "default", got.GetEvent().GetEvent().GetTenant())

	for path, want := range map[string]string{"/readyz": `"ready":true`, "/healthz": "ok", "/metrics": "parley_grpc_requests_total"} {
		resp, err := http.Get("http://" + said.Admin + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, string(body), want)
	}
	http.DefaultClient.CloseIdleConnections()

	require.NoError(t, stop())
	require.NoFileExists(t, s.Process.ReadyFile)
	_, err = net.DialTimeout("tcp", said.GRPC, time.Second)
	require.Error(t, err, "nobody listens any longer")
}

// settled waits until all that was accepted is visible.
func settled(t *testing.T, r *serve.Running) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startDeadline)
	defer cancel()
	require.NoError(t, r.Settled(ctx))
}

func post(t *testing.T, url, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.SetBasicAuth("dev", "")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// TestWhatWasRecordedOutlivesTheProcess restarts on the same directory.
func TestWhatWasRecordedOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	s := settings(t)
	var first *interactionv1.RecordResponse
	for i := range 5 {
		r, stop := run(t, s)
		conn, err := grpc.NewClient(r.Addresses.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		recorded, err := interactionv1.NewInteractionServiceClient(conn).Record(t.Context(), pageView("a"))
		require.NoError(t, err)
		if i == 0 {
			first = recorded
			require.Equal(t, interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED, recorded.GetResult().GetOutcome())
		} else {
			require.Equal(t, interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE, recorded.GetResult().GetOutcome())
			require.Equal(t, first.GetResult().GetEventId(), recorded.GetResult().GetEventId())
			require.Equal(t, first.GetResult().GetStream(), recorded.GetResult().GetStream(), "the secret is the same")
		}
		require.NoError(t, conn.Close())
		require.NoError(t, stop())
	}
}

func TestPortTakenNamesTheFlag(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	for _, flag := range []string{"grpc-listen", "http-listen", "smtp-listen", "admin-listen", "nats-listen"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			s := settings(t)
			setting(&s.Listen, flag, taken.Addr().String())
			err := fails(t, s)
			require.ErrorContains(t, err, "--"+flag+" "+taken.Addr().String()+": address already in use")
			require.ErrorContains(t, err, "for example --"+flag+" 127.0.0.1:0")
			// What had been opened is free again.
			setting(&s.Listen, flag, "127.0.0.1:0")
			_, stop := run(t, s)
			require.NoError(t, stop())
		})
	}
}

// setting sets the field of a flag.
func setting(l *serve.Listen, flag, value string) {
	v := reflect.ValueOf(l).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("flag") == flag {
			v.Field(i).SetString(value)
		}
	}
}

func TestServicesApart(t *testing.T) {
	t.Parallel()
	inner := settings(t)
	behind, _ := run(t, inner, "recorder", "customer", "feed")
	require.Empty(t, behind.Addresses.HTTP)
	front := settings(t)
	front.NATS.URL = "nats://" + behind.Addresses.NATS
	front.NATS.Replicas = 1
	gateway, _ := run(t, front, "web")
	require.Empty(t, gateway.Addresses.GRPC)
	require.NoDirExists(t, front.Storage.DataDir, "a gateway keeps nothing")
	require.Equal(t, http.StatusOK, post(t, "http://"+gateway.Addresses.HTTP+"/v1/track", `{"userId":"u1","event":"Hello","messageId":"m1"}`))
	http.DefaultClient.CloseIdleConnections()
	settled(t, behind)
	stream, err := feedv1.NewEventServiceClient(dial(t, behind.Addresses.GRPC)).Subscribe(t.Context(), &feedv1.SubscribeRequest{From: &feedv1.SubscribeRequest_Start{Start: &feedv1.FromStart{}}})
	require.NoError(t, err)
	for {
		item, err := stream.Recv()
		require.NoError(t, err)
		if ev := item.GetEvent(); ev != nil { // not a heartbeat
			require.Equal(t, "web/dev", ev.GetEvent().GetSource())
			return
		}
	}
}

// TestGarbage throws what no client says at every port.
func TestGarbage(t *testing.T) {
	t.Parallel()
	r, _ := run(t, settings(t))
	a := r.Addresses
	for _, addr := range []string{a.GRPC, a.HTTP, a.SMTP, a.Admin, a.NATS} {
		for _, garbage := range [][]byte{
			{0}, bytes.Repeat([]byte{0xff}, 4096), []byte("GET / HTTP/9.9\r\n\r\n"), []byte("POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{"),
			[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"), []byte("PUB ingress.default.web 99999999\r\nx\r\n"),
			[]byte("CONNECT {}\r\nPUB ingress.default.web 3\r\nxyz\r\nPING\r\n"), {0x16, 0x03, 0x01, 0x02, 0x00, 0x01},
		} {
			conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(100*time.Millisecond)))
			// Whatever it answers, or nothing, or that it closes at once.
			_, _ = conn.Write(garbage)
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}
	require.Equal(t, http.StatusOK, post(t, "http://"+a.HTTP+"/v1/track", `{"userId":"u1","event":"Still here","messageId":"m9"}`))
	http.DefaultClient.CloseIdleConnections()
	settled(t, r)
	_, err := interactionv1.NewInteractionServiceClient(dial(t, a.GRPC)).Record(t.Context(), pageView("z"))
	require.NoError(t, err)
}

// TestStartsAndStops asks processes to stop at every moment of their start, ten
// at a time: none hangs, fails or leaves anything behind.
func TestStartsAndStops(t *testing.T) {
	t.Parallel()
	const starts, atOnce, step = 50, 10, 10 * time.Millisecond
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	store := process.EventStore(t)
	for i := range starts {
		s := embeddedSettings(t)
		s.Storage.EventStore = config.Location(store)
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*step)
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				ended <- serve.Run(ctx, serve.Options{Settings: s, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Now: time.Now})
			}()
			select {
			case err := <-ended:
				assert.NoError(t, err, "asked to stop after %s", time.Duration(i)*step)
			case <-time.After(startDeadline):
				t.Errorf("asked to stop after %s, it did not", time.Duration(i)*step)
			}
		})
	}
	all.Wait()
}
