package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/view"
)

// control is a projection's control record as it was read: what operators
// want. It is changed by writing another one, never in place.
type control struct {
	*opsv1.ProjectionControl
	revision uint64
}

const controlFormat = 1

func nameOf(ns view.Namespace) *opsv1.GenerationName {
	return &opsv1.GenerationName{Projection: ns.Projection, Version: ns.Version, Generation: ns.Generation}
}

func namespaceOf(n *opsv1.GenerationName) view.Namespace {
	return view.Namespace{Projection: n.GetProjection(), Version: n.GetVersion(), Generation: n.GetGeneration()}
}

// serving is the generation that is to serve.
func (c *control) serving() view.Namespace { return namespaceOf(c.GetServing()) }

// find is what is wanted of a generation; nil where there is none.
func (c *control) find(ns view.Namespace) *opsv1.GenerationControl {
	for _, g := range c.GetGenerations() {
		if namespaceOf(g.GetName()) == ns && !g.GetDropped() {
			return g
		}
	}
	return nil
}

// candidate is the generation that is being filled to serve; nil for none.
func (c *control) candidate() *opsv1.GenerationControl {
	for _, g := range c.GetGenerations() {
		if c.role(g) == opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE && !g.GetDropped() {
			return g
		}
	}
	return nil
}

// role is what a generation is there for.
func (c *control) role(g *opsv1.GenerationControl) opsv1.GenerationRole {
	switch ns := namespaceOf(g.GetName()); {
	case g.GetScratch():
		return opsv1.GenerationRole_GENERATION_ROLE_SCRATCH
	case ns == c.serving():
		return opsv1.GenerationRole_GENERATION_ROLE_SERVING
	case c.GetPrevious() != nil && ns == namespaceOf(c.GetPrevious()):
		return opsv1.GenerationRole_GENERATION_ROLE_PREVIOUS
	case g.GetRetired():
		return opsv1.GenerationRole_GENERATION_ROLE_RETIRED
	default:
		return opsv1.GenerationRole_GENERATION_ROLE_CANDIDATE
	}
}

// serve makes a generation serve.
func (c *control) serve(ns view.Namespace) {
	if was := c.GetPrevious(); was != nil && namespaceOf(was) != ns {
		if g := c.find(namespaceOf(was)); g != nil {
			g.Retired = true
		}
	}
	c.Previous, c.Serving = c.GetServing(), nameOf(ns)
	if g := c.find(ns); g != nil {
		g.SwitchWhenReady, g.Retired = false, false
	}
}

// add wants another generation, of the next number.
func (c *control) add(projection string, version uint32, g *opsv1.GenerationControl) view.Namespace {
	c.LastGeneration++
	ns := view.Namespace{Projection: projection, Version: version, Generation: c.GetLastGeneration()}
	g.Name = nameOf(ns)
	c.Generations = append(c.Generations, g)
	return ns
}

// remove forgets a generation.
func (c *control) remove(ns view.Namespace) {
	c.Generations = slices.DeleteFunc(c.Generations, func(g *opsv1.GenerationControl) bool { return namespaceOf(g.GetName()) == ns })
	if c.GetPrevious() != nil && namespaceOf(c.GetPrevious()) == ns {
		c.Previous = nil
	}
}

// loadControl reads the control record.
func (h *host) loadControl(ctx context.Context) (*control, error) {
	stored, err := h.deps.Views.Control(ctx, h.name)
	if err != nil {
		return nil, fmt.Errorf("read control record: %w", err)
	}
	c := &control{ProjectionControl: &opsv1.ProjectionControl{}, revision: stored.Revision}
	if stored.Revision == 0 {
		return c, nil
	}
	if err := proto.Unmarshal(stored.Data, c.ProjectionControl); err != nil {
		return nil, fmt.Errorf("read control record: %w: %w", view.ErrCorrupt, err)
	}
	if c.GetFormat() > controlFormat {
		return nil, fmt.Errorf("control record of projection %s: %w: it has format %d, this binary knows %d; start the newer binary", h.name, view.ErrNewerFormat, c.GetFormat(), controlFormat)
	}
	return c, nil
}

