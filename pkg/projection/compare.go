package projection

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// contentDigest is the digest of what was computed. The dead letters are told
// of by their effect on the documents; when they were tried is nobody's content.
func contentDigest(ctx context.Context, gen view.Generation) (view.Digest, error) {
	d, err := gen.Digest(ctx)
	if err != nil {
		return d, err
	}
	d.Collections = slices.DeleteFunc(d.Collections, func(c view.CollectionDigest) bool { return c.Name == deadLettersCollection })
	return d, nil
}

// Compare is Operations's.
func (h *host) Compare(ctx context.Context, one, other view.Namespace, opts CompareOptions) (*opsv1.Difference, error) {
	difference, err := h.compare(ctx, one, other, opts)
	if err != nil {
		return nil, fmt.Errorf("compare generations of %s: %w", h.name, err)
	}
	return difference, nil
}

func (h *host) compare(ctx context.Context, one, other view.Namespace, opts CompareOptions) (*opsv1.Difference, error) {
	c, err := h.loadControl(ctx)
	if err != nil {
		return nil, err
	}
	if one.Generation == 0 && c.candidate() == nil {
		return nil, fmt.Errorf("%w: there is no candidate to compare; name a generation", ErrUnknownGeneration)
	}
	a, err := h.folded(ctx, c, one, candidateOf(c))
	if err != nil {
		return nil, err
	}
	b, err := h.folded(ctx, c, other, c.serving())
	if err != nil {
		return nil, err
	}
	if a == b {
		return nil, fmt.Errorf("%s with itself: %w", a.ns, view.ErrInvalid)
	}
	if a == h.servingRunner() {
		// What serves is never held back.
		difference, err := h.difference(ctx, b, a, opts, nil)
		return turnedRound(difference), err
	}
	return h.difference(ctx, a, b, opts, nil)
}

// folded is a generation that this process folds, or begins to within moments.
func (h *host) folded(ctx context.Context, c *control, ns, otherwise view.Namespace) (*runner, error) {
	g, err := h.find(c, ns, otherwise)
	if err != nil {
		return nil, err
	}
	ns = namespaceOf(g.GetName())
	if c.GetPause() != nil {
		return nil, fmt.Errorf("%w: resume it first", ErrPaused)
	}
	if g.GetRetired() || h.definitions[ns.Version] == nil {
		return nil, fmt.Errorf("%w: %s", ErrFrozen, ns)
	}
	if err := h.requireActive(ctx); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(activePatience)
	for {
		h.mu.RLock()
		here, r := h.running && h.active, h.runners[ns]
		h.mu.RUnlock()
		switch {
		case here && r != nil && r.isRunning():
			return r, nil
		case here && r != nil && r.currentStatus().State == Halted:
			return nil, fmt.Errorf("generation %s has halted: %w", ns, r.currentStatus().Err)
		case !here || time.Now().After(deadline):
			a := c.GetActive()
			return nil, &NotActiveError{Projection: h.name, Active: a.GetName(), Since: a.GetTime().AsTime()}
		}
		if !sleep(ctx, operationPoll) {
			return nil, ctx.Err()
		}
	}
}

// pair is two generations as of one position.
type pair struct {
	one, other           *runner
	oneState, otherState view.Snapshot
	position             eventstore.Position
}

// align takes the state of two generations as of one position. The one is held back for it.
func (h *host) align(ctx context.Context, one, other *runner, step func(string)) (p *pair, err error) {
	p = &pair{one: one, other: other}
	defer one.release()
	step("waiting for the generations to meet")
	at, err := one.freeze(ctx)
	if err != nil {
		return nil, err
	}
	if other != h.servingRunner() {
		defer other.release()
		if _, err := other.freeze(ctx); err != nil {
			return nil, err
		}
		other.holder.set(max(at, other.position()))
	}
	if err := other.waitFor(ctx, at); err != nil {
		return nil, caughtUpError(err, other, at)
	}
	// What the state contains reaches at least to here, and its checkpoint at least to its last change.
	reached := other.position()
	if p.otherState, err = other.gen.Snapshot(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	checkpoint, err := p.otherState.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	p.position = max(at, min(positionOf(checkpoint.Position), max(reached, positionOf(checkpoint.Position))))
	one.holder.set(p.position)
	wakeUp(one.asked)
	if err := one.waitFor(ctx, p.position); err != nil {
		return nil, caughtUpError(err, one, p.position)
	}
	p.oneState, err = one.gen.Snapshot(ctx)
	return p, err
}

func caughtUpError(err error, r *runner, want eventstore.Position) error {
	if errors.Is(err, ErrBehind) {
		return &NotCaughtUpError{Generation: r.ns, At: r.position(), Want: want}
	}
	return err
}

func (p *pair) close() error {
	var err error
	for _, s := range []view.Snapshot{p.oneState, p.otherState} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return err
}

// difference compares two generations. With a sample, of which the one was
// filled, only what belongs to it is compared.
func (h *host) difference(ctx context.Context, one, other *runner, opts CompareOptions, s *sample) (d *opsv1.Difference, err error) {
	t := newTeller(h.deps.Now, opts.Progress)
	p, err := h.align(ctx, one, other, func(step string) { t.begin(step, 0) })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	d = &opsv1.Difference{Generation: nameOf(one.ns), Other: nameOf(other.ns), Position: uint64(p.position), Equal: true, Sample: 1}
	if s != nil {
		d.Sample = s.share
	}
	others := other.def.Collections()
	for _, c := range one.def.Collections() {
		if c.Name == deadLettersCollection {
			continue
		}
		i := slices.IndexFunc(others, func(o view.Collection) bool { return o.Name == c.Name })
		if i < 0 {
			continue // the versions differ in their collections, which is no difference of content
		}
		found, err := p.collection(ctx, &c, &others[i], c.Name == one.def.main(), opts.MaxDocuments, s, t)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", c.Name, err)
		}
		d.Collections = append(d.Collections, found)
		d.Equal = d.Equal && found.GetDiffering() == 0
	}
	return d, nil
}

