package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/server"
)

func TestStackClosesTheNewestFirstAndAll(t *testing.T) {
	t.Parallel()
	var order []string
	s := server.Stack{Logger: quiet()}
	for _, name := range []string{"store", "bus", "server"} {
		s.Push(name, func(context.Context) error {
			order = append(order, name)
			if name == "bus" {
				return errors.New("stuck")
			}
			return nil
		})
	}
	err := s.Close(t.Context())
	require.EqualError(t, err, "close bus: stuck")
	require.Equal(t, []string{"server", "bus", "store"}, order)
	require.NoError(t, s.Close(t.Context()), "a second call does nothing")
	require.Len(t, order, 3)
}

func TestStackClosesOnceFromManyGoroutines(t *testing.T) {
	t.Parallel()
	for range 50 {
		var s server.Stack
		closed := 0
		s.Push("part", func(context.Context) error { closed++; return nil })
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _ = s.Close(t.Context()) })
		}
		wg.Wait()
		require.Equal(t, 1, closed)
	}
}

func TestListenErrorsNameTheFlag(t *testing.T) {
	t.Parallel()
	taken, err := server.Address{Flag: "grpc-listen", Addr: "127.0.0.1:0"}.Listen(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	for addr, want := range map[string]string{
		taken.Addr().String(): "address already in use; stop what listens there, or choose another one, for example --grpc-listen 127.0.0.1:0",
		"7300":                "want host:port",
		"127.0.0.1:many":      `port "many"`,
		"127.0.0.1:70000":     "from 0 to 65535",
		"a b:1":               "is no host",
		"192.0.2.1:0":         "has no such address",
	} {
		_, err := server.Address{Flag: "grpc-listen", Addr: addr}.Listen(t.Context())
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "--grpc-listen "+addr)
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "localhost:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"0.0.0.0:1": false, ":1": false, "[::]:1": false, "10.0.0.1:1": false, "localhost.example.com:1": false, "rubbish": false,
	} {
		require.Equal(t, want, server.Address{Addr: addr}.Loopback(), addr)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	var r server.Readiness
	var behind error
	r.Add("store", func(context.Context) error { return nil })
	r.Add("customer", func(context.Context) error { return behind })
	admin := httptest.NewServer(server.NewAdmin(server.AdminConfig{Logger: quiet(), Metrics: prometheus.NewRegistry(), Readiness: &r}))
	defer admin.Close()
	get := func() (int, server.Report) {
		resp, err := admin.Client().Get(admin.URL + "/readyz")
		require.NoError(t, err)
		defer func() { require.NoError(t, resp.Body.Close()) }()
		var report server.Report
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&report))
		return resp.StatusCode, report
	}
	code, report := get()
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, server.Report{Ready: true, Checks: []server.CheckResult{{Name: "store", Ready: true}, {Name: "customer", Ready: true}}}, report)

	behind = errors.New("12 events behind")
	code, report = get()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "12 events behind", report.Checks[1].Reason)

	behind = nil
	r.Drain()
	code, report = get()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, server.CheckResult{Name: "process", Reason: "stopping"}, report.Checks[0])
}

