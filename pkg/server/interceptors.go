package server

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/credential"
	"github.com/parleyhq/parley/pkg/rpcerr"
	"github.com/parleyhq/parley/pkg/tenant"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
)

// errStopping is why streams end when the server drains.
var errStopping = rpcerr.New(codes.Unavailable, errorv1.Reason_REASON_STOPPING, "the server is stopping; go on elsewhere with the last token")

// recoverUnary turns a panic into INTERNAL: it costs one call, not the process.
func (m *metrics) recoverUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if p := recover(); p != nil {
				resp, err = nil, m.panicked(log, info.FullMethod, p)
			}
		}()
		return handler(ctx, req)
	}
}

func (m *metrics) recoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = m.panicked(log, info.FullMethod, p)
			}
		}()
		return handler(srv, ss)
	}
}

func (m *metrics) panicked(log *slog.Logger, method string, p any) error {
	m.panics.Inc()
	log.Error("panic in a handler", "method", method, "panic", p, "stack", string(debug.Stack()))
	return rpcerr.New(codes.Internal, errorv1.Reason_REASON_INTERNAL, "internal error; the server's log has the rest")
}

// mapUnary gives calls a deadline and brings errors into the form that leaves
// the server.
func (g *GRPC) mapUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.cfg.Timeout)
		defer cancel()
	}
	resp, err := handler(ctx, req)
	if err != nil {
		return nil, g.mapped(ctx, info.FullMethod, err)
	}
	return resp, nil
}

// mapStream does the same for streams, and ends them when the server drains.
func (g *GRPC) mapStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if _, ours := g.scopes[serviceOf(info.FullMethod)]; !ours {
		return handler(srv, ss) // health watches see the drain; reflection is short
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-g.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	err := handler(srv, withContext(ctx, ss))
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), errStopping) && ss.Context().Err() == nil {
		return errStopping
	}
	return g.mapped(ctx, info.FullMethod, err)
}

// mapped brings an error into the form that leaves the server and logs what
// stays inside.
func (g *GRPC) mapped(ctx context.Context, method string, err error) error {
	out := rpcerr.FromError(err)
	if errors.Is(ctx.Err(), context.Canceled) {
		// The caller has gone: what he would have been told matters to nobody.
		g.cfg.Logger.DebugContext(ctx, "caller gone", "method", method, "error", err)
		return out
	}
	switch rpcerr.CodeOf(out) {
	case codes.Internal, codes.DataLoss, codes.Unknown:
		g.cfg.Logger.ErrorContext(ctx, "call failed", "method", method, "error", err)
	case codes.Unavailable, codes.ResourceExhausted:
		g.cfg.Logger.WarnContext(ctx, "call refused", "method", method, "error", err)
	default:
		if g.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
			g.cfg.Logger.DebugContext(ctx, "call refused", "method", method, "error", err)
		}
	}
	return out
}

// authenticate finds out for whom a call is made. Services that were not
// registered with a scope (health, reflection) are open: they tell nothing of
// any tenant.
func (g *GRPC) authenticate(ctx context.Context, method string) (context.Context, error) {
	scope, ours := g.scopes[serviceOf(method)]
	if !ours {
		return ctx, nil
	}
	id := g.cfg.Anonymous
	if !g.cfg.Keys.Empty() {
		header := metadata.ValueFromIncomingContext(ctx, "authorization")
		if len(header) == 0 {
			return nil, rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS,
				"this server wants an API key: metadata `authorization: Bearer <key>`")
		}
		key, ok := credential.Bearer(header[0])
		if ok {
			id, ok = g.cfg.Keys.Identify(key)
		}
		if !ok || len(header) > 1 {
			return nil, rpcerr.New(codes.Unauthenticated, errorv1.Reason_REASON_BAD_CREDENTIALS, "unknown API key")
		}
	}
	if !id.Scopes.Has(scope) {
		return nil, rpcerr.New(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED,
			"this API key may "+id.Scopes.String()+"; the call needs "+scope.String())
	}
	return tenant.NewContext(ctx, id), nil
}

func (g *GRPC) authUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := g.authenticate(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (g *GRPC) authStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := g.authenticate(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(srv, withContext(ctx, ss))
}

// check refuses a request that breaks its bounds.
func (g *GRPC) check(method string, req any) error {
	m, ok := req.(proto.Message)
	if !ok || g.self[method] {
		return nil
	}
	if _, ours := g.scopes[serviceOf(method)]; !ours {
		return nil
	}
	if violations := g.cfg.Check(m); len(violations) > 0 {
		return rpcerr.Invalid(violations...)
	}
	return nil
}

func (g *GRPC) validateUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := g.check(info.FullMethod, req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (g *GRPC) validateStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &checkedStream{ServerStream: ss, check: func(m any) error { return g.check(info.FullMethod, m) }})
}

// contextStream is a stream with another context.
type contextStream struct {
	grpc.ServerStream
	context func() context.Context
}

func withContext(ctx context.Context, ss grpc.ServerStream) grpc.ServerStream {
	return &contextStream{ServerStream: ss, context: func() context.Context { return ctx }}
}

// Context implements grpc.ServerStream.
func (s *contextStream) Context() context.Context { return s.context() }

// checkedStream checks what it receives.
type checkedStream struct {
	grpc.ServerStream
	check func(any) error
}

// RecvMsg implements grpc.ServerStream.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.check(m)
}

// serviceOf is the service of a full method, `/package.Service/Method`.
func serviceOf(method string) string {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service
}
