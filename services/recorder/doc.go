// Package recorder writes interactions into the log: the only writer of them.
//
// # Contract
//
// It takes the messages of the ingress stream in order, and of each event in
// them makes exactly one of these: a record in the log, nothing where the same
// event is there already, or a record in its tenant's quarantine stream with
// the reason. A message is acknowledged once all of it stands in the log.
//
// An event is checked, its identifiers are normalised and named ([identity]),
// its conversation is resolved, and what it shows about who is who goes before
// it onto the tenant's identity stream, in the same commit. All of that is a
// pure function of the message and of the log before it. Every append expects
// an exact revision, so that of two recorders one is refused and looks again.
//
// # The index
//
// What the log holds that is needed to decide (event ids and digests, revisions,
// conversations, the identity graph) is kept in a local Pebble, the newest part
// of it in memory (table.go). It is a projection of the log with its checkpoint
// in the same batch, is brought up to the log's head before anything is
// decided, and can be deleted at any time.
//
// # Crash behaviour
//
// Nothing is acknowledged before it is in the log, so a crash brings messages
// again, and the index, caught up from the log, recognises them. Without batch
// appends an interaction's identity events may be in the log without it for
// a while; the redelivery adds it and does not repeat them.
package recorder
