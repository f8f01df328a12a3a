package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

func (a *App) deadLettersCommand(c *client) *cobra.Command {
	cmd := group("deadletters", "Events that a projection could not fold: look, retry, skip",
		a.deadLettersList(c), a.deadLettersShow(c), a.deadLettersRetry(c), a.deadLettersSkip(c))
	cmd.Long = `A dead letter is an event that a projection could not fold. It is parked as a
pointer to the log with its error; later events of the same customer wait behind
it in order, and everybody else goes on.

  failed    it could not be folded
  waiting   it waits behind a failed one of the same customer
  skipped   an operator has decided that it is not folded

Mend what failed and start the mended binary, then retry. Where an event cannot
be mended, skip it: it stays in the log and is left out of this projection, now
and in every rebuild. Each generation has dead letters of its own; these commands
are about the one that serves unless --generation names another.`
	cmd.Example = `  parley projections deadletters ls customer
  parley projections deadletters show customer 4711
  parley projections deadletters retry customer --all
  parley projections deadletters skip customer 4711 --reason "Test data of the migration"`
	return cmd
}

func bindGeneration(cmd *cobra.Command, text *string) {
	cmd.Flags().StringVar(text, "generation", "", "the `generation` that has them, for example v3/g2; the one that serves unless given")
}

func (a *App) deadLettersList(c *client) *cobra.Command {
	req := &opsv1.ListDeadLettersRequest{}
	var generation string
	all := false
	limit := 100
	cmd := &cobra.Command{
		Use:     "ls PROJECTION",
		Aliases: []string{"list"},
		Short:   "List dead letters by position",
		Long: `Lists the events that could not be folded, by position; with --all also those
that wait behind them and those that were skipped. AGE is since the event was
recorded.`,
		Example: `  parley projections deadletters ls customer
  parley projections deadletters ls customer --all --tenant acme --customer rpc5dhk3vc5ztlabzqjb7j5cde`,
		Args: oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Generation, err = parseGeneration("generation", args[0], generation); err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d: want 0 for all, or more", limit)
			}
			if all {
				req.States = []opsv1.DeadLetterState{
					opsv1.DeadLetterState_DEAD_LETTER_STATE_FAILED, opsv1.DeadLetterState_DEAD_LETTER_STATE_WAITING, opsv1.DeadLetterState_DEAD_LETTER_STATE_SKIPPED,
				}
			}
			return c.projections(cmd, args[0], func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				found := &opsv1.ListDeadLettersResponse{}
				err := deadLetters(ctx, c, service, req, limit, func(resp *opsv1.ListDeadLettersResponse) bool {
					found.DeadLetters = append(found.DeadLetters, resp.GetDeadLetters()...)
					found.NextPageToken = resp.GetNextPageToken()
					return true
				})
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, found, false)
				}
				p := page{loc: a.Location}
				p.deadLetters(found, a.Now(), all)
				if len(found.GetDeadLetters()) > 0 {
					words := []string{"deadletters", "show", args[0], strconv.FormatUint(found.GetDeadLetters()[0].GetPosition(), 10)}
					if generation != "" {
						words = append(words, "--generation", generation)
					}
					p.commands("To look at one:", []string{c.projectionCommand(cmd, words...)})
				}
				return write(a.Stdout, p.b.String())
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "also those that wait, and those that were skipped")
	f.StringVar(&req.Tenant, "tenant", "", "only events of this `tenant`")
	f.StringVar(&req.CustomerId, "customer", "", "only what holds up the customer with this `id`, or that of any of his profiles")
	f.IntVar(&limit, "limit", limit, "at most so `many`; 0 for all")
	bindGeneration(cmd, &generation)
	return cmd
}

// deadLetters reads pages until there are enough, 0 for all, or each wants no more.
func deadLetters(ctx context.Context, c *client, service opsv1.ProjectionServiceClient, req *opsv1.ListDeadLettersRequest, limit int, each func(*opsv1.ListDeadLettersResponse) bool) error {
	const largestPage = 1000
	for read := 0; ; {
		req.PageSize = largestPage
		if limit > 0 {
			req.PageSize = int32(min(limit-read, largestPage))
		}
		resp, err := within(ctx, c, func(ctx context.Context) (*opsv1.ListDeadLettersResponse, error) {
			return service.ListDeadLetters(ctx, req)
		})
		if err != nil {
			return err
		}
		read += len(resp.GetDeadLetters())
		req.PageToken = resp.GetNextPageToken()
		if !each(resp) || req.GetPageToken() == "" || limit > 0 && read >= limit {
			return nil
		}
	}
}

