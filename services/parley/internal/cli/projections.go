package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

func (a *App) projectionsCommand() *cobra.Command {
	c := &client{app: a}
	cmd := group("projections", "The read models: how far they are, rebuild, switch over, dead letters",
		a.projectionsList(c), a.projectionsGet(c), a.projectionsWatch(c), a.projectionsRebuild(c), a.projectionsCompare(c),
		a.projectionsSwitch(c), a.projectionsRollback(c), a.projectionsDrop(c), a.projectionsPause(c), a.projectionsResume(c),
		a.projectionsVerify(c), a.deadLettersCommand(c))
	cmd.Long = `A projection is a read model computed from the log of events; the customer 360
is the one named "customer". All that is in it can be computed again.

Generations. A projection is kept in generations, each a filled copy of its own,
written v3/g2: version 3 of the projection's code, copy 2. One of them serves
reads. ` + "`rebuild`" + ` fills another one beside it from the beginning of the log,
while the first serves on (blue/green). Once that has caught up, ` + "`compare`" + ` shows
what would change for readers, ` + "`switch`" + ` makes it serve, and ` + "`rollback`" + ` takes that
back: both go on with new events until one is dropped. No read fails meanwhile,
and none mixes the two. A binary with a newer version of a projection rebuilds
it by itself.

Lag is how far a generation is behind the log: how many events it does not
contain yet, and how old the oldest of those is.

Dead letters. An event that a projection cannot fold is parked with its error,
and later events of the same customer wait behind it, in order; all others go
on. Once a mended binary runs, ` + "`deadletters retry`" + ` folds them in order.
` + "`deadletters skip`" + ` leaves one out for ever, also of rebuilds.

It takes a key with the scope ops where the server wants keys. What changes
something is kept in the log with who asked for it. Exit codes: 0 done (of
compare and verify: equal), 1 refused or failed (different), 2 used wrongly.`
	cmd.Example = `  parley projections ls
  parley projections rebuild customer --reason "New loyalty tiers" --wait
  parley projections compare customer
  parley projections switch customer
  parley projections rollback customer                  # if it was wrong after all
  parley projections drop customer --generation v3/g2   # if it was not

  parley projections rebuild customer --wait --switch --yes   # all in one go
  parley projections watch                                    # bars, until ctrl-c

  parley projections deadletters ls customer
  parley projections deadletters show customer 4711
  parley projections deadletters retry customer --all`
	c.bind(cmd)
	return cmd
}

// projections runs f with the service. What the server refuses is told with
// what to do about it.
func (c *client) projections(cmd *cobra.Command, name string, f func(context.Context, *grpc.ClientConn, opsv1.ProjectionServiceClient) error) error {
	err := c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		return f(ctx, conn, opsv1.NewProjectionServiceClient(conn))
	})
	err = c.unsure(cmd, name, c.projectionHint(cmd, name, err))
	for e := err; e != nil; {
		n, ok := errors.AsType[*notedError](e)
		if !ok {
			break
		}
		err, e = addHint(err, n.note), n.err
	}
	if p, ok := errors.AsType[*patienceError](err); ok {
		err = addHint(err, fmt.Sprintf("Gave up after %s; --patience waits longer.", roughly(p.after)))
	}
	return err
}

