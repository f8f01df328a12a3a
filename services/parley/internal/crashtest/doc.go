// Package crashtest kills a loaded Parley at random moments and checks, from
// outside and by digest, what is guaranteed: whatever was acknowledged is in
// the log exactly once, and the customer 360 equals a clean replay's.
package crashtest
