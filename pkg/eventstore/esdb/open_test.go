package esdb_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/esdb"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver/esdbservertest"
)

func TestMalformedURLsAreRefusedWithoutThePassword(t *testing.T) {
	t.Parallel()
	const password = "s3cret"
	for name, text := range map[string]string{
		"empty":                    "",
		"no scheme":                "user:s3cret@host:2113",
		"another scheme":           "http://user:s3cret@host:2113",
		"no host":                  "esdb://user:s3cret@",
		"no user":                  "esdb://:s3cret@host",
		"port":                     "esdb://user:s3cret@host:port",
		"user that is half quoted": "esdb://user%:s3cret@host",
		"question mark in it":      "esdb://user:1?s3cret@host:2113",
		"question mark and host":   "esdb://user:s3cret?x@host:2113",
		"no at sign":               "esdb://user:s3cret",
		"unknown setting":          "esdb://user:s3cret@host:2113?tsl=true",
		"setting that is no value": "esdb://user:s3cret@host:2113?tls=maybe",
		"a follower":               "esdb://user:s3cret@host:2113?nodePreference=follower",
		"no verification":          "esdb://user:s3cret@host:2113?tlsVerifyCert=false",
		"no such file":             "esdb://user:s3cret@host:2113?tlsCaFile=/none/of/it",
		"certificate without key":  "esdb://user:s3cret@host:2113?userCertFile=/none/of/it",
		"path":                     "esdb://user:s3cret@host:2113/path",
	} {
		_, err := esdb.Open(t.Context(), esdb.Config{URL: config.Secret(text), Patience: time.Millisecond})
		require.Error(t, err, name)
		require.NotErrorIs(t, err, eventstore.ErrUnavailable, name)
		require.NotContains(t, err.Error(), password, name)
	}
}

func TestOpenWithTheServerAway(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"one node":  "esdb://admin:s3cret@127.0.0.1:1?tls=false",
		"cluster":   "esdb://admin:s3cret@127.0.0.1:1,127.0.0.1:2?tls=false",
		"discover":  "esdb+discover://admin:s3cret@127.0.0.1:1?tls=false",
		"kurrentdb": "kurrentdb://admin:s3cret@127.0.0.1:1?tls=false&connectionName=parley",
	} {
		var logged bytes.Buffer
		cfg := esdb.Config{URL: config.Secret(text), Patience: 30 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&logged, nil))}
		_, err := esdb.Open(t.Context(), cfg)
		require.ErrorIs(t, err, eventstore.ErrUnavailable, name)
		require.ErrorContains(t, err, "127.0.0.1:1", name)
		require.ErrorContains(t, err, "is the cluster up", name)
		cfg.Patience = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, again := esdb.Open(ctx, cfg)
		cancel()
		require.ErrorIs(t, again, context.DeadlineExceeded, name)
		require.NotContains(t, err.Error()+again.Error()+logged.String(), "s3cret", name)
	}
}

// authority is a file with the certificate of who signed the server's.
func authority(t *testing.T) (file string, server tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, ca, private.Public(), key)
	require.NoError(t, err)
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

func TestTLSAndCredentials(t *testing.T) {
	t.Parallel()
	const password = "p@ss:w/rd, s3cret?&#%"
	ca, cert := authority(t)
	server := esdbservertest.NewRestartable(t, esdbserver.Config{
		Store: memory(t), Users: []esdbserver.User{
			{Name: "parley", PasswordHash: credential.Hash(password), Write: true},
			{Name: "reader", PasswordHash: credential.Hash(password)},
		},
	}, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})))
	server.Start()
	at := func(user, password, settings string) esdb.Config {
		return esdb.Config{URL: config.Secret("esdb://" + url.UserPassword(user, password).String() + "@" + server.Addr() + settings), Patience: 20 * time.Second}
	}
	withCA := "?tlsCaFile=" + url.QueryEscape(ca)
	store := open(t, at("parley", password, withCA))
	_, err := store.Append(deadline(t), "acme.a", eventstore.NoStream, record("a"))
	require.NoError(t, err)

	for name, cfg := range map[string]esdb.Config{
		"wrong password": at("parley", "wrong", withCA),
		"unknown user":   at("nobody", password, withCA),
	} {
		_, err := esdb.Open(deadline(t), cfg)
		require.ErrorIs(t, err, esdb.ErrDenied, name)
		require.NotErrorIs(t, err, eventstore.ErrUnavailable, name)
		require.ErrorContains(t, err, "connection string", name)
		require.NotContains(t, err.Error(), "s3cret", name)
	}
	// Who may only read can open what is there, but not append to it.
	reader := open(t, at("reader", password, withCA))
	require.Equal(t, store.LogID(), reader.LogID())
	_, err = reader.Append(deadline(t), "acme.a", 0, record("b"))
	require.ErrorIs(t, err, esdb.ErrDenied)
	require.Len(t, all(t, reader, eventstore.ReadAllOptions{}), 1)

	// An authority that is not known.
	stranger := at("parley", password, "")
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	stranger.Logger = slog.New(slog.NewTextHandler(whenWritten(cancel), nil))
	_, err = esdb.Open(ctx, stranger)
	require.ErrorIs(t, err, eventstore.ErrUnavailable)
	require.ErrorContains(t, err, "certificate")
	require.NotContains(t, err.Error(), "s3cret")
}

