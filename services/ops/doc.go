// Package ops lets operators see and operate the read models over gRPC
// (parley.ops.v1.ProjectionService), and keeps what they do.
//
// Contract: each method translates; what is done and whether it may be is the
// projection's own decision (projection.Operations). Server needs the scope
// `ops` and is no tenant's: nothing personal leaves it, neither of events nor
// of documents nor in differences. Audit appends each operation, with who asked
// for it, to the operations stream; the projections hand it what they are about
// to do.
//
// Invariants: several projections are rebuilt together or, as far as can be
// told beforehand, none is. All pages of a list are of one generation. The
// work behind a stream ends with its caller, and with the server. An operation
// stands in the operations stream once, also where the store left it open
// whether an append had happened.
//
// Crash behaviour: there is no state here. An operation that was appended and
// not carried out is seen in the stream, and may be asked for again.
package ops
