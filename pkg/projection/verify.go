package projection

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// Verify is Operations's.
func (h *host) Verify(ctx context.Context, by By, opts VerifyOptions) (*opsv1.Difference, error) {
	difference, err := h.verify(ctx, by, opts)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", h.name, err)
	}
	return difference, nil
}

func (h *host) verify(ctx context.Context, by By, opts VerifyOptions) (_ *opsv1.Difference, err error) {
	c, err := h.loadControl(ctx)
	if err != nil {
		return nil, err
	}
	serving, err := h.folded(ctx, c, c.serving(), c.serving())
	if err != nil {
		return nil, err
	}
	if err := noScratch(c); err != nil {
		return nil, err
	}
	if err := h.audit(ctx, by, eventv1.ProjectionOperation_PROJECTION_OPERATION_VERIFY, serving.ns); err != nil {
		return nil, err
	}
	t := newTeller(h.deps.Now, opts.Progress)
	var s *sample
	if opts.Sample > 0 && opts.Sample < 1 {
		t.begin("choosing customers", 0)
		if s, err = chooseSample(ctx, &h.deps, opts.Sample, t); err != nil {
			return nil, err
		}
	}
	scratch, err := h.openScratch(ctx, serving.ns.Version, s, opts.MaxEventsPerSecond)
	if err != nil {
		return nil, err
	}
	defer func() {
		// Also where the caller has gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scratchPatience)
		defer cancel()
		err = errors.Join(err, h.dropQuietly(ctx, scratch.ns))
	}()
	if err := h.fill(ctx, scratch, serving, t); err != nil {
		return nil, err
	}
	return h.difference(ctx, scratch, serving, opts.CompareOptions, s)
}

// scratchPatience is how long it may take to drop a scratch generation.
const scratchPatience = 30 * time.Second

func noScratch(c *control) error {
	for _, g := range c.GetGenerations() {
		if g.GetScratch() && !g.GetDropped() {
			return fmt.Errorf("%w: %s, to verify", ErrRebuildRunning, namespaceOf(g.GetName()))
		}
	}
	return nil
}

// openScratch makes a generation to verify with, and has it folded.
func (h *host) openScratch(ctx context.Context, version uint32, s *sample, limit uint32) (*runner, error) {
	var ns view.Namespace
	if _, err := h.changeControl(ctx, func(c *control) error {
		if err := noScratch(c); err != nil {
			return err
		}
		ns = c.add(h.name, version, &opsv1.GenerationControl{
			CreateTime: timestamppb.New(h.deps.Now()), Reason: "to verify", Scratch: true, MaxEventsPerSecond: limit,
		})
		// Before it can be opened by whoever sees the record.
		h.mu.Lock()
		h.scratch, h.sample = ns, s
		h.mu.Unlock()
		return nil
	}); err != nil {
		return nil, err
	}
	var r *runner
	err := h.await(ctx, func() (bool, error) {
		r = h.runnerOf(ns)
		return r != nil, nil
	})
	if err != nil {
		return nil, errors.Join(err, h.dropQuietly(context.WithoutCancel(ctx), ns))
	}
	return r, nil
}

// fill waits until a scratch generation has come near to the one that serves.
func (h *host) fill(ctx context.Context, scratch, serving *runner, t *teller) error {
	t.begin("folding", uint64(serving.position()))
	for {
		s := scratch.currentStatus()
		if s.State == Halted {
			return s.Err
		}
		target := serving.position()
		t.total = uint64(target)
		t.at(uint64(s.Position))
		const near = 1000
		if s.Position+near >= target && s.State != Stopped {
			return nil
		}
		if !sleep(ctx, operationPoll) {
			return ctx.Err()
		}
	}
}

// sample is a part of the customers, chosen so that everybody who was ever
// merged with one of them is among them: it can be folded by itself.
type sample struct {
	share float64
	seed  maphash.Seed
	// parent leads from a profile, by its hash, to another that it was ever named together with.
	parent map[uint64]uint64
	limit  uint64
}

// chooseSample looks through all events that say who belongs together.
func chooseSample(ctx context.Context, deps *Deps, share float64, t *teller) (*sample, error) {
	s := &sample{share: share, seed: maphash.MakeSeed(), parent: map[uint64]uint64{}, limit: uint64(share * math.MaxUint64)}
	ev := &eventv1.RecordedEvent{}
	opts := eventstore.ReadAllOptions{Filter: eventstore.Filter{Types: []string{typeMerged, typeSplit}}}
	for rec, err := range deps.Log.ReadAll(ctx, opts) {
		if err != nil {
			return nil, fmt.Errorf("choose customers: %w", err)
		}
		t.step()
		if err := decodeSafely(deps.Codec, rec, ev); err != nil {
			continue // it is a dead letter in both
		}
		s.join(ev.GetEvent())
	}
	return s, nil
}

func (s *sample) join(ev *eventv1.Event) {
	var first uint64
	named(ev, func(id string) {
		root := s.root(s.hash(ev.GetTenant(), id))
		if first == 0 {
			first = root
		} else if root != first {
			s.parent[root] = first
		}
	})
}

func (s *sample) hash(tenant, profile string) uint64 {
	// 0 stands for none.
	return max(maphash.Comparable(s.seed, view.Key{Tenant: tenant, ID: profile}), 1)
}

func (s *sample) root(h uint64) uint64 {
	for {
		next, ok := s.parent[h]
		if !ok {
			return h
		}
		if further, ok := s.parent[next]; ok {
			s.parent[h] = further
		}
		h = next
	}
}

// has says that a profile's customer is chosen. Only lookups: it is asked by several goroutines.
func (s *sample) has(key view.Key) bool {
	h := s.hash(key.Tenant, key.ID)
	for {
		next, ok := s.parent[h]
		if !ok {
			return h <= s.limit
		}
		h = next
	}
}

// keeps says that a record is folded.
func (s *sample) keeps(rec *eventstore.Record) bool {
	switch rec.Type {
	case typeSkipped, typeMerged, typeSplit:
		return true // those of others are dropped once they are decoded
	}
	routing, err := event.PeekRouting(rec.Data)
	if err != nil {
		return true
	}
	return routing.ProfileID != "" && s.has(view.Key{Tenant: routing.Tenant, ID: routing.ProfileID})
}

// drop takes out of decoded events those that name only customers who are not chosen.
func (s *sample) drop(events []*eventv1.RecordedEvent) []*eventv1.RecordedEvent {
	return slices.DeleteFunc(events, func(rec *eventv1.RecordedEvent) bool {
		ev := rec.GetEvent()
		if t := ev.GetType(); t != typeMerged && t != typeSplit {
			return false
		}
		keep := false
		named(ev, func(id string) { keep = keep || s.has(view.Key{Tenant: ev.GetTenant(), ID: id}) })
		return !keep
	})
}
