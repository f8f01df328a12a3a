package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

func (a *App) projectionsRebuild(c *client) *cobra.Command {
	r := &rebuilding{app: a, client: c, request: &opsv1.RebuildProjectionsRequest{}, patience: defaultPatience}
	cmd := &cobra.Command{
		Use:   "rebuild PROJECTION…",
		Short: "Fill a new generation from the log, beside the one that serves",
		Long: `Fills a new generation of each projection named from the log, beside the one
that serves, which serves on. Several are filled in one scan of the log. The
server does it; this command only asks for it, and with --wait follows it.

  (nothing)          asks for it and says how to follow it
  --wait             follows it until the new generation has caught up
  --wait --compare   then compares it with the one that serves
  --wait --switch    then compares, shows the difference, asks, and switches over
  --wait --switch --yes   the same without asking, all in one go
  --switch           the server switches over by itself once it has caught up,
                     without a comparison

--switch changes what readers see, so it asks on a terminal and takes --yes
elsewhere. With --yes it switches whatever the comparison shows, also where two
generations of the same version differ. That is said loudly: the same code from
the same events gives the same documents, unless one of them has a bug in it, or
had one that is mended since. --compare=false leaves the comparison out.

Where the connection breaks, --wait says so and goes on once the server is back;
the rebuild goes on there meanwhile, also where this command is interrupted.`,
		Example: `  parley projections rebuild customer --reason "New loyalty tiers"
  parley projections rebuild customer match --wait --max-rate 50000
  parley projections rebuild customer --wait --switch --yes`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the projections, for example `parley projections rebuild customer`; `parley projections ls` lists them")
			}
			return checkProjections(args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r.cmd, r.request.Projections = cmd, args
			if err := r.check(); err != nil {
				return err
			}
			return c.projections(cmd, args[0], r.run)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.wait, "wait", false, "follow it until the new generation has caught up")
	f.BoolVar(&r.switches, "switch", false, "make the new generation serve once it has caught up")
	f.BoolVar(&r.compares, "compare", false, "with --wait: compare it with the one that serves; --switch does unless --compare=false")
	f.Uint32Var(&r.request.MaxEventsPerSecond, "max-rate", 0, "at most so `many` events a second; 0: as fast as live reads allow")
	bindPatience(cmd, &r.patience)
	r.decision.bindOptional(cmd)
	return cmd
}

// bindOptional is bind for commands that need no reason.
func (d *decisionFlags) bindOptional(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.reason, "reason", "", "`why`, for those who look at it later")
	cmd.Flags().BoolVarP(&d.yes, "yes", "y", false, "do not ask")
}

// checkOptional is checkReason for commands that need none.
func (d *decisionFlags) checkOptional() error {
	if d.reason = strings.TrimSpace(d.reason); d.reason == "" {
		return nil
	}
	return d.checkReason()
}

// maxEventsPerSecond is the server's bound of --max-rate.
const maxEventsPerSecond = 10_000_000

func checkRate(n uint32) error {
	if n > maxEventsPerSecond {
		return usagef("--max-rate %d: the most is %d; 0 stands for as fast as live reads allow", n, maxEventsPerSecond)
	}
	return nil
}

// rebuilding is one `rebuild`.
type rebuilding struct {
	app      *App
	client   *client
	cmd      *cobra.Command
	request  *opsv1.RebuildProjectionsRequest
	decision decisionFlags
	wait     bool
	switches bool
	compares bool
	patience time.Duration

	service opsv1.ProjectionServiceClient
	steady  *steady
	display *display
	began   time.Time
	goals   []*goal
}

func (r *rebuilding) check() error {
	if err := r.decision.checkOptional(); err != nil {
		return err
	}
	if err := checkRate(r.request.GetMaxEventsPerSecond()); err != nil {
		return err
	}
	if err := checkPatience(r.patience); err != nil {
		return err
	}
	if r.compares && !r.wait {
		return usagef("--compare: only what has caught up can be compared, which takes --wait; `parley projections compare` does it later")
	}
	if r.switches && !r.cmd.Flags().Changed("compare") {
		r.compares = r.wait
	}
	if r.switches && !r.decision.yes && !r.app.canAsk() {
		return errors.New("--switch changes what readers see, and there is no terminal to ask on whether you are sure: --yes does it without asking. Nothing was started")
	}
	r.request.Reason, r.request.SwitchWhenReady = r.decision.reason, r.switches && !r.wait
	return nil
}

