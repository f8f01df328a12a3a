package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// Run is Projection's.
func (h *host) Run(ctx context.Context) error {
	h.mu.Lock()
	if h.running {
		h.mu.Unlock()
		return fmt.Errorf("run projection %s: %w", h.name, ErrRunning)
	}
	h.running = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.running = false
		h.mu.Unlock()
	}()
	if err := h.run(ctx); err != nil {
		return fmt.Errorf("run projection %s: %w", h.name, err)
	}
	return nil
}

// run brings what happens in line with what is wanted, whenever one of them
// changed. All that it starts has ended when it returns.
func (h *host) run(ctx context.Context) error {
	wake, stop := h.deps.Views.Wake(h.name)
	defer stop()
	turn := h.takeTurns(ctx)
	defer turn.stop()
	defer h.stopAll()
	poll := time.NewTicker(h.deps.Options.PollInterval)
	defer poll.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		h.mu.Lock()
		h.active = turn.held()
		h.mu.Unlock()
		err := h.sync(ctx)
		if ctx.Err() != nil {
			return nil
		}
		h.mu.Lock()
		before := h.failed
		h.failed = err
		h.mu.Unlock()
		if errors.Is(err, view.ErrClosed) || errors.Is(err, eventstore.ErrClosed) {
			return err
		}
		switch {
		case err != nil && (before == nil || before.Error() != err.Error()):
			h.log.Warn("projection cannot be brought in line with its control record, trying again", "error", err, "every", h.deps.Options.PollInterval)
		case err == nil && before != nil:
			h.log.Info("projection is in line with its control record again")
		}
		if h.fenced() && h.deps.Lease != nil {
			// It is somebody else's turn.
			h.stopAll()
			turn.giveUp()
		}
		hint := wake
		if turn.held() {
			// Most hints are of this process's own commits.
			hint = nil
			rest.Reset(hintEvery)
		}
		for hint == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-rest.C:
				hint = wake
				continue
			case <-poll.C:
			case <-h.poke:
			case <-turn.changed:
			}
			break
		}
		if hint == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-hint:
		case <-h.poke:
		case <-turn.changed:
		}
	}
}

// hintEvery is how often the active process heeds a hint that something changed.
const hintEvery = 100 * time.Millisecond

// sync does one round of what is to be done.
func (h *host) sync(ctx context.Context) error {
	c, err := h.loadControl(ctx)
	h.mu.Lock()
	if h.unread = err; err == nil {
		h.control = c
	}
	active := h.active
	h.mu.Unlock()
	if err != nil {
		return err
	}
	if !active {
		h.stopAll()
		return h.follow(ctx, c)
	}
	if c, err = h.wantCurrent(ctx, c); err != nil {
		return err
	}
	if err := h.dropScratch(ctx, c); err != nil {
		return err
	}
	if err := h.foldWhatIsWanted(ctx, c); err != nil {
		return err
	}
	if err := h.switchWhenReady(ctx, c); err != nil {
		return err
	}
	if err := h.readWhatServes(ctx, c); err != nil {
		return err
	}
	if err := h.dropWhatIsNot(ctx, c); err != nil {
		return err
	}
	if err := h.takeRetries(ctx, c); err != nil {
		return err
	}
	return h.publish(ctx)
}

// wantCurrent asks for a generation of this binary's version, where a previous
// one's serves.
func (h *host) wantCurrent(ctx context.Context, c *control) (*control, error) {
	_, version := h.current.label()
	wanted := func(c *control) bool {
		if c.serving().Version >= version || c.candidate() != nil {
			return false
		}
		for _, g := range c.GetGenerations() {
			if g.GetName().GetVersion() == version && !g.GetDropped() && !g.GetScratch() {
				return false // it served before, and was rolled back
			}
		}
		return true
	}
	if !wanted(c) {
		return c, nil
	}
	return h.changeControl(ctx, func(c *control) error {
		if !wanted(c) {
			return errUnchanged
		}
		ns := c.add(h.name, version, &opsv1.GenerationControl{
			CreateTime: timestamppb.New(h.deps.Now()), Reason: fmt.Sprintf("version %d", version), SwitchWhenReady: true,
		})
		h.log.Info("a new version is filled beside the one that serves", "generation", ns.String(), "serving", c.serving().String())
		return nil
	})
}

