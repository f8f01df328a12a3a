package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

var _ Operations = (*host)(nil)

func positionOf(n uint64) eventstore.Position { return eventstore.Position(n) }

// errNoAudit says that a process was put together wrongly.
var errNoAudit = errors.New("operations need an auditor")

// audit keeps what is about to be done.
func (h *host) audit(ctx context.Context, by By, operation eventv1.ProjectionOperation, ns view.Namespace, positions ...uint64) error {
	if h.deps.Audit == nil {
		return errNoAudit
	}
	_, _, err := h.deps.Audit.Audit(ctx, by.Actor, &eventv1.Payload{Kind: &eventv1.Payload_ProjectionOperated{ProjectionOperated: &eventv1.ProjectionOperated{
		Projection: h.name, Operation: operation, Version: ns.Version, Generation: ns.Generation, Reason: by.Reason, Positions: positions,
	}}})
	if err != nil {
		return fmt.Errorf("keep what is done with %s: %w", h.name, err)
	}
	return nil
}

// find is the generation that an operator means: of number 0 the one that otherwise says.
func (h *host) find(c *control, ns view.Namespace, otherwise view.Namespace) (*opsv1.GenerationControl, error) {
	if ns.Generation == 0 {
		ns = otherwise
	}
	for _, g := range slices.Backward(c.GetGenerations()) {
		name := namespaceOf(g.GetName())
		if name.Generation == ns.Generation && (ns.Version == 0 || name.Version == ns.Version) && !g.GetDropped() {
			return g, nil
		}
	}
	ns.Projection = h.name
	return nil, fmt.Errorf("%w: %s", ErrUnknownGeneration, ns)
}

// candidateOf is the name of the candidate; none where there is none.
func candidateOf(c *control) view.Namespace { return namespaceOf(c.candidate().GetName()) }

// Rebuild is Operations's.
func (h *host) Rebuild(ctx context.Context, by By, opts RebuildOptions) (view.Namespace, error) {
	ns, err := h.rebuild(ctx, by, opts)
	if err != nil {
		return ns, fmt.Errorf("rebuild %s: %w", h.name, err)
	}
	return ns, nil
}

func (h *host) rebuild(ctx context.Context, by By, opts RebuildOptions) (ns view.Namespace, err error) {
	check := func(c *control) error {
		if g := c.candidate(); g != nil {
			return fmt.Errorf("%w: %s; switch to it or drop it first", ErrRebuildRunning, namespaceOf(g.GetName()))
		}
		return nil
	}
	c, err := h.loadControl(ctx)
	if err != nil {
		return ns, err
	}
	if err := check(c); err != nil {
		return ns, err
	}
	_, version := h.current.label()
	if err := h.audit(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_REBUILD, view.Namespace{Version: version}); err != nil {
		return ns, err
	}
	_, err = h.changeControl(ctx, func(c *control) error {
		if err := check(c); err != nil {
			return err
		}
		ns = c.add(h.name, version, &opsv1.GenerationControl{
			CreateTime: timestamppb.New(h.deps.Now()), Reason: by.reason("rebuild"),
			SwitchWhenReady: opts.SwitchWhenReady, MaxEventsPerSecond: opts.MaxEventsPerSecond, Scan: opts.Scan,
		})
		return nil
	})
	return ns, err
}

// reason is what stands beside a generation.
func (b By) reason(what string) string {
	if id := b.Actor.GetId(); id != "" {
		what += " by " + id
	}
	if b.Reason != "" {
		what += ": " + b.Reason
	}
	return what
}

// SwitchOver is Operations's.
func (h *host) SwitchOver(ctx context.Context, by By, ns view.Namespace) error {
	err := h.switchTo(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_SWITCH_OVER, func(c *control) (*opsv1.GenerationControl, error) {
		if ns.Generation == 0 && c.candidate() == nil {
			return nil, fmt.Errorf("%w: there is no candidate to switch to; rebuild first, or name a generation", ErrUnknownGeneration)
		}
		return h.find(c, ns, candidateOf(c))
	})
	if err != nil {
		return fmt.Errorf("switch %s over: %w", h.name, err)
	}
	return nil
}

