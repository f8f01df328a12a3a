package match

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
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// channelIdentity is the channel of the subject that commands travel on.
const channelIdentity = "identity"

// KeepCustomersApart says that two customers are two people.
func (s *Server) KeepCustomersApart(ctx context.Context, req *customerv1.KeepCustomersApartRequest) (*customerv1.KeepCustomersApartResponse, error) {
	if err := checkID("customer_id", req.GetCustomerId()); err != nil {
		return nil, err
	}
	if err := checkID("other_customer_id", req.GetOtherCustomerId()); err != nil {
		return nil, err
	}
	who, err := calling(ctx, tenant.Record)
	if err != nil {
		return nil, err
	}
	cmd := &interactionv1.IdentityCommand{
		Id: req.GetRequestId(), Actor: req.GetActor(), Reason: req.GetReason(), Source: who.Source,
		Kind: &interactionv1.IdentityCommand_KeepApart_{KeepApart: &interactionv1.IdentityCommand_KeepApart{
			CustomerId: req.GetCustomerId(), OtherCustomerId: req.GetOtherCustomerId(),
		}},
	}
	if cmd.GetId() == "" {
		id, err := s.deps.NewID()
		if err != nil {
			return nil, failed(fmt.Errorf("make a command's id: %w", err))
		}
		cmd.Id = id.String()
	}
	if cmd.GetActor() == nil {
		cmd.Actor = &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_AGENT, Id: who.Source}
	}
	reply, err := s.command(ctx, who.Tenant, cmd)
	if err != nil {
		return nil, failed(err)
	}
	if err := refusedError(reply.GetCommand()); err != nil {
		return nil, err
	}
	logID, err := uuid.Parse(reply.GetLogId())
	if err != nil {
		return nil, failed(fmt.Errorf("the recorder's answer names no log: %w", err))
	}
	return &customerv1.KeepCustomersApartResponse{
		EventId:          reply.GetCommand().GetEventId(),
		ConsistencyToken: token.NewConsistency(logID, eventstore.Position(reply.GetPosition())).String(),
	}, nil
}

// command has a command carried out. Its refusal is in the reply.
func (s *Server) command(ctx context.Context, tenantName string, cmd *interactionv1.IdentityCommand) (*interactionv1.IngressReply, error) {
	if s.deps.Recorder == nil {
		return nil, rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE, "this process has no way to the recorder")
	}
	cmd.Time = timestamppb.New(s.deps.Now())
	reply, err := s.deps.Recorder.PublishAndWait(ctx, tenantName, channelIdentity, &interactionv1.IngressBatch{Command: cmd})
	if err != nil {
		return nil, fmt.Errorf("send command %s: %w", cmd.GetId(), err)
	}
	if reply.GetCommand() == nil {
		return nil, errors.New("the recorder did not answer the command")
	}
	return reply, nil
}

// refusedError is why a command was not carried out, as it goes over the wire.
func refusedError(r *interactionv1.IdentityResult) error {
	switch r.GetRefusal() {
	case interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNSPECIFIED:
		return nil
	case interactionv1.IdentityRefusal_IDENTITY_REFUSAL_UNKNOWN_CUSTOMER:
		return rpcerr.New(codes.NotFound, errorv1.Reason_REASON_CUSTOMER_NOT_FOUND, r.GetReason())
	case interactionv1.IdentityRefusal_IDENTITY_REFUSAL_SAME_CUSTOMER:
		return rpcerr.New(codes.FailedPrecondition, errorv1.Reason_REASON_SAME_CUSTOMER, r.GetReason())
	default:
		return failed(fmt.Errorf("the recorder refused the command: %s: %s", r.GetRefusal(), r.GetReason()))
	}
}
