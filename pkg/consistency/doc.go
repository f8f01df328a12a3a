// Package consistency makes reads see what was written: a read waits until the
// read model contains the write that gave its consistency token, and is told
// where an event that it would have to show could not be folded.
//
// Contract: an error leaves the package as it may leave a server.
// INVALID_TOKEN for a token of another log or of none. BEHIND with the lag
// where the call's deadline comes first, whether the read model is slow, paused
// or halted. DEAD_LETTER where waiting is of no use: an event that the read is
// about is set aside and waits to be folded, or the read model has halted at
// too many of those. Never is a read let through to stale data.
//
// A handler makes a Read of the call's token, says whom it reads (Read.About,
// Read.AboutAll), and then reads by Read.Reader alone:
//
//	read, err := reads.Begin(ctx, tenant, req.GetConsistencyToken())
//	if err != nil {
//		return nil, err
//	}
//	if err := read.About(ctx, req.GetCustomerId()); err != nil {
//		return nil, err
//	}
//	found, err := read.Reader.Get(ctx, read.Tenant, req.GetCustomerId())
//
// There is no state, so a crash concerns the package in no way.
package consistency
