package bus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/parleyhq/parley/pkg/bus"
)

func TestServerRestart(t *testing.T) {
	t.Parallel()
	cfg := embedded(t)
	server, err := bus.Open(t.Context(), cfg, quiet())
	require.NoError(t, err)
	cfg.Listen = server.Addr()
	client := open(t, external(server))
	c := consume(t, client, bus.ConsumeOptions{}, nil)
	sent := 0
	for range 3 {
		publish(t, client, numbers(sent, 50)...)
		sent += 50
		c.until(sent - 25) // some of it may be under way
		require.NoError(t, server.Close())
		eventually(t, "noticed", func() bool { return client.Healthy() != nil })
		require.ErrorIs(t, client.Healthy(), bus.ErrUnavailable)
		require.ErrorIs(t, client.Publisher().Publish(t.Context(), "default", "web", batch(10, "x")), bus.ErrUnavailable)

		server, err = bus.Open(t.Context(), cfg, quiet())
		require.NoError(t, err)
		eventually(t, "connected again", func() bool { return client.Healthy() == nil })
	}
	publish(t, client, numbers(sent, 50)...)
	require.Equal(t, numbers(0, sent+50), c.until(sent+50))
	c.stop()
	require.NoError(t, server.Close())
}

func TestAcknowledgedSurvivesRestartAlsoWithOtherLimits(t *testing.T) {
	t.Parallel()
	cfg := embedded(t)
	sent := 0
	// The last one is below what the stream holds by then: full, nothing dropped.
	for _, limit := range []int64{4 << 20, 64 << 20, 2 << 20, 1 << 20} {
		cfg.MaxIngressBytes = limit
		b, err := bus.Open(t.Context(), cfg, quiet())
		require.NoError(t, err)
		backlog, err := b.Pending(t.Context())
		require.NoError(t, err)
		require.Equal(t, limit, backlog.MaxBytes)
		require.Equal(t, uint64(sent), backlog.Messages)
		for range 50 {
			err := b.Publisher().Publish(t.Context(), "default", "web", batch(10_000, numbers(sent, 1)...))
			if limit == 1<<20 {
				require.ErrorIs(t, err, bus.ErrFull)
				break
			}
			require.NoError(t, err)
			sent++
		}
		require.NoError(t, b.Close())
	}
	b := open(t, cfg)
	c := consume(t, b, bus.ConsumeOptions{}, nil)
	require.Equal(t, numbers(0, sent), c.until(sent))
	c.stop()
}

