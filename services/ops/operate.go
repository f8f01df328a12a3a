package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/projection"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	opsv1 "github.com/parleyhq/parley/proto/gen/parley/ops/v1"
)

// operation is a call that changes something: who asks for it, and what for.
type operation struct {
	server *Server
	// what is done, in a word.
	what string
	who  tenant.Identity
	by   projection.By
}

// operating is what every call does first that changes something.
func (s *Server) operating(ctx context.Context, what, reason string, actor *eventv1.Actor) (*operation, error) {
	who, err := calling(ctx)
	if err != nil {
		return nil, err
	}
	by, err := askedBy(who, reason, actor)
	if err != nil {
		return nil, err
	}
	return &operation{server: s, what: what, who: who, by: by}, nil
}

const (
	// anonymousID is the operator of a server without credentials.
	anonymousID = "anonymous"
	// maxReason bounds what projection.By takes, in bytes.
	maxReason = 512
)

// askedBy is who asks for an operation: whom the request names, else whoever the
// credential is.
func askedBy(who tenant.Identity, reason string, actor *eventv1.Actor) (projection.By, error) {
	switch {
	case len(reason) > maxReason:
		return projection.By{}, rpcerr.InvalidField("reason", fmt.Sprintf("has %d bytes, at most %d", len(reason), maxReason))
	case strings.IndexByte(reason, 0) >= 0:
		return projection.By{}, rpcerr.InvalidField("reason", "must not contain U+0000")
	case strings.IndexByte(actor.GetId(), 0) >= 0:
		return projection.By{}, rpcerr.InvalidField("actor.id", "must not contain U+0000")
	case actor.GetId() == "" && actor.GetKind() != eventv1.ActorKind_ACTOR_KIND_UNSPECIFIED:
		return projection.By{}, rpcerr.InvalidField("actor.id", "must say who it is; without an actor it is whoever the credential is")
	}
	by := projection.By{Reason: reason, Actor: &eventv1.Actor{Kind: eventv1.ActorKind_ACTOR_KIND_OPERATOR, Id: who.Credential}}
	switch {
	case actor.GetId() != "":
		by.Actor = proto.CloneOf(actor)
		if by.Actor.GetKind() == eventv1.ActorKind_ACTOR_KIND_UNSPECIFIED {
			by.Actor.Kind = eventv1.ActorKind_ACTOR_KIND_OPERATOR
		}
	case who.Credential == "":
		by.Actor.Id = anonymousID
	}
	return by, nil
}

// ended notes how an operation on a projection ended, and gives the error as it
// may leave the server. The log has the credential too, since the actor is what
// the request says.
func (o *operation) ended(ctx context.Context, p *operated, err error) error {
	log := o.server.deps.Logger.With("projection", p.Name(), "operation", o.what, "reason", o.by.Reason,
		"actor", o.by.Actor.GetId(), "credential", o.who.Credential)
	if err == nil {
		log.InfoContext(ctx, "operated a projection")
		return nil
	}
	log.WarnContext(ctx, "an operation on a projection failed", "error", err)
	if isOwn := errors.As(err, new(*rpcerr.Error)); !isOwn && errors.Is(err, context.DeadlineExceeded) {
		return rpcerr.New(codes.DeadlineExceeded, errorv1.Reason_REASON_UNSPECIFIED,
			"the call's deadline has passed; what was asked for may still be done: `parley projections get` shows it", rpcerr.WithCause(err))
	}
	return rpcerr.FromError(fmt.Errorf("%s %s: %w", o.what, p.Name(), err))
}

// done is the projection as it is after an operation.
func (o *operation) done(ctx context.Context, p *operated, err error) (*opsv1.Projection, error) {
	if err := o.ended(ctx, p, err); err != nil {
		return nil, err
	}
	now, err := report(ctx, p)
	if err != nil {
		return nil, rpcerr.New(rpcerr.CodeOf(err), rpcerr.ReasonOf(err),
			"it was done, but how the projection is now could not be read: do not repeat it, `parley projections get` shows it", rpcerr.WithCause(err))
	}
	return now, nil
}
