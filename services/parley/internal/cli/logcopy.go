package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/logcopy"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

func (a *App) logCopy() *cobra.Command {
	c := &copying{logEnds: a.newLogEnds(), patience: defaultPatience}
	cmd := &cobra.Command{
		Use:   "copy --from WHERE --to WHERE",
		Short: "Copy the log to another event store, and compare the two",
		Long: `Copies every record of a log to another event store, in order, as it is: ids,
types, data, metadata, streams and revisions are the same there. Positions and
recorded times are the other store's own; when something occurred stands in the
events. Where each position has gone is written into the target, so that tokens
which were given out before the move stay valid.

WHERE is a data directory, of which no server may run meanwhile, or the URL of
an EventStoreDB (esdb://…), which is also how to read from a server that runs
(` + "`parley serve --eventstore-listen`" + `). The source is never written to. The target is
empty, or holds what this command left there; nobody else may write to it before
it is done.

The command may be ended at any time and started again: it goes on where it was
and copies nothing twice. A copy that was not finished is not served. What is
copied is what the source had when the command began; with --follow it goes on
with what comes, until ctrl-c. So a move takes no longer than the last records:

  1. copy with --follow from the server that runs, until it says "caught up"
  2. ctrl-c; stop the server; copy once more, from its data directory
  3. start it with the new --event-store. Read models are computed anew; those of
     before are set aside (parley projections drop deletes them)

At the end both logs are read and compared by digest, unless --no-verify is
given. Between two data directories the secret of the profiles' ids comes along
where it is kept there; the folders blobs and nats are to be copied by hand. A
server over an EventStoreDB wants that secret as --profile-secret, or the old
data directory.`,
		Example: `  parley log copy --from ./parley-data --to esdb://es1:2113,es2:2113,es3:2113
  parley log copy --from esdb://127.0.0.1:2113 --to esdb://es1:2113 --follow
  parley log copy --from esdb://es1:2113 --to ./parley-data -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(); err != nil {
				return err
			}
			return c.run(cmd.Context())
		},
	}
	c.bind(cmd)
	f := cmd.Flags()
	f.BoolVar(&c.follow, "follow", false, "go on with what comes to the source, until ctrl-c")
	f.BoolVar(&c.noVerify, "no-verify", false, "do not compare the two logs at the end")
	f.DurationVar(&c.patience, "patience", c.patience, "how `long` to go on trying where an event store cannot be reached")
	return cmd
}

// copying is one `copy`.
type copying struct {
	*logEnds
	follow, noVerify bool
	patience         time.Duration
}

func (c *copying) check() error {
	if err := c.logEnds.check(); err != nil {
		return err
	}
	return checkPatience(c.patience)
}

func (c *copying) run(ctx context.Context) (err error) {
	from, to, closeBoth, err := c.open(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBoth()) }()
	if err := adoptSecrets(from, to); err != nil {
		return err
	}
	outcome := c.outcome(from, to)
	result, err := logcopy.Copy(ctx, from, to, logcopy.Options{
		Follow: c.follow, Patience: c.patience, Progress: c.progress("copying"), Retrying: c.retrying,
	})
	c.display.close(false)
	if err != nil {
		return copyHint(err)
	}
	outcome.copied(result)
	if !c.noVerify {
		if c.follow {
			// What ended the following is not to end this; a second ctrl-c is.
			ctx = context.WithoutCancel(ctx)
			c.app.complain("The copy is complete. Comparing the two logs; ctrl-c leaves that out.")
		}
		verified, err := c.verify(ctx, from, to)
		if err != nil {
			return addHint(err, "The copy is complete; `parley log verify` compares it once more.")
		}
		outcome.verified(verified)
	}
	return c.show(&outcome)
}

// adoptSecrets brings along what makes who is who, from one data directory to another.
func adoptSecrets(from, to eventstore.Store) error {
	source, ok := from.(*serve.DataLog)
	if !ok {
		return nil
	}
	target, ok := to.(*serve.DataLog)
	if !ok {
		return nil
	}
	if err := target.AdoptSecrets(source); err != nil {
		return atFlag("--to", target.Path(), err)
	}
	return nil
}

func (l *logEnds) verify(ctx context.Context, from, to eventstore.Store) (logcopy.Verified, error) {
	defer l.display.close(false)
	verified, err := logcopy.Verify(ctx, from, to, l.progress("comparing"))
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted: %w", err)
	}
	return verified, err
}

// show shows the outcome. That the two differ is a failure that is told.
func (l *logEnds) show(o *logOutcome) error {
	if l.output == outputJSON {
		if err := o.json(l.app); err != nil {
			return err
		}
	} else {
		p := page{loc: l.app.Location}
		o.page(&p)
		if err := write(l.app.Stdout, p.b.String()); err != nil {
			return err
		}
	}
	if o.Verified != nil && !o.Verified.Equal {
		return reportedError{}
	}
	return nil
}

func (a *App) logVerify() *cobra.Command {
	l := a.newLogEnds()
	cmd := &cobra.Command{
		Use:   "verify --from WHERE --to WHERE",
		Short: "Compare a log with its copy",
		Long: `Reads a log and its copy to the head that the first one has now, and compares
every record, in order: stream, revision, event id, type, content type, data and
metadata. It shows a digest over all that, or the first record that differs.
What the copy has behind that, since it is in use, is left out.

WHERE is a data directory, of which no server may run meanwhile, or the URL of
an EventStoreDB. Exit codes: 0 the same, 1 different or failed, 2 used wrongly.`,
		Example: `  parley log verify --from ./parley-data --to esdb://es1:2113,es2:2113,es3:2113`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := l.check(); err != nil {
				return err
			}
			from, to, closeBoth, err := l.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeBoth()) }()
			verified, err := l.verify(cmd.Context(), from, to)
			if errors.Is(err, logcopy.ErrSameLog) {
				return copyHint(err)
			}
			if err != nil {
				return err
			}
			outcome := l.outcome(from, to)
			outcome.Source.Position = verified.Head
			outcome.verified(verified)
			return l.show(&outcome)
		},
	}
	l.bind(cmd)
	return cmd
}
