// Package projection computes read models from the log.
//
// A projection is one value: a name, a version, collections with their
// indexes, and pure functions that fold events into documents. The engine owns
// everything else: it reads the log ahead, decodes in parallel, keeps hot
// documents decoded, commits documents with their checkpoint, waits for
// positions on behalf of readers, tells watchers what changed, and carries out
// what operators want.
//
// # What a fold may do
//
// A fold is a pure function of the event and the document: no clock, no
// randomness, no map order, no I/O. The package projectiontest proves the laws
// that the engine relies on:
//
//   - fold: the same events give the same documents, in whatever portions;
//   - combine: fold(all) = combine(fold(part), fold(rest)) for every partition
//     of the events, so merging customers costs a recombination and no replay;
//   - finish: derived fields are overwritten and lose nothing, so that a
//     finished document can be folded on.
//
// # Customers
//
// Events are stamped with a profile; customers are sets of profiles. Who
// belongs together follows from CustomersMerged and CustomersSplit events
// alone. A profile that neither ever named is a customer by itself. The engine
// keeps a document for each profile and one for each customer, combined of
// those of his profiles; where only one of the profiles has a document the
// customer's serves as both. Every profile id ever seen resolves for ever.
//
// # Generations
//
// A generation is one filled copy of one version of a projection. One serves; a
// rebuild fills another beside it, in a scan of the log that several projections
// may share, giving way to reads. Once it has caught up it can be compared
// with the one that serves, as of one position, and be switched to: in a
// process the switch happens at a moment at which the new one contains whatever
// anybody was told that the old one does, so that no read fails, is mixed or
// goes back. A Reader is of one generation, and so is a page's cursor. The
// one before is kept and folds on until an operator drops it. A binary with a
// higher version asks for such a rebuild by itself, and folds the generation of
// the version before by that one's fold, which New is given.
//
// Which generations there are to be stands in a control record beside them
// (view.Control). Operators change it, in whatever process; the active
// process brings what it does in line with it, the others follow.
//
// # Active and standing by
//
// A lease says which process folds. It need not be exact: every commit
// carries a fencing token, and one with an older token is refused, so a process
// that was paused cannot write over its successor's rows. Those that stand by
// read what the views contain.
//
// # Dead letters
//
// An event that cannot be folded, or whose customer's document cannot be
// combined, finished or indexed with it, is tried again by itself and then set
// aside as a pointer to the log. Later events of the customers whom it concerns
// wait behind it, whatever they say: also one that would merge him with
// another, who then waits too, so that each customer's document is always that
// of a beginning of his history. All else goes on, and the position with it.
// An operator retries, when what had waited is folded in the order of the log,
// or skips it: that is an event, which later rebuilds heed when they come to
// the one that it skips. Where more is set aside than Options allow the generation halts.
//
// # Changing a projection
//
// Version is raised with every change after which the same log gives other
// documents: a field more, another meaning, another index, another type of event.
// The definition before it is handed to New as a previous one. Without it the
// new version serves at once, empty at first.
//
// The previous definition is part of the new binary: its Fold is given events
// as this binary decodes them, brought up by upcasters, and those of new types if
// its Types name them. It has to make of them what it made of the old ones; then a
// rollback shows the old documents with nothing missing. Its name, version and
// collections stay as they were (view.ErrSchema).
//
// Package event tells how events change. Here that means:
//
//   - A field is added: raise Version where documents take it in, even if old
//     events lack it, since later ones may have been folded without it. The
//     previous definition stays as it is.
//   - A field is renamed: every Fold, the previous one's too, reads the new name.
//     Where documents stay the same Version does too, and nothing is rebuilt,
//     provided that nothing writes the new field while a process of the old binary
//     still folds; else raise it.
//   - A type is split: raise Version. Types and Folds, the previous one's too, take
//     the old type and the new ones, told apart by one function.
//
// With several processes the first of the new binary that folds begins the new
// generation. Those of the old binary read the one before as long as it is
// kept, so it is dropped only after the last of them is gone; one that starts without
// it fails with view.ErrNewerFormat.
//
// To go back, `parley projections rollback` makes the generation before serve, at
// once, and it stays so over restarts until somebody switches or a binary comes
// with a higher version. The old binary can be started as well: it serves and
// folds its own generation. What it makes of events of the new shape is wrong
// there, so writers go back before it does, or that generation is dropped later.
// The new generation goes on where it was as soon as the new binary is back.
//
// # Where the time goes
//
// Of the processor's time in a replay of the customer 360 into Pebble (1.4 million
// events of 100,000 customers, two cores, by pprof) a quarter goes into folding:
// customers' events 11 %, rows of events 7 %, giving events to customers and loading
// those that are not in the cache 7 %. Reading the log and decoding takes 13 %,
// combining, finishing and marshalling 12 %, putting rows into Pebble's batch 9 %,
// its flushes and compactions 16 %, the garbage collector's marking 7 %. What is
// written decides: a customer's document is written twice on the way, and with the
// documents of his profiles in full beside it, in place of excerpts, a replay took a
// fifth longer. Into Postgres three quarters of the time are Postgres's own.
//
// # Crashes
//
// A commit holds the rows of whole events, the dead letters and the position behind
// them. After a crash the engine goes on at the last commit that survived. The
// control record survives a crash once a call that changes it has returned.
package projection
