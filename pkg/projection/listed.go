package projection

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/view"
)

// ErrNotOperable says that operators can only look at the projection.
var ErrNotOperable = errors.New("the projection is only listed")

// Listed shows operators a projection that no engine runs: a simple index of
// the log, which they can do nothing with. All that would change it fails with
// ErrNotOperable.
func Listed(one Projection) Operations { return listed{one} }

type listed struct{ Projection }

// Report is Operations's.
func (l listed) Report(context.Context) (*opsv1.Projection, error) {
	s := l.Status()
	g := &opsv1.Generation{
		Version: s.Namespace.Version, Generation: s.Namespace.Generation, Role: opsv1.GenerationRole_GENERATION_ROLE_SERVING, State: stateOf(s.State),
		Position: uint64(s.Position), LagEvents: proto.Uint64(uint64(s.Head - min(s.Position, s.Head))), LagTime: durationpb.New(s.Behind),
		EventsPerSecond: s.EventsPerSecond, Fraction: s.Fraction(), Partitions: 1,
	}
	if s.Err != nil {
		g.Error = s.Err.Error()
	}
	return &opsv1.Projection{Name: s.Name, Version: s.Namespace.Version, Head: uint64(s.Head), Generations: []*opsv1.Generation{g}, ActiveProcess: "this process"}, nil
}

func (l listed) refuse(what string) error {
	return fmt.Errorf("%s %s: %w", what, l.Name(), ErrNotOperable)
}

// Rebuild is Operations's.
func (l listed) Rebuild(context.Context, By, RebuildOptions) (view.Namespace, error) {
	return view.Namespace{}, l.refuse("rebuild")
}

// SwitchOver is Operations's.
func (l listed) SwitchOver(context.Context, By, view.Namespace) error { return l.refuse("switch over") }

// Rollback is Operations's.
func (l listed) Rollback(context.Context, By) error { return l.refuse("roll back") }

// Drop is Operations's.
func (l listed) Drop(context.Context, By, view.Namespace) error { return l.refuse("drop") }

// Pause is Operations's.
func (l listed) Pause(context.Context, By) error { return l.refuse("pause") }

// Resume is Operations's.
func (l listed) Resume(context.Context, By) error { return l.refuse("resume") }

// DeadLetters is Operations's: it has none.
func (l listed) DeadLetters(context.Context, view.Namespace, DeadLetterQuery) (DeadLetterPage, error) {
	return DeadLetterPage{}, nil
}

// DeadLetter is Operations's.
func (l listed) DeadLetter(context.Context, view.Namespace, eventstore.Position) (DeadLetterDetail, error) {
	return DeadLetterDetail{}, fmt.Errorf("%s: %w", l.Name(), ErrUnknownDeadLetter)
}

// Retry is Operations's.
func (l listed) Retry(context.Context, By, view.Namespace, ...eventstore.Position) (RetryResult, error) {
	return RetryResult{}, l.refuse("retry")
}

// Skip is Operations's.
func (l listed) Skip(context.Context, By, view.Namespace, eventstore.Position) (Skipped, error) {
	return Skipped{}, fmt.Errorf("%s: %w", l.Name(), ErrUnknownDeadLetter)
}

// Compare is Operations's.
func (l listed) Compare(context.Context, view.Namespace, view.Namespace, CompareOptions) (*opsv1.Difference, error) {
	return nil, l.refuse("compare")
}

// Verify is Operations's.
func (l listed) Verify(context.Context, By, VerifyOptions) (*opsv1.Difference, error) {
	return nil, l.refuse("verify")
}