// errUnchanged, given by a change, leaves the record as it is.
var errUnchanged = errors.New("unchanged")

// changeControl changes the control record, on what is stored at the moment; change may be
// called more than once.
func (h *host) changeControl(ctx context.Context, change func(c *control) error) (*control, error) {
	for {
		c, err := h.loadControl(ctx)
		if err != nil {
			return nil, err
		}
		if err := change(c); errors.Is(err, errUnchanged) {
			return c, nil
		} else if err != nil {
			return nil, err
		}
		c.Format = controlFormat
		data, err := proto.Marshal(c.ProjectionControl)
		if err != nil {
			return nil, fmt.Errorf("marshal control record: %w", err)
		}
		c.revision, err = h.deps.Views.SaveControl(ctx, h.name, view.Control{Revision: c.revision, Data: data})
		if err == nil {
			wakeUp(h.poke)
			return c, nil
		}
		if !errors.Is(err, view.ErrConflict) {
			return nil, fmt.Errorf("write control record: %w", err)
		}
	}
}

// establish makes sure that there is a control record and that it names a
// generation to serve that this binary can read. It returns that one.
func (h *host) establish(ctx context.Context) (*control, view.Namespace, error) {
	var serving view.Namespace
	c, err := h.changeControl(ctx, func(c *control) error {
		changed := false
		if c.revision == 0 {
			if err := h.adopt(ctx, c); err != nil {
				return err
			}
			changed = true
		}
		var fresh bool
		var err error
		if serving, fresh, err = h.readable(c); err != nil {
			return err
		}
		if !changed && !fresh {
			return errUnchanged
		}
		return nil
	})
	return c, serving, err
}

// adopt takes over what a store without a control record holds.
func (h *host) adopt(ctx context.Context, c *control) error {
	all, err := h.deps.Views.Namespaces(ctx)
	if err != nil {
		return fmt.Errorf("list generations: %w", err)
	}
	for _, ns := range all {
		if ns.Projection != h.name {
			continue
		}
		c.LastGeneration = max(c.GetLastGeneration(), ns.Generation)
		c.Generations = append(c.Generations, &opsv1.GenerationControl{
			Name: nameOf(ns), CreateTime: timestamppb.New(h.deps.Now()), Reason: "found in the store", Retired: true,
		})
		if h.definitions[ns.Version] != nil {
			c.Serving = nameOf(ns)
		}
	}
	if c.GetServing() == nil {
		_, version := h.current.label()
		c.Serving = nameOf(c.add(h.name, version, &opsv1.GenerationControl{
			CreateTime: timestamppb.New(h.deps.Now()), Reason: "first start",
		}))
		return nil
	}
	c.find(c.serving()).Retired = false
	return nil
}

// readable is the generation that this binary can serve. Where it can read
// neither the one that is to serve nor the one before, it makes a fresh one;
// but it does not take the place of a newer binary's.
func (h *host) readable(c *control) (ns view.Namespace, fresh bool, err error) {
	ns = c.serving()
	if h.definitions[ns.Version] != nil {
		return ns, false, nil
	}
	_, version := h.current.label()
	if ns.Version > version {
		if before := c.GetPrevious(); before != nil && h.definitions[before.GetVersion()] != nil && c.find(namespaceOf(before)) != nil {
			// A newer binary has just switched over, and folds it on.
			return namespaceOf(before), false, nil
		}
		return ns, false, fmt.Errorf("projection %s is served by generation %s, which a newer binary has filled, and this one computes version %d: %w; start the newer binary, or with that one switch back to a generation of version %d first (parley projections switch)",
			h.name, ns, version, view.ErrNewerFormat, version)
	}
	ns = c.add(h.name, version, &opsv1.GenerationControl{
		CreateTime: timestamppb.New(h.deps.Now()), Reason: fmt.Sprintf("version %d has no fold in this binary", ns.Version),
	})
	c.serve(ns)
	return ns, true, nil
}
