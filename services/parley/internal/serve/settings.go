package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/eventstore/esdbserver"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/pkg/view/pgview"
	"github.com/parleyhq/parley/services/web"
)

// Settings of `parley serve`. Every field can be said by flag, environment and
// file.
type Settings struct {
	Storage Storage
	Listen  Listen
	Access  Access
	NATS    NATS
	Web     Web
	Mail    Mail
	Blobs   Blobs
	Process Process
}

// Storage says where things are kept.
type Storage struct {
	// DataDir is where the embedded engines keep everything. Defaults to ./parley-data.
	DataDir string `flag:"data-dir" usage:"directory in which everything is kept"`
	// EventStore is `embedded`, or the URL of an EventStoreDB. Defaults to embedded.
	EventStore config.Location `flag:"event-store" usage:"event store: embedded, or the URL of an EventStoreDB (esdb://…)"`
	// Views is `embedded`, or the URL of a Postgres. Defaults to embedded.
	Views config.Location `flag:"views" usage:"read models: embedded, or the URL of a Postgres (postgres://…)"`
	// ViewsMode says how statements are sent to Postgres. Defaults to cache_statement.
	ViewsMode string `flag:"views-mode" usage:"how statements are sent to Postgres: cache_statement; exec; or simple_protocol, for PgBouncer in transaction mode"`
	// ProfileSecret keys the ids of profiles. Defaults to one that is made once and kept in the data directory.
	ProfileSecret config.Secret `flag:"profile-secret" usage:"secret that the ids of profiles are keyed with, at least 16 characters; made once and kept in the data directory unless given"`
	// DefaultRegion of phone numbers without a country code, ISO 3166. Defaults to none: such numbers identify nobody.
	DefaultRegion string `flag:"default-region" usage:"region of phone numbers without a country code, ISO 3166, for example AT"`
}

// Listen says where to listen. Port 0 is any free one.
type Listen struct {
	// GRPC defaults to 127.0.0.1:7300.
	GRPC string `flag:"grpc-listen" usage:"address of gRPC"`
	// HTTP defaults to 127.0.0.1:7380.
	HTTP string `flag:"http-listen" usage:"address of HTTP for the outside: tracking, mail vendors' webhooks"`
	// SMTP defaults to 127.0.0.1:2525.
	SMTP string `flag:"smtp-listen" usage:"address of SMTP for inbound mail"`
	// Admin defaults to 127.0.0.1:7390.
	Admin string `flag:"admin-listen" usage:"address of HTTP for the inside: metrics, health, readiness"`
	// NATS of the embedded server. Defaults to 127.0.0.1:4222.
	NATS string `flag:"nats-listen" usage:"address of the embedded NATS"`
	// EventStore is where the embedded event store speaks EventStoreDB's
	// protocol. Defaults to none, and for the service log to 127.0.0.1:2113.
	EventStore string `flag:"eventstore-listen" usage:"address at which the embedded event store speaks EventStoreDB's protocol; off unless given, 127.0.0.1:2113 by custom"`
}

// Access says who may come in.
type Access struct {
	// APIKeys that gRPC wants. Defaults to none: then everything listens on loopback only.
	APIKeys []APIKey `flag:"api-keys" usage:"API keys that gRPC wants; make them with parley key new"`
	// WriteKeys of the tracking API. Defaults to the key dev of tenant default, source dev.
	WriteKeys []WriteKey `flag:"write-keys" usage:"write keys of the tracking API"`
	// GRPCTLSCert and GRPCTLSKey are PEM files. Default to none.
	GRPCTLSCert string `flag:"grpc-tls-cert" usage:"PEM file with the certificate of gRPC"`
	GRPCTLSKey  string `flag:"grpc-tls-key" usage:"PEM file with its private key"`
	// HTTPTLSCert and HTTPTLSKey are PEM files, for the outside and the inside. Default to none.
	HTTPTLSCert string `flag:"http-tls-cert" usage:"PEM file with the certificate of HTTP"`
	HTTPTLSKey  string `flag:"http-tls-key" usage:"PEM file with its private key"`
	// EventStoreUsers may come in by EventStoreDB's protocol. Defaults to none: then it is open, on loopback only.
	EventStoreUsers []EventStoreUser `flag:"eventstore-users" usage:"users of the embedded event store by EventStoreDB's protocol; make passwords with parley key new"`
	// EventStoreTLSCert and EventStoreTLSKey are PEM files. Default to none.
	EventStoreTLSCert string `flag:"eventstore-tls-cert" usage:"PEM file with the certificate of EventStoreDB's protocol"`
	EventStoreTLSKey  string `flag:"eventstore-tls-key" usage:"PEM file with its private key"`
	// AllowPlainText elsewhere than on loopback. Defaults to false.
	AllowPlainText bool `flag:"allow-plain-text" usage:"listen elsewhere than on loopback without TLS, behind a proxy that speaks it"`
}

