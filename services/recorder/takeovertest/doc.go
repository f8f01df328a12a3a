// Package takeovertest pauses, kills and continues recorders that are real
// processes, in the middle of a batch, while others publish, and checks from
// outside that one takes over from the other and nothing is lost, doubled or
// contradictory: the log is what a single undisturbed recorder would have
// written.
//
// The event store and NATS are the test's own. The recorders are the test
// binary, started again; they reach the store over a wire on which the test
// can hold each of their calls, before the store has done it or before the
// answer is delivered.
//
// PARLEY_TAKEOVER_ROUNDS is how often a recorder is stopped; few by default.
package takeovertest
