package config_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/config"
)

func TestLocationHidesItsPassword(t *testing.T) {
	t.Parallel()
	for said, shown := range map[string]string{
		"embedded": "embedded", "": "",
		"postgres://host/db":                                  "postgres://host/db",
		"postgres://ada@host/db":                              "postgres://ada@host/db",
		"postgres://ada:secret@host:5432/db?sslmode=off":      "postgres://ada:***@host:5432/db?sslmode=off",
		"postgres://a%20da:sec%2Fret@host/db":                 "postgres://a%20da:***@host/db",
		"postgres://ada:sec ret%@host/db":                     "postgres://ada:***@host/db",
		"postgres://ada:sec/ret@host/db":                      "***",
		"postgres://ada:sec?r@et@host/db":                     "***",
		"ada:secret@host":                                     "***",
		"postgres://h/db?password=secret&x=1&sslPassword=sec": "postgres://h/db?password=***&x=1&sslPassword=***",
		"postgres://h/db?pass%77ord=secret&x":                 "postgres://h/db?pass%77ord=***&x",
		"esdb://ada:secret@one:2113,two:2113?tls=true":        "esdb://ada:***@one:2113,two:2113?tls=true",
		"esdb+discover://ada:se:cret@cluster":                 "esdb+discover://ada:***@cluster",
	} {
		l := config.Location(said)
		require.Equal(t, shown, l.String(), said)
		require.Equal(t, said, l.Reveal())
		marshalled, err := json.Marshal(map[string]config.Location{"at": l})
		require.NoError(t, err)
		for _, text := range []string{fmt.Sprintf("%v %s %q %#v", l, l, l, l), l.LogValue().String(), string(marshalled)} {
			require.NotContains(t, text, "sec")
		}
	}
}
