// Package embedded is the event store that runs inside the process, on Pebble.
//
// # Contract
//
// It keeps eventstore.Store with both capabilities: batches over many streams
// in one commit, and positions that count records without a gap, from 1 on.
// One process has a store open at a time; a second Open is refused.
//
// # Layout
//
// The folder holds STORE (what this is, its format, the log's id), LOCK,
// BALLAST (space to give back when the disk is full) and log/, the Pebble. In
// it nothing is ever overwritten or deleted; there are two kinds of keys:
//
//	r <first position>               segment: records of one commit, up to about 32 KiB
//	s <stream> 0x00 <first revision> run: where the records of one append to the stream are
//
// Positions and revisions are 8 bytes, big endian. A segment begins with its
// version and holds each record's routing fields before its payload. Readers
// pay Pebble's price for a key once for a segment, not once for a record.
//
// # Commits
//
// One goroutine takes whatever appends wait, checks each against the streams'
// heads, writes all into one Pebble batch and starts its sync; while that
// runs it gathers and checks the next. A second goroutine waits for the sync,
// only then moves the head that readers see, and answers. So nobody ever reads
// what a power cut could still take back. An append that fails fails alone.
//
// # Crashes
//
// Pebble's log is replayed to the last whole batch: acknowledged appends are
// all there, each whole; the unacknowledged ones behind them are there up to
// some point in the log's order, whole.
//
// # A full disk
//
// Before the free space falls below Options.MinFreeBytes appends answer
// ErrFull; reads go on, and appends do again once there is space. Where the
// file system says "no space" nevertheless, the ballast is given back and the
// write is tried again; should that not do either, the write waits for space
// rather than fail, since Pebble cannot go on behind a log that was not
// written. The appends in flight are then answered ErrUnavailable.
//
// Any other error of Pebble's log or manifest fails the store: Failed tells,
// appends answer ErrUnavailable, and the process should stop; what was
// acknowledged is there after the next start.
package embedded
