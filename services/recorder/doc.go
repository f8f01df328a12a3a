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
// it onto the tenant's identity stream, in the same commit where the store has
// one. All of that is a pure function of the message and of the log before it.
// Every append expects an exact revision, so that of two recorders one is
// refused and looks again.
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
// again, and the index, caught up from the log, recognises them.
//
// # Stores without a commit over many streams
//
// There a plan becomes appends to one stream each, of which many go at once
// (parts.go, spread.go). Any of them may fail, or be made without an answer, or
// arrive long after it was given up; the process may die, or another recorder
// take over, between any two. What happens then is always the same: no more are
// begun, those in flight are waited for, the plan is forgotten, the index is
// read from the log, and what is not there is prepared again. That nothing is
// lost or there twice, and that it is decided as the first time, rests on this:
//
//   - An event has one place. Its stream is a function of the event and of what
//     it waits for, and is expected at an exact revision. The same append again
//     is recognised by the store, another one in its place is refused.
//   - What an interaction or a command comes to about identities is one append,
//     as a whole. All of a tenant's are in one stream, one behind the other in
//     the order of arrival: that stream is the fence, and always holds all up to
//     some event and nothing of those after it. Evidence that is known decides
//     nothing again, so that those events, when they come again, add nothing; the
//     ids of decisions derive from their cause's.
//   - An interaction waits for all decisions that were made before it, its own
//     among them. So while a decision is not in the log, no later interaction of
//     its tenant is, and it is made again from the same state.
//   - Interactions of one stream keep their order. So do mails that name the same
//     mail, and those whose address asks for a conversation with those in it: no
//     conversation is resolved by what came after.
//   - Commands are planned apart from interactions, and new rules alone: what came
//     before them is in the log by then, and is not judged again by them.
//   - What is appended is read back, in one read: others may have written in
//     between. A read that ends before what was appended counts as a failure.
//
// All that is left open is which one is the oldest of several profiles that one
// plan brings, and with it, should they ever become one customer, his name. It
// is the one that got into the log first. Deps.NewcomersInOrder leaves nothing open,
// at the price of one append after the other for people whom the log does not know
// yet: the streams are then, byte for byte, those of a store that commits all
// at once.
//
// What a single cause comes to must fit into one append; where it does not
// (thousands of decisions), the cause goes to quarantine.
package recorder
