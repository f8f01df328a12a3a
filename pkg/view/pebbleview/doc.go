// Package pebbleview keeps views in the process, on Pebble.
//
// # Contract
//
// It keeps view.Store. One process has a folder open at a time; a second Open is
// refused with view.ErrInUse. All generations of all projections share one Pebble.
//
// # Layout
//
// The folder holds VIEWS (what this is, and its format), LOCK and db/, the
// Pebble. Its keys:
//
//	0x01                                  the next generation number
//	0x02 <namespace>                      a generation: its number, newest fencing token, schema
//	0x03 <number>                         its checkpoint
//	0x05 <projection>                     a control record: its revision, its data
//	0x04 <number> <collection> <area> …   the generation's rows, where area is
//	  0      <tenant> <id>                  a document: meta, index entries, bytes
//	         <tenant> <tuple> <id>          the same of a clustered collection
//	  1+i    <tenant> <tuple> <id>          an entry of the i-th index, if it is ordered
//	  1+i    'd' <tenant> <id>              a text index: the document's number
//	         't' <tenant> <number>          its id and normalised text
//	         'n' <tenant>                   the next number
//	         'p' <tenant> <gram> <block>    which of 4096 documents have the gram
//
// Tenants and tuples are in view's order-preserving encoding, ids stand at the
// end as they are. A document knows its index entries, so that putting it
// again removes exactly those that no longer hold.
//
// # Text search
//
// Pairs and triples of adjacent characters are hashed to one of 5120 grams. A
// gram's documents are sets of 4096 numbers each, merged by Pebble. A search
// intersects the sets of the query's grams block by block, skipping where one has
// none, and verifies every candidate on its text: hashing costs time, never
// truth. One call looks at a bounded number of sets and candidates and hands
// out a cursor where it stopped.
//
// # Crashes
//
// There is no write-ahead log: a commit is in memory until a table is written,
// which happens when enough has gathered, every half minute while there are commits, when a writer
// takes a fencing token, when a control record is saved, and when the store is closed. Tables are written in
// the order of the commits and appear at once, so a crash takes back the latest
// commits, each whole, and the projection folds them again from the log.
//
// # A full disk, a broken one
//
// Where less than Options.MinFreeBytes is free, commits answer view.ErrFull
// and change nothing; they do again once there is room. While tables cannot be
// written, commits answer view.ErrUnavailable (or view.ErrFull) and Pebble
// tries again. An error of Pebble's manifest fails the store: Failed tells,
// commits answer view.ErrFailed, and the process should be restarted. Reads go
// on in all cases.
package pebbleview