func TestAdminKeepsToItself(t *testing.T) {
	t.Parallel()
	keys, err := credential.NewKeys([]credential.Key{
		{Name: "ops", Hash: credential.Hash("o"), Tenant: "acme", Scopes: []string{"ops"}},
		{Name: "reader", Hash: credential.Hash("r"), Tenant: "acme", Scopes: []string{"read"}},
	})
	require.NoError(t, err)
	admin := server.NewAdmin(server.AdminConfig{Logger: quiet(), Metrics: prometheus.NewRegistry(), Readiness: &server.Readiness{}, Keys: keys})
	for _, tc := range []struct {
		path, peer, host, auth string
		want                   int
	}{
		{"/", "127.0.0.1:5", "localhost:7390", "", 200},
		{"/healthz", "10.0.0.5:5", "parley:7390", "", 200},
		{"/readyz", "10.0.0.5:5", "parley:7390", "", 200},
		{"/metrics", "127.0.0.1:5", "127.0.0.1:7390", "", 200},
		{"/metrics", "10.0.0.5:5", "parley:7390", "", 401},
		{"/metrics", "10.0.0.5:5", "parley:7390", "Bearer x", 401},
		{"/metrics", "10.0.0.5:5", "parley:7390", "Bearer r", 403},
		{"/metrics", "10.0.0.5:5", "parley:7390", "Bearer o", 200},
		{"/debug/pprof/cmdline", "127.0.0.1:5", "localhost", "", 200},
		{"/debug/pprof/cmdline", "127.0.0.1:5", "evil.example", "", 403},
		{"/debug/pprof/cmdline", "10.0.0.5:5", "localhost", "Bearer o", 403},
		{"/nowhere", "127.0.0.1:5", "localhost", "", 404},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+tc.host+tc.path, nil)
		r.RemoteAddr = tc.peer
		if tc.auth != "" {
			r.Header.Set("Authorization", tc.auth)
		}
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, r)
		require.Equal(t, tc.want, w.Code, "%+v", tc)
	}
}

func TestHTTPServesAndStops(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("defect") })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-release
		_, _ = io.WriteString(w, "done")
	})
	h := server.NewHTTP(mux, quiet(), nil)
	lis, err := server.Address{Flag: "http-listen", Addr: "127.0.0.1:0"}.Listen(t.Context())
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- h.Serve(lis) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + lis.Addr().String()

	resp, err := client.Get(url + "/panic")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)

	body := make(chan string, 1)
	go func() {
		resp, err := client.Get(url + "/slow")
		if err != nil {
			body <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		body <- string(b)
	}()
	<-inside
	stopped := make(chan error, 1)
	go func() { stopped <- h.Stop(t.Context()) }()
	require.NoError(t, <-served, "the listener closes first")
	close(release)
	require.Equal(t, "done", <-body, "a request in flight is answered")
	require.NoError(t, <-stopped)
}

func TestTLSFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := server.TLSFiles{CertFlag: "grpc-tls-cert", KeyFlag: "grpc-tls-key"}
	cfg, err := files.Config(time.Now)
	require.NoError(t, err)
	require.Nil(t, cfg)

	files.Cert = filepath.Join(dir, "cert.pem")
	_, err = files.Config(time.Now)
	require.ErrorContains(t, err, "--grpc-tls-cert needs --grpc-tls-key")
	files.Key = filepath.Join(dir, "key.pem")
	_, err = files.Config(time.Now)
	require.ErrorContains(t, err, "--grpc-tls-cert")
	require.NoError(t, os.WriteFile(files.Cert, []byte("nonsense"), 0o600))
	require.NoError(t, os.WriteFile(files.Key, []byte("nonsense"), 0o600))
	_, err = files.Config(time.Now)
	require.ErrorContains(t, err, "as PEM")

	writeCertificate(t, files, "first")
	now := time.Now()
	cfg, err = files.Config(func() time.Time { return now })
	require.NoError(t, err)
	require.Equal(t, "first", commonName(t, cfg))

	writeCertificate(t, files, "second")
	later := now.Add(time.Hour)
	require.NoError(t, os.Chtimes(files.Cert, later, later))
	require.Equal(t, "first", commonName(t, cfg), "not looked at every time")
	now = now.Add(2 * time.Minute)
	require.Equal(t, "second", commonName(t, cfg))

	require.NoError(t, os.WriteFile(files.Key, []byte("half"), 0o600))
	require.NoError(t, os.Chtimes(files.Key, later.Add(time.Hour), later.Add(time.Hour)))
	now = now.Add(2 * time.Minute)
	require.Equal(t, "second", commonName(t, cfg), "what cannot be loaded changes nothing")
}

func commonName(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	cert, err := cfg.GetCertificate(&tls.ClientHelloInfo{})
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(cert.Certificate[0])
	require.NoError(t, err)
	return parsed.Subject.CommonName
}

func writeCertificate(t *testing.T, files server.TLSFiles, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	require.NoError(t, os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
