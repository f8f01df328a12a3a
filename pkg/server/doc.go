// Package server is what every service of Parley is served with: the gRPC
// server with its interceptors, the HTTP servers for the outside and the
// inside, readiness, listeners whose errors name the flag, and the stack that
// a start pushes closers on.
//
// Contract: a call passes recovery, metrics, error mapping, authentication
// (credential → tenant in the context) and validation, in this order, before
// its handler sees it; tracing stands around them where a tracer is given. So
// every answer is counted, every error leaves through pkg/rpcerr, a panic
// costs one call, and a handler can rely on an identity and on the bounds of
// its request.
//
// Stopping: Drain leaves the routing (readiness fails, health says
// NOT_SERVING) and ends streams with STOPPING; Stop lets calls in flight
// finish for a bounded time, then cuts them off.
//
// The package keeps nothing on disk, so a crash concerns it in no way.
package server
