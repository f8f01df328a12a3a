// Package logcopy moves a log from one event store to another, and tells
// whether two stores hold the same.
//
// # Contract
//
// Copy appends every record of one store to another, in order of position, with
// id, type, content type, data, metadata, stream and revision as they are, so
// that the order of the whole log is kept. Positions and recorded times are the
// target's own; which old position is which new one stands in the target
// (package posmap). The source is never written to, and may be written to
// meanwhile: Copy goes as far as its head was, or with Options.Follow until it
// is told to end. Nobody else may append to the target before the copy is done.
//
// The stream in which an EventStoreDB's log keeps its id (package logid) is left
// out on both sides.
//
// Each record is read back from the target and compared before its position is
// mapped. Verify compares the two from the beginning, with a digest of each side.
//
// # Invariants
//
// The target holds a beginning of the source, in the same order, and nothing
// else but its map. What does not agree with that is a *ForeignError, and
// nothing is appended. An append expects exactly the revision that the stream has
// in the source, so that no record comes twice, whoever else copies too.
//
// # Crashes
//
// A copy keeps nothing outside the target. Ended at any moment, also between an
// append and the write of the map, and started again it looks at what stands in
// the target behind what is mapped, compares it with the source, maps it, and
// goes on behind it.
package logcopy