// APIKey is a key of gRPC by its hash.
type APIKey struct {
	Name   string   `key:"name"`
	Hash   string   `key:"hash"`
	Tenant string   `key:"tenant"`
	Source string   `key:"source"`
	Scopes []string `key:"scopes"`
}

// WriteKey is a key of the tracking API. It stands in web pages and is no secret.
type WriteKey struct {
	Key    string `key:"key"`
	Tenant string `key:"tenant"`
	Source string `key:"source"`
	// Region of phone numbers without a country code.
	Region string `key:"region"`
	// Currency of amounts without one.
	Currency string `key:"currency"`
	// Rate is events a second. Defaults to http-events-per-second.
	Rate float64 `key:"rate"`
}

// NATS says which NATS to use and how.
type NATS struct {
	// URL of an external NATS. Defaults to none: the embedded one.
	URL string `flag:"nats" usage:"URL of an external NATS; without it one runs embedded"`
	// Credentials file of an external NATS. Defaults to none.
	Credentials string `flag:"nats-credentials" usage:"credentials file for an external NATS"`
	// User, Password and Token of the clients. Default to none.
	User     string        `flag:"nats-user" usage:"user at the NATS, embedded or external"`
	Password config.Secret `flag:"nats-password" usage:"password of that user"`
	Token    config.Secret `flag:"nats-token" usage:"token in place of user and password"`
	// TLS files. Default to none.
	TLSCA   string `flag:"nats-tls-ca" usage:"PEM file with the authorities of NATS"`
	TLSCert string `flag:"nats-tls-cert" usage:"PEM file with the certificate of the embedded NATS, or ours at an external one"`
	TLSKey  string `flag:"nats-tls-key" usage:"PEM file with its private key"`
	// Replicas of the ingress stream. Defaults to 1 embedded, 3 external.
	Replicas int `flag:"nats-replicas" usage:"replicas of the ingress stream; 0 for 1 embedded and 3 external"`
	// MaxIngress is what the ingress stream holds before it is full. Defaults to 1 GiB.
	MaxIngress config.Bytes `flag:"ingress-max-bytes" usage:"what may wait in NATS before gateways answer that it is full"`
}

// Web sets the tracking API.
type Web struct {
	// PublicURL where browsers reach it. Defaults to the host of the request.
	PublicURL string `flag:"http-public-url" usage:"where browsers reach the tracking API, for example https://t.example.com"`
	// AllowedOrigins that browsers may call from. Defaults to any.
	AllowedOrigins []string `flag:"http-allowed-origins" usage:"origins that browsers may call from; any unless given"`
	// TrustedProxies whose X-Forwarded-For is believed. Defaults to none.
	TrustedProxies []string `flag:"http-trusted-proxies" usage:"networks of proxies whose X-Forwarded-For is believed, for example 10.0.0.0/8"`
	// IgnoredReferrers bring nobody. Defaults to none.
	IgnoredReferrers []string `flag:"http-ignored-referrers" usage:"domains that interrupt a visit and bring nobody, for example of a payment page"`
	// LinkSecret signs links in mails. Defaults to none: no such links.
	LinkSecret config.Secret `flag:"http-link-secret" usage:"secret that links in mails are signed with, at least 16 characters"`
	// EventsPerSecond of one write key. Defaults to 0: no limit.
	EventsPerSecond float64 `flag:"http-events-per-second" usage:"events a second that a write key may send; 0 for no limit"`
}

// Process says how the process behaves.
type Process struct {
	// ReadyFile gets the addresses as JSON once everything serves. Defaults to none.
	ReadyFile string `flag:"ready-file" usage:"file that gets the addresses as JSON once everything serves"`
	// LogFormat is auto, text or json. Defaults to auto: short lines on a terminal, JSON elsewhere.
	LogFormat string `flag:"log-format" usage:"form of the log: auto, text or json"`
	// LogLevel is debug, info, warn or error. Defaults to info.
	LogLevel string `flag:"log-level" usage:"from which level on to log: debug, info, warn or error"`
	// OTLPEndpoint of an OpenTelemetry collector. Defaults to none: no traces.
	OTLPEndpoint string `flag:"otlp-endpoint" usage:"URL of an OpenTelemetry collector that gets traces over gRPC, for example http://127.0.0.1:4317"`
	// TraceShare of the calls that are traced unless the caller decides. Defaults to 0.01.
	TraceShare float64 `flag:"trace-share" usage:"share of the calls to trace, 0 to 1, where the caller does not decide"`
	// StopTimeout bounds how long calls in flight may take at the end. Defaults to 20s.
	StopTimeout time.Duration `flag:"stop-timeout" usage:"how long calls in flight may take when the process stops"`
	// DrainDelay is how long it still serves after it said that it is not ready. Defaults to 0s.
	DrainDelay time.Duration `flag:"drain-delay" usage:"how long to go on serving after saying NOT_SERVING, for load balancers to notice"`
}

