// Package eventstore is the log: the only truth that Parley has.
//
// A Store keeps opaque records in streams and gives every record a place in
// one total order. The contract is what both an in-process engine
// (eventstore/embedded) and an EventStoreDB cluster can keep; what only one
// of them can do is told by Capabilities, as data with a reason. The exported
// suite eventstoretest holds every driver to it.
//
// # Order
//
// Positions grow along the log. A reader at position P has seen everything at
// or below P, for ever: no record ever becomes visible below one that was
// already readable. Positions may have gaps unless Capabilities.DensePositions.
// Within a stream revisions start at 0 and have none.
//
// # Idempotency
//
// Appending the same event ids again at the same expected revision answers as
// the first time did, however often and whoever asks, also after a crash. It
// is kept for NoStream and exact revisions; Any gives it up. An AppendBatch is
// repeated as a whole: every part of it stands in the log already, or none
// does. Where only some do, it is a *RevisionConflictError.
//
// # Durability
//
// Append returns once the records would survive a power cut. After a crash the
// log holds everything that was acknowledged, each append whole or not at all,
// and possibly appends whose acknowledgement was lost.
package eventstore
