// Package projection computes read models from the log.
//
// A projection is one value: a name, a version, collections with their
// indexes, and pure functions that fold events into documents. The engine owns
// everything else: it reads the log ahead, decodes in parallel, keeps hot
// documents decoded, commits documents with their checkpoint, waits for
// positions on behalf of readers, and tells watchers what changed.
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
// # Crashes
//
// A commit holds the rows of whole events and the position behind them. After
// a crash the engine goes on at the last commit that survived. An event is
// never skipped: one whose fold fails, after retries, halts the projection at the
// position before it; reads go on.
package projection
