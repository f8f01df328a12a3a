package esdb

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/eventstore"
)

// Config of a store. Only URL is needed.
type Config struct {
	// URL is the connection string of the official clients, with the schemes
	// esdb:// and esdb+discover:// (or kurrentdb:// and kurrentdb+discover://):
	//
	//	esdb://user:password@host:2113?tlsCaFile=/etc/parley/ca.pem
	//	esdb://host1:2113,host2:2113,host3:2113?tls=true
	//	esdb+discover://cluster.example:2113
	//
	// Settings: tls, tlsCaFile, userCertFile, userKeyFile;
	// keepAliveInterval, keepAliveTimeout, defaultDeadline (milliseconds),
	// gossipTimeout (seconds). A user and a password are sent over TLS only.
	URL config.Secret
	// Logger gets when the connection is lost and found. Defaults to none.
	Logger *slog.Logger
	// Metrics gets what is measured, if not nil; Close takes it away again.
	Metrics prometheus.Registerer
	// AppendsInFlight is the largest number of appends, to different streams,
	// that are on their way at a time; more wait in the order they came.
	// Defaults to 64: a node takes about 100 calls on one connection, and
	// reads and subscriptions want some of them.
	AppendsInFlight int
	// Patience is how long a call goes on trying while the cluster cannot be
	// reached, where its context does not end before. Defaults to the URL's
	// defaultDeadline, or 10 seconds. Subscriptions wait for ever.
	Patience time.Duration
	// TailBytes bounds the latest records that are kept in memory for all
	// subscriptions that are near the head. Defaults to 8 MiB.
	TailBytes int
}

// Defaults of Config, and what a connection may take.
const (
	defaultAppends  = 64
	defaultPatience = 10 * time.Second
	defaultTail     = 8 << 20
)

func (c Config) withDefaults(conn *official.Configuration) Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.AppendsInFlight <= 0 {
		c.AppendsInFlight = defaultAppends
	}
	if c.Patience <= 0 {
		c.Patience = defaultPatience
		if conn.DefaultDeadline != nil {
			c.Patience = *conn.DefaultDeadline
		}
	}
	if c.TailBytes <= 0 {
		c.TailBytes = defaultTail
	}
	return c
}

// Settings that the parser of connection strings knows, and those of other
// clients that may stand in a string that is shared. How often to look for the
// cluster, discoveryInterval and maxDiscoverAttempts, is not asked here.
var (
	knownSettings = []string{
		"tls", "tlsverifycert", "tlscafile", "usercertfile", "userkeyfile",
		"keepaliveinterval", "keepalivetimeout", "defaultdeadline", "gossiptimeout",
		"discoveryinterval", "maxdiscoverattempts", "nodepreference",
	}
	ignoredSettings = []string{"connectionname", "throwonappendfailure"}
)

const urlShape = "it reads esdb://user:password@host:2113?tls=true, special characters of user and password percent-encoded"

// parseURL reads a connection string. No error shows a part of it that may be
// the password: what stands before the last '@' never gets to the parser.
func parseURL(secret config.Secret) (*official.Configuration, error) {
	text := secret.Reveal()
	if text == "" {
		return nil, fmt.Errorf("connection string is empty: %s: %w", urlShape, eventstore.ErrInvalid)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, fmt.Errorf("connection string has no scheme: %s: %w", urlShape, eventstore.ErrInvalid)
	}
	switch scheme {
	case "esdb", "esdb+discover":
	case "kurrentdb", "kdb":
		scheme = "esdb"
	case "kurrentdb+discover", "kdb+discover":
		scheme = "esdb+discover"
	default:
		return nil, fmt.Errorf("connection string has a scheme that is not esdb or esdb+discover: %s: %w", urlShape, eventstore.ErrInvalid)
	}
	authority, query, _ := strings.Cut(rest, "?")
	user, hosts, err := cutUser(authority)
	if err != nil {
		return nil, err
	}
	hosts = strings.TrimSuffix(hosts, "/")
	if !onlyHosts(hosts) {
		return nil, fmt.Errorf("connection string is malformed: %s: %w", urlShape, eventstore.ErrInvalid)
	}
	settings, err := cleanSettings(query)
	if err != nil {
		return nil, err
	}
	conf, err := official.ParseConnectionString(scheme + "://" + hosts + "?" + settings)
	if err != nil {
		return nil, fmt.Errorf("connection string: %w: %w", reason(err), eventstore.ErrInvalid)
	}
	if user != nil {
		conf.Username = user.Username()
		conf.Password, _ = user.Password()
	}
	if conf.NodePreference != official.NodePreferenceLeader {
		return nil, fmt.Errorf("connection string: nodePreference=%s: whoever writes must read what it wrote, which only the leader guarantees; leave the setting away: %w",
			conf.NodePreference, eventstore.ErrInvalid)
	}
	if conf.SkipCertificateVerification {
		return nil, fmt.Errorf("connection string: tlsVerifyCert=false would let anyone pose as the cluster; name its authority with tlsCaFile: %w", eventstore.ErrInvalid)
	}
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("connection string: %w: %w", err, eventstore.ErrInvalid)
	}
	return conf, nil
}

// cutUser takes user and password off the hosts. Unlike a strict parser it
// takes any character in the password but '?', which begins the settings.
func cutUser(authority string) (*url.Userinfo, string, error) {
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return nil, authority, nil
	}
	name, password, _ := strings.Cut(authority[:at], ":")
	name, err := url.PathUnescape(name)
	if err == nil {
		password, err = url.PathUnescape(password)
	}
	if err != nil || name == "" {
		return nil, "", fmt.Errorf("connection string: user and password are malformed: %s: %w", urlShape, eventstore.ErrInvalid)
	}
	return url.UserPassword(name, password), authority[at+1:], nil
}

// onlyHosts says that each part, separated by commas, is a host, or a host and
// a port. What is not may be a piece of a password, and is not to be shown.
func onlyHosts(hosts string) bool {
	for host := range strings.SplitSeq(hosts, ",") {
		_, port, found := strings.Cut(host, ":")
		if found && (port == "" || strings.Trim(port, "0123456789") != "") {
			return false
		}
	}
	return true
}

// cleanSettings takes away what other clients know, and refuses what nobody does.
func cleanSettings(query string) (string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("connection string: the settings behind '?' are malformed: %w", eventstore.ErrInvalid)
	}
	for key := range values {
		switch lower := strings.ToLower(key); {
		case slices.Contains(ignoredSettings, lower):
			delete(values, key)
		case strings.Contains(key, "@"):
			// The rest of a password with a '?'.
			return "", fmt.Errorf("connection string is malformed: %s: %w", urlShape, eventstore.ErrInvalid)
		case !slices.Contains(knownSettings, lower):
			return "", fmt.Errorf("connection string: there is no setting %.40q: %w", key, eventstore.ErrInvalid)
		}
	}
	return values.Encode(), nil
}

// reason is a parser's complaint without the string that it was about.
func reason(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return fmt.Errorf("hosts are malformed: %w; %s", parse.Err, urlShape)
	}
	return err
}

// nodes names where a connection string leads to, for messages.
func nodes(conf *official.Configuration) string {
	if len(conf.GossipSeeds) == 0 {
		return conf.Address
	}
	var all []string
	for _, seed := range conf.GossipSeeds {
		all = append(all, seed.String())
	}
	return strings.Join(all, ", ")
}
