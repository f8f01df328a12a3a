package serve_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

// texts gives every setting a value that is not its default.
var texts = map[string]string{
	"data-dir": "/var/lib/parley", "event-store": "esdb://one", "views": "postgres://two", "views-mode": "exec", "profile-secret": "0123456789abcdef", "default-region": "AT",
	"grpc-listen": "127.0.0.2:1", "http-listen": "127.0.0.2:2", "smtp-listen": "127.0.0.2:5", "admin-listen": "127.0.0.2:3", "nats-listen": "127.0.0.2:4", "eventstore-listen": "127.0.0.2:6",
	"eventstore-users": "name=bi,hash=sha256:ef,tenant=acme,write=true", "eventstore-tls-cert": "e.pem", "eventstore-tls-key": "ek.pem",
	"api-keys":      "name=shop,hash=sha256:ab,tenant=acme,source=shop,scopes=record+read;name=ops,hash=sha256:cd,tenant=acme,scopes=ops",
	"write-keys":    "key=k1,tenant=acme,source=site,region=AT,currency=EUR,rate=50",
	"grpc-tls-cert": "g.pem", "grpc-tls-key": "gk.pem", "http-tls-cert": "h.pem", "http-tls-key": "hk.pem", "allow-plain-text": "true",
	"nats": "nats://three", "nats-credentials": "c.creds", "nats-user": "u", "nats-password": "p", "nats-token": "t",
	"nats-tls-ca": "ca.pem", "nats-tls-cert": "n.pem", "nats-tls-key": "nk.pem", "nats-replicas": "3", "ingress-max-bytes": "2GiB",
	"http-public-url": "https://t.example.com", "http-allowed-origins": "https://a.example,https://b.example", "http-trusted-proxies": "10.0.0.0/8",
	"http-ignored-referrers": "pay.example", "http-link-secret": "fedcba9876543210", "http-events-per-second": "12.5",
	"mail-addresses": "address=@acme.example,tenant=acme,queue=support;address=press@acme.example,tenant=acme", "mail-max-bytes": "10MiB", "smtp-hostname": "mx.acme.example",
	"smtp-tls-cert": "s.pem", "smtp-tls-key": "sk.pem", "smtp-require-tls": "true", "smtp-max-connections": "50", "smtp-relays": "203.0.113.0/28",
	"mail-authentication": "false", "mail-trusted-servers": "id=mx.acme.example,fields=2", "mail-mailgun-key": "key-0123456789", "mail-mailgun-checks": "true",
	"mail-postmark-user": "pm", "mail-postmark-password": "pm-0123456789", "mail-sendgrid-user": "sg", "mail-sendgrid-password": "sg-0123456789",
	"blobs": "s3://mails/raw", "blobs-access-key": "AK", "blobs-secret-key": "sk-0123456789", "blobs-secret": "02468ace13579bdf", "blobs-max-bytes": "1GiB",
	"ready-file": "/run/parley.json", "log-format": "json", "log-level": "debug", "otlp-endpoint": "http://127.0.0.1:4317", "trace-share": "0.5", "stop-timeout": "7s", "drain-delay": "3s",
}