// Rollback is Operations's.
func (h *host) Rollback(ctx context.Context, by By) error {
	err := h.switchTo(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_ROLLBACK, func(c *control) (*opsv1.GenerationControl, error) {
		if c.GetPrevious() == nil {
			return nil, ErrNothingToRollBack
		}
		g := c.find(namespaceOf(c.GetPrevious()))
		if g == nil {
			return nil, ErrNothingToRollBack
		}
		return g, nil
	})
	if err != nil {
		return fmt.Errorf("roll %s back: %w", h.name, err)
	}
	return nil
}

// switchTo makes a generation serve.
func (h *host) switchTo(ctx context.Context, by By, operation eventv1.ProjectionOperation, choose func(*control) (*opsv1.GenerationControl, error)) error {
	c, err := h.loadControl(ctx)
	if err != nil {
		return err
	}
	g, err := choose(c)
	if err != nil {
		return err
	}
	ns := namespaceOf(g.GetName())
	switch {
	case ns == c.serving():
		return fmt.Errorf("%w: %s", ErrAlreadyServing, ns)
	case g.GetScratch():
		return fmt.Errorf("%w: %s is a scratch generation", ErrUnknownGeneration, ns)
	case h.definitions[ns.Version] == nil || g.GetRetired():
		return fmt.Errorf("%w: %s", ErrFrozen, ns)
	}
	if err := h.awaitCaughtUp(ctx, c.serving(), ns); err != nil {
		return err
	}
	if err := h.audit(ctx, by, operation, ns); err != nil {
		return err
	}
	if _, err := h.changeControl(ctx, func(c *control) error {
		if c.serving() == ns {
			return errUnchanged
		}
		if c.find(ns) == nil {
			return fmt.Errorf("%w: %s", ErrUnknownGeneration, ns)
		}
		c.serve(ns)
		return nil
	}); err != nil {
		return err
	}
	return h.await(ctx, func() (bool, error) { return h.servingRunner().ns == ns || !h.isRunning(), nil })
}

// switchPatience is how long a generation may take to come up to the one that serves.
const switchPatience = 2 * time.Second

// awaitCaughtUp waits until a generation contains what the one that serves does.
func (h *host) awaitCaughtUp(ctx context.Context, serving, ns view.Namespace) error {
	want, err := h.storedPosition(ctx, serving)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(switchPatience)
	for {
		at, err := h.storedPosition(ctx, ns)
		if err != nil {
			return err
		}
		if at >= want {
			return nil
		}
		if time.Now().After(deadline) {
			return &NotCaughtUpError{Generation: ns, At: at, Want: want}
		}
		if !sleep(ctx, operationPoll) {
			return ctx.Err()
		}
	}
}

// storedPosition is how far a generation is, whoever folds it.
func (h *host) storedPosition(ctx context.Context, ns view.Namespace) (eventstore.Position, error) {
	r := h.runnerOf(ns)
	if r == nil {
		if h.definitions[ns.Version] == nil {
			return 0, fmt.Errorf("%w: %s", ErrFrozen, ns)
		}
		var err error
		if r, err = h.open(ctx, ns); err != nil {
			return 0, fmt.Errorf("open generation %s: %w", ns, err)
		}
	}
	c, err := r.gen.Checkpoint(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the checkpoint of %s: %w", ns, err)
	}
	// Where it is folded here its checkpoint may be behind: it is not moved for nothing.
	return max(positionOf(c.Position), r.position()), nil
}

// operationPoll is how often it is looked whether something asked for was done.
const operationPoll = 10 * time.Millisecond

// await looks until something is done, and pokes whoever does it.
func (h *host) await(ctx context.Context, done func() (bool, error)) error {
	for {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		wakeUp(h.poke)
		if !sleep(ctx, operationPoll) {
			return fmt.Errorf("it was asked for and will still be done: %w", ctx.Err())
		}
	}
}