const (
	embeddedEngine = "embedded"
	// DefaultTenant is the tenant of everything where no credentials are configured.
	DefaultTenant = "default"
	// DevKey is the write key of the default configuration.
	DevKey = "dev"
	// exampleKey stands in the example configuration, for everybody to read.
	exampleKey = "change-me"
)

// DefaultSettings are those of a process on somebody's laptop.
func DefaultSettings() Settings {
	return Settings{
		Storage: Storage{DataDir: "./parley-data", EventStore: embeddedEngine, Views: embeddedEngine, ViewsMode: string(pgview.CacheStatement)},
		Listen:  Listen{GRPC: "127.0.0.1:7300", HTTP: "127.0.0.1:7380", SMTP: "127.0.0.1:2525", Admin: "127.0.0.1:7390", NATS: "127.0.0.1:4222"},
		Access:  Access{WriteKeys: []WriteKey{{Key: DevKey, Tenant: DefaultTenant, Source: "dev"}}},
		NATS:    NATS{MaxIngress: 1 << 30},
		Mail:    defaultMail(),
		Blobs:   Blobs{MaxBytes: blob.DefaultMaxBytes},
		Process: Process{LogFormat: "auto", LogLevel: "info", TraceShare: 0.01, StopTimeout: 20 * time.Second},
	}
}

// minSecret is the least number of characters of a secret.
const minSecret = 16

