package bus_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
)

// operator is who signs the accounts of a NATS that is set up by JWTs, as
// `nsc` and NGS do it.
type operator struct {
	trusted  string
	system   string
	accounts server.AccountResolver
	// credentials of a user who may do everything in the account that Parley has.
	credentials string
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		keys, err := create()
		require.NoError(t, err)
		public, err := keys.PublicKey()
		require.NoError(t, err)
		return keys, public
	}
	keys, trusted := pair(nkeys.CreateOperator)
	accounts := &server.MemAccResolver{}
	account := func(limits jwt.JetStreamLimits) (nkeys.KeyPair, string) {
		accountKeys, public := pair(nkeys.CreateAccount)
		claims := jwt.NewAccountClaims(public)
		claims.Limits.JetStreamLimits = limits
		signed, err := claims.Encode(keys)
		require.NoError(t, err)
		require.NoError(t, accounts.Store(public, signed))
		return accountKeys, public
	}
	_, system := account(jwt.JetStreamLimits{})
	ours, _ := account(jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit})

	userKeys, user := pair(nkeys.CreateUser)
	signed, err := jwt.NewUserClaims(user).Encode(ours)
	require.NoError(t, err)
	seed, err := userKeys.Seed()
	require.NoError(t, err)
	content, err := jwt.FormatUserConfig(signed, seed)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "parley.creds")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return &operator{trusted: trusted, system: system, accounts: accounts, credentials: path}
}

// cluster is three NATS servers that replicate their streams.
type cluster struct {
	t       *testing.T
	options []*server.Options
	servers []*server.Server
}

func newCluster(t *testing.T, op *operator) *cluster {
	t.Helper()
	c := &cluster{t: t}
	// The first has nobody yet to connect to, and does not start without.
	seed := []*url.URL{{Scheme: "nats", Host: "127.0.0.1:1"}}
	for i := range 3 {
		o := &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
			Cluster:     server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT},
			Routes:      seed,
			TrustedKeys: []string{op.trusted}, AccountResolver: op.accounts, SystemAccount: op.system,
		}
		c.options = append(c.options, o)
		c.servers = append(c.servers, c.start(o))
		if i == 0 {
			seed = []*url.URL{{Scheme: "nats", Host: c.servers[0].ClusterAddr().String()}}
		}
	}
	eventually(t, "the leader knows all", func() bool {
		return slices.ContainsFunc(c.servers, func(s *server.Server) bool {
			return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3
		})
	})
	return c
}

func (c *cluster) start(o *server.Options) *server.Server {
	c.t.Helper()
	s, err := server.NewServer(o)
	require.NoError(c.t, err)
	s.Start()
	require.True(c.t, s.ReadyForConnections(deadline))
	c.t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func (c *cluster) url() string {
	urls := make([]string, len(c.servers))
	for i, s := range c.servers {
		urls[i] = s.ClientURL()
	}
	return strings.Join(urls, ",")
}

// kill stops the server that leads the stream and returns its number.
func (c *cluster) kill(credentials string) int {
	c.t.Helper()
	nc, err := nats.Connect(c.url(), nats.UserCredentials(credentials))
	require.NoError(c.t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(c.t, err)
	stream, err := js.Stream(c.t.Context(), bus.StreamName)
	require.NoError(c.t, err)
	require.Equal(c.t, 3, stream.CachedInfo().Config.Replicas)
	leader := stream.CachedInfo().Cluster.Leader
	i := slices.IndexFunc(c.servers, func(s *server.Server) bool { return s.Name() == leader })
	require.GreaterOrEqual(c.t, i, 0)
	c.servers[i].Shutdown()
	c.servers[i].WaitForShutdown()
	return i
}

// restart brings a server back, at other ports.
func (c *cluster) restart(i int) {
	c.t.Helper()
	o := c.options[i].Clone()
	o.Port, o.Cluster.Port, o.Routes = server.RANDOM_PORT, server.RANDOM_PORT, nil
	for _, s := range c.servers {
		if s.Running() {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: s.ClusterAddr().String()})
		}
	}
	c.servers[i] = c.start(o)
}

// insist publishes one after the other, and repeats what is refused while the
// cluster elects a leader.
func insist(t *testing.T, b *bus.Bus, ids ...string) {
	t.Helper()
	for _, id := range ids {
		eventually(t, "published", func() bool {
			err := b.Publisher().Publish(t.Context(), "default", "web", batch(10, id))
			if err != nil && !errors.Is(err, bus.ErrUnavailable) {
				t.Errorf("publish: %v", err)
			}
			return err == nil
		})
	}
}

// A cluster of three, its users known by JWT: what was acknowledged survives
// the loss of the server that led the stream, in order and once.
func TestClusterWithCredentialsFile(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	c := newCluster(t, op)
	cfg := bus.Config{URL: c.url(), CredentialsFile: op.credentials, ConnectTimeout: deadline}

	_, err := bus.Open(t.Context(), bus.Config{URL: c.url(), ConnectTimeout: time.Second}, quiet())
	require.Error(t, err, "without credentials")

	b := open(t, cfg)
	got := consume(t, b, bus.ConsumeOptions{}, nil)
	insist(t, b, numbers(0, 100)...)
	got.until(100)

	dead := c.kill(op.credentials)
	insist(t, b, numbers(100, 100)...)
	seen := func() []string { return slices.Compact(got.until(200)) }
	eventually(t, "all came", func() bool { return len(seen()) >= 200 })
	// What was repeated after an unknown outcome may have come twice in a row;
	// the recorder knows event ids again.
	require.Equal(t, numbers(0, 200), seen())

	c.restart(dead)
	insist(t, b, numbers(200, 50)...)
	eventually(t, "all came", func() bool { return len(seen()) >= 250 })
	require.Equal(t, numbers(0, 250), seen())
	got.stop()
}

// TestOpenWithoutALeader opens the bus at a cluster that has lost its majority,
// which answers as soon as it has one again.
func TestOpenWithoutALeader(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	c := newCluster(t, op)
	for _, s := range c.servers[1:] {
		s.Shutdown()
		s.WaitForShutdown()
	}
	opened := make(chan error, 1)
	go func() {
		b, err := bus.Open(t.Context(), bus.Config{URL: c.servers[0].ClientURL(), CredentialsFile: op.credentials, ConnectTimeout: deadline}, quiet())
		if err == nil {
			err = b.Close()
		}
		opened <- err
	}()
	c.restart(1)
	c.restart(2)
	select {
	case err := <-opened:
		require.NoError(t, err)
	case <-time.After(deadline):
		require.Fail(t, "it was not opened")
	}
}
