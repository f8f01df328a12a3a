package rawproto

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Handler answers one unary call with encoded bytes.
type Handler[Server any, Request proto.Message] func(server Server, ctx context.Context, request Request) (*Message, error)

// Describe is a copy of a generated service description in which one unary
// method answers by handle. Server is the generated server interface, or the
// type that is registered for it. Interceptors run as always, and see a *Message
// as the response. A method that the description lacks is an error of the
// program.
func Describe[Server any, Request proto.Message](service grpc.ServiceDesc, method string, newRequest func() Request, handle Handler[Server, Request]) (grpc.ServiceDesc, error) {
	i := slices.IndexFunc(service.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == method })
	if i < 0 {
		return grpc.ServiceDesc{}, fmt.Errorf("describe service %s: it has no unary method %s", service.ServiceName, method)
	}
	fullMethod := "/" + service.ServiceName + "/" + method
	service.Methods = slices.Clone(service.Methods)
	service.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		server, ok := srv.(Server)
		if !ok {
			return nil, fmt.Errorf("call %s: registered server is %T", fullMethod, srv)
		}
		request := newRequest()
		if err := decode(request); err != nil {
			return nil, err
		}
		if interceptor == nil {
			return answer(handle(server, ctx, request))
		}
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod}
		return interceptor(ctx, request, info, func(ctx context.Context, request any) (any, error) {
			typed, ok := request.(Request)
			if !ok {
				return nil, fmt.Errorf("call %s: an interceptor made the request %T", fullMethod, request)
			}
			return answer(handle(server, ctx, typed))
		})
	}
	return service, nil
}

// answer keeps a missing message from being taken for one.
func answer(m *Message, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	if m == nil {
		m = &Message{}
	}
	return m, nil
}
