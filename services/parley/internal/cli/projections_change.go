package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// What changes something shows how the projection is afterwards. What readers
// would notice, and what destroys data, is asked about once.

// change is a command that changes something about one projection.
type change struct {
	app      *App
	client   *client
	decision decisionFlags
	// about shows what the question is about; nil for what is done without asking.
	about func(*page, *opsv1.Projection) (question string)
	// do does it.
	do func(context.Context, opsv1.ProjectionServiceClient) (changedAnswer, error)
	// done is what to say of it, and back the command that takes it back.
	done func(*opsv1.Projection) string
	back string
}

// changedAnswer is an answer with the projection as it is now.
type changedAnswer interface {
	proto.Message
	GetProjection() *opsv1.Projection
}

func (ch *change) run(cmd *cobra.Command, name string) error {
	a, c := ch.app, ch.client
	if ch.about != nil && !ch.decision.yes && !a.canAsk() {
		return usagef("there is no terminal to ask on whether you are sure: --yes does it without asking")
	}
	return c.projections(cmd, name, func(ctx context.Context, _ *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
		if ch.about != nil && !ch.decision.yes {
			resp, err := getProjection(ctx, c, service, name)
			if err != nil {
				return err
			}
			p := page{loc: a.Location}
			p.projections([]*opsv1.Projection{resp.GetProjection()}, a.Now())
			question := ch.about(&p, resp.GetProjection())
			if err := ch.decision.agreed(ctx, a, p.b.String(), question); err != nil {
				return err
			}
		}
		resp, err := within(ctx, c, func(ctx context.Context) (changedAnswer, error) { return ch.do(ctx, service) })
		if err != nil {
			return sent(err)
		}
		if c.json() {
			return printJSON(a.Stdout, resp, false)
		}
		return a.changed(c, cmd, resp.GetProjection(), ch.done(resp.GetProjection()), ch.back)
	})
}

// changed tells what was done, how the projection is now, and what takes it back.
func (a *App) changed(c *client, cmd *cobra.Command, now *opsv1.Projection, text, back string) error {
	p := page{loc: a.Location}
	if text != "" {
		p.line("%s", text)
		p.line("")
	}
	p.projections([]*opsv1.Projection{now}, a.Now())
	if back == "rollback" && withRole(now, opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS) == nil {
		back = ""
	}
	if back != "" {
		p.undo(c.projectionCommand(cmd, back, now.GetName()))
	}
	return write(a.Stdout, p.b.String())
}

func servingNow(p *opsv1.Projection) string {
	g := withRole(p, opsv1.GenerationRole_GENERATION_ROLE_SERVING)
	if g == nil {
		return p.GetName() + ": nothing serves now."
	}
	return p.GetName() + " " + generationName(g.GetVersion(), g.GetGeneration()) + " serves now."
}

func (a *App) projectionsSwitch(c *client) *cobra.Command {
	ch := change{app: a, client: c, done: servingNow, back: "rollback"}
	var generation string
	cmd := &cobra.Command{
		Use:   "switch PROJECTION",
		Short: "Make another generation serve",
		Long: `Makes another generation serve: the candidate, unless one is named. It must have
caught up with the one that serves. No read fails meanwhile, and none mixes the
two. The one that served is kept and goes on with new events, so that
` + "`parley projections rollback`" + ` takes it back at once.

` + "`parley projections compare`" + ` shows beforehand what changes for readers. You are
asked once; --yes does not ask.`,
		Example: `  parley projections switch customer
  parley projections switch customer --generation v3/g2 --yes --reason "New loyalty tiers"`,
		Args: oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseGeneration("generation", args[0], generation)
			if err != nil {
				return err
			}
			if err := ch.decision.checkOptional(); err != nil {
				return err
			}
			ch.about = func(p *page, pr *opsv1.Projection) string {
				p.line("")
				p.line("`%s` shows what changes for readers.", c.projectionCommand(cmd, "compare", pr.GetName()))
				return "Make " + agreedOn(pr, name) + " serve?"
			}
			ch.do = func(ctx context.Context, service opsv1.ProjectionServiceClient) (changedAnswer, error) {
				return service.SwitchOver(ctx, &opsv1.SwitchOverRequest{Generation: name, Reason: ch.decision.reason})
			}
			return ch.run(cmd, args[0])
		},
	}
	cmd.Flags().StringVar(&generation, "generation", "", "the `generation` that is to serve, for example v3/g2; the candidate unless given")
	ch.decision.bindOptional(cmd)
	return cmd
}

// meant is the generation that a name means, the candidate where it names none.
func meant(pr *opsv1.Projection, name *opsv1.GenerationName) *opsv1.Generation {
	if name.GetGeneration() == 0 {
		return withRole(pr, opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE)
	}
	return findGeneration(pr, name)
}

// agreedOn is targetOf, from which on the request is about that one whatever
// else comes up while people think.
func agreedOn(pr *opsv1.Projection, name *opsv1.GenerationName) string {
	text := targetOf(pr, name)
	if g := meant(pr, name); g != nil {
		name.Version, name.Generation = g.GetVersion(), g.GetGeneration()
	}
	return text
}

