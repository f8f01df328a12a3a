// Package rpcerr is the one place where errors become gRPC statuses, and where
// clients get the type back.
//
// Contract: every error that leaves a server carries a google.rpc.ErrorInfo
// with domain `parley` and a reason of parley.error.v1.Reason without its
// prefix; refused requests also a google.rpc.BadRequest; what is worth a retry
// later a google.rpc.RetryInfo. FromError knows the sentinel errors of the
// packages below this one. What it does not know becomes INTERNAL with a text
// that says nothing: the cause stays with the error for the log (Unwrap) and
// never reaches the wire.
//
// Invariants: Parse(e.GRPCStatus().Err()) equals e but for the cause. The
// package keeps no state, so a crash concerns it in no way.
package rpcerr
