package recorder

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/identity"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Commands about who is who come in as interactions do, so that they are
// decided in the order of the log by the only one who knows the whole graph. A
// command that came before does nothing: its events' ids derive from its own.

// command is a command as it came; one that cannot be used is answered, not kept.
func (c *checker) command(m *bus.Message, tenant string, value []byte) item {
	it := item{tenant: tenant, raw: value, received: m.Published, command: &interactionv1.IdentityCommand{}}
	if err := proto.Unmarshal(value, it.command); err != nil {
		it.result = invalidCommand("no IdentityCommand: " + err.Error())
		return it
	}
	if v := c.validator.Check(it.command); len(v) > 0 {
		it.result = invalidCommand(describe(v))
		return it
	}
	it.id = uuid.MustParse(it.command.GetId()) // the validator has seen that it is one
	return it
}

func invalidCommand(reason string) *interactionv1.IdentityResult {
	return &interactionv1.IdentityResult{
		Refusal: interactionv1.IdentityRefusal_IDENTITY_REFUSAL_INVALID, Reason: fit(reason, maxReasonBytes),
	}
}

// placeCommand plans what a command comes to. Of one that is refused the log
// keeps the refusal.
func (r *Recorder) placeCommand(x *index, p *plan, it *item) error {
	it.outcome = interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED
	if it.result.GetRefusal() == interactionv1.IdentityRefusal_IDENTITY_REFUSAL_INVALID {
		return nil
	}
	k := eventKey{it.tenant, it.id}
	done, again, err := x.event(k)
	if err != nil {
		return err
	}
	if again {
		it.result = &interactionv1.IdentityResult{Repeated: true}
		it.position = done.position
		return nil
	}
	cmd := it.command
	cause := &eventv1.Event{
		Id: it.id.String(), Tenant: it.tenant, Source: cmd.GetSource(), Channel: channelIdentity, Actor: cmd.GetActor(),
		OccurredTime: cmd.GetTime(), ReceivedTime: timestamppb.New(it.received), TimeQuality: eventv1.TimeQuality_TIME_QUALITY_AS_SAID,
	}
	if cause.GetSource() == "" || cause.GetSource() == sourceRecorder {
		cause.Source = "command"
	}
	outcome, err := r.decideCommand(x, identity.Command{
		Tenant: it.tenant, At: cause, Reason: cmd.GetReason(), Position: uint64(p.next()),
		Derive: func(purpose string) string { return event.DerivedID(it.id, purpose).String() },
	}, cmd)
	it.result = &interactionv1.IdentityResult{CustomerId: outcome.Customer, OtherCustomerId: outcome.Other, EventId: outcome.EventID}
	if no, ok := errors.AsType[*identity.RefusedError](err); ok {
		it.result.Refusal, it.result.Reason = refusals[no.Refusal], no.Reason
		outcome.Decisions = append(outcome.Decisions, refusedDecision(cmd, it))
	} else if err != nil {
		return err
	}
	it.position = p.next()
	x.events[k] = entry{position: it.position}
	return r.addDecisions(x, p, cause, outcome.Decisions)
}

// refusedDecision is what the log keeps of a refusal. Without it the command
// would be decided anew when it comes again, and perhaps carried out although it
// was answered otherwise.
func refusedDecision(cmd *interactionv1.IdentityCommand, it *item) identity.Decision {
	refused := &eventv1.DecisionRefused{
		Code:   strings.TrimPrefix(it.result.GetRefusal().String(), refusalPrefix),
		Reason: fit(it.result.GetReason(), maxRefusalBytes),
	}
	switch k := cmd.GetKind().(type) {
	case *interactionv1.IdentityCommand_Merge:
		refused.ProfileId, refused.OtherProfileId = k.Merge.GetCustomerId(), k.Merge.GetOtherCustomerId()
	case *interactionv1.IdentityCommand_Split:
		refused.ProfileId = k.Split.GetCustomerId()
	case *interactionv1.IdentityCommand_Link:
		refused.ProfileId, refused.OtherProfileId = k.Link.GetProfileId(), k.Link.GetOtherProfileId()
	case *interactionv1.IdentityCommand_KeepApart_:
		refused.ProfileId, refused.OtherProfileId = k.KeepApart.GetCustomerId(), k.KeepApart.GetOtherCustomerId()
	}
	return identity.Decision{
		ID: event.DerivedID(it.id, "refused").String(), Type: identity.TypeDecisionRefused,
		Payload: &eventv1.Payload{Kind: &eventv1.Payload_DecisionRefused{DecisionRefused: refused}},
	}
}

const (
	refusalPrefix = "IDENTITY_REFUSAL_"
	// maxRefusalBytes is the bound of DecisionRefused.reason.
	maxRefusalBytes = 512
)

var refusals = map[identity.Refusal]interactionv1.IdentityRefusal{
	identity.RefusedUnknown:        interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER,
	identity.RefusedSame:           interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER,
	identity.RefusedNotAProfile:    interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOT_A_PROFILE,
	identity.RefusedNothingToSplit: interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOTHING_TO_SPLIT,
	identity.RefusedTooLarge:       interactionv1.IdentityRefusal_IDENTITY_REFUSAL_TOO_LARGE,
	identity.RefusedByRules:        interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES,
}