func TestForeignStreams(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	js, err := jetstream.New(raw(t, b))
	require.NoError(t, err)
	// The server removes the files of a stream that was deleted a moment later,
	// and until then may fail to make one of the same name.
	create := func(cfg jetstream.StreamConfig) {
		eventually(t, "create "+cfg.Name, func() bool {
			_, err := js.CreateStream(t.Context(), cfg)
			return err == nil
		})
	}
	for name, theirs := range map[string]jetstream.StreamConfig{
		"a work queue":     {Name: bus.StreamName, Subjects: []string{"ingress.>"}, Retention: jetstream.WorkQueuePolicy},
		"in memory":        {Name: bus.StreamName, Subjects: []string{"ingress.>"}, Storage: jetstream.MemoryStorage},
		"other subjects":   {Name: bus.StreamName, Subjects: []string{"orders.>"}},
		"cannot be purged": {Name: bus.StreamName, Subjects: []string{"ingress.>"}, DenyPurge: true},
		"another's stream": {Name: "THEIRS", Subjects: []string{"ingress.acme.*"}},
	} {
		require.NoError(t, js.DeleteStream(t.Context(), bus.StreamName))
		create(theirs)
		_, err = bus.Open(t.Context(), external(b), quiet())
		require.ErrorIs(t, err, bus.ErrIncompatible, name)
		require.NoError(t, js.DeleteStream(t.Context(), theirs.Name))
		create(jetstream.StreamConfig{
			Name: bus.StreamName, Subjects: []string{"ingress.>"}, Description: "the operator's", MaxAge: time.Hour,
			Discard: jetstream.DiscardOld, Metadata: map[string]string{"team": "crm"},
		})
	}
	// One that differs only in what can be set right is set right.
	open(t, external(b))
	stream, err := js.Stream(t.Context(), bus.StreamName)
	require.NoError(t, err)
	got := stream.CachedInfo().Config
	require.Equal(t, jetstream.DiscardNew, got.Discard)
	require.Zero(t, got.MaxAge)
	require.Equal(t, int64(1<<30), got.MaxBytes)
	require.Equal(t, "the operator's", got.Description)
	require.Equal(t, "crm", got.Metadata["team"])

	cfg := external(b)
	cfg.Replicas = 3
	_, err = bus.Open(t.Context(), cfg, quiet())
	require.ErrorIs(t, err, bus.ErrInvalid, "no cluster")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	b := open(t, embedded(t))
	running := embedded(t)
	open(t, running)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()

	taken := embedded(t)
	taken.Listen = b.Addr()
	_, err = bus.Open(t.Context(), taken, quiet())
	require.ErrorIs(t, err, bus.ErrAddressInUse)
	require.ErrorContains(t, err, b.Addr())

	_, err = bus.Open(t.Context(), running, quiet())
	require.ErrorIs(t, err, bus.ErrInUse)
	require.ErrorContains(t, err, running.DataDir)

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = bus.Open(t.Context(), bus.Config{Listen: "127.0.0.1:0", DataDir: file}, quiet())
	require.Error(t, err)

	// A listener that never speaks NATS.
	_, err = bus.Open(t.Context(), bus.Config{URL: "nats://" + listener.Addr().String(), ConnectTimeout: 50 * time.Millisecond}, quiet())
	require.ErrorIs(t, err, bus.ErrUnavailable)

	for name, cfg := range map[string]bus.Config{
		"no data directory":  {},
		"bad address":        {DataDir: "x", Listen: "localhost"},
		"bad port":           {DataDir: "x", Listen: "localhost:70000"},
		"embedded replicas":  {DataDir: "x", Replicas: 3},
		"tiny stream":        {DataDir: "x", MaxIngressBytes: 10},
		"key without cert":   {DataDir: "x", TLS: bus.TLS{KeyFile: "k"}},
		"CA without cert":    {DataDir: "x", TLS: bus.TLS{CAFile: "k"}},
		"user only":          {DataDir: "x", User: "u"},
		"token and user":     {DataDir: "x", User: "u", Password: "p", Token: "t"},
		"embedded creds":     {DataDir: "x", CredentialsFile: "c"},
		"inbox of wildcards": {DataDir: "x", InboxPrefix: "a.*"},
		"tiny chunk":         {DataDir: "x", ChunkBytes: 10},
		"little in flight":   {DataDir: "x", MaxInFlightBytes: 10},
		"negative timeout":   {DataDir: "x", PublishTimeout: -1},
		"many replicas":      {URL: "nats://x", Replicas: 9},
	} {
		_, err := bus.Open(t.Context(), cfg, quiet())
		require.ErrorIs(t, err, bus.ErrInvalid, name)
	}
}

func TestCredentialsAndTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	serverCert, serverKey := ca.issue(t, "server")
	clientCert, clientKey := ca.issue(t, "client")
	for name, c := range map[string]struct {
		server, good bus.Config
		bad          []bus.Config
	}{
		"user over TLS": {
			server: bus.Config{User: "u", Password: "p", TLS: bus.TLS{CertFile: serverCert, KeyFile: serverKey}},
			good:   bus.Config{User: "u", Password: "p", TLS: bus.TLS{CAFile: ca.file}},
			bad:    []bus.Config{{User: "u", Password: "q", TLS: bus.TLS{CAFile: ca.file}}, {TLS: bus.TLS{CAFile: ca.file}}},
		},
		"unknown authority": {
			server: bus.Config{TLS: bus.TLS{CertFile: serverCert, KeyFile: serverKey}},
			good:   bus.Config{TLS: bus.TLS{CAFile: ca.file}},
			bad:    []bus.Config{{ConnectTimeout: 50 * time.Millisecond}},
		},
		"token": {
			server: bus.Config{Token: "t"},
			good:   bus.Config{Token: "t"},
			bad:    []bus.Config{{Token: "u"}, {}},
		},
		"client certificates": {
			server: bus.Config{TLS: bus.TLS{CertFile: serverCert, KeyFile: serverKey, CAFile: ca.file}},
			good:   bus.Config{TLS: bus.TLS{CertFile: clientCert, KeyFile: clientKey, CAFile: ca.file}},
			bad:    []bus.Config{{TLS: bus.TLS{CAFile: ca.file}, ConnectTimeout: 50 * time.Millisecond}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.server.Listen, c.server.DataDir = "127.0.0.1:0", t.TempDir()
			b := open(t, c.server)
			c.good.URL, c.good.Replicas = "nats://"+b.Addr(), 1
			client := open(t, c.good)
			publish(t, client, "a")
			got := consume(t, b, bus.ConsumeOptions{}, nil)
			require.Equal(t, []string{"a"}, got.until(1))
			got.stop()
			for _, bad := range c.bad {
				bad.URL, bad.Replicas = c.good.URL, 1
				_, err := bus.Open(t.Context(), bad, quiet())
				require.Error(t, err)
			}
		})
	}
	_, err := bus.Open(t.Context(), bus.Config{DataDir: t.TempDir(), TLS: bus.TLS{CertFile: clientKey, KeyFile: clientKey}}, quiet())
	require.ErrorContains(t, err, clientKey)
}

