// Package view keeps read models: documents in collections, with indexes that
// are declared and never written by hand.
//
// A document is a protobuf message, the same that gRPC serves, so a read is a
// key lookup whose bytes go out as they are. A driver (view/pebbleview in the
// process, view/pgview in Postgres) stores documents, keeps their index entries
// exactly in step, and commits them together with the checkpoint of whoever
// wrote them. The exported suite viewtest holds every driver to this contract.
//
// Not every driver can keep a text with U+0000, or fields that the message's
// type does not have; one that cannot refuses the commit with ErrInvalid. All
// else comes back as it was.
//
// # Namespaces
//
// A Generation is one filled copy of one version of one projection's
// collections. Generations of one store know nothing of each other, so that a
// new one can be filled beside the one that serves.
//
// # Commits
//
// A Batch is rows and a checkpoint; Commit takes both or neither. A commit
// need not survive a power cut: the log is the truth and the view can be
// computed from it again. What a crash must leave is a state that some commit
// made, with that commit's checkpoint and all that went before it.
//
// # Control
//
// Beside its generations a projection has one small control record, changed by
// compare and swap: it says which generations there are to be and which one
// serves. What it means is its owner's business (package projection).
//
// # Fencing
//
// Whoever writes takes a fencing token first, which is greater than every one
// before it. A commit with an older token is refused with ErrFenced, so that a
// paused process that wakes up cannot write over its successor's rows.
//
// # Reads
//
// Every call reads one commit's state, never a mixture. Several calls do so
// together through a Snapshot. Reads wait for no writer.
package view