func (h *host) isRunning() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.running
}

// activePatience is how long a process may take to take its turn.
const activePatience = 5 * time.Second

// requireActive fails where no process folds that could carry something out,
// nor begins to within moments.
func (h *host) requireActive(ctx context.Context) error {
	deadline := time.Now().Add(activePatience)
	for {
		c, err := h.loadControl(ctx)
		if err != nil || h.activeProcess(c) != "" {
			return err
		}
		if time.Now().After(deadline) {
			return &NotActiveError{Projection: h.name}
		}
		if !sleep(ctx, operationPoll) {
			return ctx.Err()
		}
	}
}

// Drop is Operations's.
func (h *host) Drop(ctx context.Context, by By, ns view.Namespace) error {
	if err := h.drop(ctx, by, ns); err != nil {
		return fmt.Errorf("drop a generation of %s: %w", h.name, err)
	}
	return nil
}

func (h *host) drop(ctx context.Context, by By, ns view.Namespace) error {
	c, err := h.loadControl(ctx)
	if err != nil {
		return err
	}
	g, err := h.find(c, ns, view.Namespace{})
	if err != nil {
		return err
	}
	ns = namespaceOf(g.GetName())
	if ns == c.serving() {
		return fmt.Errorf("%w: %s", ErrAlreadyServing, ns)
	}
	if err := h.requireActive(ctx); err != nil {
		return err
	}
	if err := h.audit(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_DROP, ns); err != nil {
		return err
	}
	return h.dropQuietly(ctx, ns)
}

// dropQuietly drops a generation and waits until it is gone.
func (h *host) dropQuietly(ctx context.Context, ns view.Namespace) error {
	if _, err := h.changeControl(ctx, func(c *control) error {
		g := c.find(ns)
		switch {
		case c.serving() == ns:
			return fmt.Errorf("%w: %s", ErrAlreadyServing, ns)
		case g == nil:
			return errUnchanged
		}
		g.Dropped = true
		if c.GetPrevious() != nil && namespaceOf(c.GetPrevious()) == ns {
			c.Previous = nil
		}
		return nil
	}); err != nil {
		return err
	}
	return h.await(ctx, func() (bool, error) {
		c, err := h.loadControl(ctx)
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(c.GetGenerations(), func(g *opsv1.GenerationControl) bool { return namespaceOf(g.GetName()) == ns }), nil
	})
}

// Pause is Operations's.
func (h *host) Pause(ctx context.Context, by By) error {
	if err := h.audit(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_PAUSE, view.Namespace{}); err != nil {
		return fmt.Errorf("pause %s: %w", h.name, err)
	}
	_, err := h.changeControl(ctx, func(c *control) error {
		c.Pause = &opsv1.Pause{Actor: by.Actor, Reason: by.Reason, Time: timestamppb.New(h.deps.Now())}
		return nil
	})
	if err == nil {
		err = h.await(ctx, func() (bool, error) {
			h.mu.RLock()
			defer h.mu.RUnlock()
			return h.control.GetPause() != nil && len(h.foldings) == 0 || !h.running, nil
		})
	}
	if err != nil {
		return fmt.Errorf("pause %s: %w", h.name, err)
	}
	return nil
}

// Resume is Operations's.
func (h *host) Resume(ctx context.Context, by By) error {
	if err := h.audit(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_RESUME, view.Namespace{}); err != nil {
		return fmt.Errorf("resume %s: %w", h.name, err)
	}
	c, err := h.changeControl(ctx, func(c *control) error {
		c.Pause = nil
		c.Resumed++
		return nil
	})
	if err == nil {
		err = h.await(ctx, func() (bool, error) {
			h.mu.RLock()
			defer h.mu.RUnlock()
			return h.control.GetResumed() >= c.GetResumed() || !h.running, nil
		})
	}
	if err != nil {
		return fmt.Errorf("resume %s: %w", h.name, err)
	}
	return nil
}
