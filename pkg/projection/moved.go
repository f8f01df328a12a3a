package projection

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

// leaveOrigin sets the generations aside that hold a log which this one was
// copied from, and makes a new one serve; see Origins. They are kept until
// somebody drops them, for a way back.
func (h *host) leaveOrigin(ctx context.Context) error {
	if h.deps.Origins == nil {
		return nil
	}
	old := h.serving.ns
	checkpoint, err := h.serving.gen.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("checkpoint of generation %s: %w", old, err)
	}
	if checkpoint.IsZero() || checkpoint.LogID == h.deps.Log.LogID() {
		return nil
	}
	_, err = h.deps.Origins.Resolve(ctx, checkpoint.LogID, eventstore.Position(checkpoint.Position))
	var unknown *posmap.UnknownLogError
	switch {
	case errors.As(err, &unknown):
		return nil // whoever runs it is told that it is another log
	case err != nil:
		return fmt.Errorf("find out where position %d of log %s is now: %w", checkpoint.Position, checkpoint.LogID, err)
	}
	c, err := h.changeControl(ctx, func(c *control) error {
		if c.serving() != old {
			return errUnchanged // another process was faster
		}
		for _, g := range c.GetGenerations() {
			g.Retired, g.SwitchWhenReady = true, false
		}
		_, version := h.current.label()
		c.serve(c.add(h.name, version, &opsv1.GenerationControl{
			CreateTime: timestamppb.New(h.deps.Now()), Reason: fmt.Sprintf("the log was copied; generation %s is of log %s", old, checkpoint.LogID),
		}))
		c.Previous = nil
		return nil
	})
	if err != nil {
		return err
	}
	h.control = c
	serving := c.serving()
	if h.definitions[serving.Version] == nil {
		return nil
	}
	if h.serving, err = h.open(ctx, serving); err != nil {
		return err
	}
	h.log.Info("the log was copied from the one that the views are of; they are computed anew", "generation", serving.String(), "before", old.String())
	return h.closeGeneration(old)
}