// whenWritten calls a function at each write.
type whenWritten func()

func (w whenWritten) Write(b []byte) (int, error) {
	w()
	return len(b), nil
}

func TestOpenersAgreeOnTheLogsID(t *testing.T) {
	t.Parallel()
	const openers = 8
	url := esdbservertest.Start(t, esdbserver.Config{Store: memory(t)})
	ids := make([]uuid.UUID, openers)
	var wg sync.WaitGroup
	for i := range openers {
		wg.Go(func() {
			store, err := esdb.Open(t.Context(), esdb.Config{URL: config.Secret(url)})
			if err != nil {
				t.Errorf("opener %d: %v", i, err)
				return
			}
			ids[i] = store.LogID()
			if err := store.Close(); err != nil {
				t.Errorf("close %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	store := open(t, esdb.Config{URL: config.Secret(url)})
	require.Equal(t, ids[0], store.LogID())
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.Zero(t, head, "the driver's own record is not of the log")
}

// The stream that the driver keeps its id in is nobody else's.
func TestTheDriversOwnStream(t *testing.T) {
	t.Parallel()
	const own = "parley-log"
	require.Empty(t, event.TenantOf(own))
	store, _ := served(t)
	ctx := deadline(t)
	_, err := store.Append(ctx, own, eventstore.Any, record("a"))
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	head, err := store.StreamHead(ctx, own)
	require.NoError(t, err)
	require.Equal(t, eventstore.NoStream, head)
	for _, err := range store.ReadStream(ctx, own, eventstore.ReadStreamOptions{}) {
		require.ErrorIs(t, err, eventstore.ErrStreamNotFound)
	}
	for _, direction := range []eventstore.Direction{eventstore.Forwards, eventstore.Backwards} {
		require.Empty(t, all(t, store, eventstore.ReadAllOptions{Direction: direction}))
	}
	_, err = store.Append(ctx, "parley-log2", eventstore.NoStream, record("a"))
	require.NoError(t, err)
	require.Len(t, all(t, store, eventstore.ReadAllOptions{Filter: eventstore.Filter{StreamPrefixes: []string{own}}}), 1)
}

// Another log behind the same address is not written to.
func TestAnotherLogIsRefused(t *testing.T) {
	t.Parallel()
	first := esdbservertest.NewRestartable(t, esdbserver.Config{Store: memory(t)})
	first.Start()
	behind := memory(t)
	second := esdbservertest.NewRestartable(t, esdbserver.Config{Store: behind})
	second.Start()
	between := startProxy(t, first.Addr())
	store := open(t, esdb.Config{URL: config.Secret(between.url())})
	ctx := deadline(t)
	_, err := store.Append(ctx, "acme.a", eventstore.NoStream, record("a"))
	require.NoError(t, err)
	between.lead(second.Addr())
	between.cut()
	_, err = store.Append(ctx, "acme.a", 0, record("b"))
	require.ErrorIs(t, err, esdb.ErrUnfit)
	head, err := behind.Head(ctx)
	require.NoError(t, err)
	require.Zero(t, head)
	between.lead(first.Addr())
	_, err = store.Append(ctx, "acme.a", 0, record("b"))
	require.NoError(t, err)
}

func TestMetricsComeAndGo(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	url := esdbservertest.Start(t, esdbserver.Config{Store: memory(t)})
	for range 2 {
		store, err := esdb.Open(t.Context(), esdb.Config{URL: config.Secret(url), Metrics: registry})
		require.NoError(t, err)
		_, err = store.Append(t.Context(), "acme."+uuid.NewString(), eventstore.NoStream, record("a"))
		require.NoError(t, err)
		families, err := registry.Gather()
		require.NoError(t, err)
		values := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				key := f.GetName()
				for _, l := range m.GetLabel() {
					key += " " + l.GetValue()
				}
				values[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		require.InDelta(t, 1, values["parley_esdb_connected"], 0)
		require.InDelta(t, 1, values["parley_esdb_appends_total done"], 0)
		require.NoError(t, store.Close())
		families, err = registry.Gather()
		require.NoError(t, err)
		require.Empty(t, families)
	}
}

func TestFiftyStartsAndStops(t *testing.T) {
	t.Parallel()
	url := esdbservertest.Start(t, esdbserver.Config{Store: memory(t)})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 5 {
				store, err := esdb.Open(t.Context(), esdb.Config{URL: config.Secret(url)})
				if err != nil {
					t.Error(err)
					return
				}
				var calls sync.WaitGroup
				sub, err := store.Subscribe(t.Context(), eventstore.SubscribeOptions{})
				if err != nil {
					t.Error(err)
				} else {
					calls.Go(func() {
						for err == nil {
							_, err = sub.Next(t.Context())
						}
					})
				}
				calls.Go(func() { _, _ = store.Append(t.Context(), "acme."+uuid.NewString(), eventstore.NoStream, record("a")) })
				if err := store.Close(); err != nil {
					t.Error(err)
				}
				calls.Wait()
			}
		})
	}
	wg.Wait()
}