func TestFlagsEnvironmentAndFileAreEqual(t *testing.T) {
	t.Parallel()
	load := func(file string, environ, args []string) serve.Settings {
		s := serve.DefaultSettings()
		l, err := config.New(&s)
		require.NoError(t, err)
		flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		l.Bind(flags)
		if file != "" {
			name := filepath.Join(t.TempDir(), "parley.yaml")
			require.NoError(t, os.WriteFile(name, []byte(file), 0o600))
			args = append(args, "--config", name)
		}
		require.NoError(t, flags.Parse(args))
		require.NoError(t, l.Load(environ))
		return s
	}
	s := serve.DefaultSettings()
	l, err := config.New(&s)
	require.NoError(t, err)
	var environ, args []string
	var file strings.Builder
	for _, name := range l.Names() {
		require.Contains(t, texts, name, "every setting is in this test")
		environ = append(environ, config.EnvName(name)+"="+texts[name])
		args = append(args, "--"+name+"="+texts[name])
		fmt.Fprintf(&file, "%s: %q\n", name, texts[name])
	}
	require.Len(t, l.Names(), len(texts))

	byFlags, byEnv, byFile := load("", nil, args), load("", environ, nil), load(file.String(), nil, nil)
	require.Empty(t, cmp.Diff(byFlags, byEnv))
	require.Empty(t, cmp.Diff(byFlags, byFile))
	require.Equal(t, 7*time.Second, byFlags.Process.StopTimeout)
	require.Equal(t, []string{"record", "read"}, byFlags.Access.APIKeys[0].Scopes)
	require.InDelta(t, 50, byFlags.Access.WriteKeys[0].Rate, 0)
	require.NotEqual(t, serve.DefaultSettings(), byFlags)

	var out bytes.Buffer
	s = byFlags
	l, err = config.New(&s)
	require.NoError(t, err)
	require.NoError(t, l.Write(&out))
	for _, secret := range []string{
		"0123456789abcdef", "fedcba9876543210", "key-0123456789", "pm-0123456789", "sg-0123456789", "sk-0123456789", "02468ace13579bdf",
	} {
		require.NotContains(t, out.String(), secret)
		require.NotContains(t, fmt.Sprintf("%+v", byFlags), secret)
	}
}

func TestDefaultsStartAndNameThePorts(t *testing.T) {
	t.Parallel()
	s := serve.DefaultSettings()
	require.NoError(t, s.Check(nil))
	require.Equal(t, serve.Listen{GRPC: "127.0.0.1:7300", HTTP: "127.0.0.1:7380", SMTP: "127.0.0.1:2525", Admin: "127.0.0.1:7390", NATS: "127.0.0.1:4222"}, s.Listen)
	require.Equal(t, "./parley-data", s.Storage.DataDir)
	require.Equal(t, []serve.WriteKey{{Key: "dev", Tenant: "default", Source: "dev"}}, s.Access.WriteKeys)
}

