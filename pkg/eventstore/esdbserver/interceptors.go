package esdbserver

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
)

// callUnary authenticates a call and keeps a panic to it.
func (s *Server) callUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if failed := s.recovered(info.FullMethod, recover()); failed != nil {
			resp, err = nil, s.answer(ctx, failed)
		}
	}()
	c, err := s.authenticate(ctx, info.FullMethod)
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	return handler(context.WithValue(ctx, callerKey{}, c), req)
}

// strangersBytes are taken of an append by somebody who is not let in.
const strangersBytes = 64 << 10

// callStream does so for calls with streams.
func (s *Server) callStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if failed := s.recovered(info.FullMethod, recover()); failed != nil {
			err = s.answer(stream.Context(), failed)
		}
	}()
	c, err := s.authenticate(stream.Context(), info.FullMethod)
	if err != nil {
		if info.FullMethod == streams.Streams_Append_FullMethodName {
			// The official client for Go sees why only once it has sent all.
			refused := &grpc.GenericServerStream[streams.AppendReq, streams.AppendResp]{ServerStream: stream}
			if drained := drain(refused, strangersBytes); drained != nil {
				err = drained
			}
		}
		return s.answer(stream.Context(), err)
	}
	ctx := context.WithValue(stream.Context(), callerKey{}, c)
	return handler(srv, &calledStream{ServerStream: stream, context: func() context.Context { return ctx }})
}

// recovered is a panic as an error, which answer logs; nil for none. The panic
// costs the call, not the process.
func (s *Server) recovered(method string, p any) error {
	if p == nil {
		return nil
	}
	return fmt.Errorf("%s: panic: %v\n%s", method, p, debug.Stack())
}

// calledStream is a stream whose context knows the caller.
type calledStream struct {
	grpc.ServerStream

	context func() context.Context
}

func (c *calledStream) Context() context.Context { return c.context() }
