package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// Report is Operations's.
func (h *host) Report(ctx context.Context) (*opsv1.Projection, error) {
	c, err := h.loadControl(ctx)
	if err != nil {
		return nil, fmt.Errorf("report on %s: %w", h.name, err)
	}
	head, err := h.deps.Log.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("report on %s: %w", h.name, err)
	}
	_, version := h.current.label()
	p := &opsv1.Projection{Name: h.name, Version: version, Head: uint64(head), Pause: c.GetPause(), ActiveProcess: h.activeProcess(c)}
	for _, g := range c.GetGenerations() {
		if g.GetDropped() {
			continue
		}
		report, err := h.report(ctx, c, g, uint64(head))
		if err != nil {
			return nil, fmt.Errorf("report on %s: %w", h.name, err)
		}
		p.Generations = append(p.Generations, report)
	}
	slices.SortStableFunc(p.Generations, func(a, b *opsv1.Generation) int {
		serves := func(g *opsv1.Generation) int {
			if g.GetRole() == opsv1.GenerationRole_GENERATION_ROLE_SERVING {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(serves(a), serves(b)), cmp.Compare(b.GetGeneration(), a.GetGeneration()))
	})
	return p, nil
}

// activeFor is how long what the active process said of itself is believed.
const activeFor = 10 * publishEvery

// activeProcess names the process that folds; empty where none does.
func (h *host) activeProcess(c *control) string {
	h.mu.RLock()
	here := h.running && h.active
	h.mu.RUnlock()
	switch a := c.GetActive(); {
	case here:
		return cmp.Or(h.deps.Process, "this process")
	case a != nil && h.deps.Now().Sub(a.GetTime().AsTime()) < activeFor:
		return a.GetName()
	default:
		return ""
	}
}

// report says how a generation does: as this process knows it where it folds
// it, else as the one said that does, else what is stored.
func (h *host) report(ctx context.Context, c *control, g *opsv1.GenerationControl, head uint64) (*opsv1.Generation, error) {
	ns := namespaceOf(g.GetName())
	h.mu.RLock()
	r, active := h.runners[ns], h.running && h.active
	h.mu.RUnlock()
	if r != nil && active {
		return h.generationReport(c, g, r), nil
	}
	if h.activeProcess(c) != "" {
		for _, said := range c.GetActive().GetGenerations() {
			if said.GetVersion() == ns.Version && said.GetGeneration() == ns.Generation {
				said = proto.CloneOf(said)
				h.describeControl(c, g, said)
				return said, nil
			}
		}
	}
	report := &opsv1.Generation{Version: ns.Version, Generation: ns.Generation}
	if r != nil {
		checkpoint, err := r.gen.Checkpoint(ctx)
		if err != nil && !errors.Is(err, view.ErrDropped) {
			return nil, err
		}
		report.Position = checkpoint.Position
		report.State = opsv1.GenerationState_GENERATION_STATE_STOPPED
	}
	h.describeControl(c, g, report)
	h.lag(report, head)
	return report, nil
}

// describeControl fills in what the control record says.
func (h *host) describeControl(c *control, g *opsv1.GenerationControl, report *opsv1.Generation) {
	report.Role = c.role(g)
	report.CreateTime, report.Reason = g.GetCreateTime(), g.GetReason()
	report.SwitchWhenReady = g.GetSwitchWhenReady()
	switch {
	case h.definitions[g.GetName().GetVersion()] == nil || g.GetRetired():
		report.State = opsv1.GenerationState_GENERATION_STATE_FROZEN
	case c.GetPause() != nil:
		report.State = opsv1.GenerationState_GENERATION_STATE_PAUSED
	}
}

func (h *host) lag(report *opsv1.Generation, head uint64) {
	if h.deps.Log.Capabilities().DensePositions.Supported && report.GetState() != opsv1.GenerationState_GENERATION_STATE_FROZEN {
		report.LagEvents = proto.Uint64(head - min(report.GetPosition(), head))
	}
	report.Fraction = Status{Head: max(positionOf(head), positionOf(report.GetPosition())), Position: positionOf(report.GetPosition())}.Fraction()
}

// generationReport says how a generation does that this process has open.
func (h *host) generationReport(c *control, g *opsv1.GenerationControl, r *runner) *opsv1.Generation {
	s := r.currentStatus()
	report := &opsv1.Generation{
		Version: r.ns.Version, Generation: r.ns.Generation, State: stateOf(s.State), Position: uint64(s.Position),
		LagTime: durationpb.New(s.Behind), EventsPerSecond: s.EventsPerSecond, DeadLetters: uint64(s.DeadLetters), WaitingEvents: uint64(s.Waiting),
		Partitions: uint32(r.opts.Partitions), Diverged: s.Diverged,
	}
	if left := s.TimeLeft(); left > 0 && s.State == CatchingUp {
		report.TimeLeft = durationpb.New(left.Round(time.Millisecond))
	}
	if s.Err != nil {
		report.Error = s.Err.Error()
	}
	if !s.OldestDeadLetter.IsZero() {
		report.OldestDeadLetterTime = timestamppb.New(s.OldestDeadLetter)
	}
	h.describeControl(c, g, report)
	h.lag(report, uint64(s.Head))
	return report
}

func stateOf(s State) opsv1.GenerationState {
	switch s {
	case Stopped:
		return opsv1.GenerationState_GENERATION_STATE_STOPPED
	case CatchingUp:
		return opsv1.GenerationState_GENERATION_STATE_CATCHING_UP
	case Live:
		return opsv1.GenerationState_GENERATION_STATE_LIVE
	case Retrying:
		return opsv1.GenerationState_GENERATION_STATE_RETRYING
	case Halted:
		return opsv1.GenerationState_GENERATION_STATE_HALTED
	case Paused:
		return opsv1.GenerationState_GENERATION_STATE_PAUSED
	case Frozen:
		return opsv1.GenerationState_GENERATION_STATE_FROZEN
	default:
		return opsv1.GenerationState_GENERATION_STATE_UNSPECIFIED
	}
}
