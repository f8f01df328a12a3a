package esdb

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
)

func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	conf, err := parseURL("esdb://admin:p%40ss:w/rd@a:2113,b?tls=false&keepAliveInterval=20000&gossipTimeout=3&defaultDeadline=1500&connectionName=x")
	require.NoError(t, err)
	require.Equal(t, "admin", conf.Username)
	require.Equal(t, "p@ss:w/rd", conf.Password)
	require.True(t, conf.DisableTLS)
	require.Equal(t, "a:2113, b:2113", nodes(conf))
	require.Equal(t, 20*time.Second, conf.KeepAliveInterval)
	require.Equal(t, 3, conf.GossipTimeout)
	cfg := Config{}.withDefaults(conf)
	require.Equal(t, 1500*time.Millisecond, cfg.Patience)
	require.Equal(t, 64, cfg.AppendsInFlight)

	conf, err = parseURL("kurrentdb+discover://cluster.example")
	require.NoError(t, err)
	require.True(t, conf.DnsDiscover)
	require.False(t, conf.DisableTLS, "TLS unless it is switched off")
	require.Equal(t, "cluster.example:2113", nodes(conf))
	require.Equal(t, 10*time.Second, Config{}.withDefaults(conf).Patience)
}

// Whatever the password is, it is either taken as it is or not shown.
func FuzzPasswords(f *testing.F) {
	for _, p := range []string{"", "@", "/", "?", "#", "%", "%zz", ":", ",", "&tls=x", "?tls=zq", "\x00", "é", "\xff", " ", "1?2"} {
		f.Add(p, true)
		f.Add(p, false)
	}
	f.Fuzz(func(t *testing.T, middle string, quoted bool) {
		const mark = "zq"
		password := mark + middle + mark
		user := "user:" + password
		if quoted {
			user = url.UserPassword("user", password).String()
		}
		conf, err := parseURL(config.Secret("esdb://" + user + "@host:2113?tls=false"))
		if err != nil {
			require.NotContains(t, err.Error(), mark)
			require.False(t, quoted, "%v", err)
			return
		}
		if quoted {
			require.Equal(t, password, conf.Password)
		}
		require.NotContains(t, nodes(conf), mark)
		require.True(t, conf.Password != "" || strings.Contains(middle, "?"))
	})
}
