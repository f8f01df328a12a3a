// Package serve is the process that `parley serve` runs: settings, the data
// directory, and the services wired together.
//
// Contract: Run returns nil after it was asked to stop, and an error where it
// could not start or a part failed for good; errors that settings can mend
// name the flag. It says that it is ready (health, readiness, ready file, OnReady) only
// once every service that was named serves.
//
// Invariants: one process has a data directory at a time. A start that fails
// unwinds all it had opened. Stopping follows one order: leave the routing,
// NOT_SERVING, the drain delay, streams, calls in flight for a bounded time,
// the recorder and the projections, then views, NATS and the log.
//
// Crash behaviour: the lock goes with the process. FORMAT, secret and secret-id
// are written whole or not at all; the engines recover by themselves.
package serve
