package deploytest_test

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/services/parley/internal/cli"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

// settingsOf are the settings and the services of a container of ours, as the
// binary in it reads them.
func settingsOf(t *testing.T, s *composeService) (settings serve.Settings, services []string) {
	t.Helper()
	require.NotEmpty(t, s.Command)
	require.Equal(t, "serve", s.Command[0])
	settings = serve.DefaultSettings()
	l, err := config.New(&settings)
	require.NoError(t, err)
	known := map[string]bool{}
	for _, name := range l.Names() {
		known[config.EnvName(name)] = true
	}
	var environ []string
	for name, value := range s.Environment {
		if strings.HasPrefix(name, config.EnvPrefix) {
			require.True(t, known[name], "%s: there is no such setting", name)
		}
		environ = append(environ, name+"="+value)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	l.Bind(flags)
	require.NoError(t, flags.Parse(s.Command[1:]))
	require.NoError(t, l.Load(environ))
	return settings, flags.Args()
}

// checkParley checks a process of ours: that it would start with its settings,
// and that what they name is there.
func (c *composeFile) checkParley(t *testing.T, name string) {
	t.Helper()
	s := c.Services[name]
	settings, services := settingsOf(t, s)
	require.NotEmpty(t, services)
	require.NoError(t, settings.Check(services))

	require.Equal(t, []string{"CMD", "/parley", "ready"}, s.Healthcheck.Test)
	var out bytes.Buffer
	app := &cli.App{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Now: time.Now, Location: time.UTC}
	require.Equal(t, cli.ExitDone, app.Run(t.Context(), append(slices.Clone(s.Healthcheck.Test[2:]), "--help")), out.String())
	require.Equal(t, "7390", portOf(settings.Listen.Admin), "where the health check asks")

	require.NotEmpty(t, s.User)
	require.NotContains(t, []string{"0", "root"}, strings.Split(s.User, ":")[0])
	require.True(t, s.ReadOnly)
	require.Greater(t, s.GracePeriod, settings.Process.DrainDelay+settings.Process.StopTimeout, "it is killed only after it had its time to stop")
	require.Equal(t, "json", settings.Process.LogFormat)
	require.Equal(t, "deploy/Dockerfile", s.Build.Dockerfile)

	listens := map[string]string{"grpc": settings.Listen.GRPC, "http": settings.Listen.HTTP, "smtp": settings.Listen.SMTP}
	for _, p := range s.Ports {
		require.Contains(t, slices.Collect(func(yield func(string) bool) {
			for _, address := range listens {
				if host, port, _ := strings.Cut(address, ":"); host == "0.0.0.0" && !yield(port) {
					return
				}
			}
		}), portOf(p), "nobody in it listens there for others")
	}

	c.checkReached(t, s, "--nats", hostsOf(t, settings.NATS.URL)...)
	require.Len(t, hostsOf(t, settings.NATS.URL), 3)
	mounted := strings.Join(s.Volumes, "\n") + "\n"
	if slices.Contains(services, serve.Email) {
		u, err := url.Parse(settings.Blobs.URL)
		require.NoError(t, err)
		endpoint, err := url.Parse(u.Query().Get("endpoint"))
		require.NoError(t, err)
		c.checkReached(t, s, "--blobs", endpoint.Host)
	}
	if !slices.ContainsFunc(services, func(one string) bool { return one != serve.WebEntry && one != serve.Email }) {
		require.Empty(t, mounted[:len(mounted)-1], "it keeps nothing")
		for _, secret := range []config.Secret{settings.Storage.ProfileSecret, config.Secret(settings.Storage.Views.Reveal())} {
			require.Contains(t, []config.Secret{"", "embedded"}, secret, "it need not know this")
		}
		return
	}
	c.checkReached(t, s, "--event-store", hostsOf(t, settings.Storage.EventStore.Reveal())...)
	require.Len(t, hostsOf(t, settings.Storage.EventStore.Reveal()), 3)
	c.checkReached(t, s, "--views", hostsOf(t, settings.Storage.Views.Reveal())...)
	require.Contains(t, mounted, ":/data\n", "the image's data directory")
	_, query, _ := strings.Cut(settings.Storage.EventStore.Reveal(), "?")
	parameters, err := url.ParseQuery(query)
	require.NoError(t, err)
	require.Equal(t, "true", parameters.Get("tls"))
	require.Contains(t, mounted, "certificates:/certs:ro")
	require.Equal(t, c.Services["es1"].Environment["EVENTSTORE_TRUSTED_ROOT_CERTIFICATES_PATH"]+"/ca.crt", parameters.Get("tlsCaFile"))
}

// hostsOf are the host:port of a URL that may name several.
func hostsOf(t *testing.T, location string) []string {
	t.Helper()
	var hosts []string
	for one := range strings.SplitSeq(location, ",") {
		if _, rest, ok := strings.Cut(one, "://"); ok {
			one = rest
		}
		one, _, _ = strings.Cut(one, "?")
		one, _, _ = strings.Cut(one, "/")
		one = one[strings.LastIndexByte(one, '@')+1:]
		require.Contains(t, one, ":", "%s names no port", one)
		hosts = append(hosts, one)
	}
	return hosts
}

// checkReached checks that hosts are services of the same network, and waited for.
func (c *composeFile) checkReached(t *testing.T, s *composeService, flag string, hosts ...string) {
	t.Helper()
	for _, address := range hosts {
		host := address[:strings.LastIndexByte(address, ':')]
		require.Contains(t, c.Services, host, flag)
		require.Equal(t, s.Networks, c.Services[host].Networks, flag)
		require.Contains(t, s.DependsOn, host, "%s: it does not wait for %s", flag, host)
	}
}

// checkServices checks that nothing is missing in the whole.
func (c *composeFile) checkServices(t *testing.T) {
	t.Helper()
	running := map[string]int{}
	agreed := map[string]string{}
	for name, s := range c.Services {
		if !s.runsParley() {
			continue
		}
		settings, services := settingsOf(t, s)
		for _, one := range services {
			running[one]++
		}
		// What all have to agree about, wherever it is said.
		for what, value := range map[string]string{
			"profile secret": settings.Storage.ProfileSecret.Reveal(), "event store": settings.Storage.EventStore.Reveal(),
			"views": settings.Storage.Views.Reveal(), "region": settings.Storage.DefaultRegion,
		} {
			if settings.Storage.ProfileSecret == "" {
				continue
			}
			if agreed[what] == "" {
				agreed[what] = value
			}
			require.Equal(t, agreed[what], value, "%s: %s", name, what)
		}
		keys, err := settings.Access.Keys()
		require.NoError(t, err)
		require.False(t, keys.Empty(), name)
	}
	for _, service := range serve.Services() {
		switch service {
		case serve.Log:
			require.Zero(t, running[service], "the log is in EventStoreDB")
		case serve.WebEntry, serve.Email:
			require.Equal(t, 1, running[service], service)
		default:
			require.Equal(t, 2, running[service], service)
		}
	}
	// Each node of a cluster knows the others and is known by the name that its certificate has.
	nodes := []string{"es1", "es2", "es3"}
	for _, name := range nodes {
		env := c.Services[name].Environment
		require.Equal(t, "3", env["EVENTSTORE_CLUSTER_SIZE"])
		require.Equal(t, name, env["EVENTSTORE_NODE_HOST_ADVERTISE_AS"])
		require.Equal(t, name, env["EVENTSTORE_REPLICATION_HOST_ADVERTISE_AS"])
		require.Contains(t, env["EVENTSTORE_CERTIFICATE_FILE"], "/certs/"+name+"/")
		require.Contains(t, env["EVENTSTORE_CERTIFICATE_PRIVATE_KEY_FILE"], "/certs/"+name+"/")
		var others []string
		for _, other := range nodes {
			if other != name {
				others = append(others, other+":2113")
			}
		}
		require.Equal(t, strings.Join(others, ","), env["EVENTSTORE_GOSSIP_SEED"])
		require.Contains(t, c.Services[name].Volumes, name+":/var/lib/eventstore")
		require.Contains(t, c.Services["certificates"].Command[0], name)
	}
}