// collection compares one collection, both in their order.
func (p *pair) collection(ctx context.Context, c, o *view.Collection, members bool, examples int, s *sample, t *teller) (*opsv1.CollectionDifference, error) {
	t.begin("comparing "+c.Name, 0)
	d := &opsv1.CollectionDifference{Collection: c.Name}
	var digest, otherDigest view.CollectionDigest
	one, stop := iter.Pull2(documents(ctx, p.oneState, c, members, s, &digest))
	defer stop()
	other, stopOther := iter.Pull2(documents(ctx, p.otherState, o, members, s, &otherDigest))
	defer stopOther()
	a, aErr, aOK := one()
	b, bErr, bOK := other()
	for aOK || bOK {
		if err := errors.Join(aErr, bErr); err != nil {
			return nil, err
		}
		var order int
		switch {
		case !bOK:
			order = -1
		case !aOK:
			order = 1
		default:
			order = bytes.Compare(a.order, b.order)
		}
		if order != 0 || !bytes.Equal(a.data, b.data) || !bytes.Equal(a.meta, b.meta) {
			p.differs(d, c, o, a, b, order, examples, s)
		}
		if order <= 0 {
			a, aErr, aOK = one()
		}
		if order >= 0 {
			b, bErr, bOK = other()
		}
		t.step()
	}
	d.Documents, d.OtherDocuments = uint64(digest.Documents), uint64(otherDigest.Documents)
	d.Digest, d.OtherDigest = fmt.Sprintf("%x", digest.Sum), fmt.Sprintf("%x", otherDigest.Sum)
	return d, nil
}

// differs notes that a document differs: order says which of the two there is.
func (p *pair) differs(d *opsv1.CollectionDifference, c, o *view.Collection, a, b compared, order, examples int, s *sample) {
	if order > 0 && s != nil && c.Clustered {
		return // rows of events say of no customer
	}
	d.Differing++
	if len(d.GetExamples()) >= examples {
		return
	}
	found := &opsv1.DocumentDifference{OnlyInGeneration: order < 0, OnlyInOther: order > 0}
	key := a.key
	if order > 0 {
		key = b.key
	}
	found.Tenant, found.DocumentId = key.Tenant, key.ID
	if order == 0 {
		found.Fields = fieldDifferences(c, o, a, b)
	}
	d.Examples = append(d.Examples, found)
}

// turnedRound is a difference with the one and the other exchanged.
func turnedRound(d *opsv1.Difference) *opsv1.Difference {
	if d == nil {
		return nil
	}
	d.Generation, d.Other = d.GetOther(), d.GetGeneration()
	for _, c := range d.GetCollections() {
		c.Documents, c.OtherDocuments = c.GetOtherDocuments(), c.GetDocuments()
		c.Digest, c.OtherDigest = c.GetOtherDigest(), c.GetDigest()
		for _, doc := range c.GetExamples() {
			doc.OnlyInGeneration, doc.OnlyInOther = doc.GetOnlyInOther(), doc.GetOnlyInGeneration()
			for _, f := range doc.GetFields() {
				f.Value, f.OtherValue = f.GetOtherValue(), f.GetValue()
			}
		}
	}
	return d
}

// teller tells of progress, not too often.
type teller struct {
	now   func() time.Time
	tell  func(*opsv1.Progress)
	name  string
	done  uint64
	total uint64
	since time.Time
	told  time.Time
}

// tellEvery is how often progress is told.
const tellEvery = 200 * time.Millisecond

func newTeller(now func() time.Time, tell func(*opsv1.Progress)) *teller {
	return &teller{now: now, tell: tell}
}

func (t *teller) begin(step string, total uint64) {
	t.name, t.done, t.total, t.since = step, 0, total, t.now()
	t.say()
}

// step notes that one more is done.
func (t *teller) step() {
	const some = 256
	if t.done++; t.done%some == 0 {
		t.at(t.done)
	}
}

// at notes how many are done.
func (t *teller) at(done uint64) {
	t.done = done
	if t.now().Sub(t.told) >= tellEvery {
		t.say()
	}
}

func (t *teller) say() {
	t.told = t.now()
	if t.tell == nil {
		return
	}
	p := &opsv1.Progress{Step: t.name, Done: t.done, Total: t.total}
	if elapsed := t.told.Sub(t.since).Seconds(); elapsed > 0 {
		p.PerSecond = float64(t.done) / elapsed
	}
	if p.GetPerSecond() > 0 && t.total > t.done {
		p.TimeLeft = durationpb.New(time.Duration(float64(t.total-t.done) / p.GetPerSecond() * float64(time.Second)))
	}
	t.tell(p)
}
