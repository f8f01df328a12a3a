package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

// Exit codes.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// App is what the command line stands on. All fields are required.
type App struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Environ as os.Environ gives it.
	Environ []string
	// Now is the clock.
	Now func() time.Time
	// Location that times are shown in.
	Location *time.Location
	// Random bytes for new keys.
	Random io.Reader
	// Terminal says that people read standard error as it comes.
	Terminal bool
}

// usageError is a mistake of whoever typed the command.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// reportedError is a failure that has been told already.
type reportedError struct{}

func (reportedError) Error() string { return "failed" }

// Run runs one command and returns its exit code.
func (a *App) Run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	if _, told := errors.AsType[reportedError](err); told {
		return ExitFailed
	}
	a.complain("parley: %s", clean(explain(err)))
	if code := exitCode(err); code != ExitUsage {
		return code
	}
	a.complain("`%s --help` says how it is used.", cmd.CommandPath())
	return ExitUsage
}

func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return ExitUsage
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return ExitUsage
	}
	return ExitFailed
}

// complain writes a line to standard error. There is nobody to tell where that fails.
func (a *App) complain(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Stderr, format+"\n", args...)
}

func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "parley",
		Short: "Every contact with a customer as an event, and who the customer is",
		Long: `Parley records every contact between a company and its customers as an
immutable event, and answers who a customer is and what happened with him.

  parley demo                               a server with a day of traffic, to look around
  parley serve                              a server of your own, everything in one process
  parley customer get --email ada@example.com
  parley events tail
  parley projections ls`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(a.serveCommand(), a.demoCommand(), a.customerCommand(), a.identityCommand(), a.mailCommand(), a.eventsCommand(), a.sendCommand(),
		a.importCommand(), a.projectionsCommand(), a.logCommand(), a.readyCommand(), a.keyCommand(), a.configCommand(), a.versionCommand())
	return root
}

// noArgs refuses arguments; for a command with subcommands the first one is a
// command that there is not.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasSubCommands():
		hint := ""
		cmd.SuggestionsMinimumDistance = 2 // edits
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			hint = fmt.Sprintf("; did you mean \"%s\"?", strings.Join(s, `" or "`))
		}
		return usagef("there is no command %q under %q%s", args[0], cmd.CommandPath(), hint)
	default:
		return usagef("%q takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(commands...)
	return cmd
}

// env is the value of a variable.
func (a *App) env(name string) (string, bool) {
	for _, e := range a.Environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// exposed says that settings were refused because they would let everybody in.
func exposed(err error) bool {
	_, ok := errors.AsType[*serve.ExposedError](err)
	return ok
}