// namedPosition wants a projection and the position of an event.
func namedPosition(cmd *cobra.Command, args []string) error {
	const both = 2
	if len(args) != both {
		return usagef("name a projection and the position of an event, for example `%s customer 4711`; `parley projections deadletters ls` lists them", cmd.CommandPath())
	}
	if err := checkProjections(args[:1]); err != nil {
		return err
	}
	_, err := parsePosition(args[1])
	return err
}

// parsePosition reads a position, as pages show it too.
func parsePosition(text string) (uint64, error) {
	n, err := strconv.ParseUint(strings.ReplaceAll(text, ",", ""), 10, 64)
	if err != nil || n == 0 {
		return 0, usagef("%s: want the position of an event in the log, for example 4711", cell(text))
	}
	return n, nil
}

func (a *App) deadLettersShow(c *client) *cobra.Command {
	var generation string
	stack := false
	cmd := &cobra.Command{
		Use:   "show PROJECTION POSITION",
		Short: "Show a dead letter: error, event, documents as they are without it",
		Long: `Shows a dead letter: its error, the event, and the documents of the customers who
wait because of it, as they are without it. What is personal is left out. Of a
panic's stack the frames of the projection's own code are shown, with --stack all.`,
		Example: "  parley projections deadletters show customer 4711 --stack",
		Args:    namedPosition,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := deadLetterRequest(args, generation)
			if err != nil {
				return err
			}
			return c.projections(cmd, args[0], func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				resp, err := getDeadLetter(ctx, c, service, req)
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, resp, false)
				}
				p := page{loc: a.Location}
				if err := p.deadLetter(resp, stack); err != nil {
					return err
				}
				return write(a.Stdout, p.b.String())
			})
		},
	}
	cmd.Flags().BoolVar(&stack, "stack", false, "show the whole stack of a panic")
	bindGeneration(cmd, &generation)
	return cmd
}

func deadLetterRequest(args []string, generation string) (*opsv1.GetDeadLetterRequest, error) {
	name, err := parseGeneration("generation", args[0], generation)
	if err != nil {
		return nil, err
	}
	position, err := parsePosition(args[1])
	return &opsv1.GetDeadLetterRequest{Generation: name, Position: position}, err
}

func getDeadLetter(ctx context.Context, c *client, service opsv1.ProjectionServiceClient, req *opsv1.GetDeadLetterRequest) (*opsv1.GetDeadLetterResponse, error) {
	return within(ctx, c, func(ctx context.Context) (*opsv1.GetDeadLetterResponse, error) {
		return service.GetDeadLetter(ctx, req)
	})
}

// maxRetried is how many positions the server takes at a time.
const maxRetried = 1000

