package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// Bounds of --interval, the server's.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Minute
)

func (a *App) projectionsWatch(c *client) *cobra.Command {
	w := &watching{app: a, client: c, interval: time.Second, patience: defaultPatience}
	cmd := &cobra.Command{
		Use:   "watch [PROJECTION…]",
		Short: "Follow projections: bars on a terminal, lines elsewhere",
		Long: `Follows projections, all unless some are named, until it is interrupted. On a
terminal each generation is a line with a bar, redrawn in place; elsewhere a
line is written for each generation in which something changed, at most one a
second. Where the connection breaks it says so, and goes on once the server is
back.`,
		Example: `  parley projections watch
  parley projections watch customer --interval 5s >> rebuild.log
  parley projections watch customer -o json | jq '.projections[].generations[].fraction'`,
		Args: func(_ *cobra.Command, args []string) error { return checkProjections(args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if w.interval < minInterval || w.interval > maxInterval {
				return usagef("--interval %s: want %s to %s", w.interval, minInterval, maxInterval)
			}
			if err := checkPatience(w.patience); err != nil {
				return err
			}
			return c.projections(cmd, strings.Join(args, " "), func(ctx context.Context, conn *grpc.ClientConn, service opsv1.ProjectionServiceClient) error {
				return w.run(ctx, conn, service, args)
			})
		},
	}
	cmd.Flags().DurationVar(&w.interval, "interval", w.interval, "how `often` to look")
	bindPatience(cmd, &w.patience)
	return cmd
}

func bindPatience(cmd *cobra.Command, d *time.Duration) {
	cmd.Flags().DurationVar(d, "patience", *d, "how `long` to go on trying where the connection breaks")
}

func checkPatience(d time.Duration) error {
	if d < 0 {
		return usagef("--patience %s: want 0 to give up at once, or more", d)
	}
	return nil
}

// watching is one `watch`.
type watching struct {
	app      *App
	client   *client
	interval time.Duration
	patience time.Duration

	display *display
	told    map[string]toldLine // by projection and generation
}

// toldLine is what was last said of a generation, and when.
type toldLine struct {
	text string
	time time.Time
}

func (w *watching) run(ctx context.Context, conn *grpc.ClientConn, service opsv1.ProjectionServiceClient, names []string) error {
	a := w.app
	w.display = &display{app: a}
	if !w.client.json() && a.terminal(a.Stdout) {
		w.display.screen = a.screenOn(a.Stdout)
	}
	defer w.display.close(true)
	w.told = map[string]toldLine{}
	f := following{
		client: w.client, service: service, names: names, interval: w.interval,
		steady: &steady{conn: conn, patience: w.patience, say: w.display.connection},
	}
	err := f.run(ctx, func(resp *opsv1.WatchProjectionsResponse) (bool, error) { return false, w.show(resp) })
	if ctx.Err() != nil {
		return nil // interrupted: that is how one ends it
	}
	return err
}

func (w *watching) show(resp *opsv1.WatchProjectionsResponse) error {
	a := w.app
	switch {
	case w.client.json():
		return printJSON(a.Stdout, resp, true)
	case w.display.screen != nil:
		columns, _ := a.sizeOf(a.Stdout)
		return w.display.show(a.bars(resp.GetProjections(), columns))
	default:
		return w.lines(resp.GetProjections())
	}
}

// lines writes what changed since it was last said, a generation at most once a second.
func (w *watching) lines(all []*opsv1.Projection) error {
	now := w.app.Now()
	p := page{loc: w.app.Location}
	for _, pr := range all {
		for _, g := range pr.GetGenerations() {
			key := pr.GetName() + " " + generationName(g.GetVersion(), g.GetGeneration())
			text := p.generationLine(pr, g)
			before, told := w.told[key]
			if told && (before.text == text || now.Sub(before.time) < time.Second) {
				continue
			}
			w.told[key] = toldLine{text: text, time: now}
			p.line("%s  %s", now.In(w.app.Location).Format(time.DateTime), text)
		}
	}
	if p.b.Len() == 0 {
		return nil
	}
	return write(w.app.Stdout, p.b.String())
}

// generationLine is a generation in one line of a log. What changes with the
// clock alone is not in it.
func (p *page) generationLine(pr *opsv1.Projection, g *opsv1.Generation) string {
	parts := []string{
		fmt.Sprintf("%s %s %s: %s", pr.GetName(), generationName(g.GetVersion(), g.GetGeneration()), roleOf(g), stateOf(g)),
		filledOf(g), positionOf(pr, g), "lag " + lagOf(g), perSecond(g.GetEventsPerSecond()),
	}
	if n := g.GetDeadLetters(); n > 0 {
		parts = append(parts, number(n, "dead letter", "dead letters"))
	}
	if n := g.GetWaitingEvents(); n > 0 {
		parts = append(parts, events(n)+" waiting")
	}
	if e := g.GetError(); e != "" {
		parts = append(parts, "error: "+cell(firstOf(e)))
	}
	if g.GetState() == opsv1.GenerationState_GENERATION_STATE_PAUSED && pr.GetPause() != nil {
		parts = append(parts, cell(p.paused(pr.GetPause())))
	}
	var said []string
	for _, part := range parts {
		if part != "" {
			said = append(said, part)
		}
	}
	return strings.Join(said, ", ")
}

// The columns of a screen of bars.
const (
	barName = iota
	barRole
	barState
	barBar
	barShare
	barRate
	barLeft
	barDead
	barColumns
)

const (
	// A bar is as wide as there is room, within these.
	minBar = 10
	maxBar = 40
)

// barGoes is what goes first where a terminal is narrow. Name and share stay.
var barGoes = []int{barRate, barRole, barDead, barBar, barLeft, barState}

// bars are projections as bars, fitted to a terminal.
func (a *App) bars(all []*opsv1.Projection, width int) []row {
	p := page{loc: a.Location}
	now := a.Now()
	type line struct {
		cells [barColumns]string
		g     *opsv1.Generation
		below row
	}
	var lines []line
	for _, pr := range all {
		for i, g := range pr.GetGenerations() {
			l := line{g: g}
			l.cells[barName] = pr.GetName() + " " + generationName(g.GetVersion(), g.GetGeneration())
			l.cells[barRole], l.cells[barState] = roleOf(g), stateOf(g)
			l.cells[barShare] = share(fractionOf(g))
			l.cells[barRate] = perSecond(g.GetEventsPerSecond())
			l.cells[barLeft] = leftOf(g.GetTimeLeft())
			if l.cells[barLeft] == "" || !beingFilled(g) {
				l.cells[barLeft] = "lag " + lagOf(g)
			}
			if d := deadLettersOf(g, now); d != "" {
				l.cells[barDead] = "dead " + d
			}
			switch pause := pr.GetPause(); {
			case g.GetError() != "":
				l.below = textRow(styleOf(g), "  "+cell(firstOf(g.GetError())))
			case pause != nil && i == 0:
				l.below = textRow(styleWarn, "  "+cell(p.paused(pause)))
			}
			lines = append(lines, l)
		}
	}
	var widths [barColumns]int
	for _, l := range lines {
		for i, c := range l.cells {
			widths[i] = max(widths[i], columns(oneLine(c)))
		}
	}
	widths[barBar] = minBar
	fitBars(&widths, width-1)

	rows := []row{textRow(styleDim, now.In(a.Location).Format(time.TimeOnly)+"  ctrl-c ends this")}
	if len(lines) == 0 {
		rows = append(rows, textRow(styleNone, "The server has no projections."))
	}
	for _, l := range lines {
		var r row
		for i, c := range l.cells {
			w := widths[i]
			if w == 0 {
				continue
			}
			sp := span{text: padTo(oneLine(c), w)}
			switch i {
			case barName:
				sp.style = styleBold
			case barBar:
				sp.text = a.bar(fractionOf(l.g), w)
				sp.style = styleOf(l.g)
			case barState:
				sp.style = styleOf(l.g)
			case barShare:
				sp.text = strings.Repeat(" ", max(w-columns(c), 0)) + c
			case barDead:
				sp.style = styleBad
			}
			if len(r) > 0 {
				r = append(r, span{text: "  "})
			}
			r = append(r, sp)
		}
		if rows = append(rows, r); l.below != nil {
			rows = append(rows, l.below)
		}
	}
	return rows
}

// fitBars gives the bars the room that is left, and takes columns away where
// there is none.
func fitBars(widths *[barColumns]int, room int) {
	taken := func() int {
		n := 0
		for _, w := range widths {
			if w > 0 {
				n += w + 2 // the gap
			}
		}
		return n - 2
	}
	for _, i := range barGoes {
		if taken() <= room {
			break
		}
		widths[i] = 0
	}
	if widths[barBar] > 0 {
		widths[barBar] = min(maxBar, minBar+max(room-taken(), 0))
	}
}

// fractionOf is how much of the log a generation contains; one that is live has
// it all.
func fractionOf(g *opsv1.Generation) float64 {
	if g.GetState() == opsv1.GenerationState_GENERATION_STATE_LIVE {
		return 1
	}
	return g.GetFraction()
}

func styleOf(g *opsv1.Generation) style {
	switch g.GetState() {
	case opsv1.GenerationState_GENERATION_STATE_LIVE:
		return styleGood
	case opsv1.GenerationState_GENERATION_STATE_RETRYING, opsv1.GenerationState_GENERATION_STATE_PAUSED, opsv1.GenerationState_GENERATION_STATE_STOPPED:
		return styleWarn
	case opsv1.GenerationState_GENERATION_STATE_HALTED:
		return styleBad
	case opsv1.GenerationState_GENERATION_STATE_FROZEN:
		return styleDim
	default:
		return styleNone
	}
}
