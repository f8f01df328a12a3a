package logcopy

import (
	"time"

	"github.com/parleyhq/parley/pkg/eventstore"
	"github.com/parleyhq/parley/pkg/eventstore/posmap"
)

// Options of a copy. The zero value is a good one.
type Options struct {
	// Follow copies what comes to the source until the context ends. Then the
	// copy goes on up to the head that the source has at that moment, for as long
	// as Grace.
	Follow bool
	// Grace is how long the copy may go on once the context has ended, to leave
	// the target in order. Defaults to 30 seconds.
	Grace time.Duration
	// Patience is how long a store may be unavailable before Copy gives up.
	// Defaults to not at all.
	Patience time.Duration
	// MapRecords is how many records of the log one record of the map tells of.
	// Defaults to 4096.
	MapRecords int
	// BatchRecords and BatchBytes bound what is appended at once where the target
	// can append to many streams at once. Default to 2048 and to 4 MiB.
	BatchRecords, BatchBytes int
	// Progress is told how far it has come, now and then, by the goroutine that
	// called Copy.
	Progress func(Progress)
	// Retrying is told why the copy waits, and for how long, before it goes on.
	Retrying func(err error, wait time.Duration)
}

// Progress is how far a copy or a comparison has come.
type Progress struct {
	// Position in the source up to which everything is done.
	Position eventstore.Position
	// Head of the source, to come to.
	Head eventstore.Position
	// Records that stand in the target, or that were compared.
	Records uint64
	// CaughtUp says that a copy that follows is at the source's head.
	CaughtUp bool
}

// Result is what a copy came to. It is also given beside an error.
type Result struct {
	// Copied is the number of records that this call has appended.
	Copied uint64
	// Found is the number of records that stood in the target already.
	Found uint64
	// Origin is what the target's map says at the end.
	Origin posmap.Origin
}

const (
	defaultGrace        = 30 * time.Second
	defaultMapRecords   = 4096
	defaultBatchRecords = 2048
	defaultBatchBytes   = 4 << 20

	// What waits to be read back is kept in memory.
	mostUnseen      = 4096
	mostUnseenBytes = 8 << 20

	// A part is what is appended to one stream at once, well under what an
	// EventStoreDB takes by default.
	partRecords = 500
	partBytes   = eventstore.MaxRecordBytes / 2

	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

func (o Options) withDefaults() Options {
	positive(&o.MapRecords, defaultMapRecords)
	positive(&o.BatchRecords, defaultBatchRecords)
	positive(&o.BatchBytes, defaultBatchBytes)
	positive(&o.Grace, defaultGrace)
	o.MapRecords = min(o.MapRecords, 1<<14) // of at most 31 bytes each, in base64
	o.BatchRecords = min(o.BatchRecords, eventstore.MaxAppendRecords)
	o.BatchBytes = min(o.BatchBytes, eventstore.MaxAppendBytes)
	return o
}

func positive[N int | time.Duration](n *N, otherwise N) {
	if *n <= 0 {
		*n = otherwise
	}
}
