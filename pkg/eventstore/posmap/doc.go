// Package posmap keeps what was given out for one log valid for the log that
// it was moved to: tokens and checkpoints carry a log's id and a position in
// it, and a Map says which position that is now.
//
// # Contract
//
// Map.Resolve answers with the position such that the records at or below the
// old one are exactly those at or below the new one. A position between two
// records, or of a log that was itself moved before (A to B to C), resolves
// just as exactly. A position behind everything that was copied resolves to the
// last record that was; an unknown log is an *UnknownLogError. Positions that
// stand in the payload of an event are those of the log that the event was
// first written to: Map.Within resolves them.
//
// # Format
//
// The map of the log with id X is the stream `parley-origin-of-X` in that log,
// written while it was filled. So a log has one origin at most, its map is found
// without a search, and a log that is moved on takes its map along. The records
// are JSON; they are no Events and no tenant's (event.IsEvent, event.TenantOf).
// Each has
//
//	format   1
//	source   the id of the log that was copied
//	old      the position, in source, of the last record that is mapped; 0 for none
//	new      where that record stands in X; 0 for none
//	records  how many records are mapped
//
// and is of one of three types:
//
//	origin-opened     records are being copied: what follows in the log may not be mapped yet
//	origin-positions  more pairs of positions, in the field runs
//	origin-completed  everything that was copied is mapped
//
// runs is base64 of unsigned varints, three for each run of records that follow
// each other at equal distances: the distance of each record from the one before
// in source, the same in X, and how many records there are. The first one's
// distance is from old and new of the record before in the map. Two logs whose
// positions count records cost a few bytes for thousands of records; two whose
// positions are irregular, six to ten bytes a record.
//
// # Crashes
//
// The map may be behind what was copied, never ahead of it. A copy that is
// continued maps what was left; until it has completed, a position behind what
// is mapped is an *UnfinishedError.
package posmap
