// Package tenant carries through a call on whose behalf it is made.
//
// Contract: the tenant of a call comes from its credential and from nothing
// else; no request names one. Whoever authenticates (the gRPC interceptor, a
// gateway's front door) puts an Identity into the context once, and everything
// behind it reads it from there. An Identity is a value and never changes.
// A context without one belongs to nobody: From says so, and a handler then
// refuses the call; there is no default to fall back to.
//
// The package keeps no state, so a crash concerns it in no way.
package tenant
