package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parleyhq/parley/pkg/server"
)

// readinessCheck asks a process whether it can serve. It is what a container's
// health check runs: an image with nothing but the binary in it has no curl.
type readinessCheck struct {
	app     *App
	addr    string
	tlsCA   string
	timeout time.Duration
}

// maxReportBytes is more than a report of any process has.
const maxReportBytes = 1 << 20

func (a *App) readyCommand() *cobra.Command {
	r := &readinessCheck{app: a}
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Say whether the process on this machine can serve, for health checks",
		Long: `Asks /readyz of the process at --admin-addr. Ends with 0 where it can serve,
with 1 where it cannot, or nobody answers; then it says which part is not ready
and why.`,
		Example: `  parley ready
  parley ready --admin-addr 127.0.0.1:7390 --timeout 2s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.timeout <= 0 {
				return usagef("--timeout %s: want more than nothing", r.timeout)
			}
			if addr, ok := a.env("PARLEY_ADMIN_ADDR"); ok && !cmd.Flags().Changed("admin-addr") {
				r.addr = addr
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
			defer cancel()
			return r.run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.addr, "admin-addr", "127.0.0.1:7390", "address of the process' HTTP for the inside, `host:port` [PARLEY_ADMIN_ADDR]")
	f.StringVar(&r.tlsCA, "tls-ca", "", "speak TLS, trusting the authorities in this PEM `file`")
	f.DurationVar(&r.timeout, "timeout", 5*time.Second, "how long to wait for an answer")
	return cmd
}

func (r *readinessCheck) run(ctx context.Context) error {
	report, err := r.ask(ctx)
	if err != nil {
		return fmt.Errorf("ask %s whether it is ready: %w", r.addr, err)
	}
	var reasons []string
	for _, c := range report.Checks {
		if c.Reason != "" {
			reasons = append(reasons, c.Name+": "+c.Reason)
		}
	}
	text := clean(strings.Join(reasons, "; "))
	switch {
	case !report.Ready && text == "":
		return errors.New("not ready")
	case !report.Ready:
		return fmt.Errorf("not ready: %s", text)
	case text != "":
		return write(r.app.Stdout, "ready; "+text+"\n")
	default:
		return write(r.app.Stdout, "ready\n")
	}
}

// ask gets the report.
func (r *readinessCheck) ask(ctx context.Context) (_ *server.Report, err error) {
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if r.tlsCA != "" {
		pem, err := os.ReadFile(r.tlsCA)
		if err != nil {
			return nil, usagef("--tls-ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, usagef("--tls-ca %s: no certificate in it; want PEM", r.tlsCA)
		}
		scheme, transport.TLSClientConfig = "https", &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+r.addr+"/readyz", http.NoBody)
	if err != nil {
		return nil, usagef("--admin-addr %s: %w", r.addr, err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return nil, fmt.Errorf("it answers %s; does --admin-addr name a parley's HTTP for the inside?", resp.Status)
	}
	var report server.Report
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReportBytes)).Decode(&report); err != nil {
		return nil, fmt.Errorf("it answers no report: %w; does --admin-addr name a parley's HTTP for the inside?", err)
	}
	return &report, nil
}