// targetOf names the generation that a request is about, as the projection is now.
func targetOf(pr *opsv1.Projection, name *opsv1.GenerationName) string {
	switch g := meant(pr, name); {
	case g != nil:
		return pr.GetName() + " " + generationName(g.GetVersion(), g.GetGeneration())
	case name.GetGeneration() == 0:
		return "the candidate of " + pr.GetName()
	default:
		return "generation " + strings.TrimPrefix(nameOf(name), "v0/") + " of " + pr.GetName()
	}
}

func (a *App) projectionsRollback(c *client) *cobra.Command {
	ch := change{app: a, client: c, done: servingNow, back: ""}
	cmd := &cobra.Command{
		Use:   "rollback PROJECTION",
		Short: "Make the generation serve that did before the last switch",
		Long: `Makes the generation serve that did before the last switch. It has gone on with
new events, so that nothing is lost. The other one is kept;
` + "`parley projections switch`" + ` makes it serve again. You are asked once; --yes does
not ask.`,
		Example: "  parley projections rollback customer",
		Args:    oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ch.decision.checkOptional(); err != nil {
				return err
			}
			ch.about = func(_ *page, pr *opsv1.Projection) string {
				if g := withRole(pr, opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS); g != nil {
					return "Make " + pr.GetName() + " " + generationName(g.GetVersion(), g.GetGeneration()) + " serve again?"
				}
				return "Roll " + pr.GetName() + " back?"
			}
			ch.do = func(ctx context.Context, service opsv1.ProjectionServiceClient) (changedAnswer, error) {
				return service.Rollback(ctx, &opsv1.RollbackRequest{Projection: args[0], Reason: ch.decision.reason})
			}
			return ch.run(cmd, args[0])
		},
	}
	ch.decision.bindOptional(cmd)
	return cmd
}

func (a *App) projectionsDrop(c *client) *cobra.Command {
	ch := change{app: a, client: c}
	var generation string
	cmd := &cobra.Command{
		Use:   "drop PROJECTION --generation GENERATION",
		Short: "Remove a generation with all its documents",
		Long: `Removes a generation that does not serve, with all its documents; one that is
being filled stops. The log is untouched, so a rebuild computes it again. Without
the generation that served before there is nothing to roll back to. You are
asked once; --yes does not ask.`,
		Example: "  parley projections drop customer --generation v3/g2",
		Args:    oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			if generation == "" {
				return usagef("--generation: say which one, for example v3/g2; `parley projections get %s` shows those that there are", args[0])
			}
			name, err := parseGeneration("generation", args[0], generation)
			if err != nil {
				return err
			}
			if err := ch.decision.checkOptional(); err != nil {
				return err
			}
			target := ""
			ch.about = func(p *page, pr *opsv1.Projection) string {
				target = agreedOn(pr, name)
				if g := findGeneration(pr, name); g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS {
					p.line("")
					p.line("It served before: once it is dropped there is nothing to roll back to.")
				}
				return "Drop " + target + " with all its documents?"
			}
			ch.do = func(ctx context.Context, service opsv1.ProjectionServiceClient) (changedAnswer, error) {
				return service.DropGeneration(ctx, &opsv1.DropGenerationRequest{Generation: name, Reason: ch.decision.reason})
			}
			ch.done = func(pr *opsv1.Projection) string {
				if target == "" {
					target = targetOf(pr, name)
				}
				return target + " is dropped."
			}
			return ch.run(cmd, args[0])
		},
	}
	cmd.Flags().StringVar(&generation, "generation", "", "the `generation` to remove, for example v3/g2 (required)")
	ch.decision.bindOptional(cmd)
	return cmd
}

func (a *App) projectionsPause(c *client) *cobra.Command {
	ch := change{app: a, client: c, back: "resume"}
	cmd := &cobra.Command{
		Use:   "pause PROJECTION",
		Short: "Stop the folding of a projection",
		Long: `Stops the folding of all generations of a projection. Reads go on with what there
is; those that wait for a write fail at their deadline. Pausing a paused one
changes its reason.`,
		Example: `  parley projections pause customer --reason "The disk is being moved"`,
		Args:    oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ch.decision.checkReason(); err != nil {
				return err
			}
			ch.do = func(ctx context.Context, service opsv1.ProjectionServiceClient) (changedAnswer, error) {
				return service.PauseProjection(ctx, &opsv1.PauseProjectionRequest{Projection: args[0], Reason: ch.decision.reason})
			}
			ch.done = func(pr *opsv1.Projection) string {
				return pr.GetName() + " is paused: nothing new is folded, reads go on."
			}
			return ch.run(cmd, args[0])
		},
	}
	ch.decision.bindReason(cmd)
	return cmd
}

func (a *App) projectionsResume(c *client) *cobra.Command {
	ch := change{app: a, client: c}
	cmd := &cobra.Command{
		Use:     "resume PROJECTION",
		Short:   "Let a paused projection go on, and a halted one try again",
		Example: "  parley projections resume customer",
		Args:    oneProjection,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ch.decision.checkOptional(); err != nil {
				return err
			}
			ch.do = func(ctx context.Context, service opsv1.ProjectionServiceClient) (changedAnswer, error) {
				return service.ResumeProjection(ctx, &opsv1.ResumeProjectionRequest{Projection: args[0], Reason: ch.decision.reason})
			}
			ch.done = func(pr *opsv1.Projection) string { return pr.GetName() + " goes on." }
			return ch.run(cmd, args[0])
		},
	}
	cmd.Flags().StringVar(&ch.decision.reason, "reason", "", "`why`, for those who look at it later")
	return cmd
}
