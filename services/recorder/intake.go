package recorder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Intake serves InteractionService: it publishes on the bus as every gateway
// does and answers with what the recorder, here or in another process, says
// became of it. It keeps nothing.
type Intake struct {
	interactionv1.UnimplementedInteractionServiceServer
	deps IntakeDeps
}

// Publisher is what the intake needs of the bus. *bus.Publisher is one.
type Publisher interface {
	// PublishAndWait publishes and waits for what became of it.
	PublishAndWait(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error)
}

// IntakeDeps is what an intake stands on.
type IntakeDeps struct {
	// Publisher is required.
	Publisher Publisher
	// Validator defaults to a new one.
	Validator *event.Validator
	// Now defaults to time.Now.
	Now func() time.Time
	// NewID gives the ids of interactions without one of the caller's.
	// Defaults to uuid.NewV7.
	NewID func() (uuid.UUID, error)
}

const (
	maxInteractions = 1000
	// channelMixed is the subject's channel for a batch of several: one message
	// keeps their order.
	channelMixed = "mixed"
)

// NewIntake makes an intake.
func NewIntake(deps IntakeDeps) (*Intake, error) {
	if deps.Publisher == nil {
		return nil, errors.New("intake: Publisher is required")
	}
	if deps.Validator == nil {
		v, err := event.NewValidator(&interactionv1.Interaction{})
		if err != nil {
			return nil, fmt.Errorf("intake: %w", err)
		}
		deps.Validator = v
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.NewID == nil {
		deps.NewID = uuid.NewV7
	}
	return &Intake{deps: deps}, nil
}

// Record implements InteractionService.
func (s *Intake) Record(ctx context.Context, req *interactionv1.RecordRequest) (*interactionv1.RecordResponse, error) {
	caller, err := recording(ctx)
	if err != nil {
		return nil, err
	}
	violations := s.check(req.GetInteraction(), "interaction")
	if len(violations) > 0 {
		return nil, rpcerr.Invalid(violations...)
	}
	ev, err := s.event(ctx, caller, req.GetInteraction())
	if err != nil {
		return nil, err
	}
	reply, err := s.publish(ctx, caller.Tenant, ev.GetChannel(), []*eventv1.Event{ev})
	if err != nil {
		return nil, err
	}
	result := reply.GetResults()[0]
	if result.GetOutcome() == interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED {
		return nil, quarantinedError(result)
	}
	consistency, err := consistencyToken(reply)
	if err != nil {
		return nil, err
	}
	return &interactionv1.RecordResponse{Result: result, ConsistencyToken: consistency}, nil
}

// RecordBatch implements InteractionService.
func (s *Intake) RecordBatch(ctx context.Context, req *interactionv1.RecordBatchRequest) (*interactionv1.RecordBatchResponse, error) {
	caller, err := recording(ctx)
	if err != nil {
		return nil, err
	}
	if n := len(req.GetInteractions()); n == 0 || n > maxInteractions {
		return nil, rpcerr.InvalidField("interactions", fmt.Sprintf("there are %d, must be 1 to %d", n, maxInteractions))
	}
	results := make([]*interactionv1.RecordResult, len(req.GetInteractions()))
	var events []*eventv1.Event
	var places []int // of the events among the results
	channel := ""
	for i, in := range req.GetInteractions() {
		if v := s.check(in, ""); len(v) > 0 {
			results[i] = &interactionv1.RecordResult{Outcome: interactionv1.RecordOutcome_RECORD_OUTCOME_REFUSED, Reason: violationsText(v)}
			continue
		}
		ev, err := s.event(ctx, caller, in)
		if err != nil {
			return nil, err
		}
		if channel != "" && channel != ev.GetChannel() {
			channel = channelMixed
		} else {
			channel = ev.GetChannel()
		}
		events, places = append(events, ev), append(places, i)
	}
	if len(events) == 0 {
		return &interactionv1.RecordBatchResponse{Results: results}, nil
	}
	reply, err := s.publish(ctx, caller.Tenant, channel, events)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		results[place] = reply.GetResults()[i]
	}
	consistency, err := consistencyToken(reply)
	if err != nil {
		return nil, err
	}
	return &interactionv1.RecordBatchResponse{Results: results, ConsistencyToken: consistency}, nil
}

// recording is on whose behalf the call records.
func recording(ctx context.Context) (tenant.Identity, error) {
	caller, ok := tenant.From(ctx)
	switch {
	case !ok:
		return tenant.Identity{}, rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "no credential")
	case !caller.Scopes.Has(tenant.Record):
		return tenant.Identity{}, rpcerr.New(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED, "the credential may not record interactions")
	}
	return caller, nil
}

