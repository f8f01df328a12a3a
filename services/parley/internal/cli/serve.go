package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/services/parley/internal/demo"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

// settingsOf binds the settings of serve to a command's flags. What it returns
// loads them.
func (a *App) settingsOf(cmd *cobra.Command) func() (*serve.Settings, *config.Loader, error) {
	settings := serve.DefaultSettings()
	loader, err := config.New(&settings)
	if err == nil {
		loader.Bind(cmd.Flags())
	}
	return func() (*serve.Settings, *config.Loader, error) {
		if err != nil {
			return nil, nil, err
		}
		if err := loader.Load(a.Environ); err != nil {
			return nil, nil, err
		}
		return &settings, loader, nil
	}
}

const settingsHelp = `
Every setting can be said in three ways: as a flag, in the environment
(--grpc-listen is PARLEY_GRPC_LISTEN) and in the YAML file that --config names
(grpc-listen: 127.0.0.1:7300). A flag wins over the environment, that over the
file. ` + "`parley config show`" + ` prints what is in force.`

func (a *App) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve [SERVICE…]",
		Short: "Run the services: recorder, customer, feed, web, email, ops; all of them unless some are named; or log",
		Long: `Runs the services in this process, with everything embedded: the event store,
NATS and the read models live in the data directory. Beyond one machine the log
is in an EventStoreDB (--event-store), messages go through an external NATS
(--nats) and the read models are in Postgres (--views); the services can then be
in as many processes as are wanted, several of the same one among them: one
works, the others stand by and take over.

  recorder  takes interactions from NATS and writes the log; InteractionService
  customer  the customer 360 and the timeline; CustomerService
  feed      the log as a stream; EventService
  web       the Segment tracking API over HTTP
  email     inbound mail by SMTP and by mail vendors' webhooks; EmailService
  ops       what operators do with the read models of this process; ProjectionService

  log       the embedded event store by itself, over EventStoreDB's protocol, for
            services in other processes where one machine's disk is enough
` + settingsHelp,
		Example: `  parley serve
  parley serve --data-dir /var/lib/parley --config /etc/parley.yaml
  parley serve --grpc-listen 127.0.0.1:0 --ready-file /tmp/ready.json
  parley serve --eventstore-listen 127.0.0.1:2113     # EventStoreDB clients may read the log
  parley serve customer feed ops --event-store esdb://es1:2113,es2:2113,es3:2113 \
    --nats nats://n1:4222 --views postgres://parley@db/parley --config cluster.yaml`,
		ValidArgs: serve.Services(),
		Args: func(_ *cobra.Command, args []string) error {
			for i, name := range args {
				if !slices.Contains(serve.Services(), name) {
					return usagef("there is no service %q; there are %s", name, strings.Join(serve.Services(), ", "))
				}
				if slices.Contains(args[:i], name) {
					return usagef("service %q is named twice", name)
				}
			}
			return nil
		},
	}
	load := a.settingsOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settings, _, err := load()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		return a.serve(ctx, settings, args, func(context.Context, *serve.Running) error { return nil })
	}
	return cmd
}

// serve runs the process; onReady is called once it serves.
func (a *App) serve(ctx context.Context, settings *serve.Settings, services []string, onReady func(context.Context, *serve.Running) error) error {
	if err := settings.Check(services); err != nil {
		if exposed(err) {
			return err
		}
		return &usageError{err}
	}
	log, err := settings.Process.NewLogger(a.Stderr, a.Terminal)
	if err != nil {
		return &usageError{err}
	}
	return serve.Run(ctx, serve.Options{
		Settings: *settings, Services: services, Logger: log, Random: a.Random, Now: a.Now,
		OnReady: func(ctx context.Context, r *serve.Running) error {
			if a.Terminal {
				a.banner(settings, r)
			}
			return onReady(ctx, r)
		},
	})
}

