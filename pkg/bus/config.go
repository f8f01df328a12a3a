package bus

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Config says which NATS to use and how. Without URL the server runs embedded,
// in this process.
type Config struct {
	// URL of an external NATS, or several with commas between them. Defaults to
	// none: the embedded server.
	URL string

	// Listen is where the embedded server listens, host:port; port 0 is any
	// free one. Defaults to 127.0.0.1:4222.
	Listen string
	// DataDir is the embedded server's own directory. Required without URL.
	DataDir string

	// TLS of the embedded server or towards the external one. Defaults to none.
	TLS TLS
	// User and Password of the embedded server's clients, or ours at the
	// external one. Defaults to none.
	User     string
	Password Secret
	// Token in place of User and Password. Defaults to none.
	Token Secret
	// CredentialsFile with the user's JWT and key, for an external NATS only.
	// Defaults to none.
	CredentialsFile string
	// InboxPrefix begins the subjects that answers come to; an external NATS
	// may grant a user only his own. All processes need the same one. Defaults
	// to _INBOX.
	InboxPrefix string

	// Replicas of the stream. Defaults to 1 embedded and 3 at an external NATS.
	Replicas int
	// MaxIngressBytes is what the stream holds before it is full, at least
	// 1 MiB. Defaults to 1 GiB.
	MaxIngressBytes int64

	// ChunkBytes is where a batch is cut into messages, at most NATS's own
	// limit less some room for headers. A single event may exceed it up to that
	// limit. Defaults to 512 KiB.
	ChunkBytes int
	// ChunkEvents is how many events go into one message. Defaults to 1000.
	ChunkEvents int
	// PublishTimeout bounds the wait for JetStream's acknowledgement, besides
	// the caller's context. Defaults to 10 s.
	PublishTimeout time.Duration
	// MaxInFlightBytes bounds what is published and not yet acknowledged; more
	// waits. Defaults to 32 MiB.
	MaxInFlightBytes int64

	// ConnectTimeout bounds how long Open waits for NATS, for JetStream to answer,
	// and for as many servers as there are to be Replicas. Defaults to 15 s.
	ConnectTimeout time.Duration
	// Source is the CloudEvents source of what we publish. Defaults to parley.
	Source string
}

// TLS names PEM files.
type TLS struct {
	// CAFile: embedded, clients must present a certificate signed by one of
	// these; external, the server's certificate must be. Defaults to no client
	// certificates and to the system's authorities.
	CAFile string
	// CertFile and KeyFile: embedded, the server's certificate, without which
	// there is no TLS; external, ours. Default to none.
	CertFile string
	KeyFile  string
}

// Secret is a string that prints as ***.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

const (
	defaultListen          = "127.0.0.1:4222"
	defaultMaxIngressBytes = 1 << 30
	minIngressBytes        = 1 << 20
	defaultChunkBytes      = 512 << 10
	defaultChunkEvents     = 1000
	defaultMaxInFlight     = 32 << 20
	// headerRoom is kept free of a message's limit for subject and headers;
	// ours take about 300 bytes, trace context included.
	headerRoom = 8 << 10
)

func (c Config) embedded() bool { return c.URL == "" }

// withDefaults returns c complete, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Listen, defaultListen)
	setDefault(&c.InboxPrefix, "_INBOX")
	setDefault(&c.MaxIngressBytes, defaultMaxIngressBytes)
	setDefault(&c.ChunkBytes, defaultChunkBytes)
	setDefault(&c.ChunkEvents, defaultChunkEvents)
	setDefault(&c.PublishTimeout, 10*time.Second)
	setDefault(&c.MaxInFlightBytes, defaultMaxInFlight)
	setDefault(&c.ConnectTimeout, 15*time.Second)
	setDefault(&c.Source, "parley")
	if c.Replicas == 0 {
		c.Replicas = 3
		if c.embedded() {
			c.Replicas = 1
		}
	}
	return c, c.check()
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c Config) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w bus setting: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case c.embedded() && c.DataDir == "":
		return bad("the embedded server needs a data directory")
	case c.embedded() && c.CredentialsFile != "":
		return bad("a credentials file is for an external NATS")
	case c.embedded() && c.Replicas != 1:
		return bad("the embedded server keeps 1 replica, not %d", c.Replicas)
	case c.Replicas < 1 || c.Replicas > 5:
		return bad("replicas must be 1 to 5, not %d", c.Replicas)
	case c.MaxIngressBytes < minIngressBytes:
		return bad("the ingress stream must hold at least %d bytes, not %d", minIngressBytes, c.MaxIngressBytes)
	case c.ChunkBytes < 1024 || c.ChunkEvents < 1:
		return bad("a chunk must hold at least 1024 bytes and 1 event, not %d and %d", c.ChunkBytes, c.ChunkEvents)
	case c.PublishTimeout < 0 || c.ConnectTimeout < 0:
		return bad("timeouts must not be negative")
	case c.MaxInFlightBytes < 2<<20:
		return bad("at least 2 MiB must be allowed in flight, not %d bytes", c.MaxInFlightBytes)
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return bad("a TLS certificate and its key go together")
	case c.embedded() && c.TLS.CAFile != "" && c.TLS.CertFile == "":
		return bad("the embedded server needs a certificate to ask its clients for theirs")
	case (c.User == "") != (c.Password == ""):
		return bad("user and password go together")
	case c.Token != "" && c.User != "":
		return bad("either a token or user and password, not both")
	case !validInboxPrefix(c.InboxPrefix):
		return bad("inbox prefix %q is no subject", c.InboxPrefix)
	}
	if c.embedded() {
		if _, _, err := c.listenAddress(); err != nil {
			return bad("%v", err)
		}
	}
	return nil
}

func (c Config) listenAddress() (host string, port int, err error) {
	host, p, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: %w", c.Listen, err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: port must be 0 to 65535", c.Listen)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, int(n), nil
}

func validInboxPrefix(p string) bool {
	if len(p) > 128 {
		return false
	}
	for token := range strings.SplitSeq(p, ".") {
		if !plainToken(token) {
			return false
		}
	}
	return true
}

// plainToken reports whether s can stand between two dots of a subject: not
// empty, printable ASCII, no wildcard.
func plainToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '*' || c == '>' || c == '.' {
			return false
		}
	}
	return s != ""
}

// server is the embedded server's TLS, nil for none.
func (t TLS) server() (*tls.Config, error) {
	if t.CertFile == "" {
		return nil, nil
	}
	conf, err := t.load()
	if err != nil {
		return nil, err
	}
	if conf.RootCAs != nil {
		conf.ClientCAs, conf.RootCAs = conf.RootCAs, nil
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// client is the TLS towards an external server, nil where the URL decides.
func (t TLS) client() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	return t.load()
}

func (t TLS) load() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load TLS certificate %s and key %s: %w", t.CertFile, t.KeyFile, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read TLS authorities: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w bus setting: no certificate in %s", ErrInvalid, t.CAFile)
		}
	}
	return conf, nil
}
