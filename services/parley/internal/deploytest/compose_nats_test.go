package deploytest_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/bus"
)

// TestComposeNATS runs three servers with the configuration, elsewhere than it
// says, and does what processes of ours do there.
//
// Not in parallel with others: the configuration reads the environment.
func TestComposeNATS(t *testing.T) {
	c := loadCompose(t, secretsOf(t))
	settings, _ := settingsOf(t, c.Services["web"])
	options := make([]*natsserver.Options, 3)
	for i := range options {
		name := fmt.Sprintf("nats%d", i+1)
		for variable, value := range c.Services[name].Environment {
			t.Setenv(variable, value)
		}
		o, err := natsserver.ProcessConfigFile(filepath.Join(composeDir, "nats", "nats.conf"))
		require.NoError(t, err)
		require.Equal(t, name, o.ServerName)
		require.True(t, o.JetStream && o.SyncAlways)
		require.Equal(t, "127.0.0.1", o.HTTPHost, "monitoring is for the container itself")
		require.Contains(t, c.Services[name].Healthcheck.Test, fmt.Sprintf("http://127.0.0.1:%d/healthz", o.HTTPPort))
		require.Contains(t, c.Services[name].Volumes, name+":"+o.StoreDir)
		require.GreaterOrEqual(t, o.JetStreamMaxStore, 2*int64(settings.NATS.MaxIngress), "the ingress stream fits, and what lies beside it")
		require.Len(t, o.Routes, 3)
		for j, r := range o.Routes {
			require.Equal(t, fmt.Sprintf("nats%d:%d", j+1, o.Cluster.Port), r.Host)
			password, _ := r.User.Password()
			require.Equal(t, o.Cluster.Password, password)
			require.Equal(t, o.Cluster.Username, r.User.Username())
		}
		options[i] = o
	}

	// A random port of each on loopback, in place of names that are not known here.
	var routes []*url.URL
	servers := make([]*natsserver.Server, len(options))
	for i, o := range options {
		o.Host, o.Port, o.HTTPPort = "127.0.0.1", natsserver.RANDOM_PORT, 0
		o.Cluster.Host, o.Cluster.Port = "127.0.0.1", natsserver.RANDOM_PORT
		o.StoreDir, o.NoLog, o.NoSigs = t.TempDir(), true, true
		user := o.Routes[0].User
		if o.Routes = routes; len(routes) == 0 {
			o.Routes = []*url.URL{{Scheme: "nats-route", User: user, Host: "127.0.0.1:1"}}
		}
		s, err := natsserver.NewServer(o)
		require.NoError(t, err)
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		require.True(t, s.ReadyForConnections(deadline))
		if i == 0 {
			routes = []*url.URL{{Scheme: "nats-route", User: user, Host: s.ClusterAddr().String()}}
		}
		servers[i] = s
	}

	require.Eventually(t, func() bool {
		return slices.ContainsFunc(servers, func(s *natsserver.Server) bool {
			return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers)
		})
	}, deadline, 10*time.Millisecond, "no leader knows all three")
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	n := settings.NATS
	cfg := bus.Config{User: n.User, Password: bus.Secret(n.Password.Reveal()), Replicas: n.Replicas, MaxIngressBytes: int64(n.MaxIngress)}
	for i, s := range servers {
		if i > 0 {
			cfg.URL += ","
		}
		cfg.URL += s.ClientURL()
	}
	b, err := bus.Open(ctx, cfg, bus.WithLogger(quiet))
	require.NoError(t, err)
	require.NoError(t, b.Healthy())
	backlog, err := b.Pending(ctx)
	require.NoError(t, err)
	require.Zero(t, backlog.Messages)
	require.NoError(t, b.Close())

	cfg.Password = "another"
	_, err = bus.Open(ctx, cfg, bus.WithLogger(quiet))
	require.Error(t, err, "who does not know the password stays out")
}
