package cli_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/parley/internal/cli"
)

func TestReady(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status         int
		body           string
		code           int
		stdout, stderr string
	}{
		"ready": {http.StatusOK, `{"ready":true,"checks":[{"name":"bus","ready":true}]}`, cli.ExitDone, "ready\n", ""},
		"lacking something": {
			http.StatusOK, `{"ready":true,"checks":[{"name":"customer","ready":true,"reason":"behind"}]}`,
			cli.ExitDone, "ready; customer: behind\n", "",
		},
		"not ready": {
			http.StatusServiceUnavailable, `{"ready":false,"checks":[{"name":"bus","ready":true},{"name":"recorder","reason":"log \u001b[1maway"}]}`,
			cli.ExitFailed, "", "not ready: recorder: log ",
		},
		"no reason":  {http.StatusServiceUnavailable, `{"ready":false}`, cli.ExitFailed, "", "not ready"},
		"other page": {http.StatusNotFound, "nothing here", cli.ExitFailed, "", "404 Not Found; does --admin-addr"},
		"no report":  {http.StatusOK, "<html>", cli.ExitFailed, "", "it answers no report"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" {
					t.Errorf("asked %s", r.URL.Path)
				}
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			})
			plain, secure := httptest.NewServer(answer), httptest.NewTLSServer(answer)
			t.Cleanup(plain.Close)
			t.Cleanup(secure.Close)
			ca := filepath.Join(t.TempDir(), "ca.pem")
			require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600))
			for _, r := range []result{
				run(t, "ready", "--admin-addr", strings.TrimPrefix(plain.URL, "http://")),
				runWith(t, "", []string{"PARLEY_ADMIN_ADDR=" + strings.TrimPrefix(plain.URL, "http://")}, "ready"),
				run(t, "ready", "--admin-addr", strings.TrimPrefix(secure.URL, "https://"), "--tls-ca", ca),
			} {
				require.Equal(t, tc.code, r.code, r.stderr)
				require.Equal(t, tc.stdout, r.stdout)
				require.Contains(t, r.stderr, tc.stderr)
				require.NotContains(t, r.stderr, "\x1b")
			}
		})
	}
	r := run(t, "ready", "--admin-addr", "127.0.0.1:1")
	require.Equal(t, cli.ExitFailed, r.code)
	require.Contains(t, r.stderr, "ask 127.0.0.1:1 whether it is ready")
	for _, args := range [][]string{{"--timeout", "0s"}, {"--tls-ca", "/nowhere/at/all"}, {"now"}} {
		require.Equal(t, cli.ExitUsage, run(t, append([]string{"ready"}, args...)...).code, args)
	}
}