func (r *Recorder) decideCommand(x *index, c identity.Command, cmd *interactionv1.IdentityCommand) (identity.Outcome, error) {
	switch k := cmd.GetKind().(type) {
	case *interactionv1.IdentityCommand_Merge:
		return x.graph.Merge(c, k.Merge.GetCustomerId(), k.Merge.GetOtherCustomerId())
	case *interactionv1.IdentityCommand_Split:
		return x.graph.Split(c, k.Split.GetCustomerId(), k.Split.GetProfileIds())
	case *interactionv1.IdentityCommand_Link:
		return x.graph.Link(c, k.Link.GetProfileId(), k.Link.GetOtherProfileId(), k.Link.GetProbability())
	case *interactionv1.IdentityCommand_KeepApart_:
		return x.graph.KeepApart(c, k.KeepApart.GetCustomerId(), k.KeepApart.GetOtherCustomerId())
	case *interactionv1.IdentityCommand_ChangeRules:
		return x.decideRules(c, k.ChangeRules)
	default:
		return identity.Outcome{}, &identity.RefusedError{Refusal: identity.RefusedByRules, Reason: "This recorder does not know the command."}
	}
}

// decideRules changes the tenant's rules, if they are still those that the
// change follows upon.
func (x *index) decideRules(c identity.Command, k *interactionv1.IdentityCommand_ChangeIdentityRules) (identity.Outcome, error) {
	current, err := x.rulesEvent(c.Tenant)
	if err != nil {
		return identity.Outcome{}, err
	}
	if current != k.GetFollowsEventId() {
		return identity.Outcome{}, &identity.RefusedError{Refusal: identity.RefusedByRules, Reason: "The rules were changed since."}
	}
	before, err := x.resolver.Blocked(c.Tenant, *x.rulesOf(c.Tenant))
	if err != nil {
		return identity.Outcome{}, err
	}
	now, err := x.resolver.Blocked(c.Tenant, identity.RulesFromProto(k.GetRules()))
	if err != nil {
		return identity.Outcome{}, &identity.RefusedError{Refusal: identity.RefusedByRules, Reason: err.Error()}
	}
	id := c.Derive("rules")
	if err := x.changeRules(c.Tenant, id, k.GetRules()); err != nil {
		return identity.Outcome{}, &identity.RefusedError{Refusal: identity.RefusedByRules, Reason: err.Error()}
	}
	return x.graph.ChangeRules(c, k.GetRules(), now, without(before, now))
}

// without are the ones of a that b does not have. Both are ordered by profile.
func without(a, b []identity.Resolved) []identity.Resolved {
	there := make(map[string]bool, len(b))
	for i := range b {
		there[b[i].ProfileID] = true
	}
	var out []identity.Resolved
	for i := range a {
		if !there[a[i].ProfileID] {
			out = append(out, a[i])
		}
	}
	return out
}

// addCommand notes which command an identity event of the log came from, so that the
// same one again is known.
func (x *index) addCommand(tenant string, ev *eventv1.Event, position eventstore.Position) error {
	if ev.GetSource() == sourceRecorder {
		return nil
	}
	// What is no command's is under the nil UUID, which no command has.
	id, _ := uuid.Parse(ev.GetCausationId())
	k := eventKey{tenant, id}
	_, there, err := x.event(k)
	if err == nil && !there {
		x.events[k] = entry{position: position}
	}
	return err
}

// recall says once more what a command came to that was carried out before.
func (r *Recorder) recall(ctx context.Context, it *item) error {
	done, found, err := r.index.event(eventKey{it.tenant, it.id})
	if err != nil || !found {
		return err
	}
	stream := event.IdentityStream(it.tenant)
	first, err := r.recordAt(ctx, stream, done.position)
	if err != nil || first == nil {
		return err
	}
	for rec, err := range r.deps.Log.ReadStream(ctx, stream, eventstore.ReadStreamOptions{From: first.Revision, Limit: maxCommandEvents}) {
		if err != nil {
			return fmt.Errorf("read %s from revision %d: %w", stream, int64(first.Revision), err)
		}
		var whole eventv1.RecordedEvent
		if err := r.deps.Codec.DecodeInto(rec, &whole); err != nil {
			return fmt.Errorf("decode position %d: %w", rec.Position, err)
		}
		ev := whole.GetEvent()
		if ev.GetCausationId() != it.id.String() {
			break
		}
		switch p := ev.GetPayload().GetKind().(type) {
		case *eventv1.Payload_CustomersMerged:
			it.result.CustomerId, it.result.OtherCustomerId = p.CustomersMerged.GetCustomerId(), p.CustomersMerged.GetAbsorbedCustomerId()
		case *eventv1.Payload_CustomersSplit:
			it.result.CustomerId, it.result.OtherCustomerId = p.CustomersSplit.GetCustomerId(), p.CustomersSplit.GetNewCustomerId()
		case *eventv1.Payload_DecisionRefused:
			code := interactionv1.IdentityRefusal_value[refusalPrefix+p.DecisionRefused.GetCode()]
			it.result.Refusal, it.result.Reason = interactionv1.IdentityRefusal(code), p.DecisionRefused.GetReason()
			return nil
		case *eventv1.Payload_IdentityRulesChanged:
		default:
			continue
		}
		it.result.EventId = ev.GetId()
		return nil
	}
	return nil
}

// maxCommandEvents is how many events of a command are looked at for what it
// came to: its own are among the first.
const maxCommandEvents = 100
