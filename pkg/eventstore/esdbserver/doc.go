// Package esdbserver serves an event store over EventStoreDB's own gRPC
// protocol, so that any EventStoreDB client can read and write it.
//
// # Contract
//
// Served are Streams (Read, Append, BatchAppend, Delete, Tombstone),
// ServerFeatures and Gossip, as EventStoreDB 23.10 does unless it is said
// otherwise here. Persistent subscriptions, projections, users, operations and
// monitoring answer UNIMPLEMENTED and say what to use instead. There are no
// access control lists: metadata with `$acl` is refused rather than kept
// without effect; Config.Users and Config.ReadOnly say who may do what.
//
// Positions: commit and prepare position are both the store's. A read of $all
// forwards is inclusive; backwards it begins below the position given, as
// EventStoreDB's does, and a subscription begins behind it. A position that no
// event has stands for the next one in the direction of the read; beyond the
// head a read finds nothing forwards and begins at the head backwards, and a
// subscription is refused with INVALID_ARGUMENT and the trailer `exception:
// invalid-position`. A count of 0 reads nothing.
//
// # Names
//
// EventStoreDB's own streams and types begin with '$', which no name in a store
// does. They are kept with a '~' before them (`$$orders` as `~$$orders`, and
// `~x` as `~~x`), so that no tenant owns them; clients see and filter the
// outside names. Only this package writes such names.
//
// # Idempotency
//
// For no_stream and exact revisions the store keeps it for ever. For any and
// stream_exists an append whose events stand already, in one piece, among the
// last 128 of the stream answers with their place; one of which only the first
// or the last event stands there is refused with WrongExpectedVersion.
//
// # Deleting
//
// The store forgets nothing; deletion is what readers of a stream are shown. A
// deleted stream reads as not found and goes on at the next revision: its
// metadata gets $tb at that one, by an event that is marked as a deletion, so
// that what comes later is shown without another word. (EventStoreDB writes the
// largest number there, and corrects it afterwards; clients may not.) A
// tombstone is a last record of type `$streamDeleted` in the stream, shown with
// revision 2^63-1; whoever asks for the stream then is told that it is deleted.
// $maxCount, $maxAge and $tb are honoured in reads of the stream and where a
// subscription to it begins; $all shows everything that was appended.
//
// # Filtered subscriptions
//
// Streams are filtered by the store where prefixes say which, types and regular
// expressions (RE2 syntax) here. A checkpoint comes when as many positions have
// been looked at as EventStoreDB would count events, window × multiplier, at the
// latest with the next event that is sent or after a second; of several that
// are due only the last one is sent. One more comes before caught_up.
//
// # Slow clients
//
// Everything is pulled from the store at the pace at which a client takes it:
// a client that stops reading costs one batch. A subscription that has more
// than a batch to fetch after having caught up is told fell_behind, and
// caught_up again.
//
// # Crashes
//
// The package keeps nothing of its own: what an append was answered with is in
// the store. Its cache of stream states is right as long as one Server serves a
// store.
package esdbserver
