package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// client is how a command reaches a server.
type client struct {
	app     *App
	addr    string
	apiKey  string
	tls     bool
	tlsCA   string
	timeout time.Duration
	output  string
}

const (
	outputTable = "table"
	outputJSON  = "json"

	// maxResponseBytes is the largest answer that a command takes: 500
	// interactions, or 100 customers with all they have.
	maxResponseBytes = 64 << 20
	dialKeepalive    = 20 * time.Second
)

// bind adds the flags of a command that asks a server.
func (c *client) bind(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&c.addr, "addr", "127.0.0.1:7300", "address of the server's gRPC, `host:port` [PARLEY_ADDR]")
	f.StringVar(&c.apiKey, "api-key", "", "API `key`, where the server wants one [PARLEY_API_KEY]")
	f.BoolVar(&c.tls, "tls", false, "speak TLS, trusting the system's authorities [PARLEY_TLS]")
	f.StringVar(&c.tlsCA, "tls-ca", "", "speak TLS, trusting the authorities in this PEM `file` [PARLEY_TLS_CA]")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long to wait for an answer [PARLEY_TIMEOUT]")
	f.StringVarP(&c.output, "output", "o", outputTable, "`form` of the output: table or json [PARLEY_OUTPUT]")
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return c.fromEnv(cmd) }
	// The forms are constants, so that registering their completion cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
}

// fromEnv fills from the environment what no flag said.
func (c *client) fromEnv(cmd *cobra.Command) error {
	for _, name := range []string{"addr", "api-key", "tls", "tls-ca", "timeout", "output"} {
		variable := "PARLEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		value, ok := c.app.env(variable)
		if !ok || cmd.Flags().Changed(name) {
			continue
		}
		if err := cmd.Flags().Set(name, value); err != nil {
			return usagef("%s=%s: %w", variable, value, err)
		}
	}
	if c.output != outputTable && c.output != outputJSON {
		return usagef("-o %s: there are table and json", c.output)
	}
	if c.timeout <= 0 {
		return usagef("--timeout %s: want more than nothing", c.timeout)
	}
	return nil
}

func (c *client) json() bool { return c.output == outputJSON }

// dial connects lazily: the first call tells whether somebody is there.
func (c *client) dial() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.tls || c.tlsCA != "" {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if c.tlsCA != "" {
			pem, err := os.ReadFile(c.tlsCA)
			if err != nil {
				return nil, usagef("--tls-ca: %w", err)
			}
			cfg.RootCAs = x509.NewCertPool()
			if !cfg.RootCAs.AppendCertsFromPEM(pem) {
				return nil, usagef("--tls-ca %s: no certificate in it; want PEM", c.tlsCA)
			}
		}
		creds = credentials.NewTLS(cfg)
	}
	conn, err := grpc.NewClient("passthrough:///"+c.addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: dialKeepalive}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
		grpc.WithUserAgent("parley-cli/"+versionOf().Version))
	if err != nil {
		return nil, usagef("--addr %s: %w", c.addr, err)
	}
	return conn, nil
}

// with runs f with a connection. Errors about reaching the server name the address.
func (c *client) with(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	err = f(c.outgoing(ctx), conn)
	if closeErr := conn.Close(); err == nil && closeErr != nil {
		return fmt.Errorf("close the connection to %s: %w", c.addr, closeErr)
	}
	return c.hint(err)
}

// ask is with, for commands that are answered once: within the timeout.
func (c *client) ask(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.with(ctx, f)
}

// outgoing adds the credential.
func (c *client) outgoing(ctx context.Context) context.Context {
	if c.apiKey == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.apiKey)
}

// hintedError is an error with what to do about it.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() + "\n" + e.hint }
func (e *hintedError) Unwrap() error { return e.err }

// hint says what to do about errors that the connection flags can mend.
func (c *client) hint(err error) error {
	e, ok := rpcerr.Parse(err)
	if !ok {
		return err
	}
	switch {
	case e.Code == codes.Unavailable && e.Reason == errorv1.Reason_REASON_UNSPECIFIED:
		hint := fmt.Sprintf("Is `parley serve` running at %s? --addr names another one.", c.addr)
		switch {
		case strings.Contains(e.Message, "x509:"):
			hint = "--tls-ca names the file with the authority that signed the server's certificate."
		case strings.Contains(e.Message, "first record does not look like a TLS handshake"):
			hint = "The server does not speak TLS: leave --tls and --tls-ca out."
		case strings.Contains(e.Message, "reset by peer") || strings.Contains(e.Message, "EOF") || strings.Contains(e.Message, "error reading server preface"):
			hint += " If it speaks TLS, give --tls or --tls-ca."
		}
		return &hintedError{err: err, hint: hint}
	case e.Code == codes.Unauthenticated:
		return &hintedError{err: err, hint: "--api-key or PARLEY_API_KEY gives the key; `parley key new` makes one."}
	case e.Code == codes.DeadlineExceeded:
		return &hintedError{err: err, hint: fmt.Sprintf("No answer within %s; --timeout waits longer.", c.timeout)}
	default:
		if hint := reasonHint(e.Reason); hint != "" {
			return &hintedError{err: err, hint: hint}
		}
		return err
	}
}

// explain is an error for people: the server's message without the wrapping of
// the wire, the fields at fault a line each, and what to do.
func explain(err error) string {
	hint := ""
	if h, ok := errors.AsType[*hintedError](err); ok {
		err, hint = h.err, "\n"+h.hint
	}
	e, ok := rpcerr.Parse(err)
	if !ok {
		return err.Error() + hint
	}
	var b strings.Builder
	if e.Reason == errorv1.Reason_REASON_INVALID_FIELD && len(e.Violations) > 0 {
		b.WriteString("the server refuses the request:")
		for _, v := range e.Violations {
			b.WriteString("\n  ")
			if v.Field != "" {
				b.WriteString(v.Field + ": ")
			}
			b.WriteString(v.Message)
		}
	} else {
		b.WriteString(e.Message)
	}
	if e.Reason != errorv1.Reason_REASON_UNSPECIFIED {
		b.WriteString(" (" + strings.TrimPrefix(e.Reason.String(), "REASON_") + ")")
	}
	if hint == "" && e.RetryAfter > 0 {
		hint = fmt.Sprintf("\nTry again in %s.", e.RetryAfter)
	}
	return b.String() + hint
}
