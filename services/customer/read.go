package customer

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/consistency"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// read is what one call reads by: whose it is, and the generation that served
// when it began, from which all comes that it answers with.
type read struct {
	consistency.Read[*Reader]

	server *Server
}

// about is what a call does first that is about customers with known ids: it
// waits for what the token asks for, and fails where that of one of them could
// not be folded.
func (s *Server) about(ctx context.Context, consistencyToken string, ids ...string) (*read, error) {
	r, err := s.begin(ctx, consistencyToken)
	if err != nil {
		return nil, err
	}
	return r, r.About(ctx, ids...)
}

// aboutAll is the same for a call that is about nobody in particular.
func (s *Server) aboutAll(ctx context.Context, consistencyToken string) (*read, error) {
	r, err := s.begin(ctx, consistencyToken)
	if err != nil {
		return nil, err
	}
	return r, r.AboutAll(ctx)
}

// begin is a read of which it is not said yet whom it is about.
func (s *Server) begin(ctx context.Context, consistencyToken string) (*read, error) {
	who, ok := tenant.From(ctx)
	if !ok {
		return nil, rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "the call names no tenant")
	}
	begun, err := s.reads.Begin(ctx, who.Tenant, consistencyToken)
	return &read{Read: begun, server: s}, err
}
