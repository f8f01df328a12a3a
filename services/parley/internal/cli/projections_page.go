package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// How a projection and its generations look to people: numbers in groups of
// three, times with two units at most, shares that are never rounded up to a whole.

// projections is the table of projections, a generation a line, and below it
// what needs somebody's attention.
func (p *page) projections(all []*opsv1.Projection, now time.Time) {
	var rows [][]string
	var notes []string
	for _, pr := range all {
		for _, g := range pr.GetGenerations() {
			rows = append(rows, []string{
				pr.GetName(), generationName(g.GetVersion(), g.GetGeneration()), roleOf(g), stateOf(g), positionOf(pr, g), lagOf(g),
				or(perSecond(g.GetEventsPerSecond())), or(filledOf(g)), or(deadLettersOf(g, now)),
			})
		}
		if len(pr.GetGenerations()) == 0 {
			rows = append(rows, []string{pr.GetName(), "-", "-", "-", "-", "-", "-", "-", "-"})
		}
		notes = append(notes, p.notes(pr)...)
	}
	p.table("", []string{"PROJECTION", "GENERATION", "ROLE", "STATE", "POSITION", "LAG", "RATE", "FILLED", "DEAD LETTERS"}, rows)
	if len(notes) > 0 {
		p.line("")
	}
	for _, n := range notes {
		p.line("%s", n)
	}
}

// notes are what needs somebody's attention, a line each.
func (p *page) notes(pr *opsv1.Projection) []string {
	var notes []string
	if pause := pr.GetPause(); pause != nil {
		notes = append(notes, pr.GetName()+" is "+cell(p.paused(pause)))
	}
	for _, g := range pr.GetGenerations() {
		name := pr.GetName() + " " + generationName(g.GetVersion(), g.GetGeneration())
		if e := g.GetError(); e != "" {
			notes = append(notes, name+" is "+stateOf(g)+": "+cell(firstOf(e)))
		}
		if g.GetSwitchWhenReady() && g.GetRole() != opsv1.GenerationRole_GENERATION_ROLE_SERVING {
			notes = append(notes, name+" will serve by itself once it has caught up")
		}
		if g.GetDiverged() {
			notes = append(notes, name+" has diverged: "+divergedMeans)
		}
	}
	return notes
}

const divergedMeans = "an event was skipped after it had been folded here, so that a rebuild gives something else"

// paused says who paused a projection, since when, and why.
func (p *page) paused(pause *opsv1.Pause) string {
	text := "paused by " + actorName(pause.GetActor())
	if pause.GetTime() != nil {
		text += " since " + p.moment(pause.GetTime())
	}
	if r := pause.GetReason(); r != "" {
		text += ": " + r
	}
	return text
}

// projection is a projection's page: errors and reasons whole, and the commands
// that its state calls for.
func (p *page) projection(pr *opsv1.Projection, now time.Time, command func(...string) string) {
	p.line("%s, version %d", pr.GetName(), pr.GetVersion())
	active := "nobody folds it at present"
	if a := pr.GetActiveProcess(); a != "" {
		active = "folded by " + a
	}
	p.line("the log ends at %s, %s", grouped(pr.GetHead()), active)
	if pr.GetPause() != nil {
		p.line("%s", p.paused(pr.GetPause()))
	}
	for _, g := range pr.GetGenerations() {
		p.line("")
		p.line("%s  %s, %s", generationName(g.GetVersion(), g.GetGeneration()), roleOf(g), stateOf(g))
		p.fields(p.generation(pr, g, now))
	}
	p.commands("What this calls for:", projectionCommands(pr, command))
}

// generation is all that is known of one.
func (p *page) generation(pr *opsv1.Projection, g *opsv1.Generation, now time.Time) [][2]string {
	made := p.moment(g.GetCreateTime())
	if r := g.GetReason(); r != "" {
		made += ", because: " + r
	}
	partitions := ""
	if n := g.GetPartitions(); n > 0 {
		partitions = strconv.FormatUint(uint64(n), 10)
	}
	var marks []string
	if g.GetSwitchWhenReady() && g.GetRole() != opsv1.GenerationRole_GENERATION_ROLE_SERVING {
		marks = append(marks, "will serve by itself once it has caught up")
	}
	if g.GetDiverged() {
		marks = append(marks, "diverged: "+divergedMeans)
	}
	dead := ""
	if n := g.GetDeadLetters(); n > 0 || g.GetWaitingEvents() > 0 {
		dead = grouped(n)
		if t := g.GetOldestDeadLetterTime(); t != nil {
			dead += ", the oldest of " + p.moment(t) + " (" + ageOf(t, now) + " ago)"
		}
		if w := g.GetWaitingEvents(); w > 0 {
			dead += fmt.Sprintf("; %s wait behind them", events(w))
		}
	}
	return [][2]string{
		{"position", positionOf(pr, g)},
		{"lag", lagOf(g)},
		{"rate", perSecond(g.GetEventsPerSecond())},
		{"filled", filledOf(g)},
		{"partitions", partitions},
		{"made", made},
		{"dead letters", dead},
		{"marks", strings.Join(marks, "\n")},
		{"error", g.GetError()},
	}
}

// projectionCommands are the commands that a projection's state calls for.
func projectionCommands(pr *opsv1.Projection, command func(...string) string) []string {
	var all []string
	add := func(words ...string) { all = append(all, command(words...)) }
	name := pr.GetName()
	halted := false
	for _, g := range pr.GetGenerations() {
		halted = halted || g.GetState() == opsv1.GenerationState_GENERATION_STATE_HALTED
		if g.GetDeadLetters() > 0 {
			words := []string{"deadletters", "ls", name}
			if g.GetRole() != opsv1.GenerationRole_GENERATION_ROLE_SERVING {
				words = append(words, "--generation", generationName(g.GetVersion(), g.GetGeneration()))
			}
			add(words...)
		}
	}
	if pr.GetPause() != nil || halted {
		add("resume", name)
	}
	if g := withRole(pr, opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE); g != nil {
		if g.GetState() == opsv1.GenerationState_GENERATION_STATE_LIVE {
			add("compare", name)
			add("switch", name)
		} else {
			add("watch", name)
		}
	}
	return all
}