func (r *rebuilding) run(ctx context.Context, conn *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
	a, c := r.app, r.client
	if r.request.GetSwitchWhenReady() {
		about := "Once they have caught up, new generations serve without anybody having compared them."
		if err := r.decision.agreed(ctx, a, about, "Rebuild "+strings.Join(r.request.GetProjections(), ", ")+" and switch?"); err != nil {
			return err
		}
	}
	resp, err := within(ctx, c, func(ctx context.Context) (*opsv1.RebuildProjectionsResponse, error) {
		return service.RebuildProjections(ctx, r.request)
	})
	if err != nil {
		return sent(err)
	}
	if c.json() {
		if err := printJSON(a.Stdout, resp, r.wait); err != nil {
			return err
		}
	}
	if !r.wait {
		return r.started(resp.GetGenerations())
	}
	for _, n := range resp.GetGenerations() {
		r.goals = append(r.goals, &goal{name: n})
	}
	r.service, r.began, r.display = service, a.Now(), &display{app: a}
	r.steady = &steady{conn: conn, patience: r.patience, say: func(text string, lost bool) { r.display.connection(text, lost) }}
	r.steady.well()
	if err := r.follow(ctx); err != nil {
		return err
	}
	for _, g := range r.goals {
		if err := r.finish(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// projectionCommand is a command line of this group, for people to paste.
func (c *client) projectionCommand(cmd *cobra.Command, words ...string) string {
	return c.command(cmd, append([]string{"projections"}, words...)...)
}

// started tells what was started and how to go on.
func (r *rebuilding) started(all []*opsv1.GenerationName) error {
	if r.client.json() {
		return nil
	}
	p := page{loc: r.app.Location}
	var names, after []string
	for _, n := range all {
		p.line("%s %s is being filled from the log; what serves now serves on.", n.GetProjection(), nameOf(n))
		names = append(names, n.GetProjection())
		after = append(after, r.client.projectionCommand(r.cmd, "compare", n.GetProjection()), r.client.projectionCommand(r.cmd, "switch", n.GetProjection()))
	}
	if r.switches {
		p.line("The server switches over by itself once it has caught up.")
	}
	p.commands("To follow it:", []string{r.client.projectionCommand(r.cmd, append([]string{"watch"}, names...)...)})
	if !r.switches {
		p.commands("Once it has caught up:", after)
	}
	return write(r.app.Stdout, p.b.String())
}

// goal is a generation that is waited for.
type goal struct {
	name    *opsv1.GenerationName
	reached bool
	serves  bool // somebody else has switched to it
	missing int  // so many pictures did not have it
	last    *opsv1.Generation
	behind  time.Time // since when the server says that it is behind after all
}

func (g *goal) String() string { return g.name.GetProjection() + " " + nameOf(g.name) }

// follow waits until all have caught up, and shows how they come along.
func (r *rebuilding) follow(ctx context.Context) error {
	a := r.app
	interval := time.Second
	if a.terminal(a.Stderr) {
		r.display.screen, interval = a.screenOn(a.Stderr), progressTerminal
	}
	defer func() {
		r.display.close(false)
		r.display.screen = nil // what follows is said in lines
	}()
	f := following{client: r.client, service: r.service, names: r.request.GetProjections(), interval: interval, steady: r.steady}
	pace := paced{app: a}
	err := f.run(ctx, func(resp *opsv1.WatchProjectionsResponse) (bool, error) {
		left, err := r.look(resp.GetProjections())
		if err != nil {
			return true, err
		}
		if r.display.screen != nil {
			columns, _ := a.sizeOf(a.Stderr)
			return left == 0, r.display.show(a.bars(r.shown(resp.GetProjections()), columns))
		}
		p := page{loc: a.Location}
		for _, pr := range r.shown(resp.GetProjections()) {
			for _, g := range pr.GetGenerations() {
				key := pr.GetName() + " " + generationName(g.GetVersion(), g.GetGeneration())
				if pace.due(key, stateOf(g)+g.GetError()) {
					a.complain("%s", clean(p.generationLine(pr, g)))
				}
			}
		}
		return left == 0, nil
	})
	return r.interrupted(ctx, err)
}

// interrupted says of an error what becomes of the rebuild.
func (r *rebuilding) interrupted(ctx context.Context, err error) error {
	_, lost := errors.AsType[*patienceError](err)
	if ctx.Err() == nil && !lost {
		return err
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	var names []string
	for _, g := range r.goals {
		names = append(names, g.name.GetProjection())
	}
	return noted(err, "The rebuild goes on on the server, and nothing is switched: `"+
		r.client.projectionCommand(r.cmd, append([]string{"watch"}, names...)...)+"` follows it, `parley projections drop` ends it.")
}

// look notes how the generations do that are waited for, and counts those that
// have not caught up.
func (r *rebuilding) look(all []*opsv1.Projection) (left int, err error) {
	for _, g := range r.goals {
		for _, pr := range all {
			if pr.GetName() != g.name.GetProjection() {
				continue
			}
			if err := g.look(pr); err != nil {
				return 0, noted(err, "`"+r.client.projectionCommand(r.cmd, "get", pr.GetName())+"` shows all that is known of it.")
			}
		}
		if !g.reached {
			left++
		}
	}
	return left, nil
}

// look notes how the generation does. It is an error where it will not catch up
// by itself.
func (g *goal) look(pr *opsv1.Projection) error {
	// A process that has just taken over may not know it yet.
	const gone = 3
	found := findGeneration(pr, g.name)
	if found == nil {
		if g.missing++; g.missing >= gone {
			return fmt.Errorf("%s is gone: somebody has dropped it", g)
		}
		return nil
	}
	g.missing, g.last = 0, found
	serving := withRole(pr, opsv1.GenerationRole_GENERATION_ROLE_SERVING)
	live := opsv1.GenerationState_GENERATION_STATE_LIVE
	switch {
	case found.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_SERVING:
		g.reached, g.serves = true, true
	case found.GetState() == opsv1.GenerationState_GENERATION_STATE_HALTED, found.GetState() == opsv1.GenerationState_GENERATION_STATE_FROZEN:
		return fmt.Errorf("%s is %s and does not go on by itself: %s", g, stateOf(found), or(found.GetError()))
	case found.GetState() == live, serving.GetState() == live && found.GetPosition() >= serving.GetPosition():
		g.reached = true
	}
	return nil
}

// shown are the projections with those of their generations that are waited for.
func (r *rebuilding) shown(all []*opsv1.Projection) []*opsv1.Projection {
	var shown []*opsv1.Projection
	for _, g := range r.goals {
		for _, pr := range all {
			if found := findGeneration(pr, g.name); found != nil && pr.GetName() == g.name.GetProjection() {
				shown = append(shown, &opsv1.Projection{
					Name: pr.GetName(), Version: pr.GetVersion(), Head: pr.GetHead(), Pause: pr.GetPause(), Generations: []*opsv1.Generation{found},
				})
			}
		}
	}
	return shown
}

// finish does with one that has caught up what was asked for.
func (r *rebuilding) finish(ctx context.Context, g *goal) error {
	a, c := r.app, r.client
	name := g.name.GetProjection()
	if !c.json() {
		p := page{loc: a.Location}
		p.line("%s has caught up at %s, after %s.", g.String(), grouped(g.last.GetPosition()), roughly(a.Now().Sub(r.began)))
		if n := g.last.GetDeadLetters(); n > 0 {
			p.line("It has %s: `%s` lists them.", number(n, "dead letter", "dead letters"), c.projectionCommand(r.cmd, "deadletters", "ls", name, "--generation", nameOf(g.name)))
		}
		if err := write(a.Stdout, p.b.String()); err != nil {
			return err
		}
	}
	if g.serves {
		return r.now(ctx, name, g.String()+" serves already.")
	}
	about := ""
	if r.compares {
		text, err := r.compare(ctx, g)
		if err != nil {
			return noted(err, "Nothing was switched. `"+c.projectionCommand(r.cmd, "compare", name)+"` compares once more.")
		}
		about = text
	}
	if !r.switches {
		if c.json() {
			return r.now(ctx, name, "")
		}
		p := page{loc: a.Location}
		next := []string{c.projectionCommand(r.cmd, "switch", name)}
		if !r.compares {
			next = append([]string{c.projectionCommand(r.cmd, "compare", name)}, next...)
		}
		p.commands("To go on:", next)
		return write(a.Stdout, p.b.String())
	}
	if err := r.decision.agreed(ctx, a, about, "Make "+g.String()+" serve?"); err != nil {
		a.complain("%s is kept; `%s` makes it serve later.", g.String(), c.projectionCommand(r.cmd, "switch", name))
		return err
	}
	return r.switchTo(ctx, g)
}

// compare compares one with what serves, shows it, or gives it to be shown
// where the question follows.
func (r *rebuilding) compare(ctx context.Context, g *goal) (about string, err error) {
	a, c := r.app, r.client
	var result compared
	for {
		result, err = a.compareOnce(ctx, c, r.service, &opsv1.CompareGenerationsRequest{Generation: g.name}, r.steady.well)
		if !r.behindAgain(ctx, g, err) && !r.steady.again(ctx, err) {
			break
		}
	}
	if err != nil {
		return "", r.interrupted(ctx, r.steady.given(err))
	}
	asks := r.switches && !r.decision.yes
	if c.json() {
		if err := printJSON(a.Stdout, result.last, true); err != nil {
			return "", err
		}
		if !asks { // else it is shown with the question
			if !result.difference.GetEqual() {
				for _, l := range alarm(result.difference, comparedWith) {
					a.complain("%s", l)
				}
			}
			return "", nil
		}
	}
	to := a.Stdout
	if asks {
		to = a.Stderr
	}
	p := page{loc: a.Location}
	p.line("")
	p.difference(result.difference, a.painter(to), comparedWith)
	if asks {
		return p.b.String(), nil
	}
	if r.switches {
		p.line("")
	}
	return "", write(a.Stdout, p.b.String())
}

// behindAgain says whether to ask again since a generation that had caught up
// is a moment behind the one that serves.
func (r *rebuilding) behindAgain(ctx context.Context, g *goal, err error) bool {
	e, ok := rpcerr.Parse(err)
	if !ok || e.Reason != errorv1.Reason_REASON_NOT_CAUGHT_UP {
		return false
	}
	r.steady.well()
	if g.behind.IsZero() {
		g.behind = time.Now()
	}
	if time.Since(g.behind) >= r.client.timeout {
		return false
	}
	return r.steady.pause(ctx, max(e.RetryAfter, tailFirstRetry))
}

// switchTo makes one serve, over as many connections as it takes.
func (r *rebuilding) switchTo(ctx context.Context, g *goal) error {
	a, c := r.app, r.client
	var resp *opsv1.SwitchOverResponse
	var err error
	for {
		resp, err = within(ctx, c, func(ctx context.Context) (*opsv1.SwitchOverResponse, error) {
			return r.service.SwitchOver(ctx, &opsv1.SwitchOverRequest{Generation: g.name, Reason: r.decision.reason})
		})
		if !r.behindAgain(ctx, g, err) && !r.steady.again(ctx, err) {
			break
		}
	}
	if rpcerr.ReasonOf(err) == errorv1.Reason_REASON_ALREADY_SERVING {
		// By somebody else, or by the call whose answer was lost.
		return r.now(ctx, g.name.GetProjection(), g.String()+" serves now.")
	}
	if err != nil {
		return sent(r.steady.given(err))
	}
	r.steady.well()
	if c.json() {
		return printJSON(a.Stdout, resp, true)
	}
	return a.changed(c, r.cmd, resp.GetProjection(), g.String()+" serves now.", "rollback")
}

// now shows how a projection is.
func (r *rebuilding) now(ctx context.Context, name, text string) error {
	resp, err := getProjection(ctx, r.client, r.service, name)
	if err != nil {
		return err
	}
	if r.client.json() {
		return printJSON(r.app.Stdout, resp, true)
	}
	return r.app.changed(r.client, r.cmd, resp.GetProjection(), text, "rollback")
}

// paced says when a line about something is due: when it changed, and else
// every few seconds.
type paced struct {
	app  *App
	said map[string]toldLine
}

// progressEvery is how often people who read a log want to hear that it goes on.
const progressEvery = 5 * time.Second

func (p *paced) due(key, state string) bool {
	now := p.app.Now()
	before, told := p.said[key]
	if told && before.text == state && now.Sub(before.time) < progressEvery {
		return false
	}
	if p.said == nil {
		p.said = map[string]toldLine{}
	}
	p.said[key] = toldLine{text: state, time: now}
	return true
}