// banner tells people where it serves.
func (a *App) banner(settings *serve.Settings, r *serve.Running) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nParley serves %s; its data is in %s\n\n", strings.Join(r.Services, ", "), settings.Storage.DataDir)
	for _, l := range []struct{ name, addr, what string }{
		{"gRPC", r.Addresses.GRPC, "the services; `parley customer`, `parley events`, grpcurl"},
		{"HTTP", r.Addresses.HTTP, "tracking: POST /v1/track, /v1/batch, …"},
		{"SMTP", r.Addresses.SMTP, mailFor(settings)},
		{"admin", r.Addresses.Admin, "/readyz, /healthz, /metrics"},
		{"NATS", r.Addresses.NATS, "ingress.<tenant>.<channel>"},
		{"log", r.Addresses.EventStore, "the log for clients of EventStoreDB: esdb://" + r.Addresses.EventStore},
	} {
		if l.addr != "" {
			fmt.Fprintf(&b, "  %-6s %-22s %s\n", l.name, l.addr, l.what)
		}
	}
	for _, k := range settings.Access.WriteKeys {
		fmt.Fprintf(&b, "  write key %s: tenant %s, source %s\n", k.Key, k.Tenant, k.Source)
	}
	b.WriteString("\nCtrl-C stops it.\n\n")
	_, _ = a.Stderr.Write([]byte(b.String())) // nobody to tell where that fails
}

// mailFor names the addresses that take mail.
func mailFor(settings *serve.Settings) string {
	const most = 3
	var names []string
	for _, one := range settings.Mail.Addresses {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, one.Address)
	}
	return "mail for " + strings.Join(names, ", ")
}

func (a *App) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run all services and play a recorded day of a shop's traffic, to look around",
		Long: `Runs everything as parley serve does, plays a recorded day of web traffic of a
dozen people through the tracking API, waits until it is visible, and says what
to look at. It stays up. Playing the day again changes nothing.
` + settingsHelp,
		Args: noArgs,
	}
	load := a.settingsOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, _, err := load()
		if err != nil {
			return err
		}
		if len(settings.Access.WriteKeys) == 0 {
			return usagef("--write-keys: the day's traffic needs one")
		}
		return a.serve(cmd.Context(), settings, nil, func(ctx context.Context, r *serve.Running) error {
			scheme := "http"
			if settings.Access.HTTPTLSCert != "" {
				return usagef("--http-tls-cert: the day is played over plain HTTP; leave it out")
			}
			played, err := demo.Play(ctx, scheme+"://"+r.Addresses.HTTP, settings.Access.WriteKeys[0].Key)
			if err != nil {
				return err
			}
			if err := r.Settled(ctx); err != nil {
				return err
			}
			return write(a.Stdout, demo.Guide(a.program(), r.Addresses.GRPC, played))
		})
	}
	return cmd
}

// program is how this binary was called.
func (a *App) program() string {
	if len(os.Args) > 0 && strings.HasSuffix(os.Args[0], "parley") {
		return os.Args[0]
	}
	return "parley"
}

func (a *App) configCommand() *cobra.Command {
	show := &cobra.Command{
		Use:   "show",
		Short: "Print the settings in force as a configuration file, secrets hidden",
		Example: `  parley config show > parley.yaml
  parley config show --config parley.yaml --grpc-listen 127.0.0.1:0`,
		Args: noArgs,
	}
	loadShow := a.settingsOf(show)
	show.RunE = func(*cobra.Command, []string) error {
		_, loader, err := loadShow()
		if err != nil {
			return err
		}
		return loader.Write(a.Stdout)
	}
	check := &cobra.Command{
		Use:     "check",
		Short:   "Say what is wrong with the settings, without starting anything",
		Example: "  parley config check --config parley.yaml",
		Args:    noArgs,
	}
	loadCheck := a.settingsOf(check)
	check.RunE = func(*cobra.Command, []string) error {
		settings, _, err := loadCheck()
		if err != nil {
			return err
		}
		if err := settings.Check(nil); err != nil {
			return err
		}
		return write(a.Stdout, "The settings are fine.\n")
	}
	return group("config", "The settings of parley serve", show, check)
}