func (a *App) projectionsList(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the projections with their generations, a line each",
		Long: `Lists the projections with their generations, a line each, the one that serves
first. LAG is how many events it does not contain yet and how old the oldest of
them is; FILLED is for those that are being filled, with the time left at the
present rate; DEAD LETTERS has their number, how many events wait behind them,
and the age of the oldest.`,
		Example: `  parley projections ls
  parley projections ls -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.projections(cmd, "", func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				resp, err := within(ctx, c, func(ctx context.Context) (*opsv1.ListProjectionsResponse, error) {
					return service.ListProjections(ctx, &opsv1.ListProjectionsRequest{})
				})
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, resp, false)
				}
				p := page{loc: a.Location}
				if len(resp.GetProjections()) == 0 {
					p.line("The server has no projections.")
				}
				p.projections(resp.GetProjections(), a.Now())
				return write(a.Stdout, p.b.String())
			})
		},
	}
}

func (a *App) projectionsGet(c *client) *cobra.Command {
	return &cobra.Command{
		Use:     "get PROJECTION",
		Short:   "Show one projection with all that is known of it",
		Example: "  parley projections get customer",
		Args:    oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.projections(cmd, args[0], func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				resp, err := getProjection(ctx, c, service, args[0])
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, resp, false)
				}
				p := page{loc: a.Location}
				p.projection(resp.GetProjection(), a.Now(), func(words ...string) string {
					return c.command(cmd, append([]string{"projections"}, words...)...)
				})
				return write(a.Stdout, p.b.String())
			})
		},
	}
}

func getProjection(ctx context.Context, c *client, service opsv1.ProjectionServiceClient, name string) (*opsv1.GetProjectionResponse, error) {
	return within(ctx, c, func(ctx context.Context) (*opsv1.GetProjectionResponse, error) {
		return service.GetProjection(ctx, &opsv1.GetProjectionRequest{Projection: name})
	})
}

// Bounds of the requests.
const (
	maxProjections     = 64
	maxProjectionBytes = 64
)

// oneProjection wants exactly one projection's name.
func oneProjection(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("name one projection, for example `%s customer`; `parley projections ls` lists them", cmd.CommandPath())
	}
	return checkProjections(args)
}

// checkProjections says what is wrong with names before a server is asked.
func checkProjections(names []string) error {
	if len(names) > maxProjections {
		return usagef("%d projections are more than the %d that go at a time", len(names), maxProjections)
	}
	for i, n := range names {
		switch {
		case n == "" || len(n) > maxProjectionBytes:
			return usagef("%q: a projection's name has 1 to %d characters", cutTo(n, maxProjectionBytes), maxProjectionBytes)
		case slices.Contains(names[:i], n):
			return usagef("%s is named twice", n)
		}
	}
	return nil
}

var generationPattern = regexp.MustCompile(`^(?:v([0-9]+)/)?g?([0-9]+)$`)

// parseGeneration reads a generation as it is written: v3/g2, g2, or 2 for the
// newest of that number. No text is generation 0, which stands for the one that
// is meant where none is named.
func parseGeneration(flag, projection, text string) (*opsv1.GenerationName, error) {
	name := &opsv1.GenerationName{Projection: projection}
	if text == "" {
		return name, nil
	}
	m := generationPattern.FindStringSubmatch(text)
	if m == nil {
		return nil, usagef("--%s %s: want a generation as `parley projections ls` shows it, for example v3/g2, or 2", flag, cell(text))
	}
	for i, to := range []*uint32{&name.Version, &name.Generation} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseUint(m[i+1], 10, 32)
		if err != nil || n == 0 {
			return nil, usagef("--%s %s: versions and generations count from 1", flag, cell(text))
		}
		*to = uint32(n)
	}
	return name, nil
}

// generationName is how a generation is written.
func generationName(version, generation uint32) string {
	return fmt.Sprintf("v%d/g%d", version, generation)
}

func nameOf(n *opsv1.GenerationName) string {
	return generationName(n.GetVersion(), n.GetGeneration())
}

// findGeneration is the named one of a projection; nil where there is none. It
// is the newest where no version is named.
func findGeneration(p *opsv1.Projection, name *opsv1.GenerationName) *opsv1.Generation {
	var found *opsv1.Generation
	for _, g := range p.GetGenerations() {
		if g.GetGeneration() != name.GetGeneration() || name.GetVersion() != 0 && g.GetVersion() != name.GetVersion() {
			continue
		}
		if found == nil || g.GetVersion() > found.GetVersion() {
			found = g
		}
	}
	return found
}

// withRole is a projection's first generation with a role, the newest; nil
// where there is none.
func withRole(p *opsv1.Projection, role opsv1.GenerationRole) *opsv1.Generation {
	for _, g := range p.GetGenerations() {
		if g.GetRole() == role {
			return g
		}
	}
	return nil
}

// projectionHint adds to a refusal what to do about it.
func (c *client) projectionHint(cmd *cobra.Command, name string, err error) error {
	e, ok := rpcerr.Parse(err)
	if !ok {
		return err
	}
	if name == "" {
		name = "PROJECTION"
	}
	command := func(words ...string) string {
		return "`" + c.command(cmd, append([]string{"projections"}, words...)...) + "`"
	}
	text := ""
	switch e.Reason {
	case errorv1.Reason_REASON_PROJECTION_NOT_FOUND:
		text = command("ls") + " lists those that there are."
	case errorv1.Reason_REASON_GENERATION_NOT_FOUND:
		text = command("get", name) + " shows the generations that there are; " + command("rebuild", name) + " fills a new one."
	case errorv1.Reason_REASON_DEAD_LETTER_NOT_FOUND:
		text = command("deadletters", "ls", name, "--all") + " lists those that there are. It may be folded or skipped by now, or be another generation's (--generation)."
	case errorv1.Reason_REASON_REBUILD_RUNNING:
		text = command("watch", name) + " follows the one that is being filled; " + command("ls") + " shows its number, and `parley projections drop` ends it."
		if cmd.Name() == "verify" {
			text = "One verification runs at a time; " + command("watch", name) + " follows it. Run this again once it is done."
		}
	case errorv1.Reason_REASON_NOT_CAUGHT_UP:
		text = command("watch", name) + " shows how far it is and the time left. Nothing was changed."
	case errorv1.Reason_REASON_ALREADY_SERVING:
		text = "There is nothing to switch: " + command("get", name) + " shows what serves."
		if cmd.Name() == "drop" {
			text = "What serves is never dropped: " + command("switch", name) + " makes another one serve first."
		}
	case errorv1.Reason_REASON_NOTHING_TO_ROLL_BACK:
		text = command("rebuild", name) + " computes a generation anew from the log; " + command("get", name) + " shows those that there are."
	case errorv1.Reason_REASON_GENERATION_FROZEN:
		text = "This server's binary has no fold for that version. Start one that has it, or let this one compute its own: " + command("rebuild", name)
	case errorv1.Reason_REASON_ALREADY_FOLDED:
		text = "Where it is folded it is no dead letter: switch to that generation, or drop it and skip then. " + command("get", name) + " shows them."
	case errorv1.Reason_REASON_NOT_ACTIVE:
		text = "Some process that runs the projection must be up (`parley serve`); a standby takes over within seconds. " + command("get", name) + " shows which one folds it."
	case errorv1.Reason_REASON_NOT_ALLOWED:
		text = "It takes a key with the scope ops: `parley key new --scope ops` makes one."
	default:
		if e.Code == codes.Unimplemented {
			text = "The server is of a build that cannot do this; `parley version` says which build this command is of."
		}
	}
	return addHint(err, text)
}

// addHint adds to an error what to do about it, behind what is said already.
func addHint(err error, text string) error {
	if err == nil || text == "" {
		return err
	}
	if h, ok := errors.AsType[*hintedError](err); ok {
		return &hintedError{err: h.err, hint: h.hint + "\n" + text}
	}
	return &hintedError{err: err, hint: text}
}

// typed is an error of the wire as the client's own, which can be wrapped
// without its text changing.
func typed(err error) error {
	if _, ok := errors.AsType[*rpcerr.Error](err); ok {
		return err
	}
	if e, ok := rpcerr.Parse(err); ok {
		return e
	}
	return err
}

// notedError is an error with something to be said behind what is said of it anyway.
type notedError struct {
	err  error
	note string
}

func (e *notedError) Error() string { return e.err.Error() }
func (e *notedError) Unwrap() error { return e.err }

func noted(err error, note string) error { return &notedError{err: typed(err), note: note} }

// sentError is that of a call that was to change something.
type sentError struct{ err error }

func (e *sentError) Error() string { return e.err.Error() }
func (e *sentError) Unwrap() error { return e.err }

// sent marks the error of a call that was to change something.
func sent(err error) error { return &sentError{err: typed(err)} }

// unsure adds to an error after which nobody knows whether a change was made
// how to find out.
func (c *client) unsure(cmd *cobra.Command, name string, err error) error {
	e, ok := rpcerr.Parse(err)
	if _, changes := errors.AsType[*sentError](err); !ok || !changes {
		return err
	}
	switch e.Code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
	default:
		return err
	}
	if e.Reason == errorv1.Reason_REASON_NOT_ACTIVE || strings.Contains(e.Message, "while dialing") {
		return err // it never got there
	}
	look := c.command(cmd, "projections", "get", name)
	return addHint(err, "Whether it was done is not known, and the server may be at it still: `"+look+"` shows what is.")
}