func (a *App) deadLettersRetry(c *client) *cobra.Command {
	var generation string
	all := false
	cmd := &cobra.Command{
		Use:   "retry PROJECTION [POSITION…]",
		Short: "Fold dead letters once more, and what waits behind them",
		Long: `Folds dead letters once more, those at the positions named or with --all every
one, and where that succeeds what waits behind them, in order. It changes
nothing where they fail again: those are listed, and the exit code is 1.`,
		Example: `  parley projections deadletters retry customer 4711 4712
  parley projections deadletters retry customer --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name a projection, and the positions or --all, for example `parley projections deadletters retry customer --all`")
			}
			return checkProjections(args[:1])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := retryRequest(args, generation, all)
			if err != nil {
				return err
			}
			return c.projections(cmd, args[0], func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				resp, err := within(ctx, c, func(ctx context.Context) (*opsv1.RetryDeadLettersResponse, error) {
					return service.RetryDeadLetters(ctx, req)
				})
				if err != nil {
					return sent(err)
				}
				return a.retried(ctx, c, service, req, resp)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every dead letter of the generation")
	bindGeneration(cmd, &generation)
	return cmd
}

func retryRequest(args []string, generation string, all bool) (*opsv1.RetryDeadLettersRequest, error) {
	name, err := parseGeneration("generation", args[0], generation)
	if err != nil {
		return nil, err
	}
	req := &opsv1.RetryDeadLettersRequest{Generation: name}
	for _, text := range args[1:] {
		n, err := parsePosition(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(req.GetPositions(), n) {
			req.Positions = append(req.Positions, n)
		}
	}
	switch n := len(req.GetPositions()); {
	case (n == 0) != all:
		return nil, usagef("say which: the positions, as `parley projections deadletters ls %s` lists them, or --all", args[0])
	case n > maxRetried:
		return nil, usagef("%d positions are more than the %d that go at a time; --all retries every one", n, maxRetried)
	}
	return req, nil
}

// failedAgain are dead letters that a retry was to fold and that are still
// there, the first of them and how many.
func failedAgain(ctx context.Context, c *client, service opsv1.ProjectionServiceClient, req *opsv1.RetryDeadLettersRequest, left uint64) (some []*opsv1.DeadLetter, n int, err error) {
	if left == 0 {
		return nil, 0, nil
	}
	list := &opsv1.ListDeadLettersRequest{Generation: req.GetGeneration()}
	positions := req.GetPositions()
	if len(positions) == 0 {
		err = deadLetters(ctx, c, service, list, shownEach, func(resp *opsv1.ListDeadLettersResponse) bool {
			some = append(some, resp.GetDeadLetters()...)
			return true
		})
		return some, int(left), err
	}
	last := slices.Max(positions)
	err = deadLetters(ctx, c, service, list, 0, func(resp *opsv1.ListDeadLettersResponse) bool {
		at := uint64(0)
		for _, d := range resp.GetDeadLetters() {
			if at = d.GetPosition(); !slices.Contains(positions, at) {
				continue
			}
			if n++; len(some) < shownEach {
				some = append(some, d)
			}
		}
		return at < last // they come by position
	})
	return some, n, err
}

// retried shows what a retry came to. Those that failed again are a failure.
func (a *App) retried(ctx context.Context, c *client, service opsv1.ProjectionServiceClient, req *opsv1.RetryDeadLettersRequest, resp *opsv1.RetryDeadLettersResponse) error {
	again, failed, err := failedAgain(ctx, c, service, req, resp.GetDeadLetters())
	if err != nil {
		return noted(err, "The retry itself was done: "+events(resp.GetFolded())+" folded.")
	}
	if c.json() {
		if err := printJSON(a.Stdout, resp, false); err != nil {
			return err
		}
	} else {
		p := page{loc: a.Location}
		p.line("%s folded; %s and %s behind them are left.", events(resp.GetFolded()),
			number(resp.GetDeadLetters(), "dead letter", "dead letters"), number(resp.GetWaitingEvents(), "event", "events"))
		if failed > 0 {
			p.line("")
			p.line("%s again:", number(uint64(failed), "dead letter failed", "dead letters failed"))
			p.deadLetters(&opsv1.ListDeadLettersResponse{DeadLetters: again}, a.Now(), false)
			if more := failed - len(again); more > 0 {
				p.line("… and %d more", more)
			}
		}
		if err := write(a.Stdout, p.b.String()); err != nil {
			return err
		}
	}
	if failed > 0 {
		return reportedError{}
	}
	return nil
}

func (a *App) deadLettersSkip(c *client) *cobra.Command {
	var d decisionFlags
	var generation string
	cmd := &cobra.Command{
		Use:   "skip PROJECTION POSITION",
		Short: "Leave an event out of a projection for ever",
		Long: `Leaves an event out of a projection for ever, also out of every rebuild, and
folds what waits behind it. The event itself stays in the log; the decision and
its reason stand there beside it, so a read model computed from the log comes
out the same. An event that another generation has folded already cannot be
skipped. The dead letter is shown and you are asked once; --yes does not ask.`,
		Example: `  parley projections deadletters skip customer 4711 --reason "Test data of the migration"`,
		Args:    namedPosition,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := deadLetterRequest(args, generation)
			if err != nil {
				return err
			}
			if strings.TrimSpace(d.reason) == "" {
				return usagef("--reason: say why the event is left out; it stands in the log for ever, for example --reason \"Test data of the migration\"")
			}
			if err := d.check(a); err != nil {
				return err
			}
			return c.projections(cmd, args[0], func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				if !d.yes {
					shown, err := getDeadLetter(ctx, c, service, req)
					if err != nil {
						return err
					}
					p := page{loc: a.Location}
					if err := p.deadLetter(shown, false); err != nil {
						return err
					}
					if err := d.agreed(ctx, a, p.b.String(), "Leave this event out of "+args[0]+" for ever?"); err != nil {
						return err
					}
				}
				resp, err := within(ctx, c, func(ctx context.Context) (*opsv1.SkipDeadLetterResponse, error) {
					return service.SkipDeadLetter(ctx, &opsv1.SkipDeadLetterRequest{Generation: req.GetGeneration(), Position: req.GetPosition(), Reason: d.reason})
				})
				if err != nil {
					return sent(err)
				}
				if c.json() {
					return printJSON(a.Stdout, resp, false)
				}
				p := page{loc: a.Location}
				p.table("", []string{"RESULT", ""}, [][]string{
					{"skipped", args[0] + " at " + strconv.FormatUint(req.GetPosition(), 10)}, {"event", resp.GetEventId()}, {"token", resp.GetConsistencyToken()},
					{"left", number(resp.GetDeadLetters(), "dead letter", "dead letters")},
				})
				return write(a.Stdout, p.b.String())
			})
		},
	}
	d.bind(cmd)
	bindGeneration(cmd, &generation)
	return cmd
}
