package match

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parleyhq/parley/pkg/rpcerr"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// channelIdentity is the channel of the subject that commands travel on.
const channelIdentity = "identity"

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