// Check says all that is wrong with the settings, for the services named, each
// with the flag and what to do.
func (s *Settings) Check(services []string) error {
	errs := []error{s.checkEngines(services)}
	for _, a := range []server.Address{s.Listen.grpc(), s.Listen.http(), s.Listen.smtp(), s.Listen.admin(), s.Listen.nats(), s.Listen.eventStore()} {
		if a.Flag == eventStoreListen && a.Addr == "" {
			continue // off
		}
		errs = append(errs, a.Check())
	}
	keys, err := s.Access.Keys()
	errs = append(errs, wrapFlag("api-keys", err), wrapFlag("eventstore-users", esdbserver.CheckUsers(s.Access.eventStoreUsers())))
	_, err = s.Access.writeKeys()
	errs = append(errs, wrapFlag("write-keys", err))
	_, err = s.Web.proxies()
	errs = append(errs, err)
	_, err = s.Process.level()
	errs = append(errs, err, s.Process.checkTracing(), s.Mail.check(s.Blobs), s.Blobs.check())
	if !slices.Contains([]string{"auto", "text", "json"}, s.Process.LogFormat) {
		errs = append(errs, fmt.Errorf("--log-format %s: there are auto, text and json", s.Process.LogFormat))
	}
	for _, secret := range []struct {
		flag  string
		value config.Secret
	}{{"profile-secret", s.Storage.ProfileSecret}, {"http-link-secret", s.Web.LinkSecret}, {"blobs-secret", s.Blobs.Secret}} {
		if n := len(secret.value); n > 0 && n < minSecret {
			errs = append(errs, fmt.Errorf("--%s: want at least %d characters", secret.flag, minSecret))
		}
	}
	for one := range strings.SplitSeq(s.NATS.URL, ",") {
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil && u.User != nil {
			errs = append(errs, errors.New("--nats: a URL is shown and logged; say who we are with --nats-user and --nats-password, --nats-token or --nats-credentials"))
		}
	}
	if s.Storage.DataDir == "" {
		errs = append(errs, errors.New("--data-dir: want a directory"))
	}
	if s.Process.StopTimeout <= 0 || s.Process.DrainDelay < 0 {
		errs = append(errs, errors.New("--stop-timeout and --drain-delay: want times that are not negative, the first more than nothing"))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.checkExposure(keys)
}

// checkExposure refuses to listen where others can reach in without a credential.
func (s *Settings) checkExposure(keys *credential.Keys) error {
	plain := s.Access.AllowPlainText
	ownKeys := !slices.ContainsFunc(s.Access.WriteKeys, func(k WriteKey) bool { return k.Key == DevKey || k.Key == exampleKey })
	var errs []error
	for _, c := range []struct {
		addr    server.Address
		allowed bool
		needs   string
		tls     bool
		tlsFlag string
	}{
		{s.Listen.grpc(), !keys.Empty(), "configure --api-keys (`parley key new` makes one)", s.Access.GRPCTLSCert != "", "--grpc-tls-cert and --grpc-tls-key"},
		{s.Listen.http(), ownKeys, "configure --write-keys of your own in place of `dev`", s.Access.HTTPTLSCert != "", "--http-tls-cert and --http-tls-key"},
		{s.Listen.smtp(), s.Mail.ownAddresses(), "configure --mail-addresses of your own in place of `" + DefaultMailAddress + "`", s.Mail.TLSCert != "", "--smtp-tls-cert and --smtp-tls-key"},
		{s.Listen.admin(), !keys.Empty(), "configure --api-keys (`parley key new` makes one)", s.Access.HTTPTLSCert != "", "--http-tls-cert and --http-tls-key"},
		{s.Listen.nats(), s.NATS.Password != "" || s.NATS.Token != "", "configure --nats-token, or --nats-user and --nats-password", s.NATS.TLSCert != "", "--nats-tls-cert and --nats-tls-key"},
		{s.Listen.eventStore(), len(s.Access.EventStoreUsers) > 0, "configure --eventstore-users", s.Access.EventStoreTLSCert != "", "--eventstore-tls-cert and --eventstore-tls-key"},
	} {
		if c.addr.Addr == "" || c.addr.Loopback() || c.addr.Flag == "nats-listen" && s.NATS.URL != "" {
			continue
		}
		switch {
		case !c.allowed:
			errs = append(errs, fmt.Errorf("%s: without credentials it listens on loopback only; %s, or listen on 127.0.0.1", c.addr, c.needs))
		case !c.tls && !plain:
			errs = append(errs, fmt.Errorf("%s: without TLS it listens on loopback only; configure %s, or --allow-plain-text behind a proxy that speaks TLS", c.addr, c.tlsFlag))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &ExposedError{err}
	}
	return nil
}

// ExposedError says that settings would let everybody in.
type ExposedError struct{ err error }

func (e *ExposedError) Error() string { return e.err.Error() }
func (e *ExposedError) Unwrap() error { return e.err }

func (l Listen) grpc() server.Address  { return server.Address{Flag: "grpc-listen", Addr: l.GRPC} }
func (l Listen) http() server.Address  { return server.Address{Flag: "http-listen", Addr: l.HTTP} }
func (l Listen) smtp() server.Address  { return server.Address{Flag: "smtp-listen", Addr: l.SMTP} }
func (l Listen) admin() server.Address { return server.Address{Flag: "admin-listen", Addr: l.Admin} }
func (l Listen) nats() server.Address  { return server.Address{Flag: "nats-listen", Addr: l.NATS} }
func (l Listen) eventStore() server.Address {
	return server.Address{Flag: eventStoreListen, Addr: l.EventStore}
}

func (a Access) grpcTLS() server.TLSFiles {
	return server.TLSFiles{CertFlag: "grpc-tls-cert", Cert: a.GRPCTLSCert, KeyFlag: "grpc-tls-key", Key: a.GRPCTLSKey}
}

func (a Access) httpTLS() server.TLSFiles {
	return server.TLSFiles{CertFlag: "http-tls-cert", Cert: a.HTTPTLSCert, KeyFlag: "http-tls-key", Key: a.HTTPTLSKey}
}

// Keys are the API keys.
func (a Access) Keys() (*credential.Keys, error) {
	keys := make([]credential.Key, len(a.APIKeys))
	for i, k := range a.APIKeys {
		keys[i] = credential.Key(k)
	}
	return credential.NewKeys(keys)
}

// writeKeys are the keys of the tracking API.
func (a Access) writeKeys() (*web.KeyTable, error) {
	keys := make(map[string]web.Key, len(a.WriteKeys))
	for _, k := range a.WriteKeys {
		if _, twice := keys[k.Key]; twice {
			return nil, fmt.Errorf("two sources have the same write key, %s and %s", keys[k.Key].Source, k.Source)
		}
		if err := credential.CheckSource(k.Source); err != nil {
			return nil, err
		}
		keys[k.Key] = web.Key{Tenant: k.Tenant, Source: k.Source, DefaultRegion: k.Region, DefaultCurrency: k.Currency, RatePerSecond: k.Rate}
	}
	return web.NewKeyTable(keys)
}

func (w Web) proxies() ([]netip.Prefix, error) {
	return networks("http-trusted-proxies", w.TrustedProxies)
}

// networks reads the networks of a setting; a single address is a network of its own.
func networks(flag string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("--%s %s: want a network, for example 10.0.0.0/8", flag, text)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}

func (p Process) level() (slog.Level, error) {
	switch p.LogLevel {
	case "debug", "info", "warn", "error":
		var l slog.Level
		err := l.UnmarshalText([]byte(p.LogLevel))
		return l, err
	default:
		return 0, fmt.Errorf("--log-level %s: there are debug, info, warn and error", p.LogLevel)
	}
}

func wrapFlag(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--%s: %w", flag, err)
}