func TestExposure(t *testing.T) {
	t.Parallel()
	keys := []serve.APIKey{{Name: "a", Hash: credential.Hash("a"), Tenant: "default", Scopes: []string{"read"}}}
	own := []serve.WriteKey{{Key: "site-1", Tenant: "default", Source: "site"}}
	for name, tc := range map[string]struct {
		change func(*serve.Settings)
		want   []string // nothing for allowed
	}{
		"grpc bare":          {func(s *serve.Settings) { s.Listen.GRPC = "0.0.0.0:7300" }, []string{"--grpc-listen 0.0.0.0:7300", "--api-keys", "parley key new"}},
		"grpc no host":       {func(s *serve.Settings) { s.Listen.GRPC = ":7300" }, []string{"--grpc-listen :7300"}},
		"grpc key, no TLS":   {func(s *serve.Settings) { s.Listen.GRPC = "[::]:7300"; s.Access.APIKeys = keys }, []string{"--grpc-tls-cert", "--allow-plain-text"}},
		"grpc key and TLS":   {func(s *serve.Settings) { s.Listen.GRPC = ":1"; s.Access.APIKeys = keys; s.Access.GRPCTLSCert = "c" }, nil},
		"grpc key and proxy": {func(s *serve.Settings) { s.Listen.GRPC = ":1"; s.Access.APIKeys = keys; s.Access.AllowPlainText = true }, nil},
		"http with dev":      {func(s *serve.Settings) { s.Listen.HTTP = ":80"; s.Access.AllowPlainText = true }, []string{"--http-listen :80", "--write-keys"}},
		"http own":           {func(s *serve.Settings) { s.Listen.HTTP = ":80"; s.Access.WriteKeys = own; s.Access.HTTPTLSCert = "c" }, nil},
		"admin":              {func(s *serve.Settings) { s.Listen.Admin = "10.0.0.1:1" }, []string{"--admin-listen 10.0.0.1:1"}},
		"nats":               {func(s *serve.Settings) { s.Listen.NATS = ":4222"; s.Access.AllowPlainText = true }, []string{"--nats-listen :4222", "--nats-token"}},
		"nats with token":    {func(s *serve.Settings) { s.Listen.NATS = ":4222"; s.NATS.Token = "t"; s.Access.AllowPlainText = true }, nil},
		"nats external":      {func(s *serve.Settings) { s.Listen.NATS = ":4222"; s.NATS.URL = "nats://n:4222" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve.DefaultSettings()
			tc.change(&s)
			err := s.Check(nil)
			if len(tc.want) == 0 {
				require.NoError(t, err)
				return
			}
			var exposed *serve.ExposedError
			require.ErrorAs(t, err, &exposed)
			require.ErrorContains(t, err, "listens on loopback only")
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestCheckNamesTheFlag(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change   func(*serve.Settings)
		services []string
		want     string
	}{
		"odd store":  {change: func(s *serve.Settings) { s.Storage.EventStore = "sqlite" }, want: "--event-store sqlite: want embedded, or the URL of an EventStoreDB"},
		"views":      {change: func(s *serve.Settings) { s.Storage.Views = "mysql://x" }, want: "--views mysql://x: want embedded, or the URL of a Postgres"},
		"views mode": {change: func(s *serve.Settings) { s.Storage.ViewsMode = "fast" }, want: "--views-mode fast: there are cache_statement, exec, simple_protocol"},
		"address":    {change: func(s *serve.Settings) { s.Listen.HTTP = "80" }, want: "--http-listen 80: want host:port"},
		"key":        {change: func(s *serve.Settings) { s.Access.APIKeys = []serve.APIKey{{Name: "x"}} }, want: "--api-keys: API key 1"},
		"write key":  {change: func(s *serve.Settings) { s.Access.WriteKeys[0].Tenant = "No" }, want: "--write-keys"},
		"same key": {change: func(s *serve.Settings) {
			s.Access.WriteKeys = append(s.Access.WriteKeys, serve.WriteKey{Key: "dev", Tenant: "default", Source: "b"})
		}, want: "same write key"},
		"proxies":      {change: func(s *serve.Settings) { s.Web.TrustedProxies = []string{"x"} }, want: "--http-trusted-proxies x"},
		"log level":    {change: func(s *serve.Settings) { s.Process.LogLevel = "loud" }, want: "--log-level loud"},
		"log format":   {change: func(s *serve.Settings) { s.Process.LogFormat = "xml" }, want: "--log-format xml"},
		"secret":       {change: func(s *serve.Settings) { s.Storage.ProfileSecret = "short" }, want: "--profile-secret: want at least"},
		"link secret":  {change: func(s *serve.Settings) { s.Web.LinkSecret = "short" }, want: "--http-link-secret"},
		"collector":    {change: func(s *serve.Settings) { s.Process.OTLPEndpoint = "127.0.0.1:4317" }, want: "--otlp-endpoint 127.0.0.1:4317: want a URL"},
		"share":        {change: func(s *serve.Settings) { s.Process.TraceShare = 2 }, want: "--trace-share 2"},
		"data dir":     {change: func(s *serve.Settings) { s.Storage.DataDir = "" }, want: "--data-dir"},
		"timeout":      {change: func(s *serve.Settings) { s.Process.StopTimeout = 0 }, want: "--stop-timeout"},
		"no service":   {services: []string{"mail"}, want: `no service "mail"; there are recorder, customer, feed, web, email, ops, log`},
		"apart":        {services: []string{"customer"}, want: "the embedded event store, NATS and views belong to one process"},
		"no views":     {change: cluster(func(s *serve.Settings) { s.Storage.Views = "embedded" }), services: []string{"customer"}, want: "--views postgres://"},
		"no secret":    {change: cluster(func(s *serve.Settings) { s.Storage.ProfileSecret = "" }), services: []string{"recorder"}, want: "--profile-secret"},
		"no NATS":      {change: cluster(func(s *serve.Settings) { s.NATS.URL = "" }), services: []string{"recorder"}, want: "--nats"},
		"ops alone":    {change: cluster(nil), services: []string{"ops"}, want: "parley serve customer feed ops"},
		"log and more": {services: []string{"log", "recorder"}, want: "log runs by itself"},
		"log far away": {change: cluster(nil), services: []string{"log"}, want: "the service log is the embedded event store"},
		"esdb served":  {change: cluster(func(s *serve.Settings) { s.Listen.EventStore = "127.0.0.1:2113" }), want: "--eventstore-listen 127.0.0.1:2113: the log is not embedded"},
		"esdb address": {change: func(s *serve.Settings) { s.Listen.EventStore = "2113" }, want: "--eventstore-listen 2113: want host:port"},
		"esdb user":    {change: func(s *serve.Settings) { s.Access.EventStoreUsers = []serve.EventStoreUser{{Name: "x"}} }, want: "--eventstore-users"},
		"web apart":    {services: []string{"web"}, want: "--nats"},
		"mail apart":   {change: func(s *serve.Settings) { s.NATS.URL = "nats://other:4222" }, services: []string{"web", "email"}, want: "--blobs"},
		"no addresses": {change: func(s *serve.Settings) { s.Mail.Addresses = nil }, want: "--mail-addresses"},
		"mail address": {change: func(s *serve.Settings) { s.Mail.Addresses[0].Address = "parley.local" }, want: "--mail-addresses"},
		"mail tenant":  {change: func(s *serve.Settings) { s.Mail.Addresses[0].Tenant = "" }, want: "--mail-addresses"},
		"mail size":    {change: func(s *serve.Settings) { s.Mail.MaxBytes = 65 << 20 }, want: "--mail-max-bytes 65MiB"},
		"hostname":     {change: func(s *serve.Settings) { s.Mail.Hostname = "a b" }, want: "--smtp-hostname"},
		"connections":  {change: func(s *serve.Settings) { s.Mail.MaxConnections = 0 }, want: "--smtp-max-connections 0"},
		"TLS needed":   {change: func(s *serve.Settings) { s.Mail.RequireTLS = true }, want: "--smtp-require-tls"},
		"relays":       {change: func(s *serve.Settings) { s.Mail.Relays = []string{"x"} }, want: "--smtp-relays x"},
		"servers":      {change: func(s *serve.Settings) { s.Mail.TrustedServers = []serve.MailServer{{}} }, want: "--mail-trusted-servers"},
		"blobs":        {change: func(s *serve.Settings) { s.Blobs.URL = "gs://x" }, want: "--blobs"},
		"blob size":    {change: func(s *serve.Settings) { s.Blobs.MaxBytes = 0 }, want: "--blobs-max-bytes"},
		"blob secret":  {change: func(s *serve.Settings) { s.Blobs.Secret = "short" }, want: "--blobs-secret: want at least"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve.DefaultSettings()
			if tc.change != nil {
				tc.change(&s)
			}
			require.ErrorContains(t, s.Check(tc.services), tc.want)
		})
	}
	s := serve.DefaultSettings()
	require.NoError(t, s.Check([]string{"recorder", "customer", "feed"}))
	s.NATS.URL = "nats://other:4222"
	require.NoError(t, s.Check([]string{"web"}))
	s.Blobs.URL, s.Blobs.Secret = "s3://mails", "0123456789abcdef"
	require.NoError(t, s.Check([]string{"web", "email"}))
	require.NoError(t, s.Check([]string{"email"}))
	s.Storage.Views = "postgresql://x"
	require.NoError(t, s.Check(nil))
	s.Storage.EventStore = "esdb://x"
	require.NoError(t, s.Check(nil))
	s = serve.DefaultSettings()
	require.NoError(t, s.Check([]string{"log"}))
	cluster(nil)(&s)
	for _, services := range [][]string{{"recorder"}, {"customer"}, {"customer", "feed", "ops"}, {"web"}, {"recorder", "web"}} {
		require.NoError(t, s.Check(services))
	}
}

// cluster changes settings to those of one process of several, and further.
func cluster(further func(*serve.Settings)) func(*serve.Settings) {
	return func(s *serve.Settings) {
		s.Storage.EventStore, s.Storage.Views, s.NATS.URL = "esdb+discover://x", "postgres://x", "nats://x"
		s.Storage.ProfileSecret = "0123456789abcdef"
		if further != nil {
			further(s)
		}
	}
}