// check gives what an interaction violates; the fields begin with prefix.
func (s *Intake) check(in *interactionv1.Interaction, prefix string) []rpcerr.Violation {
	field := func(name string) string {
		switch {
		case prefix == "":
			return name
		case name == "":
			return prefix
		default:
			return prefix + "." + name
		}
	}
	if in == nil {
		return []rpcerr.Violation{{Field: prefix, Rule: "required", Message: "value is required"}}
	}
	var violations []rpcerr.Violation
	for _, v := range s.deps.Validator.Check(in) {
		violations = append(violations, rpcerr.Violation{Field: field(v.Field), Rule: v.Rule, Message: v.Message})
	}
	if len(violations) > 0 {
		return violations
	}
	typ, _, ok := event.TypeOf(in.GetPayload())
	if !ok {
		violations = append(violations, rpcerr.Violation{Field: field("payload"), Rule: "known", Message: "is not known to this version"})
	}
	if reason, reserved := event.ReservedType(typ); reserved {
		violations = append(violations, rpcerr.Violation{Field: field("payload"), Rule: "reserved", Message: reason})
	}
	if reservedChannels[in.GetChannel()] {
		violations = append(violations, rpcerr.Violation{Field: field("channel"), Rule: "reserved", Message: "is not for interactions"})
	}
	if t := in.GetOccurredTime(); t != nil && t.CheckValid() != nil {
		violations = append(violations, rpcerr.Violation{Field: field("occurred_time"), Rule: "timestamp", Message: "is not a time of the years 1 to 9999"})
	}
	return violations
}

func violationsText(violations []rpcerr.Violation) string {
	parts := make([]string, 0, len(violations))
	for _, v := range violations {
		parts = append(parts, strings.TrimPrefix(v.Field+": "+v.Message, ": "))
	}
	return fit(strings.Join(parts, "; "), maxReasonBytes)
}

// event is the interaction as it goes to the recorder.
func (s *Intake) event(ctx context.Context, caller tenant.Identity, in *interactionv1.Interaction) (*eventv1.Event, error) {
	ev := &eventv1.Event{
		Tenant:         caller.Tenant,
		Source:         caller.Source,
		SourceId:       in.GetSourceId(),
		SourceSequence: in.GetSourceSequence(),
		Channel:        in.GetChannel(),
		Direction:      in.GetDirection(),
		Conversation:   in.GetConversation(),
		Identifiers:    in.GetIdentifiers(),
		Actor:          in.GetActor(),
		CorrelationId:  in.GetCorrelationId(),
		CausationId:    in.GetCausationId(),
		Backfill:       in.GetBackfill(),
		Payload:        in.GetPayload(),
		ContextJson:    in.GetContextJson(),
		Traceparent:    traceparent(ctx),
	}
	if in.GetSourceId() == "" {
		id, err := s.deps.NewID()
		if err != nil {
			return nil, rpcerr.FromError(fmt.Errorf("make an event id: %w", err))
		}
		ev.Id = id.String()
	} else {
		ev.Id = event.DeterministicID(caller.Tenant, caller.Source, in.GetSourceId()).String()
		said, err := proto.MarshalOptions{Deterministic: true}.Marshal(in)
		if err != nil {
			return nil, rpcerr.FromError(fmt.Errorf("encode an interaction: %w", err))
		}
		ev.ContentDigest = event.ContentDigest(said)
	}
	event.Stamp(ev)
	if said := in.GetOccurredTime(); said != nil {
		event.SetOccurred(ev, said.AsTime(), s.deps.Now(), false)
	} else {
		event.SetReceived(ev, s.deps.Now())
	}
	return ev, nil
}

func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

func (s *Intake) publish(ctx context.Context, tenantName, channel string, events []*eventv1.Event) (*interactionv1.IngressReply, error) {
	reply, err := s.deps.Publisher.PublishAndWait(ctx, tenantName, channel, &interactionv1.IngressBatch{Events: events})
	if err != nil {
		return nil, rpcerr.FromError(err)
	}
	if got := len(reply.GetResults()); got != len(events) {
		return nil, rpcerr.FromError(fmt.Errorf("the recorder answered about %d of %d interactions", got, len(events)))
	}
	return reply, nil
}

func quarantinedError(result *interactionv1.RecordResult) error {
	code, _, _ := strings.Cut(result.GetReason(), ":")
	if code == codeContentDiffers {
		return rpcerr.New(codes.AlreadyExists, errorv1.Reason_REASON_CONTENT_DIFFERS,
			"the same source_id was recorded before with other content; this one is in quarantine",
			rpcerr.WithMetadata("event_id", result.GetEventId()))
	}
	return rpcerr.New(codes.FailedPrecondition, errorv1.Reason_REASON_QUARANTINED,
		"the interaction is in quarantine: "+result.GetReason(), rpcerr.WithMetadata("reason", code))
}

func consistencyToken(reply *interactionv1.IngressReply) (string, error) {
	id, err := uuid.Parse(reply.GetLogId())
	if err != nil {
		return "", rpcerr.FromError(fmt.Errorf("the recorder's answer names no log: %w", err))
	}
	return token.NewConsistency(id, eventstore.Position(reply.GetPosition())).String(), nil
}
