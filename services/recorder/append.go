package recorder

import (
	"context"
	"fmt"

	"github.com/parleyhq/parley/pkg/eventstore"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// append appends a plan and gives the last position: in one commit where the
// store can, and else part by part.
func (r *Recorder) append(ctx context.Context, p *plan) (eventstore.Position, error) {
	began := r.deps.Now()
	defer func() { r.metrics.append.Observe(r.deps.Now().Sub(began).Seconds()) }()
	if p.parts != nil {
		return spread(ctx, p.parts, r.deps.AppendsInFlight, r.deps.Log.Append)
	}
	appended, err := r.deps.Log.AppendBatch(ctx, p.appends)
	if err != nil {
		return 0, fmt.Errorf("append %d records: %w", p.count, err)
	}
	return appended[len(appended)-1].Position, nil
}

// settle brings the index behind what was appended and says where it stands.
func (r *Recorder) settle(ctx context.Context, p *plan, items []item, last eventstore.Position) error {
	if r.beforeCommit != nil {
		if err := r.beforeCommit(); err != nil {
			return err
		}
	}
	switch {
	case p.count == 0:
		r.index.discard()
	case p.parts == nil && r.deps.Log.Capabilities().DensePositions.Supported && last == p.base+eventstore.Position(p.count):
		// Positions count records, so these are ours and nobody else's, and
		// every one stands where it was expected.
		if err := r.index.commit(ctx, last); err != nil {
			return err
		}
		for i := range items {
			items[i].known = true
		}
	default:
		if err := r.catcher.follow(ctx, r.index, last); err != nil {
			return err
		}
		if r.index.position < last {
			return fmt.Errorf("the log was read up to position %d, behind what was appended at %d: %w", r.index.position, last, eventstore.ErrUnavailable)
		}
	}
	r.metrics.position.Set(float64(r.index.position))
	r.count(p, items)
	return nil
}

func (r *Recorder) count(p *plan, items []item) {
	recorded, duplicates, quarantined, commands := 0, 0, 0, 0
	for i := range items {
		if items[i].command != nil {
			commands++
			continue
		}
		switch it := &items[i]; it.outcome {
		case interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED:
			recorded++
		case interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE:
			duplicates++
		default:
			quarantined++
			code := "gateway"
			if it.reject != nil {
				code = it.reject.code
				r.log.Warn("sent to quarantine", "tenant", it.tenant, "event_id", it.ev.GetId(), "position", uint64(it.position),
					"code", code, "reason", it.reject.reason)
			}
			r.metrics.quarantined.WithLabelValues(code).Inc()
		}
	}
	r.metrics.events.WithLabelValues("recorded").Add(float64(recorded))
	r.metrics.events.WithLabelValues("duplicate").Add(float64(duplicates))
	r.metrics.events.WithLabelValues("quarantined").Add(float64(quarantined))
	r.metrics.commands.Add(float64(commands))
	r.metrics.identity.Add(float64(p.decisions))
	r.metrics.batch.Observe(float64(p.count))
}
