// Package consistency makes reads see what was written: it waits until a read
// model contains the write that gave a consistency token.
//
// Contract: Wait returns nil once the read model is there, and else an error as it may
// leave a server: INVALID_TOKEN for a token of another log or of none, BEHIND
// with the lag where the call's deadline comes first, DEAD_LETTER where the
// read model has halted at an event and will not get there by itself. Never is
// a read let through to stale data.
//
// There is no state, so a crash concerns the package in no way.
package consistency
