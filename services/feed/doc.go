// Package feed hands out the log over gRPC (parley.feed.v1.EventService): as a
// stream, catch-up then live, and event by event.
//
// Contract: a subscriber gets every event of its tenant that matches, once, in
// the order of the log, and with each item a token that resumes behind it,
// across restarts and in another process. A subscriber that reads slowly slows
// its own stream down, by gRPC's flow control, and nothing is skipped. Bodies in
// quarantine are no events and are never handed out.
//
// Get needs to know where an event stands: Index is a projection of event ids
// to positions. It reads routing fields only and decodes nothing.
//
// Invariants: every stream asked of the store begins with the caller's tenant;
// what Get finds is checked against it again.
//
// Crash behaviour: subscriptions end and are resumed by their clients. The
// index commits its rows with their position and goes on from there.
package feed
