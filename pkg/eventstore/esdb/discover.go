package esdb

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	official "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// discover goes through the nodes that it knows of.
func (c *connector) discover(ctx context.Context) (*link, error) {
	c.mu.Lock()
	leader := c.leader
	c.leader = ""
	c.mu.Unlock()
	var failures []error
	if leader != "" {
		l, err := c.visit(ctx, leader, false)
		if err == nil {
			return l, nil
		}
		failures = append(failures, err)
	}
	cluster := c.conf.DnsDiscover || len(c.conf.GossipSeeds) > 0
	candidates := []string{c.conf.Address}
	if len(c.conf.GossipSeeds) > 0 {
		candidates = candidates[:0]
		for _, seed := range c.conf.GossipSeeds {
			candidates = append(candidates, net.JoinHostPort(seed.Host, strconv.Itoa(int(seed.Port))))
		}
	}
	rand.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	for _, candidate := range candidates {
		l, err := c.visit(ctx, candidate, cluster)
		if err == nil {
			return l, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// visit connects to a node or, in a cluster, to the leader that it names.
func (c *connector) visit(ctx context.Context, address string, cluster bool) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(c.conf.GossipTimeout)*time.Second, time.Second))
	defer cancel()
	l, err := c.open(address)
	if err != nil {
		return nil, err
	}
	if cluster {
		leader, err := c.askLeader(ctx, l.calls)
		if err != nil || leader != address {
			c.closeLink(l)
		}
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", address, err)
		}
		if leader != address {
			address = leader
			if l, err = c.open(address); err != nil {
				return nil, err
			}
		}
	}
	for _, ch := range []*channel{l.calls, l.reads} {
		if err := c.check(ctx, ch); err != nil {
			c.closeLink(l)
			return nil, fmt.Errorf("node %s: %w", address, err)
		}
	}
	return l, nil
}

func (c *connector) open(address string) (*link, error) {
	l := &link{address: address}
	for _, ch := range []**channel{&l.calls, &l.reads} {
		made := &channel{}
		var err error
		made.conn, err = grpc.NewClient(address, append(slices.Clone(c.dial), grpc.WithContextDialer(made.dial))...)
		if err != nil {
			if l.calls != nil {
				err = errors.Join(err, l.calls.conn.Close())
			}
			return nil, fmt.Errorf("node %s: %w", address, err)
		}
		made.streams = streams.NewStreamsClient(made.conn)
		*ch = made
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links[l] = struct{}{}
	return l, nil
}

// errLost: a connection that broke stays broken.
var errLost = errors.New("connection lost")

func (ch *channel) dial(ctx context.Context, address string) (net.Conn, error) {
	if ch.checked.Load() {
		return nil, errLost
	}
	ch.dials.Add(1)
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// askLeader asks a node which one leads.
func (c *connector) askLeader(ctx context.Context, ch *channel) (string, error) {
	info, err := gossip.NewGossipClient(ch.conn).Read(ctx, &shared.Empty{})
	if err != nil {
		return "", fmt.Errorf("ask for the cluster: %w", judge(err, nil))
	}
	for _, m := range info.GetMembers() {
		if at := m.GetHttpEndPoint(); m.GetIsAlive() && m.GetState() == gossip.MemberInfo_Leader && at.GetAddress() != "" {
			return net.JoinHostPort(at.GetAddress(), strconv.FormatUint(uint64(at.GetPort()), 10)), nil
		}
	}
	return "", unavailable(errors.New("the cluster has no leader now"))
}

// The oldest version that says when a subscription has caught up.
const oldestMajor, oldestMinor = 23, 10

// check asks a node whether it serves, and whether it is one to work with.
func (c *connector) check(ctx context.Context, ch *channel) error {
	methods, err := serverfeatures.NewServerFeaturesClient(ch.conn).GetSupportedMethods(ctx, &shared.Empty{})
	if err != nil {
		return fmt.Errorf("ask for its version: %w", judge(err, nil))
	}
	version := methods.GetEventStoreServerVersion()
	majorText, rest, _ := strings.Cut(version, ".")
	minorText, _, _ := strings.Cut(rest, ".")
	major, majorErr := strconv.Atoi(majorText)
	minor, minorErr := strconv.Atoi(minorText)
	// Builds from source say 0.0.
	if old := major < oldestMajor || major == oldestMajor && minor < oldestMinor; majorErr != nil || minorErr != nil || old && major > 0 {
		return fmt.Errorf("its version is %.40q, at least %d.%d is needed: %w", version, oldestMajor, oldestMinor, ErrUnfit)
	}
	c.mu.Lock()
	verify := c.verify
	c.mu.Unlock()
	dials := ch.dials.Load()
	if verify != nil {
		if err := verify(ctx, ch); err != nil {
			return err
		}
	}
	ch.checked.Store(true)
	if ch.dials.Load() != dials {
		return unavailable(errLost)
	}
	return nil
}

func dialOptions(conf *official.Configuration) ([]grpc.DialOption, error) {
	transport := insecure.NewCredentials()
	if !conf.DisableTLS {
		t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: conf.RootCAs}
		if conf.UserCertFile != "" {
			cert, err := tls.LoadX509KeyPair(conf.UserCertFile, conf.UserKeyFile)
			if err != nil {
				return nil, fmt.Errorf("connection string: userCertFile and userKeyFile: %w", err)
			}
			t.Certificates = []tls.Certificate{cert}
		}
		transport = credentials.NewTLS(t)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		// A connection is looked for by the connector alone.
		grpc.WithIdleTimeout(0),
		// What a server may send ahead of a reader that is slow.
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(128 << 10),
		grpc.WithWriteBufferSize(128 << 10),
	}
	if conf.KeepAliveInterval >= 0 {
		opts = append(opts, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: conf.KeepAliveInterval, Timeout: conf.KeepAliveTimeout, PermitWithoutStream: true,
		}))
	}
	if !conf.DisableTLS && conf.Username != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(basicAuth("Basic "+
			base64.StdEncoding.EncodeToString([]byte(conf.Username+":"+conf.Password)))))
	}
	return opts, nil
}

const (
	// An append of the largest size that a server can be set to, and what is
	// around it.
	maxMessageBytes = 17 << 20
	streamWindow    = 1 << 20
	connWindow      = 4 << 20
)

// basicAuth is sent with every call, over TLS only.
type basicAuth string

func (b basicAuth) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(b)}, nil
}

func (basicAuth) RequireTransportSecurity() bool { return true }