// dropScratch asks to drop what an earlier process has left that was verifying.
func (h *host) dropScratch(ctx context.Context, c *control) error {
	h.mu.RLock()
	own := h.scratch
	h.mu.RUnlock()
	for _, g := range c.GetGenerations() {
		if ns := namespaceOf(g.GetName()); g.GetScratch() && !g.GetDropped() && ns != own {
			if _, err := h.changeControl(ctx, func(c *control) error {
				if g := c.find(ns); g != nil {
					g.Dropped = true
				}
				return nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// foldable says that a generation is to be folded by this process while it is active.
func (h *host) foldable(c *control, g *opsv1.GenerationControl) bool {
	return !g.GetDropped() && !g.GetRetired() && h.definitions[g.GetName().GetVersion()] != nil && c.GetPause() == nil
}

// foldWhatIsWanted runs the generations that are to be folded, and no others.
func (h *host) foldWhatIsWanted(ctx context.Context, c *control) error {
	wanted := map[*runner]bool{}
	for _, g := range c.GetGenerations() {
		if !h.foldable(c, g) {
			continue
		}
		r, err := h.open(ctx, namespaceOf(g.GetName()))
		if err != nil {
			return fmt.Errorf("open generation %s: %w", namespaceOf(g.GetName()), err)
		}
		wanted[r] = true
		r.pace.limit.Store(g.GetMaxEventsPerSecond())
		if r != h.servingRunner() {
			r.pace.reads.CompareAndSwap(nil, &h.reads)
		}
		h.start(ctx, r, c.GetResumed(), g.GetScan())
	}
	h.mu.RLock()
	var rest []*runner
	for r := range h.foldings {
		if !wanted[r] {
			rest = append(rest, r)
		}
	}
	h.mu.RUnlock()
	for _, r := range rest {
		h.halt(r)
	}
	return nil
}

// start runs a generation, unless it runs or has halted since the last resumption.
func (h *host) start(ctx context.Context, r *runner, resumed uint64, scan string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.foldings[r]; f != nil {
		select {
		case <-f.done:
			if f.err != nil && f.resumed >= resumed {
				return
			}
		default:
			return
		}
	}
	r.scan = scan
	ctx, cancel := context.WithCancel(ctx)
	f := &folding{cancel: cancel, done: make(chan struct{}), resumed: resumed}
	h.foldings[r] = f
	go func() {
		defer close(f.done)
		defer cancel()
		f.err = r.run(ctx)
		wakeUp(h.poke)
	}()
}

// halt ends the running of a generation and waits for it.
func (h *host) halt(r *runner) {
	h.mu.Lock()
	f := h.foldings[r]
	delete(h.foldings, r)
	h.mu.Unlock()
	if f != nil {
		f.cancel()
		<-f.done
	}
}

func (h *host) stopAll() {
	h.mu.RLock()
	var all []*runner
	for r := range h.foldings {
		all = append(all, r)
	}
	h.mu.RUnlock()
	for _, r := range all {
		h.halt(r)
	}
}

// fenced says that another process has taken over a generation that this one folded.
func (h *host) fenced() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, f := range h.foldings {
		select {
		case <-f.done:
			if errors.Is(f.err, view.ErrFenced) {
				return true
			}
		default:
		}
	}
	return false
}

// switchWhenReady switches to a candidate that was to be switched to and has caught up.
func (h *host) switchWhenReady(ctx context.Context, c *control) error {
	g := c.candidate()
	if g == nil || !g.GetSwitchWhenReady() {
		return nil
	}
	ns := namespaceOf(g.GetName())
	r := h.runnerOf(ns)
	if r == nil || r.currentStatus().State != Live {
		return nil
	}
	_, err := h.changeControl(ctx, func(c *control) error {
		if g := c.find(ns); g == nil || !g.GetSwitchWhenReady() || c.serving() == ns {
			return errUnchanged
		}
		c.serve(ns)
		return nil
	})
	return err
}

// readWhatServes makes this process's reads see the generation that is to serve.
func (h *host) readWhatServes(ctx context.Context, c *control) error {
	ns := c.serving()
	if h.definitions[ns.Version] == nil {
		// This binary cannot read it, and goes on with what it can as long as that is there.
		if before := c.GetPrevious(); before != nil {
			ns = namespaceOf(before)
		}
	}
	if h.servingRunner().ns == ns || h.definitions[ns.Version] == nil || c.find(ns) == nil {
		return nil
	}
	r, err := h.open(ctx, ns)
	if err != nil {
		return fmt.Errorf("open generation %s: %w", ns, err)
	}
	// Not for ever: the rest of what is to be done must not wait for it.
	ctx, cancel := context.WithTimeout(ctx, h.deps.Options.PollInterval)
	defer cancel()
	if err := h.flip(ctx, r); err != nil {
		wakeUp(h.poke)
		if ctx.Err() != nil || errors.Is(err, ErrBehind) {
			return nil
		}
		return err
	}
	return nil
}

// dropWhatIsNot removes the generations that are to be dropped, and closes what is no more.
func (h *host) dropWhatIsNot(ctx context.Context, c *control) error {
	for _, g := range c.GetGenerations() {
		ns := namespaceOf(g.GetName())
		if !g.GetDropped() {
			continue
		}
		if err := h.closeGeneration(ns); err != nil {
			return err
		}
		if err := h.deps.Views.Drop(ctx, ns); err != nil && !errors.Is(err, view.ErrNotFound) {
			return fmt.Errorf("drop generation %s: %w", ns, err)
		}
		h.log.Info("generation dropped", "generation", ns.String())
		if _, err := h.changeControl(ctx, func(c *control) error {
			c.remove(ns)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// closeGeneration closes a generation that does not serve.
func (h *host) closeGeneration(ns view.Namespace) error {
	r := h.runnerOf(ns)
	if r == nil || r == h.servingRunner() {
		return nil
	}
	h.halt(r)
	h.mu.Lock()
	delete(h.runners, ns)
	h.mu.Unlock()
	return r.close()
}

// takeRetries carries out what other processes asked for.
func (h *host) takeRetries(ctx context.Context, c *control) error {
	for _, asked := range c.GetRetries() {
		r := h.runnerOf(namespaceOf(asked.GetGeneration()))
		result := &opsv1.RetryResult{Number: asked.GetNumber()}
		if r == nil {
			result.Error = "the generation is not there any more"
		} else {
			d := r.retry(asked.GetPositions())
			select {
			case <-d.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if d.err != nil && (errors.Is(d.err, view.ErrFenced) || h.runsAgain(c, r)) {
				return nil // it is about to run, or stopped meanwhile: it is done when it runs, here or elsewhere
			}
			if result.Folded = d.folded; d.err != nil {
				result.Error = d.err.Error()
			}
		}
		if _, err := h.changeControl(ctx, func(c *control) error {
			const kept = 16
			c.Retries = deleteRetry(c.GetRetries(), asked.GetNumber())
			c.RetryResults = append(c.RetryResults, result)
			if n := len(c.GetRetryResults()) - kept; n > 0 {
				c.RetryResults = c.GetRetryResults()[n:]
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// runsAgain says that a generation is to be folded and has not halted.
func (h *host) runsAgain(c *control, r *runner) bool {
	g := c.find(r.ns)
	return g != nil && h.foldable(c, g) && r.currentStatus().State != Halted
}

func deleteRetry(all []*opsv1.RetryControl, number uint64) []*opsv1.RetryControl {
	var rest []*opsv1.RetryControl
	for _, r := range all {
		if r.GetNumber() != number {
			rest = append(rest, r)
		}
	}
	return rest
}

// publishEvery is how often the active process says how it does, in views that
// others read.
const publishEvery = time.Second

// publish notes what others cannot see: how the generations do that are folded here.
func (h *host) publish(ctx context.Context) error {
	h.mu.RLock()
	runners := h.opened()
	last := h.control.GetActive()
	h.mu.RUnlock()
	if !h.deps.Views.Shared() || last.GetName() == h.deps.Process && h.deps.Now().Sub(last.GetTime().AsTime()) < publishEvery {
		return nil
	}
	_, err := h.changeControl(ctx, func(c *control) error {
		c.Active = &opsv1.ActiveProcess{Name: h.deps.Process, Time: timestamppb.New(h.deps.Now())}
		for _, g := range c.GetGenerations() {
			for _, r := range runners {
				if r.ns == namespaceOf(g.GetName()) {
					c.Active.Generations = append(c.Active.Generations, h.generationReport(c, g, r))
				}
			}
		}
		return nil
	})
	return err
}

// follow reads what another process folds.
func (h *host) follow(ctx context.Context, c *control) error {
	h.mu.RLock()
	runners := h.opened()
	h.mu.RUnlock()
	if before := c.GetPrevious(); before != nil && h.definitions[before.GetVersion()] != nil && c.find(namespaceOf(before)) != nil {
		// Pages that were begun on it are read on from it.
		if _, err := h.open(ctx, namespaceOf(before)); err != nil {
			return fmt.Errorf("open generation %s: %w", namespaceOf(before), err)
		}
	}
	if next := c.serving(); h.definitions[next.Version] != nil {
		if _, err := h.open(ctx, next); err != nil {
			return fmt.Errorf("open generation %s: %w", next, err)
		}
	}
	for _, r := range runners {
		if c.find(r.ns) == nil {
			if err := h.closeGeneration(r.ns); err != nil {
				return err
			}
			continue
		}
		moved, err := r.catchUp(ctx)
		if err != nil {
			return err
		}
		if moved && r == h.servingRunner() {
			h.hub.all()
		}
	}
	return h.readWhatServes(ctx, c)
}

// catchUp looks how far another process has come with the generation.
func (r *runner) catchUp(ctx context.Context) (moved bool, err error) {
	before := r.position()
	position, err := r.checkpoint(ctx)
	if err != nil {
		return false, err
	}
	if head, err := r.deps.Log.Head(ctx); err == nil {
		r.sawHead(head)
	}
	// What it knew while it folded by itself is of the past.
	r.mu.Lock()
	r.newest, r.pending, r.letters = time.Time{}, time.Time{}, letterCounts{}
	r.mu.Unlock()
	r.waiters.halt(nil)
	r.setState(following(r.currentStatus()), nil)
	return position > before, nil
}

func following(s Status) State {
	if s.Head > s.Position {
		return CatchingUp
	}
	return Live
}