// authority signs certificates for 127.0.0.1.
type authority struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	require.NoError(t, err)
	a.file = a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, private.Public(), a.key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return a.write(t, name+".pem", "CERTIFICATE", der), a.write(t, name+".key", "PRIVATE KEY", pkcs8)
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func TestFiftyStartsAndStops(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 10 {
		cfg := embedded(t)
		registry := prometheus.NewRegistry()
		wg.Go(func() {
			for i := range 5 {
				b, err := bus.Open(t.Context(), cfg, quiet(), bus.WithMetrics(registry))
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				var calls sync.WaitGroup
				for range 2 {
					calls.Go(func() {
						// Whoever comes second takes over, and Close ends both.
						_ = b.Consume(ctx, bus.ConsumeOptions{}, func(context.Context, []bus.Message) error { return nil })
					})
					calls.Go(func() {
						_ = b.Publisher().Publish(ctx, "default", "web", batch(10, fmt.Sprint(i)))
					})
				}
				for range 3 {
					calls.Go(func() {
						if err := b.Close(); err != nil {
							t.Error(err)
						}
					})
				}
				calls.Wait()
				cancel()
			}
		})
	}
	wg.Wait()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := open(t, embedded(t), bus.WithMetrics(registry))
	publish(t, b, numbers(0, 5)...)
	require.ErrorIs(t, b.Publisher().Publish(t.Context(), "default", "web", batch(2<<20, "a")), bus.ErrTooLarge)
	value := func(name string) float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == name {
				m := f.GetMetric()[0]
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return -1
	}
	require.InDelta(t, 5, value("parley_bus_published_messages_total"), 0)
	require.InDelta(t, 1, value("parley_bus_publish_failures_total"), 0)
	require.InDelta(t, 5, value("parley_bus_pending_messages"), 0)
	require.InDelta(t, 1, value("parley_bus_up"), 0)
	failed := false
	c := consume(t, b, bus.ConsumeOptions{RetryMin: time.Millisecond}, func(context.Context, []bus.Message) error {
		if !failed {
			failed = true
			return errHandler
		}
		return nil
	})
	c.until(5)
	c.stop()
	require.InDelta(t, 5, value("parley_bus_consumed_messages_total"), 0)
	require.InDelta(t, 1, value("parley_bus_handler_failures_total"), 0)
	require.InDelta(t, 5, value("parley_bus_acknowledged_sequence"), 0)
	require.InDelta(t, 0, value("parley_bus_pending_messages"), 0)
	require.NoError(t, b.Close())
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families, "unregistered")
}

// Not parallel: the propagator is the process's.
func TestTraceContextTravels(t *testing.T) {
	before := otel.GetTextMapPropagator()
	otel.SetTextMapPropagator(propagation.TraceContext{})
	defer otel.SetTextMapPropagator(before)
	b := open(t, embedded(t))
	sent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(t.Context(), sent)
	require.NoError(t, b.Publisher().Publish(ctx, "default", "web", batch(10, "a")))
	var got trace.SpanContext
	c := consume(t, b, bus.ConsumeOptions{}, func(ctx context.Context, messages []bus.Message) error {
		got = trace.SpanContextFromContext(messages[0].Context(ctx))
		return nil
	})
	c.until(1)
	c.stop()
	require.Equal(t, sent.TraceID(), got.TraceID())
	require.Equal(t, sent.SpanID(), got.SpanID())
}
