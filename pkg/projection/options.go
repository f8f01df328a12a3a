package projection

import (
	"cmp"
	"runtime"
	"time"
)

// Options tune an engine. They change no result.
type Options struct {
	// CommitEvents is the largest number of events in a commit. Defaults to 32,768.
	CommitEvents int
	// CommitBytes is about the largest size of a commit, in bytes of rows. Defaults to 24 MiB.
	CommitBytes int
	// CommitDelay is how long a commit may wait for more events while the
	// projection is behind; once caught up none waits. Defaults to 1 second.
	CommitDelay time.Duration
	// LiveDelay is how long a commit may wait for more events once the
	// projection has caught up, unless somebody waits for it (WaitFor): for a read
	// model that is asked now and then, and whose documents change often. Defaults to not at all.
	LiveDelay time.Duration
	// ReadBatch is the largest number of events decoded and folded together. Defaults to 2,048.
	ReadBatch int
	// ReadAhead is how many of those may wait. Defaults to 4.
	ReadAhead int
	// Decoders is the number of goroutines that decode. Defaults to 2.
	Decoders int
	// Partitions is the number of goroutines that fold. Defaults to the number of CPUs, at most 16.
	Partitions int
	// ReplayCacheBytes bounds the documents kept in memory between commits
	// while the projection is behind, estimated. Defaults to 64 MiB.
	ReplayCacheBytes int
	// LiveCacheBytes is the same once it has caught up. Defaults to 16 MiB.
	LiveCacheBytes int
	// FoldAttempts is how often an event's fold is tried before it becomes a
	// dead letter. Defaults to 3.
	FoldAttempts int
	// MaxDeadLetters is how many events may have failed before the generation
	// halts instead of setting more aside. Defaults to 1,000.
	MaxDeadLetters int
	// MaxWaiting is the same for events that wait behind those. Defaults to 1,000,000.
	MaxWaiting int
	// PollInterval is how often the control record and, in a process that does
	// not fold, the checkpoint are looked at without being told of a change.
	// Defaults to 1 second.
	PollInterval time.Duration
	// RetryDelay is the time before the first retry of whatever failed; it doubles up to 64 times
	// itself. Defaults to 50 milliseconds.
	RetryDelay time.Duration
}

func (o Options) withDefaults() Options {
	o.CommitEvents = positive(o.CommitEvents, 1<<15)
	o.CommitBytes = positive(o.CommitBytes, 24<<20)
	o.CommitDelay = positive(o.CommitDelay, time.Second)
	o.ReadBatch = positive(o.ReadBatch, 2048)
	o.ReadAhead = positive(o.ReadAhead, 4)
	o.Decoders = positive(o.Decoders, 2)
	o.Partitions = positive(o.Partitions, min(runtime.GOMAXPROCS(0), 16))
	o.ReplayCacheBytes = positive(o.ReplayCacheBytes, 64<<20)
	o.LiveCacheBytes = positive(o.LiveCacheBytes, 16<<20)
	o.FoldAttempts = positive(o.FoldAttempts, 3)
	o.MaxDeadLetters = positive(o.MaxDeadLetters, 1000)
	o.MaxWaiting = positive(o.MaxWaiting, 1_000_000)
	o.PollInterval = positive(o.PollInterval, time.Second)
	o.RetryDelay = positive(o.RetryDelay, 50*time.Millisecond)
	return o
}

func positive[N int | time.Duration](n, otherwise N) N { return cmp.Or(max(n, 0), otherwise) }
