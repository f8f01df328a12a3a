package customer

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	"github.com/parleyhq/parley/pkg/token"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// Recorder carries out commands about who is who. *bus.Publisher is one: what
// people decide goes to the recorder the way interactions do.
type Recorder interface {
	// PublishAndWait publishes and waits for what became of it.
	PublishAndWait(ctx context.Context, tenant, channel string, batch *interactionv1.IngressBatch) (*interactionv1.IngressReply, error)
}

// channelIdentity is the channel of the subject that commands travel on.
const channelIdentity = "identity"

// deciding is on whose behalf a call decides.
func deciding(ctx context.Context, scope tenant.Scopes) (tenant.Identity, error) {
	who, ok := tenant.From(ctx)
	switch {
	case !ok:
		return tenant.Identity{}, rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "the call names no tenant")
	case !who.Scopes.Has(scope):
		return tenant.Identity{}, rpcerr.New(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED,
			"the credential may not decide this: it needs the scope "+scope.String())
	}
	return who, nil
}

// decided is what every command needs besides what it wants.
type decided struct {
	requestID string
	actor     *eventv1.Actor
	reason    string
}

// decide has a command carried out and gives what it came to, with a token
// that has it in.
func (s *Server) decide(ctx context.Context, who tenant.Identity, d decided, cmd *interactionv1.IdentityCommand) (*interactionv1.IdentityResult, string, error) {
	if s.deps.Recorder == nil {
		return nil, "", rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, "this process has no way to the recorder")
	}
	cmd.Id = d.requestID
	if cmd.GetId() == "" {
		id, err := s.deps.NewID()
		if err != nil {
			return nil, "", failed(fmt.Errorf("make a command's id: %w", err))
		}
		cmd.Id = id.String()
	}
	cmd.Actor, cmd.Reason, cmd.Source, cmd.Time = d.actor, d.reason, who.Source, timestamppb.New(s.deps.Now())
	if cmd.GetActor() == nil {
		cmd.Actor = &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: who.Source}
	}
	reply, err := s.deps.Recorder.PublishAndWait(ctx, who.Tenant, channelIdentity, &interactionv1.IngressBatch{Command: cmd})
	if err != nil {
		return nil, "", rpcerr.FromError(err)
	}
	if reply.GetCommand() == nil {
		return nil, "", failed(errors.New("the recorder did not answer the command"))
	}
	if err := refusedError(reply.GetCommand()); err != nil {
		return nil, "", err
	}
	logID, err := uuid.Parse(reply.GetLogId())
	if err != nil {
		return nil, "", failed(fmt.Errorf("the recorder's answer names no log: %w", err))
	}
	return reply.GetCommand(), token.NewConsistency(logID, eventstore.Position(reply.GetPosition())).String(), nil
}

// refusedError is why a command was not carried out, as it goes over the wire.
func refusedError(r *interactionv1.IdentityResult) error {
	for _, e := range refusedErrors {
		if e.refusal == r.GetRefusal() {
			return rpcerr.New(e.code, e.reason, r.GetReason())
		}
	}
	if r.GetRefusal() != interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNSPECIFIED {
		return failed(fmt.Errorf("the recorder refused the command: %s: %s", r.GetRefusal(), r.GetReason()))
	}
	return nil
}

var refusedErrors = []struct {
	refusal interactionv1.IdentityRefusal
	code    codes.Code
	reason  errorv1.Reason
}{
	{interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER, codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND},
	{interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER, codes.FailedPrecondition, errorv1.Reason_REASON_SAME_CUSTOMER},
	{interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOT_A_PROFILE, codes.FailedPrecondition, errorv1.Reason_REASON_NOT_A_PROFILE_OF_CUSTOMER},
	{interactionv1.IdentityRefusal_IDENTITY_REFUSAL_NOTHING_TO_SPLIT, codes.FailedPrecondition, errorv1.Reason_REASON_NOTHING_TO_SPLIT},
	{interactionv1.IdentityRefusal_IDENTITY_REFUSAL_TOO_LARGE, codes.FailedPrecondition, errorv1.Reason_REASON_CUSTOMER_TOO_LARGE},
	{interactionv1.IdentityRefusal_IDENTITY_REFUSAL_RULES, codes.Aborted, errorv1.Reason_REASON_CHANGED_SINCE},
}