// commands are command lines to paste, whole whatever their length.
func (p *page) commands(title string, all []string) {
	if len(all) == 0 {
		return
	}
	p.line("")
	p.line("%s", title)
	for _, c := range all {
		p.line("  %s", c)
	}
}

// fields are rows of a name and a value, those without a value left out. A
// value keeps its lines.
func (p *page) fields(rows [][2]string) {
	width := 0
	for _, r := range rows {
		if r[1] != "" {
			width = max(width, columns(r[0]))
		}
	}
	for _, r := range rows {
		name := r[0]
		if r[1] == "" {
			continue
		}
		for l := range strings.Lines(r[1]) {
			p.line("  %s  %s", padTo(name, width), strings.ReplaceAll(strings.TrimRight(l, "\n"), "\t", "    "))
			name = ""
		}
	}
}

func roleOf(g *opsv1.Generation) string {
	return or(enum(g.GetRole().String(), "GENERATION_ROLE_"))
}

func stateOf(g *opsv1.Generation) string {
	return or(enum(g.GetState().String(), "GENERATION_STATE_"))
}

func positionOf(pr *opsv1.Projection, g *opsv1.Generation) string {
	// Head is as far as known; a generation may know better by a moment.
	return grouped(g.GetPosition()) + " of " + grouped(max(pr.GetHead(), g.GetPosition()))
}

// lagOf is how far a generation is behind, in events where the store can count
// them, and in time.
func lagOf(g *opsv1.Generation) string {
	var parts []string
	if g.LagEvents != nil {
		parts = append(parts, grouped(g.GetLagEvents()))
	}
	if d := g.GetLagTime().AsDuration(); d > 0 {
		parts = append(parts, roughly(d))
	} else if g.LagEvents == nil && g.GetState() == opsv1.GenerationState_GENERATION_STATE_LIVE {
		parts = append(parts, "0s")
	}
	return or(strings.Join(parts, " · "))
}

// beingFilled says that how much of the log a generation contains is worth a word.
func beingFilled(g *opsv1.Generation) bool {
	switch g.GetState() {
	case opsv1.GenerationState_GENERATION_STATE_LIVE, opsv1.GenerationState_GENERATION_STATE_FROZEN:
		return false
	case opsv1.GenerationState_GENERATION_STATE_CATCHING_UP:
		return true
	default:
		role := g.GetRole()
		return role == opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE || role == opsv1.GenerationRole_GENERATION_ROLE_SCRATCH
	}
}

// filledOf is how much of the log a generation that is being filled contains,
// and the time left; empty for others.
func filledOf(g *opsv1.Generation) string {
	if !beingFilled(g) {
		return ""
	}
	text := share(g.GetFraction())
	if left := leftOf(g.GetTimeLeft()); left != "" {
		text += " · " + left
	}
	return text
}

func leftOf(d *durationpb.Duration) string {
	if d == nil || d.AsDuration() <= 0 {
		return ""
	}
	return roughly(d.AsDuration()) + " left"
}

// deadLettersOf is how many dead letters there are, what waits behind them, and
// the age of the oldest; empty for none.
func deadLettersOf(g *opsv1.Generation, now time.Time) string {
	if g.GetDeadLetters() == 0 && g.GetWaitingEvents() == 0 {
		return ""
	}
	text := grouped(g.GetDeadLetters())
	if w := g.GetWaitingEvents(); w > 0 {
		text += " (+" + grouped(w) + " waiting)"
	}
	if t := g.GetOldestDeadLetterTime(); t != nil {
		text += " · " + ageOf(t, now)
	}
	return text
}

func ageOf(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil || t.CheckValid() != nil {
		return "-"
	}
	return roughly(max(now.Sub(t.AsTime()), 0))
}

// grouped is a number with its thousands apart.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	const group = 3
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%group == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func events(n uint64) string { return number(n, "event", "events") }

// number is a number with its noun.
func number(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// roughly is a duration for people: two units at most, never rounded to nothing.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d <= 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", max(d.Milliseconds(), 1))
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", math.Floor(10*d.Seconds())/10)
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return twoUnits(d/time.Minute, "m", d%time.Minute/time.Second, "s")
	case d < day:
		return twoUnits(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	default:
		return twoUnits(d/day, "d", d%day/time.Hour, "h")
	}
}

func twoUnits(n time.Duration, unit string, rest time.Duration, smaller string) string {
	text := strconv.FormatInt(int64(n), 10) + unit
	if rest > 0 {
		text += strconv.FormatInt(int64(rest), 10) + smaller
	}
	return text
}

// perSecond is a rate; empty for none.
func perSecond(rate float64) string {
	const slow, most = 10, 1e18 // a second: below slow a decimal counts
	switch {
	case !(rate > 0) || math.IsInf(rate, 0):
		return ""
	case rate < slow:
		return fmt.Sprintf("%.1f/s", rate)
	default:
		return grouped(uint64(min(rate, most))) + "/s"
	}
}

// share is a part of a whole, which is called whole only once it is.
func share(part float64) string {
	if math.IsNaN(part) {
		part = 0
	}
	return fmt.Sprintf("%.1f %%", math.Floor(1000*min(max(part, 0), 1))/10)
}

// firstOf is the first line of a text.
func firstOf(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(line)
}
