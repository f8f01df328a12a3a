package pgview_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/testkit/postgres"
	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/pgview"
	"github.com/parleyhq/parley/pkg/view/viewtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var modes = []pgview.QueryMode{pgview.CacheStatement, pgview.Exec, pgview.SimpleProtocol}

type backend struct{ cfg pgview.Config }

func (b backend) Open(t *testing.T) view.Store {
	t.Helper()
	s, err := pgview.Open(t.Context(), b.cfg)
	require.NoError(t, err)
	return s
}

func TestSuite(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			db := postgres.Database(t, postgres.ICULocale("en-US"))
			var stores atomic.Int64
			viewtest.Run(t, func(*testing.T) viewtest.Backend {
				return backend{cfg: pgview.Config{
					URL: config.Secret(db.URL()), Schema: fmt.Sprintf("s%d", stores.Add(1)), QueryMode: mode, MaxConns: 6,
				}}
			})
		})
	}
}
